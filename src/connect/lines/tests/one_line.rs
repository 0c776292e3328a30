//! Goal: each sentence about a single line holds. Method: tables.

use crate::codec::Json;
use crate::connect::lines::line::{Bad, Line, LineParser, Row};

fn parse(line: impl AsRef<[u8]>) -> Result<Line, Bad> {
    LineParser::default().parse(line.as_ref())
}

fn row(line: &str) -> Row {
    match parse(line) {
        Ok(Line::Row(row)) => row,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn keys_and_values_are_any_json() {
    for (key, canonical) in [
        ("null", "null"),
        ("\"\"", "\"\""),
        ("{}", "{}"),
        ("[1, {\"b\":2,\"a\":null}]", "[1,{\"a\":null,\"b\":2}]"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("\"\\u0041\"", "\"A\""),
        ("\"\u{1f600}\"", "\"\u{1f600}\""),
    ] {
        let line = format!("{{\"key\":{key},\"value\":{key},\"ts\":0}}");
        let row = row(&line);
        assert_eq!(row.key, Json::from_canonical(canonical));
        let value = (canonical != "null").then(|| Json::from_canonical(canonical));
        assert_eq!(row.value, value, "only an explicit null deletes");
    }
    assert_ne!(row(r#"{"key":1,"value":1}"#).key, row(r#"{"key":1.0,"value":1}"#).key);
}

#[test]
fn other_members_are_ignored_but_must_be_json() {
    let line = r#"{"x":[1,{"ts":9}],"key":1,"value":2,"closed":true,"ts":3,"offset":4,"":0}"#;
    let expected = Row {
        key: Json::from_canonical("1"),
        value: Some(Json::from_canonical("2")),
        ts: Some(3),
        offset: Some(4),
    };
    assert_eq!(row(line), expected);
    assert!(parse(r#"{"key":1,"value":2,"ts":3,"x":tru}"#).is_err());
    assert_eq!(row(r#"{"\u006bey":1,"value":2}"#).key, Json::from_canonical("1"));
}

#[test]
fn a_closing_is_a_line_without_key_and_value() {
    assert_eq!(parse(r#"{"closed": 7}"#), Ok(Line::Closed(7)));
    assert_eq!(parse(r#"{"closed":18446744073709551615,"x":1}"#), Ok(Line::Closed(u64::MAX)));
    for bad in ["-1", "1.0", "\"7\"", "null", "18446744073709551616", "1e3"] {
        let bad = parse(format!("{{\"closed\":{bad}}}")).expect_err(bad);
        assert!(bad.what.starts_with("\"closed\" is not a whole number"), "{}", bad.what);
    }
}

#[test]
fn blank_lines_say_nothing() {
    for blank in ["", " ", "\t \r"] {
        assert_eq!(parse(blank), Ok(Line::Blank));
    }
}

#[test]
fn times_are_u64_below_the_last() {
    assert_eq!(row(r#"{"key":1,"value":1,"ts":18446744073709551614}"#).ts, Some(u64::MAX - 1));
    for bad in ["18446744073709551615", "-1", "1.0", "1e3", "\"1\"", "null", "true", "[1]", "-0"] {
        let bad = parse(format!("{{\"key\":1,\"value\":1,\"ts\":{bad}}}")).expect_err(bad);
        assert!(bad.what.starts_with("\"ts\" is not a whole number"), "{}", bad.what);
        assert_eq!(bad.key, Some(Json::from_canonical("1")));
    }
    let bad = parse(r#"{"key":1,"value":1,"ts":0,"offset":-1}"#).expect_err("offset");
    assert!(bad.what.starts_with("\"offset\" is not a whole number"), "{}", bad.what);
}

#[test]
fn a_bad_line_says_what_is_wrong_and_keeps_its_key_if_it_has_one() {
    let table: [(&[u8], &str, Option<&str>); 14] = [
        (b"{\"key\":1,\"value\":2", "not JSON: expected `,` or `}`", None),
        (b"{key:1}", "not JSON: expected a name in quotes", None),
        (b"{\"key\":1,\"value\":2}x", "not JSON: more text after the value", None),
        (b"{\"key\":1,\"value\":}", "not JSON: expected a value", Some("1")),
        (b"{\"key\":\"a\nb\",\"value\":2}", "not JSON: a control character in a string", None),
        (b"{\"key\":\"\\ud800\",\"value\":2}", "not JSON: half of a surrogate pair", None),
        (b"{\"key\":\"\xff\",\"value\":2}", "not UTF-8 (byte 9 of the line)", None),
        (b"[1]", "a line that is not an object", None),
        (b"nope", "not JSON: expected a value", None),
        (b"{}", "missing \"key\"", None),
        (b"{\"value\":2,\"ts\":1}", "missing \"key\"", None),
        (b"{\"key\":[1, 2],\"ts\":1}", "missing \"value\"", Some("[1,2]")),
        (b"{\"key\":1,\"value\":2,\"x\":1,\"\\u0078\":1}", "two members named \"x\"", Some("1")),
        (b"{\"key\":1,\"key\":1,\"value\":2}", "two members named \"key\"", None),
    ];
    for (line, what, key) in table {
        let bad = parse(line).expect_err(what);
        assert!(bad.what.starts_with(what), "{} is not {what}", bad.what);
        assert_eq!(bad.key, key.map(Json::from_canonical), "{what}");
        assert!(!bad.hint.is_empty());
    }
}

#[test]
fn an_error_belongs_to_the_key_that_can_be_read_whatever_else_is_wrong() {
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    for value in [
        &b"\"\\ud83d\""[..],
        b"\"\\udc00\\ud800\"",
        b"\"\\ud83d\\n\"",
        b"{\"a\":[\"\\ud83d\"],\"key\":2}",
        b"\"\xff}\"",
        b"[\"a\xc3\",{\"b\":\"\x80\"}]",
        b"\"\\x\"",
        b"\"\\\"\\u12\"",
        b"\"a\tb\"",
        b"tru",
        b"01",
        b"[1,,2]",
        b"{a:1}",
        b"NaN",
        b"-",
        b" ",
        deep.as_bytes(),
    ] {
        let value_first =
            [b"{\"value\":", value, b", \"\\u006bey\" : [1, 2],\"offset\":7}"].concat();
        let value_last = [b"{\"offset\":7,\"key\":[1,2],\"value\":", value, b" } "].concat();
        let beside = [b"{\"key\":[1,2],\"x\":", value, b",\"value\":1,\"offset\":7}"].concat();
        for line in [value_first, value_last, beside] {
            let shown = String::from_utf8_lossy(&line).to_string();
            let bad = parse(&line).expect_err(&shown);
            assert!(bad.what.starts_with("not "), "{shown}: {}", bad.what);
            assert_eq!(bad.key, Some(Json::from_canonical("[1,2]")), "{shown}");
            assert_eq!(bad.offset, Some(7), "{shown}");
        }
    }
    // Where it is not certain which row the line is of, its bytes are its name.
    for line in [
        &b"{\"key\":1,\"value\":\"\\ud83d\""[..],
        b"{\"key\":1,\"value\":\"\\ud83d}",
        b"{\"key\":1,\"value\":\"\\ud83d\"}{\"key\":2,\"value\":1}",
        b"{\"key\":1,\"value\":[\"\\ud83d\"}]",
        b"{\"key\":1,\"value\":\"\\ud83d\",\"key\":1}",
        b"{\"key\":\"\\ud83d\",\"value\":1}",
        b"{\"key\":\"\xff\",\"value\":1}",
        b"{\"key\":tru,\"value\":1}",
        b"{\"key\":,\"value\":1}",
        b"{\"key\":1 2,\"value\":1}",
        b"{\"value\":\"\\ud83d\"}",
        b"{\"value\":{\"key\":1},\"x\":\"\\ud83d\"}",
        b"{\"key\":1,\"value\":\"\\ud83d\",}",
        b"[\"key\",1,\"\\ud83d\"]",
        b"{\"key\":1,value:\"\\ud83d\"}",
        b"",
    ] {
        let shown = String::from_utf8_lossy(line).to_string();
        if let Err(bad) = parse(line) {
            assert_eq!(bad.key, None, "{shown}");
        }
    }
}

#[test]
fn what_is_no_line_of_json_is_called_by_its_name() {
    let shape = "write {\"key\": K, \"value\": V, \"ts\": T} or {\"closed\": N}";
    let json = "repair or remove the line";
    let array = "write one object per line: jq -c '.[]' FILE | ingest - ..";
    let pretty = "write each object on one line: jq -c . FILE | ingest - ..";
    let (utf_16, iconv) =
        ("UTF-16 where UTF-8 was expected", "iconv -f UTF-16 -t UTF-8 FILE | ingest - ..");
    let cut = "the file was cut while it was written to: remove them, or put the whole feed back";
    let utf_16_of = |text: &str, big: bool| -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    };
    let row = "{\"key\":1,\"value\":2}";
    let table: [(Vec<u8>, &str, &str); 21] = [
        (
            b"\x1f\x8b\x08\0\0\0".to_vec(),
            "gzip where a line was expected",
            "gzip: zcat FILE | ingest - ..",
        ),
        (
            b"\x28\xb5\x2f\xfd\x04".to_vec(),
            "zstd where a line was expected",
            "zstd: zstdcat FILE | ingest - ..",
        ),
        (b"\xfd7zXZ\0\0".to_vec(), "xz where a line was expected", "xz: xzcat FILE | ingest - .."),
        (
            b"BZh91AY&SY\xff".to_vec(),
            "bzip2 where a line was expected",
            "bzip2: bzcat FILE | ingest - ..",
        ),
        (
            b"PK\x03\x04\x14".to_vec(),
            "zip where a line was expected",
            "zip: unzip -p FILE | ingest - ..",
        ),
        (utf_16_of("\u{feff}{\"key\":1", false), utf_16, iconv),
        (utf_16_of("\u{feff}{\"key\":1", true), utf_16, iconv),
        (utf_16_of(row, false), utf_16, iconv),
        (utf_16_of(row, true), utf_16, iconv),
        (vec![0; 40], "NUL bytes where a line was expected", cut),
        ([&[0; 9], row.as_bytes()].concat(), "NUL bytes where a line was expected", cut),
        (
            format!("\u{feff}{row}").into_bytes(),
            "a byte order mark in front of the line",
            "remove it: only the first line of a feed may have one",
        ),
        (format!("[{row},{row}]").into_bytes(), "a JSON array where an object was expected", array),
        (b"[".to_vec(), "a JSON array where an object was expected", array),
        (format!(" [ {row},").into_bytes(), "a JSON array where an object was expected", array),
        (b"{".to_vec(), "an object that does not end on its line", pretty),
        (b"{ \"key\": 1,".to_vec(), "an object that does not end on its line", pretty),
        (b"{ \"key\": {".to_vec(), "an object that does not end on its line", pretty),
        (
            format!("{row} {row}").into_bytes(),
            "not JSON: more text after the value (byte 21 of the line)",
            "write one object per line: jq -c . FILE | ingest - ..",
        ),
        // What could be anything is what it is.
        (b"[1, 2]".to_vec(), "a line that is not an object", shape),
        (b"{\"key\":1".to_vec(), "not JSON: expected `,` or `}` (byte 9 of the line)", json),
    ];
    for (line, what, hint) in table {
        let shown = String::from_utf8_lossy(&line).to_string();
        let bad = parse(&line).expect_err(&shown);
        assert_eq!((&*bad.what, bad.hint), (what, hint), "{shown}");
    }
    // The row behind a mark is known all the same; and a line may be all of an array.
    let marked = parse(format!("\u{feff}{row}")).expect_err("a mark");
    assert_eq!(marked.key, Some(Json::from_canonical("1")));
    assert_eq!(Bad::too_long(b"[{\"key\":1,").hint, array);
}

#[test]
fn a_line_of_another_program_is_told_by_its_members() {
    for (line, hint) in [
        (
            r#"{"topic":"t","partition":0,"offset":5,"ts":1,"key":"7","payload":"1"}"#,
            "--format kcat",
        ),
        (r#"{"topic":"t","partition":0,"offset":5,"key":null,"payload":null}"#, "--format kcat"),
        (
            r#"{"database":"d","table":"t","type":"insert","ts":1,"data":{"id":1}}"#,
            "--format maxwell",
        ),
        (
            r#"{"data":[{"id":"1"}],"database":"d","isDdl":false,"pkNames":["id"],"table":"t","ts":1,"type":"INSERT"}"#,
            "--format canal",
        ),
        (r#"{"before":null,"after":{"id":1},"source":{},"op":"c"}"#, "--format debezium"),
        (r#"{"schema":{},"payload":{"op":"c"}}"#, "--format debezium"),
        (r#"{"id":1,"n":"x"}"#, "--format bare --key FIELD"),
        (r#"{"key":1,"n":"x"}"#, "a delete has"),
        (r#"{"value":1,"topic":"t","partition":0,"offset":5,"payload":"1"}"#, "a delete has"),
        ("{}", "a delete has"),
    ] {
        let bad = parse(line).expect_err("it lacks a member");
        assert!(
            bad.what.starts_with("missing ") && bad.hint.contains(hint),
            "{line}: {}",
            bad.hint
        );
    }
}

#[test]
fn nesting_counts_the_line_itself() {
    let line = |depth: usize| {
        format!("{{\"key\":1,\"value\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
    };
    assert!(parse(line(126)).is_ok());
    let bad = parse(line(127)).expect_err("128 deep");
    assert!(bad.what.contains("nested deeper than 127"), "{}", bad.what);
    assert!(parse(format!("{{\"key\":{}", "[".repeat(15 << 20))).is_err());
    assert!(parse(format!("{{\"key\":1,\"value\":1,\"x\":{}", "{\"a\":".repeat(3 << 20))).is_err());
}

#[test]
fn many_members_are_checked_for_duplicates_in_little_time() {
    let members: String = (0..200_000).map(|i| format!(",\"m{i}\":0")).collect();
    assert!(parse(format!("{{\"key\":1,\"value\":1{members}}}")).is_ok());
    assert!(parse(format!("{{\"key\":1,\"value\":1{members},\"m77\":0}}")).is_err());
}
