//! Goal: a last line without a line break is taken if it can be read, and else is a bad line only once it is whole.
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

/// Completed, it is the row that it was meant to be; ended as it is, it is one bad line; and until then a place lies
/// before it.
#[test]
fn a_last_line_that_is_half_written_is_left_until_it_is_whole() {
    let row = "{\"key\":1,\"value\":1}\n";
    let (half, rest) = ("{\"key\":2,\"val", "ue\":2}\n");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for quarantine in [None, Some(directory.path().join("away"))] {
        let read = |text: &str, from| {
            let mut left = None;
            let (units, end) = read_with(text, from, |config| {
                config.on_error = OnError::Keep;
                config.quarantine = quarantine.clone();
                left = Some(config.stats.clone());
            });
            assert_eq!(end, Ok(()));
            let texts: Vec<String> = units.iter().map(|(text, _)| text.clone()).collect();
            (texts, units.last().map(|(_, at)| *at), left.and_then(|stats| stats.left()))
        };
        let (units, at, left) = read(&format!("{row}{half}"), None);
        assert_eq!((&units[..], left), (&["1=1".to_string()][..], Some(2)));
        assert_eq!(read(&format!("{row}{half}{rest}"), at).0, ["2=2"]);
        let (units, _, left) = read(&format!("{row}{half}\n{row}"), at);
        let kept = usize::from(quarantine.is_none());
        assert_eq!((units.len(), left), (kept + 1, None), "{units:?}");
        // It can be read, and so it is taken.
        assert_eq!(read(row.trim_end(), None).2, None);
    }
    let (_, end) = read(format!("{row}{half}"), OnError::Stop);
    let error = end.expect_err("half a line");
    assert!(error.contains("at FEED:2; append the rest of the line and rerun, or "), "{error}");
}

#[test]
fn of_a_feed_with_times_it_is_left_too() {
    let (whole, half) = ("{\"key\":1,\"value\":1,\"ts\":3}\n", "{\"key\":2,\"value\":2,");
    let (seen, end) = recorder::read(format!("{whole}{half}"), OnError::Keep);
    assert_eq!((&seen.rows()[..], end), (&["1=1@3#1".to_string()][..], Ok(4)));
    let (seen, end) = recorder::read(format!("{whole}{half}\"ts\":4}}"), OnError::Keep);
    assert_eq!((&seen.rows()[..], end), (&["1=1@3#1", "2=2@4#2"].map(String::from)[..], Ok(5)));
    let (seen, _) = recorder::read(format!("{whole}{half}\n"), OnError::Keep);
    assert!(seen.rows()[1].ends_with("at line 2@3#2"), "{:?}", seen.rows());
}
