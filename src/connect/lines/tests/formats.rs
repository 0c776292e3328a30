//! Goal: a line of another program does what that program means by it, and a bad one says what is wrong with it,
//! under its key where it has one. Method: tables of lines as the programs print them.

use crate::connect::lines::Format;
use crate::connect::lines::change::{Changes, Does, kept};
use crate::connect::lines::config::Config;
use crate::connect::lines::cut::Piece;
use crate::connect::lines::formats::Timed;
use crate::connect::lines::line::{Line, key_base64};
use crate::connect::lines::position::Offsets;
use crate::connect::lines::shape::Shape;
use crate::source::Change;

/// What lines are, and what of their values is not a value.
fn config(format: Format, key: &str, deleted: Option<&str>) -> Config {
    let key = key.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
    let shape = Shape { key, deleted: deleted.map(str::to_string) };
    Config { format, shape, ..Config::new("-".to_string(), true) }
}

/// What lines do, one after the other.
fn all(config: &Config, lines: &[&[u8]]) -> Vec<String> {
    let mut changes = Changes::after(config, 0, Offsets::Undecided);
    let mut does = |bytes: &&[u8]| {
        let piece = Piece { number: 5, bytes, too_long: false, is_open: false };
        match changes.line(&piece) {
            Ok(Does::Nothing) => "nothing".to_string(),
            Ok(Does::Message) => "message".to_string(),
            Ok(Does::Change(change)) => shown(change),
            Ok(Does::Changes(changes)) => {
                changes.into_iter().map(shown).collect::<Vec<_>>().join(" ")
            }
            Err(bad) => {
                assert!(!bad.hint.is_empty());
                shown(kept(bad, &piece))
            }
        }
    };
    lines.iter().map(&mut does).collect()
}

fn line(config: &Config, line: impl AsRef<[u8]>) -> String {
    all(config, &[line.as_ref()]).remove(0)
}

fn shown(change: Change<crate::codec::Json, crate::codec::Json>) -> String {
    match change {
        Change::Put(key, Ok(value)) => format!("{key}={value}"),
        Change::Put(key, Err(error)) => format!("{key}!{}", error.0),
        Change::Delete(key) => format!("{key}-"),
        Change::Reset => "reset".to_string(),
        other => panic!("no format makes {other:?}"),
    }
}

/// The error of a line whose key is not known.
fn unkeyed(line: impl AsRef<[u8]>, what: &str) -> String {
    format!("{}!{what} at line 5", key_base64(line.as_ref()))
}

/// A message as `kcat -J` prints it: its key and payload are JSON.
fn message(partition: u64, offset: u64, key: &str, payload: &str) -> String {
    format!(
        r#"{{"topic":"orders","partition":{partition},"offset":{offset},"tstype":"create","ts":1700000000123,"broker":0,"headers":["trace","a1"],"key":{key},"payload":{payload}}}"#
    )
}

#[test]
fn a_message_of_kcat_is_its_key_and_payload() {
    let kcat = config(Format::Kcat, "", None);
    for (key, payload, does) in [
        (r#""7""#, r#""{\"n\": 1.0, \"a\":null}""#, r#"7={"a":null,"n":1.0}"#),
        (r#""007""#, r#""free text""#, r#""007"="free text""#),
        (r#""{\"id\":1}""#, "null", r#"{"id":1}-"#),
        (r#""k""#, r#""null""#, r#""k"-"#),
        (r#""k""#, r#""""#, r#""k"="""#),
        (r#""k""#, r#""{\"cut""#, r#""k"="{\"cut""#),
        // With -s avro.
        (r#"{"id":1}"#, r#"{"n":{"int":1}}"#, r#"{"id":1}={"n":{"int":1}}"#),
        (r#""é\u0001""#, r#""[1, 2]""#, r#""é\u0001"=[1,2]"#),
    ] {
        assert_eq!(line(&kcat, message(0, 7, key, payload)), does, "{key} {payload}");
    }
    assert_eq!(line(&kcat, ""), "nothing");
    // Older ones print less.
    let old = r#"{"topic":"t","partition":1,"offset":0,"key":"k","payload":"1"}"#;
    assert_eq!(line(&kcat, old), "\"k\"=1");
}

#[test]
fn a_bad_message_of_kcat_is_an_error_under_its_key() {
    let kcat = config(Format::Kcat, "", None);
    for (bad, what) in [
        (message(0, 7, "null", "\"1\""), "a message without a key"),
        (message(0, 7, "\"null\"", "\"1\""), "a message without a key"),
        ("[1]".to_string(), "a line that is not an object"),
        ("% Reached end of topic".to_string(), "not JSON: expected a value (byte 1 of the line)"),
        (r#"{"key":"k","value":1}"#.replace("key", "kez"), "a message without an \"offset\""),
    ] {
        assert_eq!(line(&kcat, &bad), unkeyed(&bad, what));
    }
    for (bad, what) in [
        (
            r#"{"topic":"t","partition":0,"offset":-1,"key":"k","payload":"1"}"#,
            "a message without an \"offset\"",
        ),
        (
            r#"{"topic":"t","offset":1,"key":"k","payload":"1"}"#,
            "a message without a \"partition\"",
        ),
        (r#"{"partition":0,"offset":1,"key":"k","payload":"1"}"#, "a message without a \"topic\""),
        (r#"{"topic":"t","partition":0,"offset":1,"key":"k"}"#, "a message without a \"payload\""),
    ] {
        assert_eq!(line(&kcat, bad), format!("\"k\"!{what} at line 5"));
    }
    // What of it is JSON says which row it is.
    let torn = message(0, 7, "\"1\"", r#""\ud83d""#);
    let found = line(&kcat, &torn);
    assert!(found.starts_with("1!not JSON: half of a surrogate pair"), "{found}");
}

#[test]
fn the_offsets_of_each_partition_increase_and_the_topic_is_one() {
    let kcat = config(Format::Kcat, "", None);
    let lines = [
        message(0, 7, "\"a\"", "\"1\""),
        message(1, 3, "\"b\"", "\"1\""),
        message(0, 9, "\"a\"", "\"2\""),
        message(0, 9, "\"a\"", "\"2\""),
        message(1, 2, "\"b\"", "\"0\""),
        message(1, 4, "\"b\"", "\"2\""),
        message(1, 5, "\"b\"", "\"3\"").replace("orders", "others"),
        message(1, 5, "\"b\"", "\"4\""),
    ];
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let found = all(&kcat, &lines);
    assert_eq!(found[..3], ["\"a\"=1", "\"b\"=1", "\"a\"=2"]);
    let says = |offset, last, partition| {
        format!("\"offset\" {offset} does not come after {last} in partition {partition} at line 5")
    };
    assert_eq!(found[3], format!("\"a\"!{}", says(9, 9, 0)));
    assert_eq!(found[4], format!("\"b\"!{}", says(2, 3, 1)));
    assert_eq!(found[5], "\"b\"=2");
    assert_eq!(found[6], unkeyed(lines[6], "rows of two topics, orders and others"));
    assert_eq!(found[7], "\"b\"=4");
}

#[test]
fn the_clock_of_a_message_is_a_time_where_that_is_said() {
    let kcat = config(Format::Kcat, "", None);
    let mut timed = Timed::new(&kcat);
    let Ok(Line::Row(row)) = timed.parse(message(0, 7, "\"a\"", "\"1\"").as_bytes()) else {
        panic!("a row");
    };
    assert_eq!((row.ts, row.offset), (Some(1_700_000_000_123), Some(7)));
    let none = message(0, 8, "\"a\"", "\"1\"").replace("1700000000123", "-1");
    let bad = timed.parse(none.as_bytes()).expect_err("no clock");
    assert_eq!((&*bad.what, bad.offset), ("a message without a \"ts\"", Some(8)));
    let other = message(0, 8, "\"a\"", "\"1\"").replace("orders", "others");
    let bad = timed.parse(other.as_bytes()).expect_err("two topics");
    assert_eq!(bad.what, "rows of two topics, orders and others");
}

#[test]
fn a_line_of_the_console_is_its_key_and_value() {
    let console = config(Format::Console, "", None);
    for (text, does) in [
        ("7\t{\"n\": 1}", "7={\"n\":1}"),
        ("order-7\tpaid", "\"order-7\"=\"paid\""),
        ("{\"id\":1}\tnull", "{\"id\":1}-"),
        ("k\ta\tb", "\"k\"=\"a\\tb\""),
        ("k\t", "\"k\"=\"\""),
        ("\tv", "\"\"=\"v\""),
        ("", "nothing"),
        ("  ", "nothing"),
    ] {
        assert_eq!(line(&console, text), does, "{text}");
    }
    for (text, what) in [
        (&b"k v"[..], "a line without a TAB between its key and its value"),
        (b"null\t1", "a message without a key"),
        (b"CreateTime:1700000000123\tk\t1", "CreateTime: in front of the key"),
        (b"Partition:0\tOffset:5\tk\t1", "Partition: in front of the key"),
        (b"\xff\t1", "not UTF-8 (byte 1 of the line)"),
    ] {
        assert_eq!(line(&console, text), unkeyed(text, what));
    }
    assert_eq!(line(&console, b"k\t\xff"), "\"k\"!not UTF-8 (byte 3 of the line) at line 5");
}

#[test]
fn a_key_is_taken_out_of_the_value_and_stays_in_it() {
    let row = r#"{"b":"x","id":1,"ts":5,"closed":7}"#;
    let sorted = r#"{"b":"x","closed":7,"id":1,"ts":5}"#;
    let json = format!(r#"{{"value":{row}}}"#);
    let keyed = format!(r#"{{"key":null,"value":{row},"closed":3}}"#);
    let text = serde_json::to_string(row).expect("text");
    for (names, key) in [("id", "1"), ("b,id", r#"["x",1]"#), ("id,b", r#"[1,"x"]"#)] {
        let does = format!("{key}={sorted}");
        assert_eq!(line(&config(Format::Bare, names, None), row), does);
        assert_eq!(line(&config(Format::Json, names, None), &json), does);
        assert_eq!(line(&config(Format::Json, names, None), &keyed), does);
        assert_eq!(line(&config(Format::Kcat, names, None), message(0, 1, "null", &text)), does);
        assert_eq!(line(&config(Format::Console, names, None), format!("null\t{row}")), does);
    }
    let by_id = |format| config(format, "id", None);
    let without = "a value without \"id\", which is its key";
    for bad in [r#"{"n":1}"#, r#"{"id":null}"#, "{}"] {
        assert_eq!(line(&by_id(Format::Bare), bad), unkeyed(bad, without));
    }
    let none = "a value that is not an object, so that --key finds no key";
    for value in ["7", "null", "[{\"id\":1}]"] {
        let bad = format!(r#"{{"key":1,"value":{value}}}"#);
        assert_eq!(line(&by_id(Format::Json), &bad), unkeyed(&bad, none));
    }
    // What is bad about a line is so of the row whose key is in its value.
    let bad = r#"{"key":9,"value":{"id":1},"offset":-1}"#;
    assert!(line(&by_id(Format::Json), bad).starts_with("1!\"offset\" is not a whole number"));
    let bad = r#"{"key":9,"value":{"id":1},"x":"\ud83d"}"#;
    assert!(line(&by_id(Format::Json), bad).starts_with("1!not JSON: half of a surrogate"));
}

#[test]
fn a_member_says_that_a_row_is_gone() {
    let json = config(Format::Json, "", Some("__deleted"));
    let bare = config(Format::Bare, "id", Some("__deleted"));
    for (says, does) in [
        (r#","__deleted":"true""#, "1-"),
        (r#","__deleted":true"#, "1-"),
        (r#","__deleted":"false""#, r#"1={"id":1,"z":2}"#),
        (r#","__deleted":false"#, r#"1={"id":1,"z":2}"#),
        (r#","__deleted":null"#, r#"1={"id":1,"z":2}"#),
        ("", r#"1={"id":1,"z":2}"#),
        (r#","__deleted":1"#, "1!\"__deleted\" is neither true nor false at line 5"),
    ] {
        let row = format!(r#"{{"z":2,"id":1{says}}}"#);
        assert_eq!(line(&bare, &row), does, "{row}");
        assert_eq!(line(&json, format!(r#"{{"key":1,"value":{row}}}"#)), does, "{row}");
    }
    assert_eq!(line(&json, r#"{"key":1,"value":7}"#), "1=7");
    assert_eq!(line(&json, r#"{"key":1,"value":null}"#), "1-");
}

/// A line of Maxwell's, with what stands behind `commit`.
fn maxwell(table: &str, kind: &str, rest: &str) -> String {
    format!(
        r#"{{"database":"shop","table":"{table}","type":"{kind}","ts":1449786310,"xid":940752,"commit":true,{rest}}}"#
    )
}

#[test]
fn a_line_of_maxwell_is_its_row() {
    let by_id = config(Format::Maxwell, "id", None);
    let told = config(Format::Maxwell, "", None);
    let row = r#""data":{"id":1,"n":"x"}"#;
    let keys = r#""primary_key":[1],"primary_key_columns":["id"]"#;
    for (kind, old, does) in [
        ("insert", "", r#"1={"id":1,"n":"x"}"#),
        ("bootstrap-insert", "", r#"1={"id":1,"n":"x"}"#),
        ("update", r#","old":{"n":"w"}"#, r#"1={"id":1,"n":"x"}"#),
        ("update", r#","old":{"id":2}"#, r#"2- 1={"id":1,"n":"x"}"#),
        ("update", r#","old":{"id":1}"#, r#"1={"id":1,"n":"x"}"#),
        ("delete", "", "1-"),
        ("bootstrap-start", "", "message"),
        ("bootstrap-complete", "", "message"),
        ("table-alter", "", "message"),
    ] {
        let text = maxwell("t", kind, &format!("{row}{old}"));
        assert_eq!(line(&by_id, &text), does, "{text}");
        let text = maxwell("t", kind, &format!("{keys},{row}{old}"));
        assert_eq!(line(&told, &text), does, "{text}");
    }
    let text = maxwell("t", "insert", &format!(r#""primary_key":[1,"x"],{row}"#));
    assert_eq!(line(&told, text), r#"[1,"x"]={"id":1,"n":"x"}"#);
    let text = maxwell("t", "update", r#""primary_key":[1],"data":{"id":1,"n":5},"old":{"n":4}"#);
    assert_eq!(line(&told, text), r#"1={"id":1,"n":5}"#);
    let bad = maxwell("t", "update", r#""primary_key":[1],"data":{"id":1,"n":1},"old":{"n":4}"#);
    assert!(line(&told, bad).starts_with("1!an update that may have changed the key"));
    for (bad, what) in [
        (maxwell("t", "insert", row), "a row that does not say its key"),
        (maxwell("t", "insert", r#""data":null"#), "a row whose \"data\" is not an object"),
        (r#"{"data":{}}"#.to_string(), "a line without a \"type\""),
        (r#"{"type":"insert"}"#.to_string(), "a row without its \"database\" and \"table\""),
    ] {
        assert_eq!(line(&told, &bad), unkeyed(&bad, what));
    }
    let [first, second] = ["a", "b"].map(|table| maxwell(table, "insert", row));
    let found = all(&by_id, &[first.as_bytes(), second.as_bytes()]);
    assert_eq!(found[1], unkeyed(&second, "rows of two tables, shop.a and shop.b"));
}

/// A flat message of Canal's.
fn canal(kind: &str, data: &str, old: &str) -> String {
    let ddl = !matches!(kind, "INSERT" | "UPDATE" | "DELETE");
    format!(
        r#"{{"data":{data},"database":"shop","es":1600161208000,"id":3,"isDdl":{ddl},"mysqlType":{{"id":"int(11)"}},"old":{old},"pkNames":["id"],"sql":"","sqlType":{{"id":4}},"table":"t","ts":1600161208100,"type":"{kind}"}}"#
    )
}

#[test]
fn a_line_of_canal_is_all_its_rows() {
    let told = config(Format::Canal, "", None);
    let data = r#"[{"id":"1","n":"x"},{"id":"2","n":null}]"#;
    let (one, two) = (r#""1"={"id":"1","n":"x"}"#, r#""2"={"id":"2","n":null}"#);
    for (kind, data, old, does) in [
        ("INSERT", data, "null", format!("{one} {two}")),
        ("UPDATE", data, r#"[{"n":"w"},{"n":"v"}]"#, format!("{one} {two}")),
        ("UPDATE", data, r#"[{"id":"8"},{"n":"v"}]"#, format!("\"8\"- {one} {two}")),
        ("UPDATE", data, r#"[{"id":"2"},{"id":"3"}]"#, format!("\"2\"- {one} \"3\"- {two}")),
        ("DELETE", data, "null", "\"1\"- \"2\"-".to_string()),
        ("INSERT", "[]", "null", "message".to_string()),
        ("TRUNCATE", "null", "null", "reset".to_string()),
        ("QUERY", "null", "null", "message".to_string()),
        ("CREATE", "null", "null", "message".to_string()),
        ("ALTER", "null", "null", "message".to_string()),
    ] {
        assert_eq!(line(&told, canal(kind, data, old)), does, "{kind}");
    }
    let by_n = config(Format::Canal, "n,id", None);
    assert_eq!(line(&by_n, canal("DELETE", r#"[{"id":"1","n":"x"}]"#, "null")), r#"["x","1"]-"#);
    // One bad row makes all of them bad: they are one unit.
    for (bad, what) in [
        (
            canal("INSERT", r#"[{"id":"1"},{"n":"x"}]"#, "null"),
            "a value without \"id\", which is its key",
        ),
        (canal("INSERT", r#"[{"id":"1"},7]"#, "null"), "a row that is not an object"),
        (canal("INSERT", "null", "null"), "rows whose \"data\" is not an array"),
        (
            canal("INSERT", data, "null").replace("[\"id\"]", "null"),
            "rows that do not say their key",
        ),
        (r#"{"data":[]}"#.to_string(), "a line without a \"type\""),
    ] {
        assert_eq!(line(&told, &bad), unkeyed(&bad, what));
    }
}
