//! Owns the order of rows in parts, and where one part ends and the next begins. The bytes of a part are
//! [`part`](super::part)'s.

use bytes::Bytes;

use super::part::{self, PartRef, UPDATE_BYTES, Update};
use crate::codec::packed::Encoded;
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

/// Encodes rows as a part under a key, and describes it.
pub(crate) fn encode(key: String, rows: &[Update]) -> (PartRef, Bytes) {
    let times = rows.iter().map(|(_, time, _)| *time);
    let encoded = part::encode(rows);
    let part = PartRef {
        bytes: encoded.len() as u64,
        crc: crc32c::crc32c(&encoded),
        updates: rows.len() as u64,
        time_min: times.clone().min().unwrap_or_default(),
        time_max: times.max().unwrap_or_default(),
        key,
    };
    (part, Bytes::from(encoded))
}

/// Returns how many bytes an update takes in a part.
pub(crate) fn size(update: &Update) -> usize {
    let ((key, value), _, _) = update;
    key.as_bytes().len() + value.as_bytes().len() + UPDATE_BYTES
}

/// Sums the diffs of equal rows, drops zeros, and brings the rest into the order of a part: by key,
/// time, diff and value.
pub(crate) fn arrange(updates: Vec<Update>) -> Result<Vec<Update>, Error> {
    let mut kept: Vec<Update> = Vec::with_capacity(updates.len());
    let mut group = 0;
    for ((key, value), time, diff) in by_key_time_value(updates) {
        match kept.last_mut() {
            Some(((k, v), t, sum)) if *k == key && *t == time && *v == value => {
                *sum = sum.checked_add(diff).ok_or_else(too_many)?;
                continue;
            }
            Some(((k, _), t, _)) if *k == key && *t == time => {}
            _ => {
                by_diff(&mut kept, group);
                group = kept.len();
            }
        }
        kept.push(((key, value), time, diff));
    }
    by_diff(&mut kept, group);
    Ok(kept)
}

/// Sorts by key, time and value. Most comparisons are settled by the first eight bytes of the key,
/// kept next to each other, without a look at the rows.
fn by_key_time_value(updates: Vec<Update>) -> impl Iterator<Item = Update> {
    let prefix = |key: &Encoded| {
        let mut word = [0; 8];
        let bytes = key.as_bytes();
        let length = bytes.len().min(8);
        word[..length].copy_from_slice(&bytes[..length]);
        u64::from_be_bytes(word)
    };
    let mut order: Vec<(u64, usize)> =
        updates.iter().map(|((key, _), _, _)| prefix(key)).zip(0..).collect();
    let row = |index: usize| {
        let ((key, value), time, _) = &updates[index];
        (key, time, value)
    };
    order.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| row(*i).cmp(&row(*j))));
    let mut updates: Vec<Option<Update>> = updates.into_iter().map(Some).collect();
    order.into_iter().filter_map(move |(_, index)| updates[index].take())
}

/// Drops the zeros of the group that starts at `group`, all of one key and time, and puts its
/// retractions first.
fn by_diff(kept: &mut Vec<Update>, group: usize) {
    if kept[group..].iter().any(|(_, _, diff)| *diff == 0) {
        let rest: Vec<Update> = kept.drain(group..).filter(|(_, _, diff)| *diff != 0).collect();
        kept.extend(rest);
    }
    // Stable: values are in order already.
    kept[group..].sort_by_key(|(_, _, diff)| *diff);
}

/// Cuts updates into runs of at most so many bytes, one update at the least.
pub(crate) fn split(updates: &[Update], bytes_max: usize) -> Vec<&[Update]> {
    let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, update) in updates.iter().enumerate() {
        let more = size(update);
        if index > start && bytes + more > bytes_max {
            runs.push(&updates[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += more;
    }
    runs.push(&updates[start..]);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(arrange(rows).unwrap(), expected);
    }

    #[test]
    fn split_keeps_every_row_and_the_bound() {
        let rows: Vec<_> = (0..10).map(|n| row(&n.to_string(), "four", n, 1)).collect();
        let one = size(&rows[0]);
        assert_eq!(
            split(&rows, 3 * one).iter().map(|run| run.len()).collect::<Vec<_>>(),
            [3, 3, 3, 1]
        );
        assert_eq!(split(&rows, 1).len(), 10);
        assert_eq!(split(&rows, usize::MAX).concat(), rows);
    }
}
