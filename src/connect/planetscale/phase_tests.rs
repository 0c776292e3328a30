//! Goal: events of VTGate come to the changes and boundaries that the acceptance rules say, however
//! they are cut into responses. Method: scripts in a small language, each cut in every place.
//!
//! `B` `C` `F` `DDL` `OTHER` `HB` `VER` `J` `RB` `CC` are events; `R1=x` inserts, `D1` deletes,
//! `U1=x>2=y` updates, `P1` does without the column `v`; `V5` is a VGTID at the first five transactions, `V5p9` with a last primary key of
//! 9. Before a colon stands the shard: `a` is `-80`, `b` is `80-`, `c` is `-40`, `d` is `40-80`; without,
//! it is `-`. A VGTID of many shards is `a:V=a5,b3p9`.

use super::super::proto::{Bitmap, Field, QueryResult, Row, RowChange, TableLastPk};
use super::*;

const SERVER: &str = "8bc65c84-3fe4-11ed-a912-257f0fcdd6c9";

fn shard_name(short: &str) -> &str {
    match short {
        "a" => "-80",
        "b" => "80-",
        "c" => "-40",
        "d" => "40-80",
        "" => "-",
        other => other,
    }
}

fn gtid(last: &str) -> String {
    if last == "0" { "MySQL56/".to_string() } else { format!("MySQL56/{SERVER}:1-{last}") }
}

pub(in super::super) fn fields() -> Vec<Field> {
    let field = |name: &str, kind, flags| Field {
        name: name.to_string(),
        r#type: kind,
        flags,
        ..Field::default()
    };
    vec![field("k", 265, 2), field("v", 6163, 0)]
}

pub(in super::super) fn row(text: &str) -> Row {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Row {
        lengths: vec![key.len() as i64, value.len() as i64],
        values: format!("{key}{value}").into_bytes(),
    }
}

pub(in super::super) fn pk(key: &str) -> QueryResult {
    let row = Row { lengths: vec![key.len() as i64], values: key.as_bytes().to_vec() };
    QueryResult { fields: fields()[..1].to_vec(), rows: vec![row] }
}

fn entry(shard: &str, at: &str) -> ShardGtid {
    let (last, key) = at.split_once('p').map_or((at, None), |(last, key)| (last, Some(key)));
    let key = key.map(|key| TableLastPk {
        table_name: "t".to_string(),
        lastpk: Some(if key == "?" { QueryResult::default() } else { pk(key) }),
    });
    ShardGtid {
        keyspace: "ks".to_string(),
        shard: shard_name(shard).to_string(),
        gtid: gtid(last),
        table_pks: key.into_iter().collect(),
    }
}

fn change(before: Option<&str>, after: Option<&str>) -> RowEvent {
    let change =
        RowChange { before: before.map(row), after: after.map(row), ..RowChange::default() };
    RowEvent { table_name: "ks.t".to_string(), row_changes: vec![change], ..RowEvent::default() }
}

pub(in super::super) fn event(word: &str) -> VEvent {
    let (shard, word) = word.split_once(':').unwrap_or(("", word));
    let mut event = VEvent { shard: shard_name(shard).to_string(), ..VEvent::default() };
    let kind = match word {
        "B" => VEventType::Begin,
        "C" => VEventType::Commit,
        "DDL" => VEventType::Ddl,
        "OTHER" => VEventType::Other,
        "HB" => VEventType::Heartbeat,
        "VER" => VEventType::Version,
        "J" => VEventType::Journal,
        "RB" => VEventType::Rollback,
        "SBR" => VEventType::Insert,
        "CC" => VEventType::CopyCompleted,
        "CCALL" => {
            event.shard.clear();
            VEventType::CopyCompleted
        }
        "F" | "F@" | "F0" => {
            let mut fields = if word == "F0" { Vec::new() } else { fields() };
            fields.iter_mut().filter(|_| word == "F@").for_each(|f| f.name = "@1".to_string());
            let table_name = "ks.t".to_string();
            event.field_event = Some(FieldEvent { table_name, fields, ..FieldEvent::default() });
            VEventType::Field
        }
        _ if word.starts_with('V') => {
            let entries = match word[1..].strip_prefix('=') {
                Some(list) => list.split(',').map(|at| entry(&at[..1], &at[1..])).collect(),
                None => vec![entry(shard, &word[1..])],
            };
            event.vgtid = Some(VGtid { shard_gtids: entries });
            VEventType::Vgtid
        }
        _ if word.starts_with('P') => {
            let (key, mut rows) = (&word[1..], change(Some(&word[1..]), Some(&word[1..])));
            let after = Row { lengths: vec![key.len() as i64, -1], values: key.into() };
            rows.row_changes[0].after = Some(after);
            rows.row_changes[0].data_columns = Some(Bitmap { count: 2, cols: vec![0b01] });
            event.row_event = Some(rows);
            VEventType::Row
        }
        _ => {
            let (before, after) = match word.split_at(1) {
                ("R", row) => (None, Some(row)),
                ("D", row) => (Some(row), None),
                ("U", rows) => {
                    let (before, after) = rows.split_once('>').unwrap();
                    (Some(before), Some(after))
                }
                _ => panic!("what is {word}?"),
            };
            event.row_event = Some(change(before, after));
            VEventType::Row
        }
    };
    event.r#type = kind as i32;
    event
}

pub(in super::super) fn show(event: &Event<String, String, VStreamPosition>) -> String {
    let at = |position: &VStreamPosition| {
        let last = position.gtid().rsplit_once('-').map_or("0", |(_, last)| last);
        let key = position.resume_pk().map(|pk| String::from_utf8(pk.rows[0].values.clone()));
        let key = key.map_or(String::new(), |key| format!("p{}", key.unwrap()));
        format!("{last}{key}")
    };
    let key = |key: &str| {
        key.strip_prefix("{\"k\":").and_then(|key| key.strip_suffix('}')).unwrap().to_string()
    };
    match event {
        Event::Change(_, Change::Put(k, value)) => {
            let value = value.as_ref().map_or("error".to_string(), |value| {
                let (_, value) = value.split_once("\"v\":").unwrap();
                value.strip_suffix("}").unwrap().trim_matches('"').to_string()
            });
            format!("{}={value}", key(k))
        }
        Event::Change(_, Change::Patch(k, patch)) => format!("{}~{patch}", key(k)),
        Event::Change(_, Change::Delete(k)) => format!("-{}", key(k)),
        Event::Change(_, Change::Reset) => "reset".to_string(),
        Event::Change(_, Change::ResetOf(name)) => format!("reset {name}"),
        Event::Void(_) => "void".to_string(),
        Event::End => "end".to_string(),
        Event::Boundary(received) => {
            let moves: Vec<String> = received
                .moves()
                .map(|(name, position)| format!("{name}@{}", at(position)))
                .collect();
            format!("[{}{}]", if received.is_all() { "all " } else { "" }, moves.join(" "))
        }
    }
}

pub(in super::super) fn phases(at: &[(&str, &str)]) -> Phases {
    Phases::new("ks", "t", Vec::new(), &places(at))
}

/// A statement, of a shard.
pub(in super::super) fn ddl(shard: &str, statement: &str) -> VEvent {
    let mut event = event(&format!("{shard}:DDL"));
    event.statement = statement.to_string();
    event
}

fn places(at: &[(&str, &str)]) -> Vec<(Partition, Option<VStreamPosition>)> {
    let place = |(shard, at): &(&str, &str)| {
        let position = (!at.is_empty()).then(|| {
            let entry = entry(shard, at);
            let gtid = Gtid::parse(&entry.gtid).unwrap();
            match entry.table_pks.first().and_then(|pk| pk.lastpk.as_ref()) {
                Some(pk) => VStreamPosition::copying(gtid, LastPk::new(pk).unwrap(), None),
                None => VStreamPosition::streaming(gtid),
            }
        });
        (Partition::from(shard_name(shard)), position)
    };
    at.iter().map(place).collect()
}

/// Reads a script as one response, and again with a response per event: both must come to the same.
fn read(at: &[(&str, &str)], script: &str) -> Result<String, Failure> {
    let events: Vec<VEvent> = script.split_whitespace().map(event).collect();
    let whole = phases(at).take(events.clone());
    let (mut cut, mut in_parts) = (phases(at), Ok(Vec::new()));
    for event in events {
        let more: Result<Out, Failure> = in_parts.and_then(|mut out: Out| {
            out.extend(cut.take(vec![event])?);
            Ok(out)
        });
        in_parts = more;
    }
    let show = |out: Out| out.iter().map(show).collect::<Vec<_>>().join(" ");
    let (whole, in_parts) = (whole.map(show), in_parts.map(show));
    assert_eq!(whole.as_ref().ok(), in_parts.as_ref().ok(), "{script}");
    whole
}

fn check(at: &[(&str, &str)], script: &str, expected: &str) {
    match read(at, script) {
        Ok(out) => assert_eq!(out, expected, "{script}"),
        Err(failure) => panic!("{script}: {failure:?}"),
    }
}

pub(in super::super) const START: &[(&str, &str)] = &[("", "")];
const COPYING: &[(&str, &str)] = &[("", "5p2")];
pub(in super::super) const STREAMING: &[(&str, &str)] = &[("", "1")];
pub(in super::super) const TWO: &[(&str, &str)] = &[("a", "1"), ("b", "1")];

#[test]
fn a_transaction_is_a_unit_however_it_comes() {
    check(STREAMING, "B F R1=x V2 C", "1=x [-@2]");
    check(STREAMING, "B F R1=x R2=y D3 V2 C", "1=x 2=y -3 [-@2]");
    check(STREAMING, "B V2 C B V3 C", "[-@2] [-@3]");
    check(STREAMING, "F B VER V2 C", "[-@2]");
    check(STREAMING, "V2 OTHER V3 DDL", "[-@2] [-@3]");
}

#[test]
fn nothing_else_is_a_boundary() {
    for script in ["HB", "VER", "J", "F", "V2", "V2 HB", "B V2 HB", "B V2 OTHER", "B V2 DDL", "C"] {
        check(STREAMING, script, "");
    }
    check(STREAMING, "B F V2 R1=x HB", "1=x");
    check(STREAMING, "B F R1=x V2 OTHER C", "1=x [-@2]");
}

#[test]
fn a_commit_without_vgtid_joins_the_next_boundary() {
    check(STREAMING, "B F R1=x C HB B R2=y V2 C", "1=x 2=y [-@2]");
    check(STREAMING, "B F R1=x C V2 OTHER", "1=x [-@2]");
}

#[test]
fn a_transaction_that_begins_again_is_void() {
    check(STREAMING, "B F R1=x B R1=y V2 C", "1=x void 1=y [-@2]");
    check(STREAMING, "B F R1=x RB B V2 C", "1=x void [-@2]");
    check(STREAMING, "B F V2 B C", "");
    // What came before it in the unit might not come again.
    let failure = read(STREAMING, "B F R1=x C B R2=y B").unwrap_err();
    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
}

#[test]
fn a_changed_key_is_deleted_and_put_in_one_unit() {
    check(STREAMING, "B F U1=x>1=y V2 C", "1=y [-@2]");
    check(STREAMING, "B F U1=x>2=x V2 C", "-1 2=x [-@2]");
    check(STREAMING, "B F D1=x R1=y V2 C", "-1 1=y [-@2]");
}

#[test]
fn the_first_vgtid_of_a_copy_is_no_position() {
    check(START, "B F V5", "");
    check(START, "B F V5 HB HB", "");
    check(START, "B F V5 C", "");
    check(START, "V5 OTHER", "");
    check(START, "B F V5 R1=x R2=y V5p2 C", "1=x 2=y [-@5p2]");
    check(START, "B F V5 R1=x V5p1 C R2=y V5p2 C", "1=x [-@5p1] 2=y [-@5p2]");
}

#[test]
fn a_copy_ends_with_copy_completed_alone() {
    let rows = "B F V5 R1=x V5p1 C";
    check(START, &format!("{rows} B V5 C"), "1=x [-@5p1]");
    check(START, &format!("{rows} B V5 C CC CCALL"), "1=x [-@5p1] [-@5]");
    check(START, &format!("{rows} CC B V6 C"), "1=x [-@5p1] [-@5] [-@6]");
    check(START, &format!("{rows} B V5 C CCALL"), "1=x [-@5p1] [-@5]");
    check(COPYING, "CC", "[-@5]");
    check(COPYING, "B F R1=z V6p2 C B R3=x V7p3 C B V7 C CC", "1=z [-@6p2] 3=x [-@7p3] [-@7]");
    check(STREAMING, "CC CCALL", "");
}

#[test]
fn an_empty_table_is_copied_with_copy_completed() {
    check(START, "B F V5 B V5 C", "");
    check(START, "B F V5 B V5 C CC", "[-@5]");
    check(START, "B F V5 CC", "[-@5]");
    check(START, "B F V5 B V5 C CC CCALL B R1=x V6 C", "[-@5] 1=x [-@6]");
}

#[test]
fn rows_without_a_key_wait_in_a_copy() {
    check(START, "B F V5 R1=x V5 C R2=y V5p2 C", "1=x 2=y [-@5p2]");
    check(START, "B F V5 R1=x V5 C CC", "1=x [-@5]");
}

#[test]
fn the_last_copy_completed_is_of_all_shards() {
    let at = &[("a", ""), ("b", "")];
    let copy = "a:B a:F a:V=a5,b0 a:R1=x a:V=a5p1,b0 a:C b:B b:F b:V=a5p1,b7 b:C";
    check(at, copy, "1=x [-80@5p1]");
    check(at, &format!("{copy} a:CC b:CC CCALL"), "1=x [-80@5p1] [-80@5] [80-@7]");
    check(at, &format!("{copy} CCALL"), "1=x [-80@5p1] [-80@5] [80-@7]");
}

#[test]
fn of_other_shards_a_vgtid_says_nothing() {
    // Of `b`, the VGTID has the first position of its copy.
    let at = &[("a", "1"), ("b", "")];
    check(at, "b:B b:F b:V=a1,b7 a:B a:F a:R1=x a:V=a2,b7 a:C", "1=x [-80@2]");
    check(TWO, "a:B a:F a:R1=x b:B b:V=a1,b2 b:C a:V=a2,b2 a:C", "1=x [80-@2] [-80@2]");
}

#[test]
fn a_reshard_replaces_the_shards_at_one_boundary() {
    let after = "c:B c:F c:R1=x c:V=c3,d1,b1 c:C";
    check(TWO, after, "1=x [all -40@3 40-80@1 80-@1]");
    check(TWO, &format!("{after} d:B d:V=c3,d2,b1 d:C"), "1=x [all -40@3 40-80@1 80-@1] [40-80@2]");
    // The one that stays is where it was, not where the VGTID has it.
    check(TWO, "c:V=c3,d1,b9 c:OTHER", "[all -40@3 40-80@1 80-@1]");
    check(TWO, "b:V=c3,d1,b9 b:OTHER", "[all -40@3 40-80@1 80-@9]");
    // A transaction of a shard that goes is covered by where the new ones begin.
    check(TWO, "a:B a:F a:R1=x a:C c:V=c3,d1,b1 c:OTHER", "1=x [all -40@3 40-80@1 80-@1]");
}

#[test]
fn a_stream_without_my_shard_is_an_error_and_no_frozen_cursor() {
    for (at, script) in [
        (TWO, "b:B b:V=b2 b:C"),
        (TWO, "a:B a:V=b2 a:C"),
        (TWO, "c:B c:V=c1,b2 c:C"),
        (TWO, "c:B c:V=a1,b2 c:C"),
        // The new shards would be taken for copied.
        (&[("a", "5p2"), ("b", "1")], "c:B c:V=c1,d1,b2 c:C"),
        (&[("a", ""), ("b", "1")], "c:B c:V=c1,d1,b2 c:C"),
    ] {
        let failure = read(at, script).unwrap_err();
        assert!(matches!(failure, Failure::Definite(_)), "{script}: {failure:?}");
    }
    for script in ["b:B b:F b:R1=x c:V=c3,d1,b1 c:OTHER", "b:B b:F b:R1=x b:C c:V=c3,d1,b1 c:OTHER"]
    {
        let failure = read(TWO, script).unwrap_err();
        assert!(matches!(failure, Failure::Transient(_)), "{script}: {failure:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_definite_and_says_what_to_do() {
    for (at, script, says) in [
        (STREAMING, "B R1=x", "never described"),
        (STREAMING, "B F@", "schema tracking"),
        (STREAMING, "B F0", "no columns"),
        (STREAMING, "B SBR", "binlog_format=ROW"),
        (START, "B F V5p?", "without its columns"),
    ] {
        let failure = read(at, script).unwrap_err();
        let text = failure.error().to_string();
        assert!(matches!(failure, Failure::Definite(_)) && text.contains(says), "{script}: {text}");
        assert!(text.contains("ks/t"), "{text}");
    }
    let mut unnamed = event("a:B");
    unnamed.shard.clear();
    let failure = phases(TWO).take(vec![unnamed]).unwrap_err();
    assert!(failure.error().to_string().contains("does not name its shard"));
}

/// Reads a row, of a table whose columns are these, and which columns of it were sent.
fn lacking(
    key: &[&str],
    fields: Vec<Field>,
    word: &str,
    (count, cols): (i64, &[u8]),
    json: &[u8],
) -> Result<String, String> {
    let key = key.iter().map(|name| name.to_string()).collect();
    let mut phases = Phases::new("ks", "t", key, &places(STREAMING));
    let (mut field, mut row) = (event("F"), event(word));
    field.field_event.as_mut().unwrap().fields = fields;
    let change = &mut row.row_event.as_mut().unwrap().row_changes[0];
    change.data_columns = Some(Bitmap { count, cols: cols.to_vec() });
    change.json_partial_values = Some(Bitmap { count: 2, cols: json.to_vec() });
    let out = phases.take(vec![field, row]);
    out.map(|out| out.iter().map(show).collect::<Vec<_>>().join(" "))
        .map_err(|failure| failure.error().to_string())
}

/// The error of a row that is one.
fn error_of(mut fields: Vec<Field>, word: &str, flags: u32) -> String {
    fields[1].flags = flags;
    let (mut phases, mut field, mut row) = (phases(STREAMING), event("F"), event(word));
    field.field_event.as_mut().unwrap().fields = fields;
    row.row_event.as_mut().unwrap().row_changes[0].data_columns =
        Some(Bitmap { count: 2, cols: vec![0b01] });
    let out = phases.take(vec![field, row]).unwrap();
    match out.last() {
        Some(Event::Change(_, Change::Put(_, Err(error)))) => error.0.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_that_lack_long_columns_are_patches_or_rows() {
    let read = |word: &str, sent, json: &[u8]| lacking(&[], fields(), word, sent, json);
    assert_eq!(read("R1=x", (2, &[0b11]), &[]).unwrap(), "1=x");
    assert_eq!(read("U1=x>1=y", (0, &[0b11]), &[0]).unwrap(), "1=y");
    // Of an update the value is kept, whatever its place holds.
    let patch = r#"{"row":{"k":1},"unsent":["v"]}"#;
    assert_eq!(read("U1=x>1=y", (2, &[0b01]), &[]).unwrap(), format!("1~{patch}"));
    // An insert did not name it.
    assert_eq!(read("R1=x", (2, &[0b01]), &[]).unwrap(), "1=null");
    let error = error_of(fields(), "R1=x", 1);
    assert_eq!(error, "column \"v\" was not sent with a new row, and cannot be NULL");
    // It is under the old key.
    assert_eq!(read("U1=x>2=y", (2, &[0b01]), &[]).unwrap(), "-1 2=error");
    let error = error_of(fields(), "U1=x>2=y", 0);
    assert_eq!(error, "column \"v\" was not sent, and the key has changed");
    let error = read("U1=x>1=y", (2, &[0b11]), &[0b10]).unwrap_err();
    assert!(error.contains("binlog_row_value_options"), "{error}");
}

/// As `binlog_row_image=MINIMAL` does it, and what does not fit together.
#[test]
fn rows_that_lack_other_columns_are_refused() {
    let short = |kind| {
        let mut fields = fields();
        fields[1].r#type = kind;
        fields
    };
    let long_key = || {
        let mut fields = fields();
        fields[1].flags = 3;
        fields
    };
    let none: &[&str] = &[];
    for (key, fields, word, count, cols, says) in [
        (none, fields(), "R1=x", 2, &[][..], "\"k\", which is of its primary key"),
        (none, fields(), "U1=x>1=y", 2, &[0b10], "primary key"),
        (none, fields(), "U1=x>1=y", 2, &[], "primary key"),
        (none, long_key(), "U1=x>1=y", 2, &[0b01], "\"v\", which is of its primary key"),
        (none, short(6165), "U1=x>1=y", 2, &[0b01], "\"v\", which is no TEXT or BLOB"),
        (none, short(6165), "R1=x", 2, &[0b01], "no TEXT or BLOB"),
        (none, short(2078), "U1=x>1=y", 2, &[0b01], "no TEXT or BLOB"),
        (&["v"], fields(), "U1=x>1=y", 2, &[0b01], "a key with \"v\""),
        (&["k", "v"], fields(), "U1=x>1=y", 2, &[0b01], "a key with \"v\""),
        (none, fields(), "U1=x>1=y", 9, &[0xff, 0xff], "other columns"),
        (none, fields(), "U1=x>1=y", -1, &[0b11], "other columns"),
        (none, fields(), "U1=x>1=y", i64::MAX, &[0xff], "other columns"),
    ] {
        let error = lacking(key, fields, word, (count, cols), &[]).unwrap_err();
        assert!(error.contains(says), "{word}, {cols:?}: {error}");
        assert!(error.contains("binlog_row_image=FULL"), "{word}, {cols:?}: {error}");
    }
}

#[test]
fn events_of_another_keyspace_or_table_are_not_ours() {
    let mut other = event("R1=x");
    other.row_event.as_mut().unwrap().table_name = "ks.u".to_string();
    let mut elsewhere = event("R1=x");
    elsewhere.keyspace = "other".to_string();
    let mut phases = phases(STREAMING);
    assert!(phases.take(vec![event("F"), other, elsewhere]).unwrap().is_empty());
}

/// No events in any order are a panic, and without COPY_COMPLETED, no copy is complete.
#[test]
fn any_events_in_any_order() {
    let seed = std::env::var("PLANETSCALE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..2_000, |seed: u64| seed..seed + 1);
    let words = "B B C C F R1=x R2=y D1 U1=x>2=y U2=y>2=z V5 V6 V7 V5p1 V7p2 DDL OTHER HB VER J RB";
    let words: Vec<&str> = words.split(' ').collect();
    let shards = ["a:", "b:", "c:", "d:"];
    for seed in seeds {
        let mut generator = fastrand::Rng::with_seed(seed);
        let mut random = |below: usize| generator.usize(..below);
        let many = random(2) == 1;
        let at: &[(&str, &str)] = if many { &[("a", ""), ("b", "3")] } else { START };
        let mut phases = phases(at);
        let mut script = Vec::new();
        for _ in 0..60 {
            let word = words[random(words.len())];
            let word = match (many, word.starts_with('V') && word != "VER") {
                (false, _) => word.to_string(),
                (true, false) => format!("{}{word}", shards[random(4)]),
                (true, true) => {
                    let now = ["a5p1,b7", "a6,b6", "c5,d6,b7", "b5", "a6,d7"][random(5)];
                    format!("{}V={now}", shards[random(4)])
                }
            };
            script.push(word);
            let Ok(out) = phases.take(vec![event(&script[script.len() - 1])]) else { break };
            for event in out {
                let Event::Boundary(received) = event else { continue };
                let copied = received.get(if many { "-80" } else { "-" });
                let still = copied.is_none_or(Position::is_snapshot);
                assert!(still, "PLANETSCALE_SEED={seed}: copied after {script:?}");
            }
        }
    }
}
