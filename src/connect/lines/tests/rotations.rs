//! Goal: a file that is rotated is read to its end, then what came after it, however many that are; what is not certain is
//! an error. Method: files that are renamed between two reads.

#![cfg(unix)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::connect::lines::input::Input;
use crate::connect::lines::rotating::before;

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
