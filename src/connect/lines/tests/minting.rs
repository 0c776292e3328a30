//! Goal: a feed of lines with minted times hands over each line as a unit whose place is its end, goes
//! on from any place, tells a file that has grown from one that was truncated or replaced, and stops at
//! a bad line with all before it handed over. Method: the reading thread's own code, driven through its
//! channel; small feeds with every event, and every place of them resumed from.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio_util::sync::CancellationToken;

use super::recorder::{config, on_thread};
use crate::connect::lines::OnError;
use crate::connect::lines::config::Config;
use crate::connect::lines::follow::{Handed, Reading};
use crate::connect::lines::line::LINE_BYTES_MAX;
use crate::connect::lines::position::{FilePosition, Offsets, Prefix};
use crate::error::ErrorKind;
use crate::source::{Change, Event, Failure, Position};

/// A reading on its thread, and what it has handed over.
struct Driven {
    handed: mpsc::Receiver<Handed>,
    thread: JoinHandle<()>,
    units: Vec<(String, FilePosition)>,
    end: Option<Result<(), Failure>>,
}

fn drive(config: &Config, from: Option<FilePosition>) -> Driven {
    let (sender, handed) = mpsc::channel(4);
    let reading = Reading::new(config.clone(), sender);
    let thread = on_thread(move || reading.run(from, None));
    Driven { handed, thread, units: Vec::new(), end: None }
}

impl Driven {
    /// Takes what has come; false once all has.
    fn take(&mut self) -> bool {
        let events = match self.handed.try_recv() {
            Ok(Ok(events)) => events,
            Ok(Err(failure)) => {
                self.end = Some(Err(failure));
                return true;
            }
            Err(TryRecvError::Empty) => {
                std::thread::yield_now();
                return true;
            }
            Err(TryRecvError::Disconnected) => return false,
        };
        assert!(self.end.is_none(), "nothing comes behind the end");
        let mut events = events.into_iter();
        while let Some(event) = events.next() {
            let change = match event {
                Event::Change(_, change) => change,
                Event::End => {
                    self.end = Some(Ok(()));
                    continue;
                }
                other => panic!("{other:?}"),
            };
            let text = match change {
                Change::Put(key, Ok(value)) => format!("{}={}", key.as_str(), value.as_str()),
                Change::Put(key, Err(error)) => format!("{}!{}", key.as_str(), error.0),
                Change::Patch(key, patch) => format!("{}~{}", key.as_str(), patch.as_str()),
                Change::Delete(key) => format!("{}-", key.as_str()),
                Change::Reset => "reset".to_string(),
                Change::ResetOf(name) => format!("reset {name}"),
            };
            // What a source says comes back only through a cursor; its text will do here.
            let Some(Event::Boundary(received)) = events.next() else {
                panic!("{text}: each line is a unit of its own")
            };
            self.units.push((text, place(&format!("{received:?}"))));
        }
        true
    }

    fn expect(&mut self, units: &[&str]) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while self.texts() != units {
            assert!(Instant::now() < give_up, "{:?} is not {units:?}", self.texts());
            self.take();
        }
    }

    fn texts(&self) -> Vec<&str> {
        self.units.iter().map(|(text, _)| text.as_str()).collect()
    }

    fn ended(mut self) -> (Vec<(String, FilePosition)>, Result<(), Failure>) {
        while self.take() {}
        self.thread.join().expect("no panic");
        (self.units, self.end.expect("it says how it ended"))
    }
}

/// Reads a position from a text that shows one.
fn place(text: &str) -> FilePosition {
    let number = |name: &str| -> u128 {
        let rest = text.split_once(&format!("{name}: ")).expect(name).1;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().expect("digits");
        digits.parse().expect("a number")
    };
    let small = |name: &str| number(name) as u64;
    let offsets = match text.split_once("offsets: ").expect("offsets").1 {
        rest if rest.starts_with("Undecided") => Offsets::Undecided,
        rest if rest.starts_with("Absent") => Offsets::Absent,
        rest => Offsets::Last(
            rest.split(['(', ')']).nth(1).and_then(|last| last.parse().ok()).expect("a number"),
        ),
    };
    FilePosition {
        offset: small("offset"),
        line: small("line"),
        rows: small("rows"),
        prefix: number("prefix"),
        offsets,
    }
}

pub(super) type Units = Vec<(String, FilePosition)>;

/// Reads a feed of these bytes to its end; an error names the feed as `FEED`.
pub(super) fn read_with(
    text: impl AsRef<[u8]>,
    from: Option<FilePosition>,
    change: impl FnOnce(&mut Config),
) -> (Units, Result<(), String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("room for it");
    let mut config = config(file.path());
    change(&mut config);
    let (units, end) = drive(&config, from).ended();
    let end = end.map_err(|failure| {
        assert!(matches!(failure, Failure::Definite(_)), "{failure:?}");
        failure.error().to_string().replace(&config.path, "FEED")
    });
    (units, end)
}

pub(super) fn read(text: impl AsRef<[u8]>, on_error: OnError) -> (Vec<String>, Result<(), String>) {
    let (units, end) = read_with(text, None, |config| config.on_error = on_error);
    (units.into_iter().map(|(text, _)| text).collect(), end)
}

fn hash(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

const FEED: &str = "\u{feff}\r\n{\"key\":1,\"value\":\"a\"}\r\n\n{\"key\":2,\"value\":null}\n\
                    {\"closed\":7}\n{\"key\":1,\"value\":2,\"ts\":9}\n{\"key\":3,\"value\":3}";

#[test]
fn each_row_is_a_unit_that_ends_with_its_line() {
    let (units, end) = read_with(FEED, None, |_| ());
    assert_eq!(end, Ok(()));
    let texts: Vec<&str> = units.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["1=\"a\"", "2-", "1=2", "3=3"]);
    let mut end = 0;
    let ends: Vec<usize> = FEED
        .split_inclusive('\n')
        .map(|line| {
            end += line.len();
            end
        })
        .collect();
    for ((_, at), (line, rows)) in units.iter().zip([(2, 1), (4, 2), (6, 3), (7, 4)]) {
        assert_eq!((at.line, at.rows), (line, rows));
        assert_eq!(at.offset as usize, ends[line as usize - 1]);
        assert_eq!(at.prefix, hash(&FEED.as_bytes()[..at.offset as usize]));
        assert_eq!(at.order(), Some(at.offset));
    }
}

#[test]
fn it_goes_on_from_every_place_and_the_file_may_have_grown() {
    let more = format!("{{\"key\":9,\"value\":{}}}\n", "9".repeat(600_000));
    let long = format!("{FEED}\n{}", format!("{more}{}\n", &FEED[3..]).repeat(2) + &more);
    let (whole, _) = read_with(&long, None, |_| ());
    assert_eq!(whole.len(), 15, "three times four, and three long ones");
    for (index, (_, at)) in whole.iter().enumerate() {
        let (rest, end) = read_with(&long, Some(*at), |_| ());
        assert_eq!((&rest[..], end), (&whole[index + 1..], Ok(())), "from {at:?}");
        // A file that ended there has grown since.
        let (start, end) = read_with(&long[..at.offset as usize], None, |_| ());
        assert_eq!((&start[..], end), (&whole[..=index], Ok(())));
    }
}

#[test]
fn what_is_skipped_is_counted_as_read_once() {
    let (units, _) = read_with(FEED, None, |_| ());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), FEED).expect("room");
    let config = config(file.path());
    let count = |config: &Config| (config.stats.rows_read(), config.stats.rows_skipped());
    drive(&config, Some(units[0].1)).ended().1.expect("a good end");
    assert_eq!(count(&config), (4, 1));
    // The same run connects again, from where it had got to.
    drive(&config, Some(units[2].1)).ended().1.expect("a good end");
    assert_eq!(count(&config), (4, 1));
}

#[test]
fn a_truncated_feed_and_a_replaced_one_have_words_of_their_own() {
    let (units, _) = read_with(FEED, None, |_| ());
    let at = units[2].1;
    let (bytes, length) = (at.offset, FEED.len());
    let short = &FEED[..at.offset as usize - 1];
    let mut other = FEED.replace("\"a\"", "\"b\"");
    assert_eq!(other.len(), length);
    for (text, error) in [
        (
            short.to_string(),
            format!(
                "the feed was truncated or rewritten: it has {} bytes, the shard's cursor is at {bytes} at FEED; ",
                short.len()
            ),
        ),
        (
            String::new(),
            format!(
                "the feed was truncated or rewritten: it has 0 bytes, the shard's cursor is at {bytes} at FEED; "
            ),
        ),
        (
            other.clone(),
            format!("the feed was replaced or rewritten before byte {bytes} at FEED; "),
        ),
        (
            format!("\n{FEED}"),
            format!("the feed was replaced or rewritten before byte {bytes} at FEED; "),
        ),
    ] {
        let (units, end) = read_with(&text, Some(at), |_| ());
        assert!(units.is_empty());
        let found = end.expect_err("another feed");
        assert!(found.starts_with(&error), "{found} is not {error}");
    }
    // Behind the place, all may be otherwise.
    other = format!("{}{{\"key\":8,\"value\":8}}", &FEED[..at.offset as usize]);
    assert_eq!(read_with(other, Some(at), |_| ()).0[0].0, "8=8");
}

#[test]
fn a_bad_line_stops_behind_all_that_came_before() {
    let row = |key: u32| format!("{{\"key\":{key},\"value\":{key}}}\n");
    let long = format!("{{\"key\":\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX));
    for (line, error) in [
        ("nope\n", "not JSON: expected a value (byte 1 of the line) at FEED:4; "),
        ("{\"key\":1,\"value\":2", "not JSON: "),
        ("{\"key\":1}\n", "missing \"value\" at FEED:4; "),
        (
            "{\"key\":1,\"value\":2,\"offset\":3}\n",
            "\"offset\" is on some rows only: the first row has none at FEED:4; ",
        ),
        ("{\"key\":1,\"value\":2,\"ts\":-1}\n", "\"ts\" is not a whole number"),
        (&long, "a line longer than 16 MiB at FEED:4; "),
    ] {
        let feed = row(1) + "\r\n" + &row(2) + line + &row(3);
        let (units, end) = read(feed, OnError::Stop);
        assert_eq!(units, ["1=1", "2=2"], "{error}");
        let found = end.expect_err(error);
        assert!(found.starts_with(error), "{found} is not {error}");
    }
}

#[test]
fn bad_lines_are_kept_as_units_and_too_long_ones_end_with_their_line() {
    let long = format!("{{\"key\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
    let row = "{\"key\":2,\"value\":2}";
    for (before, after) in [("\n", "\n"), ("\r\n", "")] {
        let feed = format!("nope\n{{\"key\":7}}\n{long}{before}{row}\n{long}{long}{after}");
        let (units, end) = read_with(&feed, None, |config| config.on_error = OnError::Keep);
        assert_eq!((units.len(), end), (5, Ok(())));
        assert_eq!(
            units[0].0,
            "{\"key_base64\":\"bm9wZQ==\"}!not JSON: expected a value (byte 1 of the line) at line 1"
        );
        assert_eq!(units[1].0, "7!missing \"value\" at line 2");
        assert!(units[2].0.ends_with("!a line longer than 16 MiB at line 3"));
        assert!(units[2].0.len() < 1500);
        assert_eq!(units[3].0, "2=2");
        for (_, at) in &units {
            assert_eq!(at.prefix, hash(&feed.as_bytes()[..at.offset as usize]));
        }
        assert_eq!(units[2].1.offset as usize, 5 + 10 + long.len() + before.len());
        assert_eq!(units[4].1.offset as usize, feed.len());
        let from = Some(units[2].1);
        let (rest, _) = read_with(&feed, from, |config| config.on_error = OnError::Keep);
        assert_eq!(rest, units[3..]);
    }
}

#[test]
fn an_offset_may_not_decrease_also_behind_a_place() {
    let row = |offset: u64| format!("{{\"key\":1,\"value\":{offset},\"offset\":{offset}}}\n");
    let feed = row(5) + &row(5) + &row(9) + &row(7) + &row(9);
    let (units, end) = read_with(&feed, None, |_| ());
    assert_eq!(units.len(), 3);
    let error = end.expect_err("it decreases");
    assert!(error.starts_with("\"offset\" decreases from 9 to 7 at FEED:4; drop \"offset\", or hand over one partition, or correct the line"), "{error}");
    let (again, end) = read_with(&feed, Some(units[2].1), |_| ());
    assert!(again.is_empty() && end.expect_err("it still does") == error);
    let (units, _) = read(&feed, OnError::Keep);
    assert_eq!(units[3..], ["1!\"offset\" decreases from 9 to 7 at line 4", "1=9"]);
    let none = format!("{}{{\"key\":1,\"value\":1}}\n", row(5));
    assert!(read(&none, OnError::Stop).1.expect_err("none").contains("the first row has one"));
}

#[test]
fn a_followed_file_hands_over_whole_lines_as_they_come() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("feed");
    let mut file = File::create(&path).expect("a new file");
    let mut append = |text: &str| file.write_all(text.as_bytes()).expect("room for it");
    let config = Config { follow: true, ..config(&path) };
    let mut following = drive(&config, None);
    append("{\"key\":1,\"value\":1}\n{\"key\":2,\"value\":2");
    following.expect(&["1=1"]);
    append("0}\n");
    following.expect(&["1=1", "2=20"]);
    OpenOptions::new().write(true).open(&path).expect("it is there").set_len(3).expect("cut");
    let (_, end) = following.ended();
    let error = end.expect_err("it is shorter").error().to_string();
    assert!(error.starts_with("the feed was truncated while it was read: "), "{error}");
}

#[test]
fn a_followed_file_is_let_go_when_told_and_when_nobody_listens() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = Config { follow: true, ..config(file.path()) };
    let following = drive(&config, None);
    config.stop.cancel();
    let (_, end) = following.ended();
    assert_eq!(end.expect_err("told to").error().kind(), ErrorKind::Stopped);
    let config = Config { stop: CancellationToken::new(), ..config };
    let Driven { handed, thread, .. } = drive(&config, None);
    drop(handed);
    thread.join().expect("it ends");
}

#[test]
fn a_pipe_is_read_from_its_start_only() {
    let (units, _) = read_with(FEED, None, |_| ());
    let (none, end) = drive(&config(Path::new("-")), Some(units[0].1)).ended();
    assert!(none.is_empty());
    let error = end.expect_err("gone").error().to_string();
    assert!(error.contains("a pipe cannot be read from its start at -; "), "{error}");
}

#[test]
fn a_place_is_ordered_by_its_offset_and_one_of_another_file_is_not() {
    let at = |offset, prefix| FilePosition {
        offset,
        line: 1,
        rows: 1,
        prefix,
        offsets: Offsets::Absent,
    };
    assert_eq!(at(5, 1).contains(&at(5, 1)), Some(true));
    assert_eq!(at(6, 2).contains(&at(5, 1)), Some(true));
    assert_eq!(at(5, 1).contains(&at(6, 2)), Some(false));
    assert_eq!(at(5, 1).contains(&at(5, 2)), None);
}

#[test]
fn the_bytes_of_a_place_stay_readable() {
    let place = FilePosition {
        offset: 0x0102_0304_0506_0708,
        line: 3,
        rows: 2,
        prefix: 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00,
        offsets: Offsets::Last(9),
    };
    let mut bytes = Vec::new();
    place.encode(&mut bytes);
    let golden = "01\
                  0807060504030201\
                  0300000000000000\
                  0200000000000000\
                  00ffeeddccbbaa998877665544332211\
                  02\
                  0900000000000000";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    for offsets in [Offsets::Undecided, Offsets::Absent, Offsets::Last(0), Offsets::Last(u64::MAX)]
    {
        let place = FilePosition { offsets, ..place };
        let mut bytes = Vec::new();
        place.encode(&mut bytes);
        assert_eq!(FilePosition::decode(&bytes).expect("its own bytes"), place);
    }
    for length in (0..bytes.len()).chain([bytes.len() + 1]) {
        let mut other = bytes.clone();
        other.resize(length, 0);
        let error = FilePosition::decode(&other).expect_err("another length");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
    }
    let newer = [&[2][..], &bytes[1..]].concat();
    assert_eq!(FilePosition::decode(&newer).expect_err("newer").kind(), ErrorKind::Unsupported);
    let tagged = [&bytes[..41], &[3], &bytes[42..]].concat();
    assert_eq!(FilePosition::decode(&tagged).expect_err("a tag").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_prefix_does_not_depend_on_how_it_is_read() {
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
    for chunk in [1, 7, 4096, 100_000] {
        let mut prefix = Prefix::default();
        bytes.chunks(chunk).for_each(|chunk| prefix.add(chunk));
        assert_eq!(prefix.hash(), hash(&bytes));
    }
}
