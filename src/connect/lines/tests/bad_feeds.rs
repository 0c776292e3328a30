//! Goal: a bad line stops the feed with what, where and what to do, and closes nothing; or it is
//! kept as an error at the current time. Method: small feeds, each with every event it hands over.

use super::recorder::{Recorder, config, read, run};
use crate::connect::lines::OnError::{self, Keep, Stop};
use crate::connect::lines::line::LINE_BYTES_MAX;

fn row(key: u32, ts: u64) -> String {
    format!("{{\"key\":{key},\"value\":{key},\"ts\":{ts}}}\n")
}

#[test]
fn a_bad_line_closes_nothing_and_what_was_closed_before_is_said() {
    let feed = row(1, 3) + &row(2, 5) + "nope\n" + &row(3, 5) + &row(4, 6);
    let (seen, end) = read(feed, Stop);
    // Both rows, and exactly the time of the last good one: its own rows are not final.
    assert_eq!(seen.events(), ["1=1@3#1", "2=2@5#2", "<5"]);
    let error = end.expect_err("a bad line");
    assert_eq!(
        error,
        "not JSON: expected a value (byte 1 of the line) at FEED:3; repair or remove the line, or go on behind bad lines with \
         --on-error keep or quarantine:FILE"
    );
}

#[test]
fn every_kind_of_bad_line_is_found_at_its_line() {
    let long = format!("{{\"key\":\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX));
    let table: [(&[u8], &str); 12] = [
        (b"{\"key\":1,\"value\":2,\"ts\":4}\n", "\"ts\" decreases from 5 to 4 at FEED:4; sort the feed by \"ts\", correct the line, or use --times mint, into another shard"),
        (b"{\"key\":1,\"value\":2}\n", "missing \"ts\" at FEED:4; "),
        (b"{\"key\":1,\"value\":2,\"ts\":-1}\n", "\"ts\" is not a whole number"),
        (b"{\"key\":1,\"ts\":6}\n", "missing \"value\" at FEED:4; "),
        (b"{\"value\":1,\"ts\":6}\n", "missing \"key\" at FEED:4; "),
        (b"{\"ts\":6,\"ts\":6}\n", "two members named \"ts\" at FEED:4; "),
        (
            b"{\"key\":1,\"value\":2,\"ts\":6,\"offset\":1}\n",
            "\"offset\" is on some rows only: the first row has none at FEED:4; ",
        ),
        (b"{\"key\":\"\xc3\x28\",\"value\":2,\"ts\":6}\n", "not UTF-8 (byte 9 of the line) at FEED:4; "),
        (b"{\"key\":1,\"value\":2,\"ts\":6", "not JSON: expected `,` or `}` (byte 26 of the line) at FEED:4; "),
        (b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "not JSON: arrays and objects nested deeper than 127"),
        (b"\xEF\xBB\xBF{\"key\":1,\"value\":2,\"ts\":6}\n", "a byte order mark in front of the line at FEED:4; remove it: only the first line of a feed may have one"),
        (long.as_bytes(), "a line longer than 16 MiB at FEED:4; "),
    ];
    for (line, error) in table {
        let start = row(1, 3) + "\n" + &row(2, 5);
        let feed = [start.as_bytes(), line, row(3, 7).as_bytes()].concat();
        let (seen, end) = read(feed, Stop);
        assert_eq!(seen.events(), ["1=1@3#1", "2=2@5#3", "<5"], "{error}");
        let found = end.expect_err(error);
        assert!(found.starts_with(error), "{found} is not {error}");
        assert!(found.contains("; "), "{found} does not say what to do");
    }
}

#[test]
fn a_row_below_a_closed_time_is_bad() {
    let (seen, end) = read(row(1, 3) + "{\"closed\":9}\n" + &row(2, 8), Stop);
    assert_eq!(seen.events(), ["1=1@3#1", "<9"]);
    let error = end.expect_err("closed");
    assert!(error.starts_with("\"ts\" 8 was closed by {\"closed\": 9} at FEED:3; "), "{error}");
}

#[test]
fn kept_lines_are_errors_at_the_current_time() {
    let feed = row(1, 3) + "nope\n{\"key\":7,\"ts\":9}\n" + &row(2, 4) + &row(1, 3) + &row(3, 4);
    let (seen, end) = read(feed, Keep);
    assert_eq!(
        seen.rows(),
        [
            "1=1@3#1",
            "{\"key_base64\":\"bm9wZQ==\"}!not JSON: expected a value (byte 1 of the line) at line 2@3#2",
            "7!missing \"value\" at line 3@3#3",
            "2=2@4#4",
            "1!\"ts\" decreases from 4 to 3 at line 5@4#5",
            "3=3@4#6",
        ]
    );
    assert_eq!(end, Ok(5));
}

#[test]
fn a_row_whose_value_cannot_be_read_has_the_error_until_it_is_repaired() {
    let bad = "{\"key\":1,\"value\":\"\\ud83d\",\"ts\":4}\n";
    let (seen, end) = read(row(1, 3) + bad + &row(2, 4) + &row(1, 5), Keep);
    let what = "not JSON: half of a surrogate pair (byte 25 of the line)";
    assert_eq!(seen.rows(), ["1=1@3#1", &format!("1!{what} at line 2@3#2"), "2=2@4#3", "1=1@5#4"]);
    assert_eq!(end, Ok(6));
}

#[test]
fn lines_kept_before_any_time_take_the_first_that_is_said() {
    let (seen, end) = read("x\n".to_string() + &row(1, 8), Keep);
    assert!(seen.rows()[0].ends_with("at line 1@8#1"), "{:?}", seen.rows());
    assert_eq!(end, Ok(9));
    let (seen, end) = read("x\n{\"closed\":8}\n", Keep);
    assert!(seen.rows()[0].ends_with("at line 1@8#1"), "{:?}", seen.rows());
    assert_eq!(end, Ok(9));
    let (seen, end) = read("x\n", Keep);
    assert!(seen.rows()[0].ends_with("at line 1@0#1"), "{:?}", seen.rows());
    assert_eq!(end, Ok(1));
    // More of them than wait: memory has a bound.
    let (seen, end) = read("x\n".repeat(5000) + &row(1, 8), Keep);
    assert_eq!(seen.rows().len(), 5001);
    assert!(seen.rows()[4999].ends_with("at line 5000@0#5000"));
    assert_eq!(end, Ok(9));
}

#[test]
fn a_kept_line_has_the_order_of_its_place() {
    let rows = "{\"key\":1,\"value\":1,\"ts\":1,\"offset\":50}\nnope\n\
                {\"key\":1,\"ts\":1,\"offset\":60}\n{\"key\":1,\"value\":2,\"ts\":1,\"offset\":70}\n";
    let (seen, _) = read(rows, Keep);
    let orders: Vec<String> = seen
        .rows()
        .iter()
        .map(|row| row[row.rfind('#').expect("an order")..].to_string())
        .collect();
    assert_eq!(orders, ["#50", "#50", "#60", "#70"]);
}

#[test]
fn a_line_of_exactly_16_mib_is_good_and_one_byte_more_is_not() {
    let line = |length: usize| {
        let frame = "{\"key\":\"\",\"value\":1,\"ts\":1}".len();
        format!("{{\"key\":\"{}\",\"value\":1,\"ts\":1}}", "x".repeat(length - frame))
    };
    let good = line(LINE_BYTES_MAX);
    for (before, after) in
        [("", "\n"), ("", "\r\n"), ("", ""), ("\u{feff}", "\r\n"), ("\u{feff}", "")]
    {
        let (seen, end) = read(format!("{before}{good}{after}"), Stop);
        assert_eq!((seen.rows().len(), end), (1, Ok(2)));
    }
    let bad = line(LINE_BYTES_MAX + 1);
    for after in ["\n", "\r\n", "", "\nx"] {
        let (_, end) = read(format!("{bad}{after}"), Stop);
        assert!(end.expect_err("too long").starts_with("a line longer than 16 MiB at FEED:1; "));
    }
    // Kept under its first 1 KiB; the rest of it is skipped, and the next line has its own number.
    let (seen, end) = read(format!("{}{bad}{bad}{bad}\n{}", row(1, 1), row(2, 1)), Keep);
    let rows = seen.rows();
    assert_eq!((rows.len(), &*rows[2], end), (3, "2=2@1#3", Ok(2)));
    assert!(rows[1].starts_with("{\"key_base64\":\"") && rows[1].len() < 1500);
    assert!(rows[1].ends_with("!a line longer than 16 MiB at line 2@1#2"));
}

#[test]
fn what_cannot_be_read_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("none");
    for (path, what) in [
        (directory.path(), "a directory without a part file at "),
        (missing.as_path(), "cannot read the feed: "),
    ] {
        let end = run(&config(path), Recorder::default());
        let error = end.expect_err(what).to_string();
        assert!(error.starts_with(what) && error.contains("; "), "{error}");
        assert!(error.contains(path.to_str().expect("UTF-8")), "{error}");
    }
}

#[test]
fn the_repaired_feed_hands_over_the_rest() {
    // Rows of one time on both sides of the bad line: all of them are in the rerun.
    let broken = row(1, 1) + &row(2, 2) + "{\"key\":3,\"val" + "\n" + &row(4, 2);
    let (seen, end) = read(&broken, OnError::Stop);
    assert!(end.is_err());
    assert_eq!(seen.closed(), 2);
    let (seen, end) = read(broken.replace("{\"key\":3,\"val\n", &row(3, 2)), OnError::Stop);
    assert_eq!(end, Ok(3));
    assert_eq!(seen.rows(), ["1=1@1#1", "2=2@2#2", "3=3@2#3", "4=4@2#4"]);
}
