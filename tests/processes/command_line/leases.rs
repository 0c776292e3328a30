//! Goal: the users of a shard can be seen, and what a dead one holds can be given back, whatever the clocks say.
//! Method: the example binaries; leases that are written by hand, as processes that died leave them.

use std::path::Path;
use std::sync::Arc;

use differential_upsert::io::{Clock, Io, RandomTokens};
use differential_upsert::shard::{Access, Handle, HandleConfig, HandleOptions};
use differential_upsert::store::Root;
use serde_json::Value;

use crate::process::{ingested, shard, status, verified};

const YEAR_MS: u64 = 365 * 86_400_000;

/// A clock so many milliseconds ahead.
struct Ahead(u64);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_millis() as u64 + self.0
    }
}

/// Holds the shard's history by such a clock, and dies.
fn held_by_a_dead_one(dir: &Path, ahead_ms: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
    let io = io.with_clock(Arc::new(Ahead(ahead_ms)));
    runtime.block_on(async {
        let root = Root::open(dir.join("s").to_str().expect("UTF-8"), Access::Write).expect("it");
        let config = HandleConfig::default();
        let handle =
            Handle::open(root, io, HandleOptions::write("data", None).with_config(config)).await;
        // It is let go, and not closed: its lease stays.
        let _ = handle.expect("a shard").hold(0).await.expect("a lease");
    });
}

fn leases(status: &Value) -> Vec<Value> {
    status["leases"].as_array().expect("a list").clone()
}

#[test]
fn a_lease_of_the_far_future_is_shown_and_ended_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("feed"), "{\"key\":1,\"value\":1,\"ts\":4}\n").expect("room");
    ingested(dir, &["feed", "--shard", "s"]);
    let said = status(dir, "s");
    assert_eq!((&said["writers"], &said["readers"]), (&0.into(), &0.into()), "nobody is there");
    assert!(shard(dir, &["status", "s", "--text"]).good().stdout.contains("in use by  nobody"));

    held_by_a_dead_one(dir, 10 * YEAR_MS);
    let said = status(dir, "s");
    assert_eq!((&said["writers"], &said["readers"]), (&1.into(), &1.into()));
    let [lease] = &leases(&said)[..] else { panic!("not one: {said}") };
    let id = lease["id"].as_str().expect("an id").to_string();
    assert_eq!((&lease["shard"], &lease["since"]), (&"data".into(), &4.into()));
    let until = lease["until"].as_str().expect("a date");
    assert!(until.starts_with("20") && until.ends_with('Z'), "{until}");
    let text = shard(dir, &["status", "s", "--text"]).good().stdout;
    assert!(text.contains(&id) && text.contains("from 4 on") && text.contains(until), "{text}");

    // An id that is not there, or only begins so: nothing is ended, and the known ones are named.
    for wrong in ["0", &id[..31], "00000000000000000000000000000001"] {
        let ran = shard(dir, &["gc", "s", "--end-lease", wrong]);
        let error = ran.error();
        assert!(error.contains(wrong) && error.contains(&id), "{error}");
        assert_eq!(leases(&status(dir, "s")).len(), 1);
    }
    shard(dir, &["gc", "s", "--end-lease", &id]).good();
    let said = status(dir, "s");
    assert_eq!((leases(&said).len(), &said["writers"]), (0, &0.into()));
    let ran = shard(dir, &["gc", "s", "--end-lease", &id]);
    assert!(ran.error().contains("no lease is held"), "{}", ran.stderr);
    verified(dir, "s");
}

/// Without a word of ours: the holder of a lease that looks wrong is asked, and does not answer.
#[test]
fn gc_ends_the_leases_of_the_dead_whatever_their_clocks_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("feed"), "{\"key\":1,\"value\":1,\"ts\":4}\n").expect("room");
    ingested(dir, &["feed", "--shard", "s"]);
    held_by_a_dead_one(dir, 10 * YEAR_MS);
    // One that is right by the clock is left alone, and shown.
    held_by_a_dead_one(dir, 0);
    let ran = shard(dir, &["gc", "s"]).good();
    assert!(ran.stdout.contains("\"leases_expired\":1"), "{}", ran.stdout);
    let left = leases(&status(dir, "s"));
    let [left] = &left[..] else { panic!("not one: {left:?}") };
    let id = left["id"].as_str().expect("an id");
    assert!(ran.stderr.contains(id) && ran.stderr.contains("--end-lease"), "{}", ran.stderr);
    verified(dir, "s");
}
