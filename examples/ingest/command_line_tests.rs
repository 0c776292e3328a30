//! Goal: the command line is DESIGN's, and what its issue has not brought yet is a usage error.
//! Method: tables.

use std::io::Write as _;

use timely::CommunicationConfig;

use differential_upsert::shard::History;

use crate::args::Args;
use crate::cluster;
use crate::feed_name::FeedName;
use crate::summary::Summary;
use crate::values::{Format, OnError, TimesFrom};

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::of(std::iter::once("ingest").chain(line.split_whitespace()))
}

#[test]
fn everything_that_is_there_is_taken() {
    let args = parse(
        "feed.jsonl --shard file:d --times given --follow --history keep --on-error keep \
         --throttle 5 -w 2 -n 3 -p 1 -h hosts --http [::1]:90",
    )
    .expect("all are known");
    assert_eq!(args.feed, FeedName::Lines("feed.jsonl".to_string()));
    assert_eq!(args.times, Some(TimesFrom::Given));
    assert_eq!((args.follow, args.seal), (true, false));
    assert_eq!(args.history, Some(History::Keep));
    assert_eq!(args.on_error, OnError::Keep);
    assert_eq!(args.throttle.map(u64::from), Some(5));
    assert_eq!((args.workers.get(), args.processes.get(), args.process), (2, 3, 1));
    assert_eq!(args.hostfile.as_deref(), Some("hosts"));
    assert_eq!(args.http.map(|address| address.to_string()).as_deref(), Some("[::1]:90"));
    let args = parse("- --shard dir --seal --history 7").expect("all are known");
    assert_eq!((&args.feed, args.seal), (&FeedName::Lines("-".to_string()), true));
    assert!(matches!(args.history, Some(History::Last(7))));
    assert_eq!(args.on_error, OnError::Stop);
    assert_eq!((args.times, args.format()), (None, Format::Json));
    let args = parse("f --shard mem: --times mint --format debezium").expect("all are known");
    assert_eq!((args.times, args.format()), (Some(TimesFrom::Mint), Format::Debezium));
    let args = parse("f --shard mem: --format kcat --times given").expect("its ts, as is said");
    assert_eq!((args.times, args.format()), (Some(TimesFrom::Given), Format::Kcat));
    let line = "f --shard mem: --format bare --key a,b --deleted-field gone";
    let args = parse(line).expect("a key");
    assert_eq!((args.format(), &args.key[..]), (Format::Bare, &["a".into(), "b".into()][..]));
    assert_eq!(args.deleted_field.as_deref(), Some("gone"));
    let args = parse("f --shard mem: --on-error quarantine:bad --wait").expect("both");
    assert_eq!((args.on_error.quarantine(), args.wait), (Some("bad".into()), true));
    let args = parse("f --shard mem: --http 127.0.0.1:0 --http-host a.example,b").expect("two");
    assert_eq!(args.http_host, ["a.example", "b"]);
    assert!(parse("f --shard mem: --no-input-guess --times mint --format json").is_ok());
    assert!(parse("git:. --shard mem: --no-input-guess").is_ok());
    assert!(parse("git:. --shard mem: --times given --format json").is_ok());
    assert_eq!(parse("git:. --shard mem:").expect("git").feed, FeedName::Git(".".to_string()));
}

#[test]
fn everything_else_is_usage() {
    for line in [
        "",
        "feed",
        "--shard mem:",
        "feed --shard",
        "feed more --shard mem:",
        "feed --shard mem: --times later",
        "feed --shard mem: --times",
        "feed --shard mem: --format xml",
        "feed --shard mem: --format debezium --times given",
        "git:. --shard mem: --format debezium",
        "git:. --shard mem: --format kcat",
        "git:. --shard mem: --key id",
        "git:. --shard mem: --deleted-field gone",
        "feed --shard mem: --format console --times given",
        "feed --shard mem: --format maxwell --times given",
        "feed --shard mem: --format canal --times given",
        "feed --shard mem: --format debezium --key id",
        "feed --shard mem: --format debezium --deleted-field gone",
        "feed --shard mem: --format maxwell --deleted-field gone",
        "feed --shard mem: --format canal --deleted-field gone",
        "feed --shard mem: --format bare",
        "feed --shard mem: --format bare --key id --times given",
        "feed --shard mem: --key",
        "feed --shard mem: --key id,,b",
        "git:. --shard mem: --wait",
        "git:. --shard mem: --on-error quarantine:bad",
        "f --shard mem: --http-host a.example",
        "f --shard mem: --http 127.0.0.1:0 --http-host https://a.example",
        "feed --shard mem: --on-error quarantine:",
        "feed --shard mem: --on-error quarantine",
        "feed --shard mem: --no-input-guess",
        "feed --shard mem: --no-input-guess --times mint",
        "feed --shard mem: --no-input-guess --format json",
        "git:. --shard mem: --times mint",
        "feed --shard mem: --stop-at-current",
        "git:. --shard mem: --stop-at-current",
        "feed --shard mem: --seal --follow",
        "git:. --shard mem: --follow",
        "git: --shard mem:",
        "kafka://h/t --shard mem:",
        "kafka://h:1/t?rdkafka.sasl.password=env:NO_SUCH_VARIABLE --shard mem:",
        "kafka://h:1/t --shard mem: --seal --stop-at-current",
        "kafka://h:1/t --shard mem: --times given",
        "postgres://h/d?slot=s&table=t --shard mem:",
        "postgres://u:p@h/d?slot=s&table=t&publication=p --shard mem:",
        "postgres://u@h/d?slot=s&table=t&publication=p --shard mem: --throttle 5",
        "planetscale://h/k --shard mem:",
        "planetscale://h:1/k/t --shard mem: --times given",
        "planetscale://h:1/k/t --shard mem: --throttle 5",
        "planetscale://h:1/k/t --shard mem: --seal --stop-at-current",
        "planetscale://h:1/k/t --shard mem: --follow --stop-at-current",
        "planetscale://h:1/k/t --shard mem: --format debezium",
        "planetscale://h:1/k/t?shards=- --shard mem:",
        "planetscale://h:1/k/t?attempts=0 --shard mem:",
        "planetscale://h:1/k/t?ca=/no/such/file --shard mem:",
        "planetscale://h:1/k/t --shard mem: --on-position-lost wait",
        "feed --shard mem: --copy-anew",
        "feed --shard mem: --on-position-lost fail",
        "http://h/feed --shard mem:",
        "feed --shard redis://h",
        "feed --shard mem: --history 0",
        "feed --shard mem: --history all",
        "feed --shard mem: --on-error skip",
        "feed --shard mem: --throttle 0",
        "feed --shard mem: --throttle -1",
        "feed --shard mem: -w 0",
        "feed --shard mem: -n 0",
        "feed --shard d -n 2 -p 2",
        "feed --shard d -p 1",
        "feed --shard mem: -n 2",
        "feed --shard mem: -h",
        "feed --shard mem: -V",
        "feed --shard mem: --version",
        "feed --shard mem: --http 0.0.0.0:0",
        "feed --shard mem: --http-remote",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
    assert_eq!(parse("--help").expect_err("help").exit_code(), 0);
}

#[test]
fn a_topic_is_a_feed_if_the_program_was_built_to_read_one() {
    let line = "kafka://h:1,i:2/t?value=debezium --shard mem:";
    let help = parse("--help").expect_err("help").to_string();
    if cfg!(feature = "kafka") {
        let args = parse(line).expect("a topic");
        assert!(!args.feed.is_table() && args.is_endless() && !args.copies_what_is_lost());
        assert!(!parse(&format!("{line} --stop-at-current")).expect("a topic").is_endless());
        let args = parse(&format!("{line} --on-position-lost copy")).expect("a policy");
        assert!(args.copies_what_is_lost());
        let usage = parse("kafka://h:1/t?x=1 --shard mem:").expect_err("usage").to_string();
        for name in ["key=", "value=", "rdkafka.NAME="] {
            assert!(help.contains(name) && usage.contains(name), "{name}: {help} {usage}");
        }
        for name in ["rdkafka.NAME=env:VARIABLE", "rdkafka.group.id="] {
            assert!(help.contains(name), "--help does not name {name}");
        }
    } else {
        assert!(help.contains("--features kafka"));
        let error = parse(line).expect_err("not built to");
        assert!(error.to_string().contains("--features kafka"), "{error}");
    }
}

#[test]
fn a_table_is_a_feed_if_the_program_was_built_to_read_one() {
    let line = "planetscale://h:1/k/t --shard mem:";
    if cfg!(feature = "planetscale") {
        let args = parse(line).expect("a table");
        assert!(args.feed.is_table() && args.is_endless());
        assert!(!parse(&format!("{line} --stop-at-current")).expect("a table").is_endless());
        assert!(!args.copy_anew && args.copies_what_is_lost());
        let args = parse(&format!("{line} --copy-anew --on-position-lost fail")).expect("both");
        assert!(args.copy_anew && !args.copies_what_is_lost());
        // What a table's address may say, is said.
        let help = parse("--help").expect_err("help").to_string();
        let usage = parse("planetscale://h:1/k/t?x=1 --shard mem:").expect_err("usage").to_string();
        for name in [
            "shard=",
            "key=",
            "protocol=",
            "tls=",
            "ca=",
            "cert=",
            "key_file=",
            "auth=",
            "tablet=",
            "cells=",
            "attempts=",
            "idle_commit=",
        ] {
            assert!(help.contains(name), "--help does not name {name}");
            assert!(usage.contains(name), "{usage} does not name {name}");
        }
        for name in ["PLANETSCALE_USER", "PLANETSCALE_PASSWORD"] {
            assert!(help.contains(name), "--help does not name {name}");
        }
    } else {
        let error = parse(line).expect_err("no table");
        assert!(error.to_string().contains("build with --features planetscale"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn the_cluster_is_timelys() {
    let config = |line: &str| cluster::config(&parse(line).expect(line));
    let communication = |line: &str| config(line).expect(line).communication;
    assert!(matches!(communication("f --shard d"), CommunicationConfig::Thread));
    assert!(matches!(communication("f --shard d -w 3"), CommunicationConfig::Process(3)));
    let cluster = communication("f --shard d -w 2 -n 2 -p 1");
    let CommunicationConfig::Cluster { threads: 2, process: 1, addresses, .. } = cluster else {
        panic!("{cluster:?}");
    };
    assert_eq!(addresses, ["localhost:2101", "localhost:2102"]);
    let mut hosts = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(hosts, "a:1\n\n b:2 \nc:3").expect("room");
    let line = |count| format!("f --shard d -n {count} -h {}", hosts.path().display());
    let CommunicationConfig::Cluster { addresses, .. } = communication(&line(2)) else {
        panic!("no cluster");
    };
    assert_eq!(addresses, ["a:1", "b:2"]);
    assert!(config(&line(4)).expect_err("too few").contains("3 addresses, but -n 4"));
    assert!(config("f --shard d -n 2 -h /none/such").is_err());
}

#[test]
fn the_summary_has_its_members_in_order() {
    let mut out = Vec::new();
    let summary = Summary { read: 1, upper: Some(2), seconds: 0.12345, ..Summary::default() };
    summary.print(&mut out).expect("memory");
    assert_eq!(
        String::from_utf8(out).expect("text"),
        "{\"read\":1,\"skipped\":0,\"below\":0,\"superseded\":0,\"unchanged\":0,\"lost\":0,\"inserted\":0,\
         \"updated\":0,\"deleted\":0,\"errors\":0,\"upper\":2,\"wins\":0,\"losses\":0,\
         \"seconds\":0.123}\n"
    );
}

#[test]
fn a_failure_is_one_also_when_the_user_wants_it_to_stop() {
    let io = differential_upsert::io::Io::process().expect("a runtime");
    use differential_upsert::{Error, ErrorKind};
    let failure = || Error::new(ErrorKind::Corrupt, "it broke");
    for (first, second, kind) in [
        (Err(failure()), None, ErrorKind::Corrupt),
        (Err(failure()), Some(Err(crate::stop::stopped())), ErrorKind::Corrupt),
        (Err(crate::stop::stopped()), Some(Err(failure())), ErrorKind::Corrupt),
        (Err(crate::stop::stopped()), None, ErrorKind::Stopped),
    ] {
        let stop = tokio_util::sync::CancellationToken::new();
        stop.cancel();
        let said = std::sync::Mutex::new(vec![Some(first), second]);
        let work = move |_: &mut timely::worker::Worker, report: &cluster::Report| {
            let said = std::mem::take(&mut *said.lock().expect("no panic"));
            said.into_iter().flatten().for_each(|result| report.ended(result));
        };
        let outcome = cluster::execute(timely::Config::thread(), work, &io, &stop);
        assert_eq!(outcome.result.map_err(|e| e.kind()), Err(kind));
    }
    // It is said before the worker has ended, for it may have no time left to.
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    let work = move |_: &mut timely::worker::Worker, report: &cluster::Report| {
        report.ended(Err(failure()));
        std::thread::park();
    };
    let outcome = cluster::execute(timely::Config::thread(), work, &io, &stop);
    assert_eq!(outcome.result.map_err(|e| e.kind()), Err(ErrorKind::Corrupt));
}
