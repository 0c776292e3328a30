//! Goal: two JSON texts have the same canonical text iff they mean the same, numbers as written.
//! Method: random trees, written down with random white space, escapes and duplicate members,
//! against the definition; broken texts against `serde_json`'s grammar; a table for the corners.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Reader, Scratch, plain};

fn canonical(text: &str) -> Result<String, String> {
    let (mut scratch, mut out) = (Scratch::default(), String::new());
    let mut reader = Reader::new(text, &mut scratch);
    let read = reader.value(&mut out, 0).and_then(|()| reader.finish());
    read.map(|()| out).map_err(|e| format!("{} at byte {}", e.what, e.byte))
}

#[derive(Clone, Debug)]
enum Tree {
    Word(&'static str),
    Number(String),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The definition, written from the sentence that states it.
    fn expected(&self) -> String {
        let quoted = |text: &String| serde_json::to_string(text).expect("text is JSON");
        match self {
            Tree::Word(word) => word.to_string(),
            Tree::Number(number) => number.clone(),
            Tree::Text(text) => quoted(text),
            Tree::Array(items) => {
                let items: Vec<String> = items.iter().map(Tree::expected).collect();
                format!("[{}]", items.join(","))
            }
            Tree::Object(members) => {
                let mut by_name = BTreeMap::new();
                for (name, value) in members {
                    by_name.insert(name.as_bytes(), (name, value.expected()));
                }
                let members = by_name.into_values();
                let members: Vec<String> =
                    members.map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// One of the many ways to write it; `noise` decides which.
    fn written(&self, noise: &mut Noise, out: &mut String) {
        noise.space(out);
        match self {
            Tree::Word(word) => out.push_str(word),
            Tree::Number(number) => out.push_str(number),
            Tree::Text(text) => noise.string(text, out),
            Tree::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.written(noise, out);
                }
                noise.space(out);
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    noise.space(out);
                    noise.string(name, out);
                    noise.space(out);
                    out.push(':');
                    value.written(noise, out);
                }
                noise.space(out);
                out.push('}');
            }
        }
        noise.space(out);
    }
}

/// Choices, made by bytes that proptest can shrink.
struct Noise {
    bytes: Vec<u8>,
    at: usize,
}

impl Noise {
    fn next(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at % self.bytes.len().max(1)).copied().unwrap_or(0)
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(["", "", "", " ", "\t", "\r", "\n", "  "][usize::from(self.next() % 8)]);
    }

    fn string(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for char in text.chars() {
            let short = match char {
                '"' => "\\\"",
                '\\' => "\\\\",
                '/' => "\\/",
                '\n' => "\\n",
                '\t' => "\\t",
                '\r' => "\\r",
                '\u{8}' => "\\b",
                '\u{c}' => "\\f",
                _ => "",
            };
            let must = char < ' ' || char == '"' || char == '\\';
            match self.next() % 4 {
                0 => self.hex(char, out),
                1 if !short.is_empty() => out.push_str(short),
                _ if must => self.hex(char, out),
                _ => out.push(char),
            }
        }
        out.push('"');
    }

    fn hex(&mut self, char: char, out: &mut String) {
        for unit in char.encode_utf16(&mut [0; 2]) {
            if self.next().is_multiple_of(2) {
                out.push_str(&format!("\\u{unit:04x}"));
            } else {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        // Few, so that names collide and sort next to each other.
        "[ab\"\\\\!/]{0,2}",
        any::<String>(),
        Just("\u{ffff}".to_string()),
        Just("\u{10000}".to_string()),
        "[\u{0}-\u{20}]{0,3}",
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(Tree::Word),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?".prop_map(Tree::Number),
        text().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::Array),
            prop::collection::vec((text(), inner), 0..6).prop_map(Tree::Object),
        ]
    })
}

proptest! {
    #[test]
    fn any_way_of_writing_has_the_defined_text(
        tree in tree(),
        bytes in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut text = String::new();
        tree.written(&mut Noise { bytes, at: 0 }, &mut text);
        let expected = tree.expected();
        prop_assert_eq!(canonical(&text), Ok(expected.clone()));
        prop_assert_eq!(canonical(&expected), Ok(expected), "not a fixed point");
    }

    #[test]
    fn a_broken_text_is_refused_iff_the_grammar_refuses_it(
        tree in tree(),
        bytes in prop::collection::vec(any::<u8>(), 1..64),
        at in any::<prop::sample::Index>(),
        cut in 0..3usize,
        put in "[\\[\\]{}:,\"\\\\u0-9eE+.\\- a\u{1}]{0,2}",
    ) {
        let mut text = String::new();
        tree.written(&mut Noise { bytes, at: 0 }, &mut text);
        let mut chars: Vec<char> = text.chars().collect();
        let start = at.index(chars.len() + 1);
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, put.chars());
        let broken: String = chars.into_iter().collect();
        match (serde_json::from_str::<serde_json::Value>(&broken), canonical(&broken)) {
            (Ok(meant), Ok(found)) => {
                // What it means stays, as far as machine numbers can tell.
                let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
                prop_assert_eq!(meant, found);
            }
            (Err(_), Err(_)) => {}
            // The one thing the grammar allows and machine numbers do not.
            (Err(e), Ok(_)) => prop_assert!(e.to_string().contains("out of range"), "{broken:?}: {e}"),
            (Ok(_), Err(e)) => prop_assert!(false, "{broken:?}: {e}"),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_never_panic(text in any::<String>()) {
        let _ = canonical(&text);
        let _ = canonical(&format!("\"{text}\""));
        let _ = canonical(&format!("\"\\u{text}\""));
        let _ = canonical(&format!("{{\"a\":{text}}}"));
    }
}

#[test]
fn numbers_stay_as_written() {
    for number in [
        "0",
        "-0",
        "1",
        "1.0",
        "1e0",
        "1E0",
        "1e+0",
        "1e400",
        "-1e-400",
        "0.10",
        "123456789012345678901234567890",
        "18446744073709551616",
    ] {
        assert_eq!(canonical(number), Ok(number.to_string()));
    }
    for no_number in ["01", "+1", ".5", "1.", "1e", "-", "0x1", "NaN", "1_0", "-Infinity"] {
        assert!(canonical(no_number).is_err(), "{no_number}");
    }
}

#[test]
fn members_are_sorted_by_the_bytes_of_their_names() {
    let table = [
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":3,"b":2}"#),
        // By the name, not by its escaped form, in which `\"` would stand behind `A`.
        (r#"{"A":1,"\"":2}"#, r#"{"\"":2,"A":1}"#),
        // By bytes, not by UTF-16 units, in which U+10000 stands before U+FFFF.
        ("{\"\u{10000}\":1,\"\u{ffff}\":2}", "{\"\u{ffff}\":2,\"\u{10000}\":1}"),
        (
            r#"{"":1,"a":{"d":[{"y":0,"x":0}],"c":{}}}"#,
            r#"{"":1,"a":{"c":{},"d":[{"x":0,"y":0}]}}"#,
        ),
    ];
    for (text, expected) in table {
        assert_eq!(canonical(text).as_deref(), Ok(expected));
    }
}

#[test]
fn strings_have_the_fewest_escapes() {
    let table = [
        (r#""\u0041\/\u00e9""#, "\"A/\u{e9}\""),
        (r#""\u0000\u001F\u007f""#, "\"\\u0000\\u001f\u{7f}\""),
        (r#""\u0008\u000c\u000a\u000d\u0009\u0022\u005c""#, r#""\b\f\n\r\t\"\\""#),
        (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
    ];
    for (text, expected) in table {
        assert_eq!(canonical(text).as_deref(), Ok(expected));
    }
    for lone in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\ud83d""#, r#""\ud83dx""#, r#""\ud83d\n""#]
    {
        assert!(canonical(lone).is_err(), "{lone}");
    }
}

#[test]
fn nesting_has_a_bound_and_does_not_touch_the_stack() {
    let nested = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
    assert!(canonical(&nested("[", "]", 127)).is_ok());
    assert!(canonical(&nested("[", "]", 128)).is_err());
    assert!(canonical(&nested("{\"a\":", "}", 127)).is_ok());
    assert!(canonical(&nested("{\"a\":", "}", 128)).is_err());
    assert!(canonical(&"[".repeat(10_000_000)).is_err());
    assert!(canonical(&"{\"a\":[".repeat(1_000_000)).is_err());
}

#[test]
fn a_string_ends_at_the_first_byte_that_is_special() {
    // Neighbours of the special ones, and those that differ from them in the high bit alone.
    let others = [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0x9f, 0xa2, 0xdc, 0xff];
    let special = (0..0x20).chain([b'"', b'\\']);
    for end in special {
        for other in others {
            for at in 0..20 {
                for behind in [end, other, 0, b'"', b'\\'] {
                    let mut bytes = vec![other; at];
                    bytes.push(end);
                    bytes.extend([behind; 9]);
                    assert_eq!(plain(&bytes), at, "{bytes:?}");
                    assert_eq!(plain(&bytes[..at]), at, "{other} {at} times");
                }
            }
        }
    }
}
