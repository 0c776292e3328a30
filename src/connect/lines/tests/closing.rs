//! Goal: a time closes by a later row, by a closing or by the clean end, and by nothing else; lines
//! are numbered, ordered and cut as DESIGN says. Method: small feeds with every event.

use super::recorder::{Recorder, config, read, run};
use crate::connect::lines::OnError::{Keep, Stop};
use crate::connect::lines::config::Config;

fn row(key: u32, ts: u64) -> String {
    format!("{{\"key\":{key},\"value\":{key},\"ts\":{ts}}}\n")
}

#[test]
fn a_finite_feed_ends_behind_its_last_time() {
    let closing = |n: u64| format!("{{\"closed\":{n}}}\n");
    let table = [
        (String::new(), 0),
        ("\n\r\n \n".to_string(), 0),
        (row(1, 0), 1),
        (row(1, 4) + &row(2, 4), 5),
        (row(1, 4) + &closing(3), 5),
        (row(1, 4) + &closing(5), 5),
        (row(1, 4) + &closing(9), 9),
        (closing(9) + &closing(2), 9),
        (closing(9) + &row(1, 9), 10),
        (closing(u64::MAX), u64::MAX),
        (row(1, u64::MAX - 1), u64::MAX),
        (row(1, 4).trim_end().to_string(), 5),
        (closing(9).trim_end().to_string(), 9),
    ];
    for (feed, expected) in table {
        assert_eq!(read(&feed, Stop).1, Ok(expected), "{feed}");
    }
    // The last time is the last there is, so what comes behind it is kept there.
    assert_eq!(read(closing(u64::MAX) + "x\n", Keep).1, Ok(u64::MAX));
}

#[test]
fn the_end_itself_closes_nothing_on_the_way() {
    // Only the return value says it: the pipeline closes E when everything below it is committed.
    let (seen, end) = read(row(1, 3) + &row(2, 4), Stop);
    assert_eq!((seen.events().last().map(String::as_str), end), (Some("<4"), Ok(5)));
}

#[test]
fn many_times_close_once_per_batch_and_no_row_comes_below() {
    let feed: String = (0..5000).map(|i| row(i, u64::from(i) / 3)).collect();
    let (seen, end) = read(feed, Stop);
    assert_eq!(end, Ok(1667));
    assert_eq!(seen.rows().len(), 5000);
    let closings = seen.events().iter().filter(|event| event.starts_with('<')).count();
    assert!(closings <= 6, "{closings} closings for five batches");
}

#[test]
fn blank_lines_a_bom_and_carriage_returns_are_ignored_but_counted() {
    let feed = "\u{feff}\r\n\n{\"key\":1,\"value\":null,\"ts\":1}\r\n \n{\"key\":2,\"value\":\"\\r\",\"ts\":1}";
    let (seen, end) = read(feed, Stop);
    assert_eq!(seen.rows(), ["1-@1#3", "2=\"\\r\"@1#5"]);
    assert_eq!(end, Ok(2));
}

#[test]
fn the_order_is_the_offset_if_the_first_row_has_one() {
    let feed = "{\"key\":1,\"value\":1,\"ts\":1,\"offset\":9}\n{\"key\":1,\"value\":2,\"ts\":1,\"offset\":4}\n";
    assert_eq!(read(feed, Stop).0.rows(), ["1=1@1#9", "1=2@1#4"]);
    let (_, end) = read(feed.to_string() + "{\"key\":1,\"value\":3,\"ts\":1}\n", Stop);
    assert!(end.expect_err("no offset").contains("the first row has one at FEED:3"));
}

#[test]
fn every_row_has_a_time() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "{\"key\":1,\"value\":2}\n").expect("room for it");
    let demanding = config(file.path());
    let error = run(&demanding, Recorder::default()).expect_err("no times").to_string();
    assert!(error.starts_with("missing \"ts\" at "), "{error}");
    let kept = Recorder::default();
    assert_eq!(run(&Config { on_error: Keep, ..demanding }, kept.clone()).ok(), Some(1));
    assert_eq!(kept.rows(), ["1!missing \"ts\" at line 1@0#1"]);
}
