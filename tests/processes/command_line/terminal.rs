//! Goal: on a terminal `ingest` shows that it is alive, and a line of what it did stays; elsewhere it shows nothing. Method:
//! `script` gives it a terminal, and what that got is read.

use std::path::Path;
use std::process::Command;

use crate::process::{PATIENCE, Ran, example, ingest, shard, start};

/// Runs `ingest` on a terminal. What it says on stdout and on stderr, the terminal gets in one piece.
fn on_a_terminal(dir: &Path, args: &str) -> Ran {
    let mut command = Command::new("script");
    let run = format!("{} {args}", example("ingest").display());
    command.args(["--quiet", "--return", "--command", &run, "/dev/null"]).current_dir(dir);
    start(command).end(PATIENCE)
}

/// A feed of so many rows.
fn feed(dir: &Path, rows: usize) -> usize {
    let text: String = (0..rows).map(|n| format!("{{\"key\":{n},\"value\":{n}}}\n")).collect();
    std::fs::write(dir.join("feed"), &text).expect("a feed");
    text.len()
}

/// The last lines, of which the summary is the very last.
fn last_two(ran: &Ran) -> [&str; 2] {
    let lines: Vec<&str> = ran.stdout.lines().collect();
    // What was drawn over stands before it, and ends at a return.
    let [.., stays, summary] = &lines[..] else { panic!("{}", ran.stdout) };
    [stays.rsplit(['\r', '\u{1b}']).next().unwrap_or_default(), summary]
}

#[test]
fn what_was_read_stays_on_a_terminal() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let bytes = feed(dir, 2_000);
    let ran = on_a_terminal(dir, "feed --shard s").good();
    let [stays, summary] = last_two(&ran);
    let stays = stays.strip_prefix("[2K").unwrap_or(stays);
    assert!(stays.starts_with("2,000 rows, ") && stays.contains(" rows/s, "), "{stays:?}");
    let kibibytes = format!("{:.2} KiB in ", bytes as f64 / 1024.0);
    assert!(stays.contains(&kibibytes) && stays.ends_with(" s"), "{stays:?}: {kibibytes}");
    assert!(summary.starts_with("{\"read\":2000,"), "{summary}");
    // It ends badly: the line stays, and the error is still the last word on stderr.
    std::fs::write(dir.join("feed"), "{\"key\":0,\"value\":0}\nno row\n").expect("a feed");
    let ran = on_a_terminal(dir, "feed --shard t");
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 rows, "), "{}", ran.stdout);
    let (_, error) = ran.stdout.rsplit_once("error: ").expect("an error");
    assert!(error.contains("feed:2") && !error.contains(" rows/s"), "{error}");
}

#[test]
fn elsewhere_nothing_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    feed(dir.path(), 2_000);
    let ran = ingest(dir.path(), &["feed", "--shard", "s"]).good();
    assert_eq!((ran.stdout.lines().count(), &*ran.stderr), (1, ""));
    let ran = shard(dir.path(), &["snapshot", "s"]).good();
    assert_eq!((ran.stdout.lines().count(), &*ran.stderr), (2_000, ""));
}

#[test]
fn help_and_version_are_printed() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["ingest", "shard"] {
        let run = |arg: &str| match name {
            "ingest" => ingest(dir.path(), &[arg]),
            _ => shard(dir.path(), &[arg]),
        };
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run("-V").good().stdout, version);
        assert_eq!(run("--version").good().stdout, version);
        assert!(run("-h").good().stdout.contains("Usage: "), "{name}");
        assert!(run("--help").good().stdout.contains("Usage: "), "{name}");
    }
}
