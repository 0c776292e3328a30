//! Goal: a feed of lines is a source as a program uses it, with given times and with minted ones, from a
//! file and from a reader. Method: pipelines into shards in memory.

use crate::Shard;
use tokio_util::sync::CancellationToken;

use crate::codec::{Json, JsonText};
use crate::connect::lines::{Format, Lines, OnError};
use crate::error::ErrorKind;
use crate::health::{Health, KeysInError};
use crate::pipeline::Pipeline;
use crate::pipeline::config::PipelineConfig;
use crate::pipeline::metrics::Metrics;

type JsonShard = Shard<Json, Json, JsonText>;

const FEED: &str = "{\"key\":\"a\",\"value\":1,\"ts\":3}\n{\"key\":\"b\",\"value\":2,\"ts\":3}\n\
                    {\"key\":\"a\",\"value\":null,\"ts\":5}\n";

fn shard() -> JsonShard {
    JsonShard::open("mem:").expect("memory")
}

/// Runs a feed to its end, or until it fails.
fn run(lines: Lines, given: bool, shard: &JsonShard) -> Health {
    run_metered(lines, given, shard).0
}

/// The same, and returns its metrics too.
fn run_metered(lines: Lines, given: bool, shard: &JsonShard) -> (Health, Metrics) {
    let shard = shard.clone();
    timely::execute_directly(move |worker| {
        let (health, metrics, token) = worker.dataflow(|scope| {
            let config = PipelineConfig::default();
            let pipeline = match given {
                true => Pipeline::from_timed(scope, || Some(lines), &shard, config),
                false => Pipeline::from_source(scope, || Some(lines), &shard, config),
            };
            (pipeline.health, pipeline.metrics, pipeline.token)
        });
        let mut token = Some(token);
        while worker.has_dataflows() {
            worker.step_or_park(None);
            if health.error().is_some() && health.is_settled() {
                drop(token.take());
            }
        }
        (health, metrics)
    })
}

fn has_times(lines: &mut Lines, shard: &JsonShard) -> Option<bool> {
    shard.io().block_on(lines.has_times()).expect("it can be read")
}

fn rows(shard: &JsonShard) -> usize {
    let last = shard.upper() - 1;
    shard.io().block_on(shard.handle().snapshot(last)).expect("a snapshot").len()
}

#[test]
fn a_reader_is_read_once_and_what_was_looked_at_is_read_too() {
    for given in [true, false] {
        let shard = shard();
        let text = if given { FEED.to_string() } else { FEED.replace("\"ts\"", "\"t\"") };
        let bytes = text.len() as u64;
        let mut lines = Lines::from_reader("text", std::io::Cursor::new(text));
        assert!(lines.is_stream());
        assert_eq!(has_times(&mut lines, &shard), Some(given));
        assert_eq!(has_times(&mut lines, &shard), Some(given));
        let stats = lines.stats();
        let health = run(lines, given, &shard);
        assert!(health.error().is_none(), "{:?}", health.error());
        assert_eq!((stats.rows_read(), rows(&shard)), (3, 1));
        assert_eq!(stats.position(), bytes);
    }
}

#[test]
fn with_minted_times_a_file_goes_on_where_the_shard_is_and_a_reader_cannot() {
    let shard = shard();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), FEED).expect("room");
    let feed = || Lines::from_path(file.path().to_str().expect("UTF-8"));
    assert!(run(feed(), false, &shard).error().is_none());
    std::fs::write(file.path(), format!("{FEED}{{\"key\":\"c\",\"value\":3}}\n")).expect("room");
    let more = feed();
    let stats = more.stats();
    assert!(run(more, false, &shard).error().is_none());
    assert_eq!((stats.rows_read(), stats.rows_skipped(), rows(&shard)), (4, 3, 2));
    let reader = Lines::from_reader("text", FEED.as_bytes());
    let error = run(reader, false, &shard).error().expect("it cannot be read again");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.what().contains("a pipe cannot be read from its start"), "{error}");
}

#[test]
fn lines_that_are_written_away_are_in_the_metrics() {
    for given in [true, false] {
        let (shard, away) = (shard(), tempfile::tempdir().expect("a directory"));
        let lines = Lines::from_reader("text", std::io::Cursor::new(format!("bad\n{FEED}worse\n")));
        let lines = lines.quarantine(Some(away.path().join("away")));
        let (health, metrics) = run_metered(lines, given, &shard);
        assert!(health.error().is_none(), "{:?}", health.error());
        let text = metrics.text();
        let two = "\ndifferential_upsert_source_quarantined_total 2\n";
        assert!(text.contains(two), "given {given}: {text}");
    }
}

#[test]
fn a_key_in_error_is_named_by_the_health() {
    let feed = "{\"key\":\"a\",\"value\":1,\"ts\":0}\n{\"key\":\"b\",\"value\":nope}\n\
                {\"key\":\"b\",\"value\":2,\"ts\":1}\n{\"key\":\"c\",\"value\":nope}\n";
    let in_error = |feed: &str| {
        let shard = shard();
        let reader = Lines::from_reader("text", std::io::Cursor::new(feed.to_string()));
        run(reader.on_error(OnError::Keep), true, &shard).report().errors
    };
    let of = |key: &str| Some(KeysInError { keys: 1, key: Some(key.to_string()) });
    let lines: Vec<&str> = feed.split_inclusive('\n').collect();
    let ends: Vec<_> = (1..=4).map(|end| in_error(&lines[..end].concat())).collect();
    assert_eq!(ends, [None, of("\"b\""), None, of("\"c\"")]);
}

#[test]
fn debezium_has_no_times_of_its_own() {
    let shard = shard();
    let lines = Lines::from_reader("text", FEED.as_bytes()).format(Format::Debezium);
    let error = run(lines, true, &shard).error().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("Debezium's messages have no times at text; "), "{error}");
    assert_eq!(shard.upper(), 0);
}

#[test]
fn a_silent_reader_is_left_behind_when_told_to_stop() {
    struct Silent(std::sync::mpsc::Receiver<()>);
    impl std::io::Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            // Until the test is over.
            let _ = self.0.recv();
            Ok(0)
        }
    }
    for given in [true, false] {
        let shard = shard();
        let (_over, silent) = std::sync::mpsc::channel();
        let stop = CancellationToken::new();
        let lines = Lines::from_reader("silent", Silent(silent)).stop_at(stop.clone());
        stop.cancel();
        let error = run(lines, given, &shard).error().expect("it has not ended");
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    }
}

#[test]
fn a_key_goes_with_bare_lines_and_not_with_debezium_messages() {
    for (format, key, what) in [
        (Format::Debezium, &["id"][..], "a key in the value of Debezium's messages at text"),
        (Format::Bare, &[], "lines that are the value, and no members of it that are the key"),
    ] {
        let lines = Lines::from_reader("text", std::io::Cursor::new("{}\n".to_string()));
        let lines = lines.format(format).key(key.iter().copied()).on_error(OnError::Keep);
        let health = run(lines, false, &shard());
        let error = health.error().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(what), "{error}");
    }
}
