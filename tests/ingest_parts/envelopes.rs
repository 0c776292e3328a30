//! Goal: a Debezium line does what its envelope says, wrapped or not, and a bad envelope says what is
//! wrong with it under its key. Method: tables.

use differential_upsert::source::Change;

use crate::change::{Changes, Format, kept};
use crate::lines::Piece;
use crate::position::Offsets;

fn line(text: &str) -> String {
    let piece = Piece { number: 5, bytes: text.as_bytes(), too_long: false };
    let mut changes = Changes::after(Format::Debezium, Offsets::Undecided);
    let change = match changes.line(&piece) {
        Ok(None) => return "nothing".to_string(),
        Ok(Some(change)) => change,
        Err(bad) => kept(bad, &piece),
    };
    match change {
        Change::Put(key, Ok(value)) => format!("{}={}", key.as_str(), value.as_str()),
        Change::Put(key, Err(error)) => format!("{}!{}", key.as_str(), error.0),
        Change::Delete(key) => format!("{}-", key.as_str()),
        Change::Reset => "reset".to_string(),
    }
}

#[test]
fn each_op_does_what_it_says() {
    for (value, does) in [
        (r#"{"op":"c","after":{"b":1, "a":2.0},"before":null}"#, r#"{"id":1}={"a":2.0,"b":1}"#),
        (r#"{"op":"r","after":7,"ts_ms":5,"source":{"op":"x"}}"#, r#"{"id":1}=7"#),
        (r#"{"before":{"a":1},"after":{"a":null},"op":"u"}"#, r#"{"id":1}={"a":null}"#),
        (r#"{"op":"d","before":{"a":1},"after":null}"#, r#"{"id":1}-"#),
        (r#"{"op":"d"}"#, r#"{"id":1}-"#),
        ("null", r#"{"id":1}-"#),
        (r#"{"op":"t"}"#, "reset"),
        // The last of equal names counts inside values.
        (r#"{"op":"x","op":"c","after":1,"after":2}"#, r#"{"id":1}=2"#),
    ] {
        assert_eq!(line(&format!(r#"{{"key":{{"id": 1}},"value":{value}}}"#)), does, "{value}");
        let wrapped = format!(
            r#"{{"key":{{"schema":{{"x":1}},"payload":{{"id":1}}}},"value":{{"payload":{value},"schema":null}},"topic":"t"}}"#
        );
        assert_eq!(line(&wrapped), does, "{wrapped}");
    }
    assert_eq!(line(r#"{"key":null,"value":{"op":"t"}}"#), "reset");
    assert_eq!(line(r#"{"closed":5}"#), "nothing");
    assert_eq!(line(" "), "nothing");
}

#[test]
fn only_an_object_of_exactly_these_two_is_unwrapped() {
    for key in [r#"{"payload":1}"#, r#"{"payload":1,"schema":2,"x":3}"#, r#"{"payload":1,"x":2}"#] {
        let does = format!("{key}-");
        assert_eq!(line(&format!(r#"{{"key":{key},"value":null}}"#)), does);
    }
    // One wrapping is taken off, not all.
    let twice = r#"{"key":{"schema":0,"payload":{"schema":1,"payload":2}},"value":null}"#;
    assert_eq!(line(twice), r#"{"payload":2,"schema":1}-"#);
}

#[test]
fn a_bad_envelope_is_its_keys_error() {
    for (value, what) in [
        ("5", "an envelope that is not an object"),
        ("[]", "an envelope that is not an object"),
        (r#"{"schema":1,"payload":"x"}"#, "an envelope that is not an object"),
        ("{}", "an envelope without \"op\""),
        (r#"{"after":{"a":1}}"#, "an envelope without \"op\""),
        (r#"{"op":"m","after":1}"#, "\"op\" is \"m\", none of c, r, u, d, t"),
        (r#"{"op":1}"#, "\"op\" is 1, none of c, r, u, d, t"),
        (
            r#"{"op":"a very long text that nobody would like to read in full"}"#,
            "\"op\" is none of c, r, u, d, t",
        ),
        (r#"{"op":"c"}"#, "\"op\" is \"c\", and there is no \"after\""),
        (r#"{"op":"u","before":1,"after":null}"#, "\"op\" is \"u\", and \"after\" is null"),
    ] {
        let found = line(&format!(r#"{{"key":{{"schema":0,"payload":4}},"value":{value}}}"#));
        assert_eq!(found, format!("4!{what} at line 5"), "{value}");
    }
    let found = line(r#"{"key":{"schema":0,"payload":4}}"#);
    assert_eq!(found, "4!missing \"value\" at line 5");
    assert_eq!(
        line(r#"{"value":{"op":"t"}}"#).split('!').nth(1),
        Some("missing \"key\" at line 5")
    );
}
