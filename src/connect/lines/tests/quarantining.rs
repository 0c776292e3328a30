//! Goal: bad lines are written away once each, with where they stood and what they were, and the rest of the feed is
//! read as if they were not there. Method: small feeds, read twice.

use std::path::Path;

use serde_json::{Value, json};

use super::recorder::{Recorder, config, run};
use crate::codec::Json;
use crate::connect::lines::config::Config;
use crate::connect::lines::given::{self, Cell};
use crate::connect::lines::quarantine::tests::{done, note};
use crate::error::Error;
use crate::input::blocking::{Row, RowSink};

const FEED: &[u8] =
    b"nope\n{\"key\":1,\"value\":1,\"ts\":1}\n{\"key\":1,\"value\":\xff,\"ts\":2}\n\
                      {\"key\":2,\"value\":2,\"ts\":0}\n{\"key\":3,\"value\":3,\"ts\":3}\n{\"cut";

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("it is there");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or(json!(line))).collect()
}

#[test]
fn a_feed_is_not_written_away_to_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("feed"), FEED).expect("room");
    std::fs::hard_link(at("feed"), at("linked")).expect("room");
    for (feed, away) in [
        (at("feed"), at("feed")),
        (at("feed"), at("linked")),
        (directory.path().to_path_buf(), at("feed")),
        // It is not there yet, and would be a part.
        (directory.path().to_path_buf(), at("new")),
    ] {
        let config = Config { quarantine: Some(away.clone()), ..config(&feed) };
        let error = config.quarantine().expect_err("it would be read").to_string();
        assert!(error.contains(&format!("is the feed, or in it at {}", away.display())), "{error}");
        assert!(!at("new").exists());
    }
    let config = Config { quarantine: Some(at("away")), ..config(&at("feed")) };
    assert!(config.quarantine().is_ok());
}

#[test]
fn bad_lines_are_written_away_once_and_the_rest_is_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (feed, away) = (directory.path().join("feed"), directory.path().join("away"));
    std::fs::write(&feed, FEED).expect("room");
    // What a crash may leave, of another feed.
    std::fs::write(&away, "{\"feed\":\"other\",\"li").expect("room");
    for _ in 0..2 {
        let config = Config { quarantine: Some(away.clone()), ..config(&feed) };
        let seen = Recorder::default();
        assert_eq!(run(&config, seen.clone()).ok(), Some(4));
        assert_eq!(seen.rows(), ["1=1@1#2", "3=3@3#5"]);
        assert_eq!(config.stats.quarantined(), 4);
        let records = records(&away);
        assert_eq!(records.len(), 5, "{records:?}");
        let name = feed.to_str().expect("UTF-8");
        let what = "not JSON: expected a value (byte 1 of the line)";
        assert_eq!(records[1], json!({"feed": name, "line": 1, "what": what, "text": "nope"}));
        assert_eq!((&records[2]["line"], records[2].get("text")), (&json!(3), None));
        assert!(records[2]["base64"].is_string());
        assert_eq!((&records[3]["line"], &records[4]["line"]), (&json!(4), &json!(6)));
        assert_eq!(records[4]["text"], "{\"cut");
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_the_run() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let feed = directory.path().join("feed");
    std::fs::write(&feed, FEED).expect("room");
    let away = directory.path().join("none").join("away");
    let config = Config { quarantine: Some(away), ..config(&feed) };
    let error = run(&config, Recorder::default()).expect_err("no directory").to_string();
    assert!(error.starts_with("bad lines cannot be written away: "), "{error}");
}

/// Notes each call as `>`.
struct Noted;

impl RowSink for Noted {
    type Key = Json;
    type Value = Cell;
    type Order = u64;

    fn rows(&mut self, _: Vec<Row<Self>>) -> Result<(), Error> {
        note('>');
        Ok(())
    }

    fn closed(&mut self, _: u64) -> Result<(), Error> {
        note('>');
        Ok(())
    }
}

/// What is committed behind a bad line is not read again, so its record has to be durable by then. A sync is dear: one
/// is for all that goes on together.
#[test]
fn bad_lines_are_durable_before_what_is_behind_them_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (feed, away) = (directory.path().join("feed"), directory.path().join("away"));
    let pair = |ts: u32| format!("bad {ts}\n{{\"key\":{ts},\"value\":1,\"ts\":{ts}}}\n");
    std::fs::write(&feed, (0..3000).map(pair).collect::<String>() + "bad\n").expect("room");
    let config = Config { quarantine: Some(away), ..config(&feed) };
    done();
    assert_eq!(given::read(&config, None, Noted, &config.stop).ok(), Some(3000));
    let done = done();
    let (mut is_durable, mut syncs, mut sends) = (true, 0, 0);
    for what in done.chars() {
        match what {
            '+' => is_durable = false,
            '!' => (is_durable, syncs) = (true, syncs + 1),
            _ => {
                assert!(is_durable, "a row goes on before the record in front of it is durable");
                sends += 1;
            }
        }
    }
    assert!(is_durable, "the feed ends before its last record is durable");
    assert_eq!((done.matches('+').count(), sends > 3), (3001, true));
    assert!(syncs <= sends + 1, "{syncs} syncs for {sends} sends");
}
