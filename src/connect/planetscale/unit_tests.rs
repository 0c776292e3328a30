//! Goal: responses of `Sync` come to the changes and boundaries that the acceptance rules say. Method:
//! scripts of responses; `+1=x` inserts, `-1` deletes, `1=x>2=y` updates, `@5` is a cursor at the first
//! five transactions, `@5p9` with a last primary key of 9, `!16` an error with that code.

use super::super::phase::tests::{fields, pk, row, show};
use super::super::proto::{DeletedRow, RpcError, UpdatedRow};
use super::*;

const SERVER: &str = "8bc65c84-3fe4-11ed-a912-257f0fcdd6c9";

fn cursor(at: &str) -> TableCursor {
    let (last, key) = at.split_once('p').map_or((at, None), |(last, key)| (last, Some(key)));
    TableCursor {
        shard: "-".to_string(),
        keyspace: "ks".to_string(),
        position: format!("MySQL56/{SERVER}:1-{last}"),
        last_known_pk: key.map(|key| if key == "?" { QueryResult::default() } else { pk(key) }),
    }
}

fn response(script: &str) -> SyncResponse {
    let rows = |row| QueryResult { fields: fields(), rows: vec![row] };
    let mut response = SyncResponse::default();
    for word in script.split_whitespace() {
        if let Some(insert) = word.strip_prefix('+') {
            response.result.push(rows(row(insert)));
        } else if let Some(delete) = word.strip_prefix('-') {
            response.deletes.push(DeletedRow { result: Some(pk(delete)) });
        } else if let Some(at) = word.strip_prefix('@') {
            response.cursor = Some(cursor(at));
        } else if let Some(code) = word.strip_prefix('!') {
            let code = code.parse().unwrap();
            response.error = Some(RpcError { code, ..RpcError::default() });
        } else {
            let (before, after) = word.split_once('>').unwrap();
            let (before, after) = (Some(rows(row(before))), Some(rows(row(after))));
            response.updates.push(UpdatedRow { before, after });
        }
    }
    response
}

fn units(at: &str) -> Units {
    let position = (!at.is_empty()).then(|| {
        let cursor = cursor(at);
        let gtid = Gtid::parse(&cursor.position).unwrap();
        match cursor.last_known_pk {
            Some(pk) => VStreamPosition::copying(gtid, LastPk::new(&pk).unwrap(), None),
            None => VStreamPosition::streaming(gtid),
        }
    });
    Units::new("ks", "t", Vec::new(), Partition::from("-"), position)
}

/// Reads responses that are set apart by `|`.
fn read(at: &str, script: &str) -> Result<String, Failure> {
    let mut units = units(at);
    let mut out = Vec::new();
    for part in script.split('|') {
        out.extend(units.take(response(part))?);
    }
    Ok(out.iter().map(show).collect::<Vec<_>>().join(" "))
}

fn check(at: &str, script: &str, expected: &str) {
    match read(at, script) {
        Ok(out) => assert_eq!(out, expected, "{script}"),
        Err(failure) => panic!("{script}: {failure:?}"),
    }
}

#[test]
fn a_response_is_a_unit_and_rows_before_the_cursor_wait() {
    check("1", "+1=x @2", "1=x [-@2]");
    check("1", "+1=x | +2=y | @2", "1=x 2=y [-@2]");
    check("1", "@2 | @3", "[-@2] [-@3]");
    check("1", "", "");
}

#[test]
fn the_first_cursor_of_a_copy_is_no_position() {
    check("", "@5", "");
    check("", "@5 | @5 | @5", "");
    check("", "@5 | +1=x +2=y @5p2", "1=x 2=y [-@5p2]");
    check("", "@5 | +1=x @5 | +2=y @5p2", "1=x 2=y [-@5p2]");
}

#[test]
fn a_copy_ends_when_the_key_is_gone() {
    check("", "@5 | +1=x @5p1 | @5 | -1 @6", "1=x [-@5p1] [-@5] -1 [-@6]");
    check("5p1", "+2=x @6p2 | @6", "2=x [-@6p2] [-@6]");
    check("5p1", "@5", "[-@5]");
}

#[test]
fn an_empty_table_is_copied_once_the_shard_has_moved_on() {
    check("", "@5 | @6", "[-@6]");
    check("", "@5 | @5 | +1=x @6 | @7", "1=x [-@6] [-@7]");
    // Older, or beside it: not further.
    check("", "@5 | @4", "");
}

#[test]
fn the_three_lists_of_a_response_are_put_in_order() {
    check("1", "+1=y -1 @2", "1=y [-@2]");
    check("1", "+1=x 1=x>1=y @2", "1=y [-@2]");
    check("1", "1=x>2=x @2", "-1 2=x [-@2]");
    check("1", "-1 -2 @2", "-1 -2 [-@2]");
}

#[test]
fn an_error_is_believed_before_the_rows_beside_it() {
    for (code, definite) in [(16, true), (14, false), (1, false)] {
        let mut units = units("1");
        let failure = units.take(response(&format!("+1=x @2 !{code}"))).unwrap_err();
        assert_eq!(matches!(failure, Failure::Definite(_)), definite, "{failure:?}");
        assert_eq!(units.at.unwrap().gtid(), cursor("1").position);
    }
}

#[test]
fn what_cannot_be_understood_is_definite() {
    let mut no_fields = response("+1=x @2");
    no_fields.result[0].fields.clear();
    let mut elsewhere = response("@2");
    elsewhere.cursor.as_mut().unwrap().shard = "-80".to_string();
    let mut half = response("1=x>1=y");
    half.updates[0].before = None;
    let flavour = |text: &str| {
        let mut response = response("@2");
        response.cursor.as_mut().unwrap().position = text.to_string();
        response
    };
    let torn = {
        let mut response = response("+1=x");
        response.result[0].rows[0].lengths.pop();
        response
    };
    for response in [no_fields, elsewhere, half, flavour("current"), torn, response("@5p?")] {
        let failure = units("").take(response).unwrap_err();
        assert!(matches!(failure, Failure::Definite(_)), "{failure:?}");
    }
}

#[test]
fn a_delete_may_name_the_key_alone_and_later_results_no_columns() {
    let mut units = units("1");
    let mut second = response("+2=y -1 @3");
    second.result[0].fields.clear();
    let first = units.take(response("+1=x @2")).unwrap();
    let second = units.take(second).unwrap();
    assert_eq!(first.iter().map(show).collect::<Vec<_>>(), ["1=x", "[-@2]"]);
    assert_eq!(second.iter().map(show).collect::<Vec<_>>(), ["2=y", "-1", "[-@3]"]);
}
