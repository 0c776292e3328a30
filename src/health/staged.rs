//! Owns what is said of rows that a source has handed over and that are not a complete unit yet: that they
//! are there, and whether their source is stuck. Pure; when they came is measured elsewhere.

use std::time::Duration;

use tokio::time::Instant;

use super::report::{counted, seconds};
use crate::source::{Partition, StagedNow};

/// What waits for the ends of units and of copies.
#[derive(Clone, Debug, Default)]
pub(crate) struct StagedSigns {
    parts: Vec<StagedPart>,
    /// The source is not asked for more: what came before waits for its commit.
    held_back: bool,
}

/// What waits in one partition.
#[derive(Clone, Debug)]
struct StagedPart {
    partition: Partition,
    /// It waits for the end of a copy; else for that of a unit.
    copy: bool,
    rows: u64,
    bytes: u64,
    /// Since the first of it came.
    age: Duration,
    /// Since the last of it came.
    silent: Duration,
}

impl StagedSigns {
    /// What was staged, at a moment. Before the first look nothing has an age.
    pub(super) fn of(staged: &StagedNow, now: Option<Instant>) -> StagedSigns {
        let since = |then| now.map_or(Duration::ZERO, |now| now.saturating_duration_since(then));
        let parts = staged.waiting.iter().map(|waiting| StagedPart {
            partition: waiting.partition.clone(),
            copy: waiting.copy,
            rows: waiting.rows,
            bytes: waiting.bytes,
            age: since(waiting.since),
            silent: since(waiting.moved),
        });
        StagedSigns { parts: parts.collect(), held_back: staged.held_back }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the age of the oldest.
    pub(crate) fn age(&self) -> Duration {
        self.parts.iter().map(|part| part.age).max().unwrap_or(Duration::ZERO)
    }

    /// Returns how many rows copies under way have handed over that wait for their end, and since when the oldest is.
    #[cfg(feature = "http")]
    pub(crate) fn copying(&self) -> Option<(u64, Duration)> {
        let copies = || self.parts.iter().filter(|part| part.copy);
        let age = copies().map(|part| part.age).max()?;
        Some((copies().map(|part| part.rows).sum(), age))
    }

    /// Says what is there, and what it waits for; nothing if there is nothing.
    pub(super) fn why(&self) -> Option<String> {
        let oldest = |parts: &[&StagedPart]| parts.iter().map(|part| part.age).max();
        let (copies, units): (Vec<_>, Vec<_>) = self.parts.iter().partition(|part| part.copy);
        let mut said = Vec::new();
        if let Some(age) = oldest(&units) {
            let what = received(&units, age);
            said.push(format!("{what} wait for the end of their unit{}", named(&units)));
        }
        if let Some(age) = oldest(&copies) {
            let (names, age) = (named(&copies), seconds(age));
            let mut copy = format!("a copy has been under way for {age}{names}");
            let anew: u64 = copies.iter().map(|part| part.rows).sum();
            if anew > 0 {
                let bytes: u64 = copies.iter().map(|part| part.bytes).sum();
                copy += &format!(", of which {} wait for its end", amount(anew, bytes));
            }
            said.push(copy);
        }
        if self.held_back && !said.is_empty() {
            said.push("the source is held back until what came before is committed".into());
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Says which partition's source is stuck: it has begun something, and for so long neither went on
    /// nor ended it. Returns since when nothing more of it has come, too.
    pub(super) fn stuck(&self, stall_after: Duration) -> Option<(Duration, String)> {
        // Nobody may say how long a source that is not asked would have been silent.
        let stuck = self.parts.iter().filter(|part| !self.held_back && part.silent >= stall_after);
        // Rows say more than a copy does.
        let part = stuck.max_by_key(|part| (!part.copy, part.silent))?;
        let (of, silent) = (named(&[part]), seconds(part.silent));
        let what = match part.copy {
            true => format!("a copy{of} waits for more of it, or for the source to say its end"),
            false => {
                format!("{} wait for a boundary of the source{of}", received(&[part], part.age))
            }
        };
        Some((part.silent, format!("{what}; nothing more of it has come for {silent}")))
    }

    /// One incomplete unit.
    #[cfg(test)]
    pub(super) fn unit(
        partition: &str,
        rows: u64,
        bytes: u64,
        age: Duration,
        silent: Duration,
    ) -> StagedSigns {
        let partition = partition.into();
        let part = StagedPart { partition, copy: false, rows, bytes, age, silent };
        StagedSigns { parts: vec![part], held_back: false }
    }
}

fn received(parts: &[&StagedPart], age: Duration) -> String {
    let rows = parts.iter().map(|part| part.rows).sum();
    let bytes = parts.iter().map(|part| part.bytes).sum();
    format!("{} received {} ago", amount(rows, bytes), seconds(age))
}

fn amount(rows: u64, bytes: u64) -> String {
    format!("{}, {}", counted(rows, "row"), counted(bytes, "byte"))
}

fn named(parts: &[&StagedPart]) -> String {
    crate::source::named(parts.iter().map(|part| &part.partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// Rows, bytes, age and silence in seconds.
    fn part(name: &str, copy: bool, of: [u64; 4]) -> StagedPart {
        let [rows, bytes, age, silent] = of;
        let (age, silent) = (Duration::from_secs(age), Duration::from_secs(silent));
        StagedPart { partition: name.into(), copy, rows, bytes, age, silent }
    }

    fn signs(parts: &[StagedPart]) -> StagedSigns {
        StagedSigns { parts: parts.to_vec(), held_back: false }
    }

    #[test]
    fn why_has_rows_bytes_and_age() {
        for (parts, why) in [
            (vec![], None),
            (
                vec![part("p", false, [3, 210, 41, 1])],
                Some(
                    "3 rows, 210 bytes received 41 s ago wait for the end of their unit \
                     (partition p)",
                ),
            ),
            (
                vec![part("", false, [1, 10, 0, 0])],
                Some("1 row, 10 bytes received 0.0 s ago wait for the end of their unit"),
            ),
            (
                vec![part("a", false, [3, 30, 10, 9]), part("b", false, [4, 40, 20, 1])],
                Some(
                    "7 rows, 70 bytes received 20 s ago wait for the end of their unit \
                     (partitions a, b)",
                ),
            ),
            (
                vec![part("a", true, [0, 0, 30, 9])],
                Some("a copy has been under way for 30 s (partition a)"),
            ),
            (
                vec![part("b", false, [4, 40, 20, 1]), part("a", true, [9, 90, 30, 9])],
                Some(
                    "4 rows, 40 bytes received 20 s ago wait for the end of their unit \
                     (partition b); a copy has been under way for 30 s (partition a), of which \
                     9 rows, 90 bytes wait for its end",
                ),
            ),
        ] {
            assert_eq!(signs(&parts).why().as_deref(), why);
        }
    }

    #[test]
    fn only_what_neither_grows_nor_ends_is_stuck() {
        let long = part("p", false, [3, 210, 9999, 59]);
        assert_eq!(
            signs(std::slice::from_ref(&long)).stuck(STALL),
            None,
            "more of it comes all the time"
        );
        let stands = part("q", false, [3, 210, 70, 61]);
        let copy = part("r", true, [0, 0, 9999, 9999]);
        let said = "3 rows, 210 bytes received 70 s ago wait for a boundary of the source \
                    (partition q); nothing more of it has come for 61 s";
        let mut stuck = signs(&[long, copy.clone(), stands]);
        let says = |signs: &StagedSigns| signs.stuck(STALL).map(|(_, why)| why);
        assert_eq!(says(&stuck).as_deref(), Some(said));
        let said = "a copy (partition r) waits for more of it, or for the source to say its end; \
                    nothing more of it has come for 9999 s";
        assert_eq!(says(&signs(&[copy])).as_deref(), Some(said));
        stuck.held_back = true;
        assert_eq!(stuck.stuck(STALL), None, "it was not asked for more");
        assert!(stuck.why().unwrap().ends_with("held back until what came before is committed"));
    }
}
