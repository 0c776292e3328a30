//! Goal: part files are read as one feed in the order of their names, each line is found in its part, and a part that is
//! gone, has changed or comes too late is an error. Method: small files in a directory.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::packing::gzip;
use crate::connect::lines::input::{Input, unreadable};
use crate::connect::lines::parts::Places;

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_string()
}

fn opened(name: &str) -> Result<(Input, Places), String> {
    let places = Places::default();
    let input = Input::open(name, &places).map_err(|e| e.to_string())?;
    Ok((input, places))
}

/// Reads what there is, to its end for now.
fn read(input: &mut Input) -> Result<String, String> {
    let mut text = String::new();
    let read = input.read_to_string(&mut text);
    read.map(|_| text).map_err(|e| unreadable("FEED", e).to_string())
}

#[test]
fn they_are_one_feed_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    for (name, text) in [
        ("part-2", "c\nd"),
        ("part-1", "a\nb"),
        ("part-3", ""),
        ("part-4", "e\n"),
        ("_SUCCESS", "x"),
        (".part-5.crc", "x"),
    ] {
        fs::write(directory.join(name), text).expect("room");
    }
    let (mut input, places) = opened(&path(directory)).expect("parts");
    assert_eq!(read(&mut input).as_deref(), Ok("a\nb\nc\nd\ne\n"));
    for (line, part, number) in [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2), (5, 4, 1)] {
        let part = path(&directory.join(format!("part-{part}")));
        assert_eq!(places.of("f", line), format!("{part}:{number}"));
    }
    let (mut input, _) = opened(&path(&directory.join("part-[24]"))).expect("a glob");
    assert_eq!(read(&mut input).as_deref(), Ok("c\nd\ne\n"));
    // It goes on with what comes.
    fs::write(directory.join("part-5"), "f").expect("room");
    let (mut input, _) = opened(&path(&directory.join("part-*"))).expect("a glob");
    assert_eq!(read(&mut input).as_deref(), Ok("a\nb\nc\nd\ne\nf"));
    fs::write(directory.join("part-5"), "fg").expect("room");
    assert_eq!(read(&mut input).as_deref(), Ok("g"));
    fs::write(directory.join("part-6"), "h").expect("room");
    assert_eq!(read(&mut input).as_deref(), Ok("\nh"));
}

#[test]
fn what_is_not_certain_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let name = path(directory);
    let error = opened(&name).expect_err("empty");
    assert!(error.starts_with("a directory without a part file at "), "{error}");
    let error = opened(&format!("{name}/*.jsonl")).expect_err("empty");
    assert!(error.starts_with("not one file of this pattern at "), "{error}");
    fs::write(directory.join("part-9"), "a\n").expect("room");
    fs::write(directory.join("part-10"), "b\n").expect("room");
    let error = opened(&name).expect_err("two orders");
    assert!(error.starts_with("part files whose numbers are in another order"), "{error}");
    fs::remove_file(directory.join("part-10")).expect("it is there");
    for copy in ["part-9.gz", "part-9.zst"] {
        fs::write(directory.join(copy), "a\n").expect("room");
        // It sorts between the two.
        fs::write(directory.join("part-9-b"), "b\n").expect("room");
        let error = opened(&name).expect_err("the same rows");
        let what = format!("a part file and its compressed copy at {name}/{copy}");
        assert!(error.starts_with(&what), "{error}");
        fs::remove_file(directory.join(copy)).expect("it is there");
        fs::remove_file(directory.join("part-9-b")).expect("it is there");
    }
    fs::create_dir(directory.join("more")).expect("room");
    let error = opened(&name).expect_err("a directory");
    assert!(error.starts_with("what is not a file among part files at "), "{error}");
}

#[test]
fn a_part_that_is_not_what_it_was_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let part = |number: u32| directory.join(format!("part-{number}"));
    let cases: [(&str, &dyn Fn()); 3] = [
        ("a part file that was read is gone", &|| fs::remove_file(part(2)).expect("it is there")),
        ("a part file has changed since it was read", &|| {
            fs::write(part(2), "bb\n").expect("room")
        }),
        ("a part file that comes before one that was read", &|| {
            fs::write(part(1), "0\n").expect("room");
        }),
    ];
    for (what, change) in cases {
        let _ = fs::remove_file(part(1));
        fs::write(part(2), "b\n").expect("room");
        fs::write(part(3), "c\n").expect("room");
        let (mut input, _) = opened(&path(directory)).expect("parts");
        assert_eq!(read(&mut input).as_deref(), Ok("b\nc\n"));
        assert_eq!(read(&mut input).as_deref(), Ok(""));
        change();
        let error = read(&mut input).expect_err(what);
        assert!(error.starts_with(&format!("{what} at ")), "{error}");
    }
}

#[test]
fn a_member_behind_the_end_of_a_compressed_part_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let part = |number: u32| directory.join(format!("part-{number}"));
    fs::write(part(1), [gzip(), gzip()].concat()).expect("room");
    let (mut input, _) = opened(&path(directory)).expect("parts");
    assert_eq!(read(&mut input).as_deref(), Ok("one\ntwo\none\ntwo\n"));
    fs::write(part(2), gzip()).expect("room");
    assert_eq!(read(&mut input).as_deref(), Ok("one\ntwo\n"));
    fs::write(part(2), [gzip(), gzip()].concat()).expect("room");
    fs::write(part(3), "three\n").expect("room");
    let error = read(&mut input).expect_err("its rows are not read");
    let what = format!("a part file has changed since it was read at {}", path(&part(2)));
    assert!(error.starts_with(&what), "{error}");
}
