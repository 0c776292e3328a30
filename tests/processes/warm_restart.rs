//! Goal: `ingest --state-dir` comes to the same contents however it ended before, and whatever became of its directory;
//! one line says whether it begins with the image. Method: real processes, killed when their files show where they are;
//! the oracle is a fold of the feed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::process::{PATIENCE, Ran, fold, ingest, snapshot, start_ingest, upper, verified};
use crate::running::Running;

/// Bytes of most values: an image is due after some MiB.
const VALUE_BYTES: usize = 300;
const PER_TIME: u64 = 200;
const WARM: &str = "state: begins with its image";

fn feed(rows: u64) -> String {
    let (mut random, mut text) = (fastrand::Rng::with_seed(12), String::new());
    for row in 0..rows {
        let (key, time) = (random.u64(..8_000), row / PER_TIME);
        let value = match random.u64(..9) {
            0 => "null".to_string(),
            _ => format!("\"{row}{}\"", "x".repeat(VALUE_BYTES)),
        };
        let _ = writeln!(text, r#"{{"key":{key},"value":{value},"ts":{time}}}"#);
    }
    text
}

/// The rows below a time.
fn below(text: &str, time: u64) -> impl Iterator<Item = &str> {
    text.lines().take((time * PER_TIME) as usize)
}

fn write(dir: &Path, text: &str, time: u64) {
    let part: String = below(text, time).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(dir.join("feed"), part).expect("a feed");
}

fn start(dir: &Path, workers: &str) -> Running {
    start_ingest(dir, &["feed", "--shard", "s", "--state-dir", "state", "-w", workers])
}

/// The lines that say how it begins.
fn all_said(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.starts_with("state: ")).collect()
}

/// The one line that says how it begins.
#[track_caller]
fn said(ran: &Ran) -> &str {
    let lines = all_said(ran);
    assert_eq!(lines.len(), 1, "one line says it: {}", ran.stderr);
    lines[0]
}

#[track_caller]
fn check(dir: &Path, text: &str, time: u64) {
    assert_eq!(upper(dir, "s"), time);
    assert!(snapshot(dir, "s") == fold(below(text, time)), "the contents are the feed's");
    verified(dir, "s");
}

/// Runs it to the end of the feed up to a time.
#[track_caller]
fn run(dir: &Path, workers: &str, text: &str, time: u64, says: &str) {
    write(dir, text, time);
    let ran = start(dir, workers).end(PATIENCE).good();
    assert!(said(&ran).contains(says), "{says}: {}", said(&ran));
    check(dir, text, time);
}

/// The files of a worker's folder by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The greatest number of a round whose pieces are there.
fn round(folder: &Path) -> u64 {
    let number = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix("pieces-")?.parse().ok();
    files(folder).into_iter().filter_map(number).max().unwrap_or(0)
}

#[test]
fn kills_at_any_point_of_an_image_change_nothing() {
    const TIMES: u64 = 1_500;
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let folder = dir.join("state/worker-0-of-1");
    let text = feed(TIMES * PER_TIME);
    write(dir, &text, TIMES);
    let image = || std::fs::read(folder.join("image")).ok();
    let mut warm = 0;
    for point in ["start", "round", "image", "start", "image", "start", "round"] {
        let mut running = start(dir, "1");
        let (image_before, round_before) = (image(), round(&folder));
        match point {
            "round" => running.until(point, || round(&folder) > round_before),
            "image" => running.until(point, || image().is_some_and(|it| image_before != Some(it))),
            _ => {}
        }
        running.child.kill().expect("it can be killed");
        let ran = running.end(PATIENCE);
        assert_eq!(ran.code, None, "killed before its end, at {point}");
        warm += usize::from(ran.stderr.contains(WARM));
        // The first is killed before there is a shard.
        if point != "start" {
            verified(dir, "s");
        }
    }
    assert!(warm > 0, "some began with an image");
    run(dir, "1", &text, TIMES, WARM);
    run(dir, "1", &text, TIMES, WARM);
}

/// Whatever is wrong with a directory costs one start, which reads the shard.
#[test]
fn a_damaged_directory_is_told_and_the_next_start_is_warm() {
    let mut found_late = 0;
    let text = feed(40 * PER_TIME);
    for workers in ["1", "2"] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let folder = dir.join(format!("state/worker-0-of-{workers}"));
        run(dir, workers, &text, 10, "it has no image");
        let mut time = 10;
        // What is only read when it is needed may be found late, or never be needed.
        let late = "";
        for (name, how, says) in [
            ("image", "flip", "its image is damaged: its manifest"),
            ("image", "cut", "its image is torn: its manifest ends too early"),
            ("image", "gone", "it has no image"),
            ("pieces-", "flip", late),
            ("pieces-", "cut", "its image is torn: its pieces end too early"),
            ("pieces-", "gone", "its image is torn: its pieces end too early"),
            ("rows", "flip", late),
            ("rows", "cut", "its image is torn: its rows end too early"),
            ("rows", "gone", "its image is torn: its rows end too early"),
        ] {
            let is_it = |path: &PathBuf| {
                path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(name))
            };
            let file = files(&folder).into_iter().find(is_it).expect("an image has it");
            let mut bytes = std::fs::read(&file).expect("a file");
            let half = bytes.len() / 2;
            match how {
                "flip" => bytes[half] ^= 1,
                _ => bytes.truncate(half),
            }
            match how {
                "gone" => std::fs::remove_file(&file).expect("a file"),
                _ => std::fs::write(&file, bytes).expect("room"),
            }
            time += 1;
            write(dir, &text, time);
            let ran = start(dir, workers).end(PATIENCE).good();
            let warnings = ran.stderr.lines().filter(|line| line.starts_with("warning: "));
            match (all_said(&ran)[..].to_vec(), warnings.collect::<Vec<_>>()) {
                (lines, warnings) if warnings.is_empty() => {
                    assert_eq!(lines.len(), 1, "{name} {how}: {}", ran.stderr);
                    assert!(lines[0].contains(says), "{name} {how}: {}", lines[0]);
                }
                // What is found late ends the dataflow. The image is removed, and another one begins in the same process.
                (lines, warnings) => {
                    assert_eq!(says, late, "{name} {how}: {}", ran.stderr);
                    assert_eq!((lines.len(), warnings.len()), (2, 1), "{}", ran.stderr);
                    assert!(warnings[0].contains("; start again"), "{}", ran.stderr);
                    assert!(lines[0].contains(WARM), "{}", ran.stderr);
                    assert!(lines[1].contains("it has no image"), "{}", ran.stderr);
                    found_late += 1;
                }
            }
            check(dir, &text, time);
            time += 1;
            run(dir, workers, &text, time, WARM);
        }
        std::fs::remove_dir_all(dir.join("state")).expect("a directory");
        run(dir, workers, &text, time + 1, "it has no image");
        let other = if workers == "1" { "2" } else { "1" };
        run(dir, other, &text, time + 2, "foreign: of another number of workers");
        run(dir, other, &text, time + 3, WARM);
        std::fs::rename(dir.join("s"), dir.join("aside")).expect("a shard");
        run(dir, other, &text, time + 3, "foreign: of another shard");
        run(dir, other, &text, time + 4, WARM);
    }
    assert!(found_late >= 2, "{found_late} of the flips were found as they were read");
}

#[test]
#[cfg(target_os = "linux")]
fn a_directory_in_use_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let folder = dir.join("state/worker-0-of-1");
    let text = feed(300 * PER_TIME);
    write(dir, &text, 300);
    let mut first = start(dir, "1");
    first.until("its first image", || folder.join("image").exists());
    first.signal("STOP");
    let second = ingest(dir, &["feed", "--shard", "other", "--state-dir", "state"]).good();
    assert!(said(&second).contains("locked by another process"), "{}", second.stderr);
    assert!(snapshot(dir, "other") == fold(text.lines()), "the contents are the feed's");
    first.signal("CONT");
    first.end(PATIENCE).good();
    check(dir, &text, 300);
    run(dir, "1", &text, 300, WARM);
}
