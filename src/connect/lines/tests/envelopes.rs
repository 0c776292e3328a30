//! Goal: a Debezium line does what its envelope says, wrapped or not, and a bad envelope says what is
//! wrong with it under its key. Method: tables.

use crate::connect::lines::change::{Changes, Does, kept};
use crate::connect::lines::config::Config;
use crate::connect::lines::cut::Piece;
use crate::connect::lines::line::key_base64;
use crate::connect::lines::position::Offsets;
use crate::connect::lines::{Format, OnUnavailable};
use crate::source::Change;

fn line(text: &str) -> String {
    line_of(text, OnUnavailable::Error)
}

fn line_of(text: &str, on_unavailable: OnUnavailable) -> String {
    let piece = Piece { number: 5, bytes: text.as_bytes(), too_long: false, is_open: false };
    let format = Format::Debezium;
    let config = Config { format, on_unavailable, ..Config::new("-".to_string(), true) };
    let mut changes = Changes::after(&config, 0, Offsets::Undecided);
    let change = match changes.line(&piece) {
        Ok(Does::Nothing) => return "nothing".to_string(),
        Ok(Does::Message) => return "message".to_string(),
        Ok(Does::Change(change)) => change,
        Ok(Does::Changes(_)) => panic!("an envelope is one change"),
        Err(bad) => kept(bad, &piece),
    };
    match change {
        Change::Put(key, Ok(value)) => format!("{}={}", key.as_str(), value.as_str()),
        Change::Put(key, Err(error)) => format!("{}!{}", key.as_str(), error.0),
        Change::Patch(key, patch) => format!("{}~{}", key.as_str(), patch.as_str()),
        Change::Delete(key) => format!("{}-", key.as_str()),
        Change::Reset => "reset".to_string(),
        Change::ResetOf(name) => format!("reset {name}"),
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
            r#"{{"key":{{"schema":{{"type":"struct"}},"payload":{{"id":1}}}},"value":{{"payload":{value},"schema":null}},"topic":"t"}}"#
        );
        assert_eq!(line(&wrapped), does, "{wrapped}");
    }
    assert_eq!(line(r#"{"key":null,"value":{"op":"t"}}"#), "reset");
    assert_eq!(line(r#"{"closed":5}"#), "nothing");
    assert_eq!(line(" "), "nothing");
}

#[test]
fn only_an_object_of_exactly_these_two_is_unwrapped() {
    for key in [
        r#"{"payload":1}"#,
        r#"{"payload":1,"schema":{"type":"int32"},"x":3}"#,
        r#"{"payload":1,"x":2}"#,
        // Columns that are called so.
        r#"{"payload":7,"schema":"public"}"#,
        r#"{"payload":7,"schema":0}"#,
        r#"{"payload":7,"schema":{}}"#,
        r#"{"payload":7,"schema":{"TYPE":1}}"#,
        r#"{"payload":7,"schema":["type"]}"#,
    ] {
        let does = format!("{key}-");
        assert_eq!(line(&format!(r#"{{"key":{key},"value":null}}"#)), does);
    }
    // One wrapping is taken off, not all.
    let twice = r#"{"key":{"schema":null,"payload":{"schema":null,"payload":2}},"value":null}"#;
    assert_eq!(line(twice), r#"{"payload":2,"schema":null}-"#);
    // What is after the change is the row, whatever its columns are called.
    let row = r#"{"payload":{"op":"d"},"schema":null}"#;
    let put = format!(r#"{{"key":1,"value":{{"op":"c","after":{row}}}}}"#);
    assert_eq!(line(&put), format!("1={row}"));
}

#[test]
fn a_bad_envelope_is_its_keys_error() {
    for (value, what) in [
        ("5", "an envelope that is not an object"),
        ("[]", "an envelope that is not an object"),
        (r#"{"schema":null,"payload":"x"}"#, "an envelope that is not an object"),
        ("{}", "an envelope without \"op\""),
        (r#"{"after":{"a":1}}"#, "an envelope without \"op\""),
        (r#"{"op":"m","after":1}"#, "\"op\" is \"m\", none of c, r, u, d, t, m"),
        (r#"{"op":1}"#, "\"op\" is 1, none of c, r, u, d, t, m"),
        (
            r#"{"op":"a very long text that nobody would like to read in full"}"#,
            "\"op\" is none of c, r, u, d, t, m",
        ),
        (r#"{"op":"c"}"#, "\"op\" is \"c\", and there is no \"after\""),
        (r#"{"op":"u","before":1,"after":null}"#, "\"op\" is \"u\", and \"after\" is null"),
    ] {
        let found = line(&format!(r#"{{"key":{{"schema":null,"payload":4}},"value":{value}}}"#));
        assert_eq!(found, format!("4!{what} at line 5"), "{value}");
    }
    let found = line(r#"{"key":{"schema":null,"payload":4}}"#);
    assert_eq!(found, "4!missing \"value\" at line 5");
    assert_eq!(
        line(r#"{"value":{"op":"t"}}"#).split('!').nth(1),
        Some("missing \"key\" at line 5")
    );
}

#[test]
fn a_row_change_needs_a_key_and_a_truncate_has_none() {
    let what = "a row change without a key: the table has no primary key at line 5";
    for key in ["null", r#"{"schema":null,"payload":null}"#] {
        for value in [
            r#"{"op":"c","after":{"a":1}}"#,
            r#"{"op":"r","after":{"a":1}}"#,
            r#"{"op":"u","before":{"a":1},"after":{"a":2}}"#,
            r#"{"op":"d","before":{"a":1},"after":null}"#,
            "null",
        ] {
            // Under its own bytes, not under null: such lines are not one row.
            let text = format!(r#"{{"key":{key},"value":{value}}}"#);
            let found = line(&text);
            let under = key_base64(text.as_bytes());
            assert_eq!(found, format!("{}!{what}", under.as_str()), "{value}");
        }
        assert_eq!(line(&format!(r#"{{"key":{key},"value":{{"op":"t","after":null}}}}"#)), "reset");
    }
    let found = line(r#"{"key":null}"#);
    assert!(found.starts_with("{\"key_base64\":\"") && found.contains("!missing \"value\""));
}

#[test]
fn a_placeholder_never_takes_the_place_of_a_value() {
    let codes: Vec<u8> = "__debezium_unavailable_value".bytes().collect();
    let each = |show: &dyn Fn(u8) -> String| {
        format!("[{}]", codes.iter().map(|code| show(*code)).collect::<Vec<_>>().join(","))
    };
    use base64::Engine as _;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let text = "\"__debezium_unavailable_value\"".to_string();
    let hex: String = codes.iter().map(|code| format!("{code:02x}")).collect();
    let placeholders = [
        text.clone(),
        format!("[{text}]"),
        format!("[[{text}]]"),
        format!("{{{text}:{text}}}"),
        format!("{{\"deep\":[1,{{\"er\":{text}}}]}}"),
        "\"{\\\"__debezium_unavailable_value\\\":\\\"__debezium_unavailable_value\\\"}\""
            .to_string(),
        format!("\"{}\"", base64(&codes)),
        format!("[\"{}\"]", base64(&codes)),
        format!("\"{hex}\""),
        "[\"b68a35a7-17ad-35b3-af2a-ae46edb4545a\"]".to_string(),
        each(&|code| code.to_string()),
        each(&|code| format!("{code}.0")),
        each(&|code| format!("\"{code}\"")),
        each(&|code| format!("\"{}\"", base64(&[code]))),
        each(&|code| format!("{{\"scale\":0,\"value\":\"{}\"}}", base64(&[code]))),
        "{\"srid\":4326,\"wkb\":\"AQEAACDmEAAAAAAA/IPXl8EAAAD8g9eXwQ==\"}".to_string(),
    ];
    for placeholder in placeholders {
        for op in ["c", "r", "u"] {
            let row = format!("{{\"a\":1,\"do\\\"c\":{placeholder},\"z\":null}}");
            let text = format!("{{\"key\":4,\"value\":{{\"op\":\"{op}\",\"after\":{row}}}}}");
            let what = "4!column \"do\\\"c\" was not sent, for it did not change: the table needs REPLICA IDENTITY FULL at line 5";
            assert_eq!(line(&text), what, "{placeholder}");
            // Only a row that was there has something to keep.
            let patch = "4~{\"row\":{\"a\":1,\"z\":null},\"unsent\":[\"do\\\"c\"]}";
            let expected = if op == "u" { patch } else { what };
            assert_eq!(line_of(&text, OnUnavailable::Keep), expected, "{placeholder}");
        }
    }
    // What only looks like one is a value; and nothing depends on what was before.
    let near = each(&|code| code.to_string()).replace("[95,95", "[95,96");
    for value in ["\"__debezium_unavailable_value \"", "\"X19k\"", "[95]", "{}", &*near] {
        let row = format!("{{\"doc\":{value}}}");
        let before = format!("{{\"doc\":{text}}}");
        let put =
            format!("{{\"key\":4,\"value\":{{\"op\":\"u\",\"before\":{before},\"after\":{row}}}}}");
        assert_eq!(line(&put), format!("4={row}"));
    }
}

#[test]
fn avro_from_a_console_is_unwrapped() {
    let row = r#"{"ns.t.Value":{"id":1,"name":{"string":"x"},"note":null,"n":{"long":-5},"f":{"double":1.5},"ok":{"boolean":true},"tags":{"array":[{"string":"a"},null,"b"]},"where":{"io.debezium.data.geometry.Point":{"x":1.0,"y":2.0,"srid":{"int":7}}},"attributes":{"map":{"k":{"string":"v"}}},"raw":{"bytes":"\u0001"}}}"#;
    let plain = r#"{"attributes":{"k":"v"},"f":1.5,"id":1,"n":-5,"name":"x","note":null,"ok":true,"raw":"\u0001","tags":["a",null,"b"],"where":{"srid":7,"x":1.0,"y":2.0}}"#;
    for (ts_ms, source) in [
        (r#"{"long":5}"#, r#"{"snapshot":{"string":"true"},"table":{"string":"t"}}"#),
        ("5", r#"{"snapshot":"true"}"#),
    ] {
        let value = format!(
            r#"{{"before":null,"after":{row},"source":{source},"op":"r","ts_ms":{ts_ms},"transaction":null}}"#
        );
        for value in [value.clone(), format!(r#"{{"ns.t.Envelope":{value}}}"#)] {
            let text = format!(r#"{{"key":{{"id":1}},"value":{value}}}"#);
            assert_eq!(line(&text), format!("{{\"id\":1}}={plain}"));
        }
    }
    let deleted = r#"{"key":1,"value":{"op":"d","before":{"ns.t.Value":{"id":1}},"after":null,"ts_ms":{"long":5}}}"#;
    assert_eq!(line(deleted), "1-");
    let other = r#"{"key":1,"value":{"op":"c","after":{"id":1},"ts_ms":{"long":5}}}"#;
    let what = "an envelope of Avro whose \"after\" is not {\"NAME.Value\": {..}} at line 5";
    assert_eq!(line(other), format!("1!{what}"));
    // A union that hides its column's placeholder hides it no more.
    let hidden = r#"{"key":1,"value":{"op":"u","after":{"a.Value":{"doc":{"string":"__debezium_unavailable_value"}}}}}"#;
    assert!(line(hidden).starts_with("1!column \"doc\" was not sent"));
    // Columns of plain JSON stay as they are.
    for row in [
        r#"{"string":"x"}"#,
        r#"{"a":{"string":"x"}}"#,
        r#"{"a.Value":1}"#,
        r#"{"a":1,"b.Value":{"c":1}}"#,
        r#"{"value":{"a":1}}"#,
    ] {
        let put = format!(r#"{{"key":1,"value":{{"op":"c","after":{row},"ts_ms":5}}}}"#);
        assert_eq!(line(&put), format!("1={row}"));
    }
    let map = r#"{"a.Value":{"of":{"number":7},"long":{"long":"seven"}}}"#;
    let put = format!(r#"{{"key":1,"value":{{"op":"c","after":{map}}}}}"#);
    assert_eq!(line(&put), r#"1={"long":{"long":"seven"},"of":{"number":7}}"#);
}

#[test]
fn messages_that_change_no_row_are_skipped_and_other_shapes_are_not() {
    let source = r#"{"connector":"postgresql","snapshot":"false"}"#;
    let message = format!(
        r#"{{"op":"m","ts_ms":5,"source":{source},"message":{{"prefix":"p","content":"eA=="}}}}"#
    );
    let ddl = format!(
        r#"{{"source":{source},"ts_ms":5,"databaseName":"d","schemaName":null,"ddl":"ALTER TABLE t","tableChanges":[]}}"#
    );
    let end = r#"{"status":"END","id":"5","event_count":1,"data_collections":[{"data_collection":"t","event_count":1}],"ts_ms":5}"#;
    for (key, value) in [
        (r#"{"prefix":"p"}"#, &*message),
        ("null", r#"{"op":"m","after":null}"#),
        (r#"{"serverName":"s"}"#, r#"{"ts_ms":5}"#),
        (
            r#"{"id":"5"}"#,
            r#"{"status":"BEGIN","id":"5","event_count":null,"data_collections":null}"#,
        ),
        (r#"{"id":"5"}"#, end),
        (r#"{"databaseName":"d"}"#, &*ddl),
    ] {
        for wrap in [false, true] {
            let wrapped = |text: &str| match wrap {
                true => format!(r#"{{"schema":{{"type":"struct"}},"payload":{text}}}"#),
                false => text.to_string(),
            };
            let (key, value) = (wrapped(key), wrapped(value));
            assert_eq!(line(&format!(r#"{{"key":{key},"value":{value}}}"#)), "message", "{value}");
        }
    }
    // Near them: what is not known is refused as ever.
    for (key, value) in [
        (r#"{"id":5}"#, r#"{"ts_ms":5}"#),
        (r#"{"serverName":"s"}"#, r#"{"ts_ms":5,"x":1}"#),
        (r#"{"id":1,"serverName":"s"}"#, r#"{"ts_ms":5}"#),
        (r#"{"id":"5"}"#, r#"{"status":"OPEN","id":"5"}"#),
        (r#"{"id":"5"}"#, r#"{"status":"BEGIN","id":"5","name":"a row?"}"#),
        (r#"{"id":"5"}"#, r#"{"status":"END"}"#),
        (r#"{"databaseName":"d"}"#, r#"{"databaseName":"d"}"#),
        (r#"{"id":1}"#, &*ddl),
        (r#"{"serverName":"s"}"#, r#"{"ts_ms":5,"after":{"a":1}}"#),
    ] {
        let found = line(&format!(r#"{{"key":{key},"value":{value}}}"#));
        assert_eq!(found, format!("{key}!an envelope without \"op\" at line 5"), "{value}");
    }
}

#[test]
fn a_document_of_mongodb_is_the_row() {
    let key = r#"{"id":"{\"$oid\": \"596e275826f08b2730779e1f\"}"}"#;
    let document = r#""{\"_id\": {\"$oid\": \"596e275826f08b2730779e1f\"}, \"n\": 1}""#;
    let row = r#"{"_id":{"$oid":"596e275826f08b2730779e1f"},"n":1}"#;
    let source = r#""source":{"connector":"mongodb","db":"d","collection":"c"}"#;
    let of = |members: &str| format!(r#"{{"key":{key},"value":{{{members},{source}}}}}"#);
    for (members, does) in [
        (format!(r#""op":"c","after":{document}"#), format!("{key}={row}")),
        (format!(r#""op":"r","after":{document}"#), format!("{key}={row}")),
        (
            format!(r#""op":"u","after":{document},"updateDescription":{{}}"#),
            format!("{key}={row}"),
        ),
        (format!(r#""op":"u","patch":{document}"#), format!("{key}={row}")),
        (format!(r#""op":"u","after":null,"patch":{document}"#), format!("{key}={row}")),
        (r#""op":"d","before":null"#.to_string(), format!("{key}-")),
        (
            format!(r#""op":"c","ts_ms":{{"long":1}},"after":{{"string":{document}}}"#),
            format!("{key}={row}"),
        ),
        // A string that is not a document's is the value.
        (r#""op":"c","after":"[1]""#.to_string(), format!("{key}=\"[1]\"")),
    ] {
        assert_eq!(line(&of(&members)), does, "{members}");
    }
    for members in [
        r#""op":"u","patch":"{\"$v\": 1, \"$set\": {\"n\": 2}}""#,
        r#""op":"u","patch":"nope""#,
        r#""op":"u","after":null,"updateDescription":{"updatedFields":"{\"n\": 2}"}"#,
    ] {
        let says = format!("{key}!an update that does not say all of its document at line 5");
        assert_eq!(line(&of(members)), says);
    }
}
