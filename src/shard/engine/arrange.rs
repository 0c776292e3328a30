//! Owns the order of rows in parts, and where one part ends and the next begins. The bytes of a part are
//! [`part`](super::part)'s.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use super::part::{self, PartRef, UPDATE_BYTES, Update, Writer, Written};
use crate::error::{Error, ErrorKind};

/// The error of a row whose diffs do not add up to a number.
pub(crate) fn too_many() -> Error {
    Error::new(ErrorKind::Corrupt, "a row whose count does not fit 64 bits")
}

/// Refuses a row that no part can hold: its offsets are 32 bits wide, and what was written would never
/// be read again.
pub(crate) fn fit(updates: &[Update]) -> Result<(), Error> {
    let too_long = |((key, value), _, _): &&Update| {
        !part::fits(key.as_bytes().len() as u64, value.as_bytes().len() as u64)
    };
    match updates.iter().find(too_long) {
        None => Ok(()),
        Some(((key, value), time, _)) => {
            let (key, value) = (key.as_bytes().len(), value.as_bytes().len());
            let what =
                format!("a row of {key} + {value} bytes at time {time}, and 4 GiB is the most");
            Err(Error::new(ErrorKind::Invalid, what).hint("store large values elsewhere"))
        }
    }
}

/// Names a part that has been written.
pub(crate) fn named(key: String, part: Written) -> (PartRef, Bytes) {
    let Written { bytes, crc, updates, time_min, time_max } = part;
    let part = PartRef { key, bytes: bytes.len() as u64, crc, updates, time_min, time_max };
    (part, Bytes::from(bytes))
}

/// Returns how many bytes an update takes in a part, at the most.
pub(crate) fn size(update: &Update) -> usize {
    let ((key, value), _, _) = update;
    key.as_bytes().len() + value.as_bytes().len() + UPDATE_BYTES
}

/// Rows in the order of a part.
#[derive(Debug, Default)]
pub(crate) struct Arranged {
    updates: Vec<Update>,
    /// The hashes of their keys.
    hashes: Vec<u64>,
}

impl Arranged {
    pub(crate) fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Cuts the rows into runs of at most so many bytes, one row at the least.
    pub(crate) fn split(&self, bytes_max: usize) -> Vec<Range<usize>> {
        let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (index, update) in self.updates.iter().enumerate() {
            let more = size(update);
            if index > start && bytes + more > bytes_max {
                runs.push(start..index);
                (start, bytes) = (index, 0);
            }
            bytes += more;
        }
        runs.push(start..self.updates.len());
        runs
    }

    /// Encodes a run of the rows as a part. O(bytes).
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    pub(crate) fn encode(&self, run: Range<usize>) -> Written {
        let rows = &self.updates[run.clone()];
        let (mut keys, mut values) = (0, 0);
        for ((key, value), ..) in rows {
            (keys, values) = (keys + key.as_bytes().len(), values + value.as_bytes().len());
        }
        let mut writer = Writer::with_capacity(rows.len(), keys, values);
        for (((key, value), time, diff), hash) in rows.iter().zip(&self.hashes[run]) {
            writer.push(*hash, key.as_bytes(), value.as_bytes(), *time, *diff as i64);
        }
        writer.finish()
    }
}

/// Sums the diffs of equal rows, drops zeros, and brings the rest into the order of a part: by the hash of the key, key,
/// time, diff and value. O(n) if they are in that order, as a drain leaves them; of several drains one after another
/// the runs are merged.
pub(crate) fn arrange(updates: Vec<Update>) -> Result<Arranged, Error> {
    let hashes: Vec<u64> = updates.iter().map(|((key, _), ..)| key.stable_hash()).collect();
    if is_arranged(&updates, &hashes) || crate::mutant::on("rows_left_as_they_come") {
        return Ok(Arranged { updates, hashes });
    }
    let row = |index: u32| {
        let ((key, _), time, _) = &updates[index as usize];
        (key, time)
    };
    // The sort is stable and finds runs. By value and diff it would find none: a retraction is before its insertion.
    let mut order: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
    order.sort_by(|(a, i), (b, j)| a.cmp(b).then_with(|| row(*i).cmp(&row(*j))));
    let mut updates: Vec<Option<Update>> = updates.into_iter().map(Some).collect();
    let ordered = order.into_iter();
    let ordered = ordered.filter_map(|(hash, at)| Some((hash, updates[at as usize].take()?)));

    let mut kept = Arranged::default();
    let mut group: Vec<Update> = Vec::new();
    let mut group_hash = 0;
    for (hash, update) in ordered {
        let ((key, _), time, _) = &update;
        if !group.last().is_some_and(|((k, _), t, _)| k == key && t == time) {
            kept.add(group_hash, &mut group)?;
            group_hash = hash;
        }
        group.push(update);
    }
    kept.add(group_hash, &mut group)?;
    Ok(kept)
}

/// Sums equal rows and returns them in the order of a part, as [`arrange`] does.
pub(crate) fn arranged(updates: Vec<Update>) -> Result<Vec<Update>, Error> {
    arrange(updates).map(|arranged| arranged.updates)
}

impl Arranged {
    /// Adds the rows of one key and time: sums, without zeros, retractions first.
    fn add(&mut self, hash: u64, group: &mut Vec<Update>) -> Result<(), Error> {
        if group.len() > 1 {
            group.sort_by(|((_, a), ..), ((_, b), ..)| a.cmp(b));
            let mut sums: Vec<Update> = Vec::with_capacity(group.len());
            for ((key, value), time, diff) in group.drain(..) {
                match sums.last_mut() {
                    Some(((_, v), _, sum)) if *v == value => {
                        *sum = sum.checked_add(diff).ok_or_else(too_many)?;
                    }
                    _ => sums.push(((key, value), time, diff)),
                }
            }
            // Stable: values are in order already.
            sums.sort_by_key(|(_, _, diff)| *diff);
            *group = sums;
        }
        for update in group.drain(..).filter(|(_, _, diff)| *diff != 0) {
            self.updates.push(update);
            self.hashes.push(hash);
        }
        Ok(())
    }
}

/// Whether no row has to be moved, added to another or dropped: false also for what takes longer to see.
fn is_arranged(updates: &[Update], hashes: &[u64]) -> bool {
    let pairs = updates.windows(2).zip(hashes.windows(2));
    let mut together = 1;
    let mut follows = |(rows, hashes): (&[Update], &[u64])| {
        let ([((k, v), t, d), ((key, value), time, diff)], [h, hash]) = (rows, hashes) else {
            return true;
        };
        if hash != h {
            together = 1;
            return hash > h;
        }
        match (key, time).cmp(&(k, t)) {
            Ordering::Greater => together = 1,
            Ordering::Less => return false,
            // A retraction and its insertion, and not one row twice.
            Ordering::Equal => together += 1,
        }
        together == 1 || (together == 2 && diff > d && value != v)
    };
    updates.iter().all(|(_, _, diff)| *diff != 0)
        && pairs.into_iter().all(|(rows, hashes)| follows((rows, hashes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packed::Encoded;

    fn row(key: &str, value: &str, time: u64, diff: isize) -> Update {
        let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
        ((bytes(key), bytes(value)), time, diff)
    }

    #[test]
    fn arrange_puts_a_retraction_before_its_insertion_and_drops_what_cancels() {
        let rows = vec![
            row("k", "a", 2, 1),
            row("k", "b", 1, 1),
            row("k", "z", 2, -1),
            row("j", "x", 1, 1),
            row("j", "x", 1, -1),
            row("k", "b", 1, 1),
        ];
        let expected = vec![row("k", "b", 1, 2), row("k", "z", 2, -1), row("k", "a", 2, 1)];
        let arranged = arrange(rows).unwrap();
        assert_eq!(arranged.updates(), expected);
        assert_eq!(arranged.hashes, [0xa921_e370_4fda_881d; 3]);
    }

    /// What is taken for arranged is exactly what the sort would leave as it is.
    #[test]
    fn what_is_in_order_is_left_as_it_is() {
        let mut random = 7u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut left = 0;
        for _ in 0..2_000 {
            let rows: Vec<Update> = (0..draw(5))
                .map(|_| {
                    let (key, value) = (draw(2).to_string(), draw(2).to_string());
                    row(&key, &value, draw(2), draw(3) as isize - 1)
                })
                .collect();
            let hashes: Vec<u64> = rows.iter().map(|((key, _), ..)| key.stable_hash()).collect();
            let sorted = {
                let mut sums = std::collections::BTreeMap::new();
                for ((key, value), time, diff) in &rows {
                    *sums.entry((key.stable_hash(), key, *time, value)).or_insert(0) += diff;
                }
                let mut sorted: Vec<Update> = sums
                    .into_iter()
                    .map(|((_, key, time, value), diff)| ((key.clone(), value.clone()), time, diff))
                    .filter(|(_, _, diff)| *diff != 0)
                    .collect();
                sorted.sort_by_key(|((key, _), time, diff)| (key.stable_hash(), *time, *diff));
                sorted
            };
            if is_arranged(&rows, &hashes) {
                left += 1;
                assert_eq!(rows, sorted);
            }
            assert_eq!(arrange(rows).unwrap().updates(), sorted);
        }
        assert!(left > 300, "{left}");
    }

    #[test]
    fn split_keeps_every_row_and_the_bound() {
        let rows: Vec<_> = (0..10).map(|n| row(&n.to_string(), "four", n, 1)).collect();
        let one = size(&rows[0]);
        let arranged = arrange(rows).unwrap();
        assert_eq!(arranged.split(3 * one), [0..3, 3..6, 6..9, 9..10]);
        assert_eq!(arranged.split(1).len(), 10);
        let whole = arranged.split(usize::MAX);
        assert!(whole.len() == 1 && whole[0] == (0..10), "{whole:?}");
    }
}
