//! Goal: the first row says where times come from, and a look takes nothing away. Method: small
//! feeds; a named pipe, whose bytes come once.

use std::io::{Read as _, Write as _};

use tokio_util::sync::CancellationToken;

use super::recorder::{config, on_thread};
use crate::connect::lines::OnError::{self, Keep, Stop};
use crate::connect::lines::config::Config;
use crate::connect::lines::look::look;

fn given(text: &str, on_error: OnError) -> Option<bool> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("room");
    let config = Config { on_error, ..config(file.path()) };
    let look = look(&config, None, &CancellationToken::new()).expect("it can be read");
    assert!(look.input.is_none(), "a file is opened again");
    look.given
}

const TIMED: &str = "{\"key\":1,\"value\":1,\"ts\":1}";
const BARE: &str = "{\"key\":1,\"value\":1}";

#[test]
fn the_first_row_decides() {
    for (text, expected) in [
        (format!("{TIMED}\n{BARE}\n"), Some(true)),
        (format!("{BARE}\n{TIMED}\n"), Some(false)),
        (BARE.to_string(), Some(false)),
        (TIMED.to_string(), Some(true)),
        (format!("\u{feff}\n \r\n{BARE}"), Some(false)),
        // A closing does not count as a row.
        (format!("{{\"closed\":3}}\n{BARE}"), Some(false)),
        ("{\"closed\":3}\n".to_string(), None),
        ("\n\n".to_string(), None),
        (String::new(), None),
    ] {
        for on_error in [Stop, Keep] {
            assert_eq!(given(&text, on_error), expected, "{text}");
        }
    }
    // A bad line is kept, and a row behind it decides; or it is the end, and nothing is minted.
    assert_eq!(given(&format!("nope\n{BARE}"), Keep), Some(false));
    assert_eq!(given(&format!("nope\n{TIMED}"), Keep), Some(true));
    assert_eq!(given("nope\n", Keep), Some(false));
    assert_eq!(given(&format!("nope\n{BARE}"), Stop), None);
    assert_eq!(given("nope", Keep), Some(false));
}

#[test]
fn a_followed_feed_is_waited_for() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = Config { follow: true, ..config(file.path()) };
    let looking = on_thread(move || look(&config, None, &CancellationToken::new()));
    // Half a row is none.
    write!(file, "\n{}", &BARE[..9]).expect("room");
    assert!(!looking.is_finished());
    writeln!(file, "{}", &BARE[9..]).expect("room");
    assert!(!looking.join().expect("no panic").expect("a row").given.expect("it says"));
}

#[test]
fn one_that_is_told_to_stop_does() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = Config { follow: true, ..config(file.path()) };
    config.stop.cancel();
    let error = look(&config, None, &config.stop).expect_err("told to").to_string();
    assert!(error.starts_with("the feed was told to stop"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_gives_its_bytes_to_the_reader_all_the_same() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let text = format!("\n{BARE}\n").repeat(30_000);
    let (into, all) = (path.clone(), text.clone());
    let writing = std::thread::spawn(move || std::fs::write(into, all).expect("a reader"));
    let look = look(&config(&path), None, &CancellationToken::new()).expect("it can be read");
    assert_eq!(look.given, Some(false));
    let mut found = String::new();
    look.input.expect("it is open").read_to_string(&mut found).expect("text");
    writing.join().expect("no panic");
    assert!(found == text, "{} bytes are not {}", found.len(), text.len());
}
