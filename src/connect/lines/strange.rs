//! Owns telling what a line that is not a row is, by how it looks or by its members, and what to do about it. It
//! does not own what is wrong with a line that is one; that is `line`.
//!
//! It changes words alone: what a bad line does is decided without it.

/// What lines of other things begin with, what they are, and how they become lines.
const STARTS: [(&[u8], &str, &str); 8] = [
    (b"\x1f\x8b", "gzip where a line was expected", "gzip: zcat FILE | ingest - .."),
    (b"\x28\xb5\x2f\xfd", "zstd where a line was expected", "zstd: zstdcat FILE | ingest - .."),
    (b"\xfd7zXZ\0", "xz where a line was expected", "xz: xzcat FILE | ingest - .."),
    (b"BZh", "bzip2 where a line was expected", "bzip2: bzcat FILE | ingest - .."),
    (b"PK\x03\x04", "zip where a line was expected", "zip: unzip -p FILE | ingest - .."),
    (b"\xff\xfe", UTF_16, ICONV),
    (b"\xfe\xff", UTF_16, ICONV),
    (
        BOM,
        "a byte order mark in front of the line",
        "remove it: only the first line of a feed may have one",
    ),
];

/// Members that lines of other programs have all of, and how those are read: the first that fits.
const MEMBERS: [(&[&str], &str); 5] = [
    (
        &["topic", "partition", "offset", "payload"],
        "a message as kcat -J prints it: say --format kcat",
    ),
    (&["database", "table", "type", "data", "isDdl"], "a message of Canal's: say --format canal"),
    (&["database", "table", "type", "ts"], "a row of Maxwell's: say --format maxwell"),
    (&["op", "before", "after"], DEBEZIUM),
    (&["schema", "payload"], DEBEZIUM),
];

const DEBEZIUM: &str = "a message of Debezium's without its key: write {\"key\": K, \"value\": MESSAGE} and say \
                        --format debezium";

/// Returns how a row is read that has neither a key nor a value, if its members are those of something known.
pub(super) fn of_members(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    MEMBERS.iter().find(|(names, _)| names.iter().all(|name| has(name))).map(|(_, hint)| *hint)
}

pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

const UTF_16: &str = "UTF-16 where UTF-8 was expected";
const ICONV: &str = "iconv -f UTF-16 -t UTF-8 FILE | ingest - ..";

/// Returns what a line that cannot be read is, and what to do, if it looks like something known.
pub(super) fn look(line: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Some((_, what, hint)) = STARTS.iter().find(|(start, ..)| line.starts_with(start)) {
        return Some((what, hint));
    }
    match line {
        [0, 0, ..] | [0] => {
            let hint = "the file was cut while it was written to: remove them, or put the whole \
                        feed back";
            return Some(("NUL bytes where a line was expected", hint));
        }
        // Without a mark: of two bytes one is 0.
        [0, _, ..] | [_, 0, ..] => return Some((UTF_16, ICONV)),
        _ => {}
    }
    let line = line.trim_ascii();
    if let Some(array) = line.strip_prefix(b"[")
        && matches!(array.trim_ascii_start().first(), None | Some(b'{'))
    {
        let hint = "write one object per line: jq -c '.[]' FILE | ingest - ..";
        return Some(("a JSON array where an object was expected", hint));
    }
    if line.starts_with(b"{") && matches!(line.last(), Some(b'{' | b'[' | b',')) {
        let hint = "write each object on one line: jq -c . FILE | ingest - ..";
        return Some(("an object that does not end on its line", hint));
    }
    None
}
