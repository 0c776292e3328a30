//! Owns the way of rows into parts and back: prepare and fetch. It does not commit anything; that is
//! [`append`](super::append), and adds nothing up; that is [`snapshot`](super::snapshot).

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::cache::PartId;
use super::engine::entry::Entry;
use super::engine::frame::damaged;
use super::engine::id::Token;
use super::engine::lease::part_key;
use super::engine::part::{self, PartRef, Prepared, UPDATE_BYTES, Update};
use super::engine::state::Part;
use super::handle::{Handle, count, lock};
use super::uploads::Uploading;
use super::window::Window;
use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};
use crate::store::Access;

/// Parts read or written at the same time by one call.
pub(super) const CONCURRENT: usize = 8;

/// Who reads a part, and so how long it stays at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// Nobody after us is expected to.
    Last,
    /// Somebody who is none of the followers.
    Aside,
    /// One of the followers, each of which reads it once.
    Following,
}

impl Handle {
    /// Makes the bound of one reader's parts.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.inner.config.read_bytes_max)
    }

    /// Consolidates updates, sorts them by key, time, diff and value (so a retraction stands right
    /// before the insertion that replaces it), encodes them, and uploads what is too large for a
    /// log entry. No updates, or only ones that cancel, are no parts.
    ///
    /// O(n log n), on the calling thread: call it from a task.
    ///
    /// # Errors
    ///
    /// `Unavailable` if a part cannot be stored; nothing is referenced then. `Invalid` on a handle
    /// opened for reading, and for a row of 4 GiB or more. `Replaced` if the shard was removed or replaced.
    pub async fn prepare(&self, updates: Vec<Update>) -> Result<Vec<Prepared>, Error> {
        let inner = &*self.inner;
        if inner.access == Access::Read {
            return Err(Error::new(ErrorKind::Invalid, "rows for a shard opened for reading")
                .at(inner.root.url()));
        }
        let updates = arrange(updates)?;
        fit(&updates).map_err(|e| e.at(inner.root.url()))?;
        let bytes: usize = updates.iter().map(size).sum();
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        if bytes <= inner.config.inline_bytes_max {
            let count = updates.len() as u64;
            return Ok(vec![Prepared::Inline(part::encode(&updates), count)]);
        }
        let lease = self.permit().await?;
        let encoded: Vec<(PartRef, Bytes)> = split(&updates, inner.config.part_bytes_max)
            .into_iter()
            .map(|rows| {
                let token = Token(inner.io.token());
                encode(part_key(&inner.name, lease, token), rows)
            })
            .collect();
        drop(updates);
        // If one of them fails, no entry will name the others.
        let uploading = Uploading::new(self);
        encoded.iter().for_each(|(part, _)| uploading.add(&part.key));
        // In order, so that parts keep the order of rows.
        let uploads = encoded.into_iter().map(|(part, bytes)| async move {
            let (id, kept) = (PartId::Stored(part.key.clone()), bytes.clone());
            self.upload(&part, bytes).await?;
            lock(&inner.cache).put(id, Arc::new(Vec::from(kept)));
            Ok(Prepared::Stored(part))
        });
        let uploads: Vec<_> = uploads.collect();
        let uploads = futures::stream::iter(uploads).buffered(CONCURRENT);
        let prepared: Vec<Prepared> = uploads.try_collect().await?;
        uploading.keep();
        Ok(prepared)
    }

    /// Returns the updates of a part whose time is in `[lower, upper)`: pass the bounds of the
    /// part's batch. The rows share one buffer.
    ///
    /// # Errors
    ///
    /// `Missing` if it is gone: read on to a newer state, which does not name it. `Corrupt` if it is
    /// damaged or not what the state says; else those of the store.
    pub async fn fetch(&self, part: &Part, lower: u64, upper: u64) -> Result<Vec<Update>, Error> {
        let reading = if self.followers() > 0 { Reading::Aside } else { Reading::Last };
        self.read(part, lower, upper, reading, |_| true).await
    }

    /// As [`fetch`](Handle::fetch), only the rows of keys that are `wanted`.
    pub(crate) async fn read(
        &self,
        part: &Part,
        lower: u64,
        upper: u64,
        reading: Reading,
        wanted: impl Fn(&Encoded) -> bool,
    ) -> Result<Vec<Update>, Error> {
        let id = PartId::of(part);
        let readers = self.followers();
        let cached = {
            let mut cache = lock(&self.inner.cache);
            match reading {
                Reading::Last => cache.take(&id),
                Reading::Aside => cache.peek(&id),
                Reading::Following => cache.read(&id, readers),
            }
        };
        let buffer = match cached {
            Some(buffer) => buffer,
            None => {
                let buffer = self.same_root(self.read_part(part).await).await?;
                if matches!(reading, Reading::Following) && readers > 1 {
                    let mut cache = lock(&self.inner.cache);
                    cache.put(id.clone(), Arc::clone(&buffer));
                    drop(cache.read(&id, readers));
                }
                buffer
            }
        };
        check(part, &buffer)
            .and_then(|()| part::decode_wanted(&buffer, lower, upper, wanted))
            .map_err(|e| e.at(self.place(part)))
    }

    async fn read_part(&self, part: &Part) -> Result<Arc<Vec<u8>>, Error> {
        let inner = &*self.inner;
        let gone = || {
            Error::new(ErrorKind::Missing, "a part is gone")
                .at(self.place(part))
                .hint("read on from the newest state; `shard verify` tells damage from collection")
        };
        match part {
            Part::Stored { key, .. } => {
                let bytes = inner.blob.get(key).await?.ok_or_else(gone)?;
                count(&inner.counters.bytes_read, bytes.len() as u64);
                Ok(Arc::new(Vec::from(bytes)))
            }
            Part::Inline { seqno, .. } => {
                let entry = inner.log.get(*seqno).await?.ok_or_else(gone)?;
                count(&inner.counters.bytes_read, entry.len() as u64);
                match inline_rows(part, &entry) {
                    Ok(rows) => Ok(Arc::new(rows)),
                    // Under the floor anything may stand there: a late create of somebody else's.
                    Err(_) if inner.log.floor().await? >= *seqno => Err(gone()),
                    Err(e) => Err(e.at(self.place(part))),
                }
            }
        }
    }

    fn place(&self, part: &Part) -> String {
        match part {
            Part::Stored { key, .. } => self.inner.blob.place(key),
            Part::Inline { seqno, .. } => self.inner.log.place(*seqno),
        }
    }
}

pub(super) fn too_many() -> Error {
    Error::new(ErrorKind::Corrupt, "a row whose count does not fit 64 bits")
}

/// Returns the bytes of an inline part, out of the entry that has them.
fn inline_rows(part: &Part, entry: &[u8]) -> Result<Vec<u8>, Error> {
    let Part::Inline { seqno, offset, bytes, .. } = part else { return Ok(Vec::new()) };
    let (_, raw) = Entry::decode(*seqno, entry)?;
    let range = usize::try_from(*offset).ok().zip(usize::try_from(*bytes).ok());
    let rows = range.and_then(|(offset, bytes)| raw.get(offset..)?.get(..bytes));
    let rows = rows.ok_or_else(|| damaged("log entry", "shorter than the state says"))?;
    check(part, rows)?;
    Ok(rows.to_vec())
}

/// Checks the bytes of a part against what the state says of it.
pub(super) fn check(part: &Part, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() as u64 != part.bytes() || crc32c::crc32c(bytes) != part.crc() {
        return Err(damaged("part", "its length or checksum is not what its entry says"));
    }
    let updates = part::PartHeader::decode(bytes)?.updates;
    if updates != part.updates() {
        return Err(damaged("part", format!("{updates} updates, not {}", part.updates())));
    }
    Ok(())
}

/// Refuses a row that no part can hold: its offsets are 32 bits wide, and what was written would never
/// be read again.
fn fit(updates: &[Update]) -> Result<(), Error> {
    let too_long = |((key, value), _, _): &&Update| {
        !part::holds(key.as_bytes().len() as u64, value.as_bytes().len() as u64)
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
pub(super) fn encode(key: String, rows: &[Update]) -> (PartRef, Bytes) {
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
pub(super) fn size(update: &Update) -> usize {
    let ((key, value), _, _) = update;
    key.as_bytes().len() + value.as_bytes().len() + UPDATE_BYTES
}

/// Sums the diffs of equal rows, drops zeros, and brings the rest into the order of a part: by key,
/// time, diff and value.
pub(super) fn arrange(updates: Vec<Update>) -> Result<Vec<Update>, Error> {
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
fn split(updates: &[Update], bytes_max: usize) -> Vec<&[Update]> {
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
    fn every_future_can_be_spawned() {
        fn send(_: impl Send) {}
        let _ = |handle: &Handle, part: &Part, root: crate::store::Root| {
            send(handle.prepare(Vec::new()));
            send(handle.discard(Vec::new()));
            send(handle.compare_and_append(Default::default()));
            send(handle.fetch(part, 0, 1));
            send(handle.snapshot(0));
            send(handle.refresh());
            let io = handle.inner.io.clone();
            send(crate::store::probe(&root, &io));
            send(crate::shard::verify(root.clone(), io.clone()));
            send(Handle::open(root.clone(), "data", None, Access::Read, io, Default::default()));
        };
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
