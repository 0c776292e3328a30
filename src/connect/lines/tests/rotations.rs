//! Goal: a file that is rotated is read to its end, then what came after it, however many that are; what is not certain is
//! an error. Method: files that are renamed between two reads.

#![cfg(unix)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use tokio::sync::mpsc;

use super::recorder::{config, on_thread};
use crate::connect::lines::config::{Config, Format};
use crate::connect::lines::follow::Reading;
use crate::connect::lines::input::Input;
use crate::connect::lines::position::{FilePosition, Offsets, Prefix};
use crate::connect::lines::rotating::{Rotating, before};
use crate::error::Error;
use crate::source::{Change, Event};

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("it is there");
    file.write_all(text.as_bytes()).expect("room for it");
}

fn read(input: &mut Input) -> String {
    let mut text = String::new();
    input.read_to_string(&mut text).expect("it can be read");
    text
}

#[test]
fn what_came_between_is_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let rename = |from: &str, to: &str| fs::rename(at(from), at(to)).expect("it is there");
    let feed = at("feed");
    fs::write(&feed, "a\n").expect("room");
    let mut input = Input::rotating(feed.to_str().expect("UTF-8"), &[]).expect("it is there");
    assert_eq!(read(&mut input), "a\n");
    let go_on = |input: &mut Input| input.go_on().map_err(|e| e.to_string());
    assert_eq!(go_on(&mut input), Ok(false));
    // Without a new one, and with one that has nothing, the old one goes on.
    rename("feed", "feed.1");
    assert_eq!(go_on(&mut input), Ok(false));
    fs::write(&feed, "").expect("room");
    assert_eq!(go_on(&mut input), Ok(false));
    append(&at("feed.1"), "b");
    append(&feed, "c\n");
    rename("feed.1", "feed.2");
    rename("feed", "feed.1");
    fs::write(&feed, "d\n").expect("room");
    assert_eq!(go_on(&mut input), Ok(true));
    assert_eq!(read(&mut input), "b\nc\nd\n");
    assert_eq!(go_on(&mut input), Ok(false));
    append(&at("feed.2"), "late\n");
    let error = go_on(&mut input).expect_err("it has grown");
    assert!(error.starts_with("a rotated file has changed since the new one was begun"), "{error}");
}

#[test]
fn what_is_not_certain_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let feed = at("feed");
    for (moved, what) in [
        (true, "the followed file was renamed, and what came between it and the new one is not"),
        (false, "the followed file was replaced or removed"),
    ] {
        fs::write(&feed, "a\n").expect("room");
        let mut input = Input::rotating(feed.to_str().expect("UTF-8"), &[]).expect("it is there");
        assert_eq!(read(&mut input), "a\n");
        match moved {
            true => fs::rename(&feed, at("elsewhere")).expect("it is there"),
            false => fs::remove_file(&feed).expect("it is there"),
        }
        fs::write(&feed, "b\n").expect("room");
        if moved {
            // A list that is read while names move may lack it.
            assert_eq!(input.go_on().ok(), Some(false));
        }
        let error = input.go_on().expect_err(what).to_string();
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn the_files_before_are_in_the_order_of_their_age() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let feed = directory.path().join("feed");
    let name = feed.to_str().expect("UTF-8");
    let others = ["", ".1", ".2.gz", ".10", "-20260102", "-20260101.zst"];
    for other in others.into_iter().chain([".bak", "s.1", ".1.bak", "-20260103.old", "-x"]) {
        fs::write(format!("{name}{other}"), "").expect("room");
    }
    let found = before(name);
    let found = found.iter().filter_map(|before| before.path.strip_prefix(name));
    assert_eq!(found.collect::<Vec<_>>(), [".10", ".2.gz", ".1", "-20260101.zst", "-20260102"]);
}

/// Goes on behind what was read of a feed, and returns the keys of the rows there.
fn resumed(feed: &Path, read: &str) -> Vec<String> {
    let mut prefix = Prefix::default();
    prefix.add(read.as_bytes());
    let (offset, line) = (read.len() as u64, read.lines().count() as u64);
    let prefix = prefix.hash();
    let at = FilePosition { offset, line, rows: line, prefix, offsets: Offsets::default() };
    let (sender, mut handed) = mpsc::channel(64);
    let reading = Reading::new(config(feed), sender);
    on_thread(move || reading.run(Some(at), None)).join().expect("no panic");
    let mut keys = Vec::new();
    while let Some(events) = handed.blocking_recv() {
        for event in events.expect("it is found") {
            match event {
                Event::Change(_, Change::Put(key, _)) => keys.push(key.as_str().to_string()),
                Event::Boundary(_) | Event::End => {}
                other => panic!("{other:?}"),
            }
        }
    }
    keys
}

fn row(key: u32) -> String {
    format!("{{\"key\":{key},\"value\":{key}}}\n")
}

#[test]
fn a_copy_that_is_being_compressed_is_passed_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    for (old, copy) in [("feed.1", "feed.1.gz"), ("feed-20260102", "feed-20260102.zst")] {
        let feed = at("feed");
        fs::write(&feed, row(1)).expect("room");
        let mut input = Input::rotating(feed.to_str().expect("UTF-8"), &[]).expect("it is there");
        assert_eq!(read(&mut input), row(1));
        append(&feed, &row(2));
        fs::rename(&feed, at(old)).expect("it is there");
        // Not one member of it is whole yet; to a plain reader it would be a row.
        fs::write(at(copy), row(9)).expect("room");
        fs::write(&feed, row(3)).expect("room");
        assert_eq!(resumed(&feed, &row(1)), ["2", "3"]);
        assert_eq!(input.go_on().ok(), Some(true));
        assert_eq!(read(&mut input), row(2) + &row(3));
        fs::remove_file(at(old)).expect("it is there");
        fs::remove_file(at(copy)).expect("it is there");
    }
}

/// Which table the feed is of is learned from the file that was proven to be the feed, also where its name means another
/// one by then. That name is given away while the bytes before the place are read.
#[test]
fn what_is_learned_is_of_the_file_that_was_proven() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let row = |table: &str, id: u32| {
        let row = format!("\"database\":\"d\",\"table\":\"{table}\",\"data\":{{\"id\":{id}}}");
        format!("{{{row},\"type\":\"insert\",\"primary_key_columns\":[\"id\"]}}\n")
    };
    let before = row("ours", 1) + &"\n".repeat(8 << 20);
    fs::write(at("feed"), before.clone() + &row("other", 2)).expect("room");
    fs::write(at("next"), row("other", 3) + &"\n".repeat(8 << 20)).expect("room");
    let mut prefix = Prefix::default();
    prefix.add(before.as_bytes());
    let (offset, line, prefix) = (before.len() as u64, 1 + (8 << 20), prefix.hash());
    let place = FilePosition { offset, line, rows: 1, prefix, offsets: Offsets::default() };
    let (sender, mut handed) = mpsc::channel(64);
    let config = Config { format: Format::Maxwell, ..config(&at("feed")) };
    let stats = config.stats.clone();
    let reading = on_thread(move || Reading::new(config, sender).run(Some(place), None));
    while stats.position() == 0 {
        std::thread::yield_now();
    }
    fs::rename(at("feed"), at("feed.1")).expect("it is there");
    fs::rename(at("next"), at("feed")).expect("it is there");
    reading.join().expect("no panic");
    let last = std::iter::from_fn(|| handed.blocking_recv()).last();
    let failure = last.expect("an end").expect_err("a row of another table");
    let error = failure.error().to_string();
    assert!(error.starts_with("rows of two tables, d.ours and d.other at "), "{error}");
}

#[test]
fn a_backup_is_not_of_the_rotation() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("feed.2"), row(1) + &row(2)).expect("room");
    fs::write(at("feed.1"), row(3)).expect("room");
    fs::write(at("feed-20260101"), row(9)).expect("room");
    fs::write(at("feed"), row(4)).expect("room");
    assert_eq!(resumed(&at("feed"), &row(1)), ["2", "3", "4"]);
    assert_eq!(resumed(&at("feed"), &row(9)), ["4"]);
}

#[test]
fn a_file_that_is_rotated_while_it_is_opened_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_string();
    fs::write(at("feed.1"), "a\n").expect("room");
    fs::write(at("feed"), "b\n").expect("room");
    let open = |path: &str| -> Result<(File, File), Error> {
        let file = File::open(path).expect("it is there");
        if let Some(feed) = path.strip_suffix(".1") {
            fs::rename(path, format!("{feed}.2")).expect("it is there");
            fs::rename(feed, path).expect("it is there");
            fs::write(feed, "c\n").expect("room");
        }
        Ok((file.try_clone().expect("a descriptor"), file))
    };
    let error = Rotating::new(&at("feed"), &[at("feed.1")], open).expect_err("b is not read");
    let error = error.to_string();
    assert!(error.starts_with("the feed was rotated while it was opened at "), "{error}");
}

#[test]
fn a_rotated_file_without_a_name_is_let_go() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let feed = at("feed");
    fs::write(&feed, "a\n").expect("room");
    let mut old = fs::OpenOptions::new().append(true).open(&feed).expect("it is there");
    let mut input = Input::rotating(feed.to_str().expect("UTF-8"), &[]).expect("it is there");
    assert_eq!((read(&mut input).as_str(), input.length()), ("a\n", Some(2)));
    fs::rename(&feed, at("feed.1")).expect("it is there");
    fs::write(&feed, "b\n").expect("room");
    assert_eq!(input.go_on().ok(), Some(true));
    assert_eq!(read(&mut input), "b\n");
    fs::remove_file(at("feed.1")).expect("it is there");
    assert_eq!(input.go_on().ok(), Some(false));
    // One that is looked at still would be an error.
    old.write_all(b"c\n").expect("room");
    assert_eq!(input.go_on().ok(), Some(false));
    assert_eq!(input.length(), None, "there were others before it");
}
