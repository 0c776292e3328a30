//! Goal: a last line without a line break counts as any other, and what follows it then is told rightly.
//! Method: small feeds that grow behind it.

use super::minting::{read, read_with};
use super::recorder;
use crate::connect::lines::OnError;

#[test]
fn a_last_line_without_its_break_is_whole_or_torn() {
    let row = "{\"key\":1,\"value\":1}";
    let (units, _) = read_with(row, None, |_| ());
    let at = Some(units[0].1);
    for (more, expected) in [
        ("", Ok(vec![])),
        ("\n", Ok(vec![])),
        ("\r\n", Ok(vec![])),
        (" \n{\"key\":2,\"value\":2}", Ok(vec![("2=2", 2)])),
        ("{\"key\":2,\"value\":2}\n", Err("more text after the end of a line")),
        ("x", Err("more text after the end of a line")),
    ] {
        let (units, end) = read_with(format!("{row}{more}"), at, |_| ());
        let units: Vec<_> = units.iter().map(|(text, at)| (text.as_str(), at.line)).collect();
        match expected {
            Ok(expected) => assert_eq!((units, end), (expected, Ok(())), "{more}"),
            Err(what) => {
                let error = end.expect_err(more);
                assert!(error.starts_with(what) && error.contains(" at FEED:1; "), "{error}");
            }
        }
    }
}

/// A bad one counts, too: it is kept, or written away, and a place lies behind it. Appended again, whole, it is the row.
#[test]
fn a_bad_last_line_without_its_break_counts() {
    let row = "{\"key\":1,\"value\":1}\n";
    let (half, rest) = ("{\"key\":2,\"val", "ue\":2}\n");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for quarantine in [None, Some(directory.path().join("away"))] {
        let read = |text: &str, from| {
            let (units, end) = read_with(text, from, |config| {
                config.on_error = OnError::Keep;
                config.quarantine = quarantine.clone();
            });
            assert_eq!(end, Ok(()));
            let texts: Vec<String> = units.iter().map(|(text, _)| text.clone()).collect();
            (texts, units.last().map(|(_, at)| *at))
        };
        let kept = usize::from(quarantine.is_none());
        let (units, at) = read(&format!("{row}{half}"), None);
        assert_eq!((&units[0][..], units.len()), ("1=1", 1 + kept), "{units:?}");
        if kept == 1 {
            let (units, _) = read(&format!("{row}{half}{rest}{half}{rest}"), at);
            assert_eq!((units.len(), &units[1][..]), (2, "2=2"), "the rest alone is a bad line");
        }
    }
    let (_, end) = read(format!("{row}{half}"), OnError::Stop);
    let error = end.expect_err("half a line");
    assert!(error.contains("at FEED:2; append the rest of the line and rerun, or "), "{error}");
}

#[test]
fn of_a_feed_with_times_it_counts_too_and_closes_nothing() {
    let (whole, half) = ("{\"key\":1,\"value\":1,\"ts\":3}\n", "{\"key\":2,\"value\":2,");
    for end in ["", "\n"] {
        let (seen, _) = recorder::read(format!("{whole}{half}{end}"), OnError::Keep);
        assert!(seen.rows()[1].ends_with("at line 2@3#2"), "{:?}", seen.rows());
    }
}
