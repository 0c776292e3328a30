//! Goal: a compressed feed is what it unpacks to, told by its bytes and not by its name, and one that is cut off or
//! damaged is an error behind the lines that are whole. Method: streams that `gzip` and `zstd` made, cut and
//! changed at every byte.

use std::io::{self, Read as _};

use base64::Engine as _;

use crate::connect::lines::config::Config;
use crate::connect::lines::input::{Input, Stream};
use crate::connect::lines::packed::{Packing, Sign};
use parking_lot::Mutex;

fn bytes(base64: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(base64).expect("base64")
}

/// `printf 'one\ntwo\n' | gzip -n`.
pub(super) fn gzip() -> Vec<u8> {
    bytes("H4sIAAAAAAAAA8vPS+UqKc/nAgDmC7oSCAAAAA==")
}

/// `printf 'one\ntwo\n' | zstd`, with a checksum.
fn zstd() -> Vec<u8> {
    bytes("KLUv/QRYQQAAb25lCnR3bwrmpg5A")
}

/// `printf 'three\n' | zstd --no-check`.
fn unchecked() -> Vec<u8> {
    bytes("KLUv/QBYMQAAdGhyZWUK")
}

/// What pzstd writes before a frame.
const SKIPPED: &[u8] = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd";

fn read(bytes: Vec<u8>) -> (String, io::Result<()>) {
    let stream = Input::Stream(Stream::Reader(Mutex::new(Box::new(io::Cursor::new(bytes)))));
    let mut text = String::new();
    let read = stream.unpacked().and_then(|mut input| input.read_to_string(&mut text));
    (text, read.map(|_| ()))
}

#[test]
fn the_first_bytes_say_what_it_is() {
    for (first, sign) in [
        (&b""[..], Sign::Unsure),
        (b"{", Sign::Plain),
        (b"\x1f", Sign::Unsure),
        (b"\x1f\x8b", Sign::Unsure),
        (b"\x1f\x8b\x08", Sign::Packed(Packing::Gzip)),
        (b"\x1f\x8b\x00", Sign::Plain),
        (b"\x28\xb5\x2f", Sign::Unsure),
        (b"\x28\xb5\x2f\xfd", Sign::Packed(Packing::Zstd)),
        (b"(abc", Sign::Plain),
        (b"P", Sign::Unsure),
        (b"Pa", Sign::Plain),
        (b"\x5f\x2a\x4d\x18", Sign::Packed(Packing::Zstd)),
        (b"BZh9", Sign::Unsure),
        (b"BZh9\tk", Sign::Plain),
        (b"PAR1", Sign::Unsure),
        (b"PAR1\t1", Sign::Plain),
    ] {
        assert_eq!(Sign::of(first), sign, "{first:?}");
    }
    for (first, name) in [
        (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
        (b"BZh91AY&SY\0", "bzip2"),
        (b"BZh11AY&SY", "bzip2"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"Obj\x01\x04", "Avro"),
        (b"PK\x03\x04\x14", "zip"),
        (b"\x04\x22\x4d\x18\x64", "lz4"),
    ] {
        let (text, end) = read(first.to_vec());
        let error = end.expect_err(name).to_string();
        assert!(text.is_empty() && error.starts_with(name) && error.contains("; "), "{error}");
    }
}

#[test]
fn members_and_frames_are_one_stream() {
    for (packed, text) in [
        (gzip(), "one\ntwo\n"),
        ([gzip(), gzip()].concat(), "one\ntwo\none\ntwo\n"),
        (zstd(), "one\ntwo\n"),
        ([zstd(), unchecked()].concat(), "one\ntwo\nthree\n"),
        ([SKIPPED, &unchecked(), SKIPPED, &zstd(), SKIPPED].concat(), "three\none\ntwo\n"),
        (b"one\ntwo\n".to_vec(), "one\ntwo\n"),
        (b"P".to_vec(), "P"),
        (Vec::new(), ""),
    ] {
        let (found, end) = read(packed);
        assert_eq!((&*found, end.is_ok()), (text, true), "{end:?}");
    }
}

#[test]
fn one_that_is_cut_off_or_damaged_is_an_error() {
    for whole in [gzip(), zstd(), [&zstd()[..], SKIPPED].concat()] {
        let ends = [0, gzip().len(), zstd().len()];
        for cut in (4..whole.len()).filter(|cut| !ends.contains(cut)) {
            let (_, end) = read(whole[..cut].to_vec());
            let error = end.expect_err("cut off").to_string();
            assert!(error.contains("that is cut off or damaged: "), "{cut}: {error}");
        }
    }
    // A sum of what was unpacked is checked.
    for mut damaged in [gzip(), zstd()] {
        let sum = damaged.len() - if damaged[0] == 0x1f { 8 } else { 4 };
        damaged[sum] ^= 1;
        assert!(read(damaged).1.is_err());
    }
    let (text, end) = read([gzip(), b"one\n".to_vec()].concat());
    assert!(text == "one\ntwo\n" && end.is_err());
}

#[test]
fn a_compressed_file_is_not_followed() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), gzip()).expect("room");
    let path = file.path().to_str().expect("UTF-8").to_string();
    let config = Config { follow: true, ..Config::new(path, false) };
    let error = config.open(None, &|| Ok(())).expect_err("compressed").to_string();
    assert!(error.starts_with("a compressed file, which does not grow by lines"), "{error}");
    let config = Config { follow: false, ..config };
    assert!(config.open(None, &|| Ok(())).expect("a file").is_packed_file());
}
