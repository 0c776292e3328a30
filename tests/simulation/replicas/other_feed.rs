//! Goal: a writer with another feed than the shard's stops before it appends or ends, on every worker
//! and from every kind of input; the right feed goes on. Method: one pipeline after another on one shard,
//! with feeds that differ in one row.

use std::sync::Arc;

use differential_upsert::{Command, ErrorKind};

use crate::feed::{Feed, Row};
use crate::replicas::seat::Told;
use crate::replicas::stage::{Stage, memory, no_faults, put};

fn rows() -> Vec<Row> {
    (0..5).flat_map(|time| (0..4).map(move |key| put(key, time, 0, time))).collect()
}

fn give_all(stage: &mut Stage, rows: &[Row], from_source: bool, end: u64) {
    if from_source {
        let typed = rows.to_vec();
        stage.tell(Told::Rows(typed));
        stage.tell(Told::End(end));
        return;
    }
    for (n, row) in rows.iter().enumerate() {
        let worker = n % stage.peers;
        stage.give(worker, std::slice::from_ref(row));
    }
    (0..stage.peers).for_each(|worker| stage.end(worker));
}

#[test]
fn another_feed_stops_and_the_right_one_goes_on() {
    let feed = Arc::new(Feed::new(rows()));
    let changes: [(&str, fn(&mut Vec<Row>)); 5] = [
        ("another value", |rows| rows[5].0 = Command::put(1, 9, 0)),
        ("a row less", |rows| rows.retain(|row| *row != put(1, 1, 0, 1))),
        ("a row more", |rows| rows.push(put(9, 9, 0, 1))),
        ("another time", |rows| rows[5].1 = 2),
        ("an earlier end", |rows| rows.truncate(12)),
    ];
    for (what, change) in changes {
        for (peers, from_source) in [(1, false), (1, true), (2, false), (2, true), (3, false)] {
            let root = memory();
            let mut stage = Stage::open(&root, &feed, 1, false, no_faults());
            stage.give(0, &feed.rows);
            stage.close(0, 4);
            stage.run();
            assert_eq!(stage.upper(), 4);
            drop(stage);

            let mut other = rows();
            change(&mut other);
            let end = other.iter().map(|row| row.1 + 1).max().unwrap();
            let mut stage = Stage::open(&root, &feed, peers, from_source, no_faults());
            give_all(&mut stage, &other, from_source, end);
            stage.run();
            assert_eq!(stage.upper(), 4, "{what}: nothing of it is appended");
            let reports = stage.reports();
            let error = reports[0].error.as_ref();
            let error = error.unwrap_or_else(|| panic!("{what}: taken for the shard's feed"));
            assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{what}: {error}");
            assert!(reports.iter().all(|report| !report.ended), "{what}: it has not ended");
            stage.rerun(&feed);
        }
    }
}
