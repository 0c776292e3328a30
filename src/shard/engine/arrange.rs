//! Owns the order of rows in parts, and where one part ends and the next begins. The bytes of a part are
//! [`part`](super::part)'s.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::part::{self, Line, PartRef, UPDATE_BYTES, Update, Written, write};
use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};

/// The error of a row whose diffs do not add up to a number.
pub(crate) fn too_many() -> Error {
    Error::new(ErrorKind::Corrupt, "a row whose count does not fit 64 bits")
}

/// Names a part that has been written.
pub(crate) fn named(key: String, part: Written) -> (PartRef, Vec<u8>) {
    let Written { bytes, crc, updates, time_min, time_max } = part;
    let part = PartRef { key, bytes: bytes.len() as u64, crc, updates, time_min, time_max };
    (part, bytes)
}

/// Returns how many bytes an update takes in a part, at the most.
pub(crate) fn size(update: &Update) -> usize {
    let ((key, value), _, _) = update;
    key.as_bytes().len() + value.as_bytes().len() + UPDATE_BYTES
}

/// Rows in the order of a part. They lie where they came, and their order is beside them.
#[derive(Debug)]
pub(crate) struct Arranged {
    updates: Vec<Update>,
    /// The hash of the key of each row that is kept, and where the row lies.
    order: Vec<(u64, u32)>,
}

impl Arranged {
    /// Returns how many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    fn rows(&self) -> impl Iterator<Item = &Update> {
        self.order.iter().map(|(_, at)| &self.updates[*at as usize])
    }

    /// Refuses a row that no part can hold: its offsets are 32 bits wide, and what was written would never
    /// be read again.
    pub(crate) fn fit(&self) -> Result<(), Error> {
        let too_long = |((key, value), _, _): &&Update| {
            !part::fits(key.as_bytes().len() as u64, value.as_bytes().len() as u64)
        };
        match self.rows().find(too_long) {
            None => Ok(()),
            Some(((key, value), time, _)) => {
                let (key, value) = (key.as_bytes().len(), value.as_bytes().len());
                let what =
                    format!("a row of {key} + {value} bytes at time {time}, and 4 GiB is the most");
                Err(Error::new(ErrorKind::Invalid, what).hint("store large values elsewhere"))
            }
        }
    }

    /// Returns how many bytes the rows take in parts, at the most.
    pub(crate) fn bytes(&self) -> usize {
        self.rows().map(size).sum()
    }

    /// Cuts the rows into runs of at most so many bytes, one row at the least.
    pub(crate) fn split(&self, bytes_max: usize) -> Vec<Range<usize>> {
        let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (index, update) in self.rows().enumerate() {
            let more = size(update);
            if index > start && bytes + more > bytes_max {
                runs.push(start..index);
                (start, bytes) = (index, 0);
            }
            bytes += more;
        }
        runs.push(start..self.len());
        runs
    }

    /// Encodes a run of the rows as a part. O(bytes).
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    pub(crate) fn encode(&self, run: Range<usize>) -> Written {
        let line = |(hash, at): &(u64, u32)| Line::of(*hash, &self.updates[*at as usize]);
        write(self.order[run].iter().map(line))
    }

    /// Returns a run of the rows where they lie in the part that was encoded of it: they keep that, and nothing of what they
    /// came in. O(rows).
    pub(crate) fn within(&self, run: Range<usize>, part: &Arc<Vec<u8>>) -> Vec<Update> {
        let rows = self.order[run].iter().map(|(_, at)| &self.updates[*at as usize]);
        let lengths =
            rows.clone().map(|((key, value), ..)| (key.as_bytes().len(), value.as_bytes().len()));
        let (keys, values) = lengths.fold((0, 0), |(k, v), (key, value)| (k + key, v + value));
        // A part ends with the bytes of all keys, and of all values.
        let mut value_at = part.len() - values;
        let mut key_at = value_at - keys;
        let next = |row: &Encoded, at: &mut usize| {
            let there = Encoded::within(part, *at, row.as_bytes().len());
            debug_assert_eq!(*row, there, "the bytes of a row in its part");
            *at += row.as_bytes().len();
            there
        };
        let within = |((key, value), time, diff): &Update| {
            ((next(key, &mut key_at), next(value, &mut value_at)), *time, *diff)
        };
        rows.map(within).collect()
    }

    /// Returns the rows.
    fn into_updates(self) -> Vec<Update> {
        let Arranged { updates, order } = self;
        let stays = |(index, (_, at)): (usize, &(u64, u32))| index == *at as usize;
        if updates.len() == order.len() && order.iter().enumerate().all(stays) {
            return updates;
        }
        let mut updates: Vec<Option<Update>> = updates.into_iter().map(Some).collect();
        order.iter().filter_map(|(_, at)| updates[*at as usize].take()).collect()
    }
}

/// Sums the diffs of equal rows, drops zeros, and brings the rest into the order of a part: by the hash of the key, key,
/// time, diff and value. O(n) if they are in that order, as a drain leaves them; of several drains one after another
/// the runs are merged.
pub(crate) fn arrange(mut updates: Vec<Update>) -> Result<Arranged, Error> {
    let hashes = updates.iter().map(|((key, _), ..)| key.stable_hash());
    let mut order: Vec<(u64, u32)> = hashes.zip(0..).collect();
    if is_arranged(&updates, &order) || crate::mutant::on("rows_left_as_they_come") {
        return Ok(Arranged { updates, order });
    }
    // The sort is stable and finds runs. By value and diff it would find none: a retraction is before its insertion.
    order.sort_by(|(a, i), (b, j)| {
        let row = |index: u32| {
            let ((key, _), time, _) = &updates[index as usize];
            (key, time)
        };
        a.cmp(b).then_with(|| row(*i).cmp(&row(*j)))
    });
    let (mut start, mut kept) = (0, 0);
    while start < order.len() {
        let together = |[(h, i), (hash, j)]: &[(u64, u32); 2]| {
            let (((k, _), t, _), ((key, _), time, _)) =
                (&updates[*i as usize], &updates[*j as usize]);
            h == hash && t == time && k == key
        };
        let mut end = start + 1;
        while order[end - 1..].first_chunk().is_some_and(together) {
            end += 1;
        }
        kept = settle(&mut updates, &mut order, start..end, kept)?;
        start = end;
    }
    order.truncate(kept);
    Ok(Arranged { updates, order })
}

/// Brings the rows of one key and time into the order of a part, summed and without zeros, and puts them behind the
/// `kept` rows. Returns how many there are then.
fn settle(
    updates: &mut [Update],
    order: &mut [(u64, u32)],
    group: Range<usize>,
    mut kept: usize,
) -> Result<usize, Error> {
    let first = kept;
    if group.len() > 1 {
        let value = |(_, at): &(u64, u32)| &updates[*at as usize].0.1;
        order[group.clone()].sort_by(|a, b| value(a).cmp(value(b)));
    }
    // One value after the other.
    let mut next = group.start;
    while next < group.end {
        let row = order[next];
        let at = row.1 as usize;
        let ((_, value), _, sum) = &updates[at];
        let mut sum = *sum;
        next += 1;
        while next < group.end {
            let ((_, another), _, diff) = &updates[order[next].1 as usize];
            if another != value {
                break;
            }
            sum = sum.checked_add(*diff).ok_or_else(too_many)?;
            next += 1;
        }
        updates[at].2 = sum;
        if sum != 0 {
            order[kept] = row;
            kept += 1;
        }
    }
    // Stable: values are in order already.
    order[first..kept].sort_by_key(|(_, at)| updates[*at as usize].2);
    Ok(kept)
}

/// Sums equal rows and returns them in the order of a part, as [`arrange`] does.
pub(crate) fn arranged(updates: Vec<Update>) -> Result<Vec<Update>, Error> {
    arrange(updates).map(Arranged::into_updates)
}

/// Whether no row has to be moved, added to another or dropped: false also for what takes longer to see.
fn is_arranged(updates: &[Update], order: &[(u64, u32)]) -> bool {
    let pairs = updates.windows(2).zip(order.windows(2));
    let mut together = 1;
    let mut follows = |(rows, hashes): (&[Update], &[(u64, u32)])| {
        let ([((k, v), t, d), ((key, value), time, diff)], [(h, _), (hash, _)]) = (rows, hashes)
        else {
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
        assert_eq!(arranged(rows.clone()).unwrap(), expected);
        let hashes = arrange(rows).unwrap().order.into_iter().map(|(hash, _)| hash);
        assert_eq!(hashes.collect::<Vec<_>>(), [0xa921_e370_4fda_881d; 3]);
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
            let hashes = rows.iter().map(|((key, _), ..)| key.stable_hash());
            let order: Vec<_> = hashes.zip(0..).collect();
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
            if is_arranged(&rows, &order) {
                left += 1;
                assert_eq!(rows, sorted);
            }
            assert_eq!(arranged(rows).unwrap(), sorted);
        }
        assert!(left > 300, "{left}");
    }

    #[test]
    fn split_keeps_every_row_and_the_bound() {
        let rows: Vec<_> = (0..10).map(|n| row(&n.to_string(), "four", n, 1)).collect();
        let one = size(&rows[0]);
        let arranged = arrange(rows).unwrap();
        let runs = arranged.split(3 * one);
        assert_eq!(runs, [0..3, 3..6, 6..9, 9..10]);
        assert_eq!(arranged.split(1).len(), 10);
        let whole = arranged.split(usize::MAX);
        assert!(whole.len() == 1 && whole[0] == (0..10), "{whole:?}");
        let part = |run: &Range<usize>| Arc::new(arranged.encode(run.clone()).bytes);
        let within = |run: &Range<usize>| arranged.within(run.clone(), &part(run));
        let rows: Vec<Update> = runs.iter().flat_map(within).collect();
        assert_eq!(rows, arranged.into_updates());
    }
}
