//! Goal: a followed feed hands over whole lines as they come, closes nothing at its end, and notices
//! when the file is another one. Method: a thread that follows, a test that appends and waits
//! (bounded) for what it expects.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::recorder::{Recorder, config, on_thread, run};
use crate::connect::lines::config::Config;
use crate::error::Error;

struct Following {
    seen: Recorder,
    stop: CancellationToken,
    thread: JoinHandle<Result<u64, Error>>,
}

fn follow(path: &Path) -> Following {
    let feed = Config { follow: true, ..config(path) };
    let (seen, stop) = (Recorder::default(), feed.stop.clone());
    let sink = seen.clone();
    Following { seen, stop, thread: on_thread(move || run(&feed, sink)) }
}

impl Following {
    fn expect(&self, events: &[&str]) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while self.seen.events() != events {
            assert!(Instant::now() < give_up, "{:?} is not {events:?}", self.seen.events());
            std::thread::yield_now();
        }
    }

    fn end(self) -> String {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !self.thread.is_finished() {
            assert!(Instant::now() < give_up, "it goes on: {:?}", self.seen.events());
            std::thread::yield_now();
        }
        self.thread.join().expect("no panic").expect_err("it never ends well").to_string()
    }
}

fn append(file: &mut File, text: &str) {
    file.write_all(text.as_bytes()).expect("room for it");
}

const INTERRUPTED: &str =
    "the feed was told to stop; run it again to go on; what is committed stays";

#[test]
fn lines_come_when_they_are_whole_and_the_end_closes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("feed");
    let mut file = File::create(&path).expect("a new file");
    append(&mut file, "{\"key\":1,\"value\":1,\"ts\":1}\n{\"key\":2,\"value\":2,\"ts\":5");
    let following = follow(&path);
    following.expect(&["1=1@1#1", "<1"]);
    // Half a line waits for its rest: taken as a line, it would be a bad one.
    append(&mut file, "0}\n");
    following.expect(&["1=1@1#1", "<1", "2=2@50#2", "<50"]);
    append(&mut file, "{\"closed\":60}\n");
    following.expect(&["1=1@1#1", "<1", "2=2@50#2", "<50", "<60"]);
    following.stop.cancel();
    assert_eq!(following.end(), INTERRUPTED);
}

#[test]
fn a_truncated_file_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("feed");
    std::fs::write(&path, "{\"key\":1,\"value\":1,\"ts\":1}\n").expect("room for it");
    let following = follow(&path);
    following.expect(&["1=1@1#1", "<1"]);
    OpenOptions::new().write(true).open(&path).expect("it is there").set_len(3).expect("cut");
    let error = following.end();
    assert!(error.starts_with("the feed was truncated while it was read: "), "{error}");
}

#[test]
fn a_replaced_file_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("feed");
    std::fs::write(&path, "{\"key\":1,\"value\":1,\"ts\":1}\n").expect("room for it");
    let following = follow(&path);
    following.expect(&["1=1@1#1", "<1"]);
    let other = directory.path().join("other");
    std::fs::write(&other, "{\"key\":1,\"value\":1,\"ts\":1}\n{\"key\":9,\"value\":9,\"ts\":9}\n")
        .expect("room for it");
    std::fs::rename(&other, &path).expect("the same directory");
    let error = following.end();
    assert!(error.starts_with("the followed file was replaced or removed at "), "{error}");
}

#[test]
fn a_throttled_feed_can_be_stopped_between_lines() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "{\"key\":1,\"value\":1,\"ts\":1}\n".repeat(1000)).expect("room");
    let one = std::num::NonZeroU64::MIN;
    let feed = Config { throttle: Some(one), ..config(file.path()) };
    let (seen, stop) = (Recorder::default(), feed.stop.clone());
    let sink = seen.clone();
    let reading = on_thread(move || run(&feed, sink));
    let give_up = Instant::now() + Duration::from_secs(20);
    // A row does not wait for the batch that it would be in at full speed.
    while seen.rows().is_empty() {
        assert!(Instant::now() < give_up, "nothing came");
        std::thread::yield_now();
    }
    stop.cancel();
    let end = reading.join().expect("no panic");
    assert_eq!(end.expect_err("stopped").to_string(), INTERRUPTED);
}
