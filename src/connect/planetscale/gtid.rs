//! Owns sets of MySQL transactions as a server writes them, and whether one contains another. It does
//! not own what else belongs to a position; that is `position`.
//!
//! ```text
//!   MySQL56/8bc65c84-3fe4-11ed-a912-257f0fcdd6c9:1-5:7,b0f2...:1-3
//!   flavour  server                              ranges
//! ```
//!
//! Gaps are kept: a set is not the greatest number in it. The positions of other flavours, `MariaDB/`
//! and `FilePos/`, are refused: the former is not supported by Vitess any more, and the latter mean
//! something on one tablet only.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rangemap::RangeInclusiveSet;
use uuid::Uuid;

/// A set of transactions, and its text as the server wrote it. Equal iff the sets are.
#[derive(Clone)]
pub(super) struct Gtid {
    text: Arc<str>,
    /// The numbers, per server and tag.
    ranges: Arc<BTreeMap<String, RangeInclusiveSet<u64>>>,
}

impl PartialEq for Gtid {
    fn eq(&self, other: &Self) -> bool {
        self.ranges == other.ranges
    }
}

impl Eq for Gtid {}

impl fmt::Debug for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const FLAVOUR: &str = "MySQL56";

impl Gtid {
    /// Reads the text of a set; otherwise says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Gtid, String> {
        let set = match text.split_once('/') {
            Some((FLAVOUR, set)) => set,
            Some((flavour, _)) => {
                return Err(format!("positions of the flavour {flavour:?}, not {FLAVOUR}"));
            }
            None if text.is_empty() => return Err("an empty position".to_string()),
            None => text,
        };
        let mut ranges: BTreeMap<String, RangeInclusiveSet<u64>> = BTreeMap::new();
        for source in set.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let server = parts.next().unwrap_or_default().to_ascii_lowercase();
            if !is_uuid(&server) {
                return Err(format!("a position whose server {server:?} is not a UUID"));
            }
            let mut owner = server.clone();
            if parts.clone().next().is_none() {
                return Err(format!("a position without numbers for the server {server}"));
            }
            for part in parts {
                match range(part) {
                    Some(range) => ranges.entry(owner.clone()).or_default().insert(range),
                    None if is_tag(part) => {
                        owner = format!("{server}:{}", part.to_ascii_lowercase());
                    }
                    None => return Err(format!("a position with the range {part:?}")),
                }
            }
        }
        Ok(Gtid { text: Arc::from(text), ranges: Arc::new(ranges) })
    }

    /// Returns the text as the server wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the servers that its transactions come from.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        // Without the tag.
        self.ranges.keys().map(|owner| owner.split(':').next().unwrap_or(owner))
    }

    /// Whether every transaction of `other` is in this set.
    pub(super) fn contains(&self, other: &Gtid) -> bool {
        other.ranges.iter().all(|(server, theirs)| match self.ranges.get(server) {
            Some(ours) => theirs.iter().all(|range| ours.gaps(range).next().is_none()),
            None => theirs.is_empty(),
        })
    }
}

fn is_uuid(text: &str) -> bool {
    // With its dashes: other ways to write one are shorter or longer.
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Tags divide the transactions of a server since MySQL 8.3.
fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim())?, number(last.trim())?),
        None => (number(text)?, number(text)?),
    };
    (1 <= first && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "8bc65c84-3fe4-11ed-a912-257f0fcdd6c9";
    const B: &str = "b0f2c7aa-3fe4-11ed-a912-257f0fcdd6c9";

    fn set(text: &str) -> Gtid {
        Gtid::parse(&text.replace('A', A).replace('B', B).replace("MySQL56", FLAVOUR)).unwrap()
    }

    #[test]
    fn containment_is_of_sets_and_keeps_gaps() {
        let whole = set("MySQL56/A:1-10,B:1-3");
        for (part, within) in [
            ("MySQL56/A:1-10", true),
            ("MySQL56/B:2,A:3-4:9", true),
            ("MySQL56/", true),
            ("MySQL56/A:1-11", false),
            ("MySQL56/B:4", false),
        ] {
            assert_eq!(whole.contains(&set(part)), within, "{part}");
        }
        let gap = set("MySQL56/A:1-5:7-9");
        assert!(!gap.contains(&set("MySQL56/A:6")));
        assert!(!gap.contains(&set("MySQL56/A:5-7")));
        assert!(gap.contains(&set("MySQL56/A:8-9:1")));
    }

    #[test]
    fn the_same_set_may_be_written_in_many_ways() {
        let text = set("MySQL56/A:1-3:4:5-9,B:1");
        let other = set("B:1-1 , A:5-9:1-4").contains(&text);
        assert!(other);
        assert_eq!(text, set("MySQL56/B:1,A:1-9"));
        assert_eq!(set("A:1-3").text(), format!("{A}:1-3"));
        assert_eq!(Gtid::parse(&format!("{}:1", A.to_uppercase())), Ok(set("A:1")));
    }

    #[test]
    fn tags_are_sets_of_their_own() {
        let tagged = set("MySQL56/A:1-3:blue:1-2:red:7");
        assert!(tagged.contains(&set("A:blue:2,A:red:7")));
        assert!(!tagged.contains(&set("A:7")));
        assert!(!tagged.contains(&set("A:red:1")));
        assert!(tagged.servers().all(|server| server == A));
    }

    #[test]
    fn what_is_no_set_of_mysql_is_refused() {
        let bad =
            ["", "current", "MariaDB/0-1-2345", "FilePos/binlog.000001:4", "A", "MySQL56/x:1"];
        let ranges = ["A:0", "A:3-2", "A:1-", "A:-1", "A:1-2-3", "A:+1", "A:99999999999999999999"];
        for text in bad.iter().map(|text| text.to_string()) {
            assert!(Gtid::parse(&text).is_err(), "{text}");
        }
        for text in ranges.iter().chain(&["A"]).map(|text| text.replace('A', A)) {
            assert!(Gtid::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_position_of_any_bytes_does_not_panic() {
        for text in ["é:1", ":::", ",,,", "MySQL56//", "/", "\0:1-2", "MySQL56/é-1"] {
            let _ = Gtid::parse(text);
        }
        let end = u64::MAX;
        assert!(set(&format!("A:1-{end}:{end}")).contains(&set(&format!("A:{end}"))));
    }
}
