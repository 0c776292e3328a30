//! Owns which parts under this handle's own lease an entry may still name, and which never will be. A
//! sweep spares what lies under a lease of the log, since its holder may be about to name it; the holder
//! itself knows better.
//!
//! A part is *pending* from before its upload until it is decided: it was named by an entry, discarded, or
//! given up by the call that uploaded it. What lies in our folder and is neither pending nor named is
//! garbage for ever: a merge or a `prepare` that failed half way, a delete that failed,
//! an upload that was reported failed and landed later. A merge whose entry has an unknown outcome stays
//! pending until the log has passed the number that the entry would have: it is named then, or never.
//!
//! Rows that were prepared and are neither appended nor discarded stay pending: their owner may append
//! them. They go when the lease ends.

use std::collections::BTreeSet;

use super::engine::part::Prepared;
use super::engine::state::{Part, State};

/// The parts of a handle that are not decided.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    pending: BTreeSet<String>,
    /// Parts of merges whose entries may be in the log, once it has come to this number.
    unsettled: Vec<(u64, Vec<String>)>,
    /// There may be garbage.
    garbage: bool,
}

impl Uploads {
    /// Notes a part that is about to be uploaded.
    pub(super) fn begin(&mut self, key: &str) {
        self.pending.insert(key.to_string());
    }

    /// Whether a part may still be named for the first time.
    pub(super) fn is_pending(&self, key: &str) -> bool {
        self.pending.contains(key)
    }

    /// Whether a sweep would find something.
    pub(super) fn has_garbage(&self) -> bool {
        self.garbage
    }

    /// Notes that a sweep begins: what becomes garbage from here on it may miss.
    pub(super) fn begin_sweep(&mut self) {
        self.garbage = false;
    }

    /// Notes that there may be garbage.
    pub(super) fn may_have_garbage(&mut self) {
        self.garbage = true;
    }

    /// Notes that a part was named or deleted, or is garbage.
    pub(super) fn decided(&mut self, key: &str, garbage: bool) {
        self.pending.remove(key);
        self.garbage |= garbage;
    }

    /// Notes that parts are in an entry of ours that is in the log.
    pub(super) fn named(&mut self, prepared: &[Prepared]) {
        for part in prepared {
            if let Prepared::Stored(part) = part {
                self.pending.remove(&part.key);
            }
        }
    }

    /// Notes that parts are named by an entry that may come into the log as number `seqno` at the latest,
    /// or never.
    pub(super) fn unknown(&mut self, seqno: u64, keys: Vec<String>) {
        self.unsettled.push((seqno, keys));
    }

    /// Decides what a state of the log decides: it must be one that counts.
    pub(super) fn settle(&mut self, state: &State) {
        let parts = state.batches.iter().flat_map(|batch| &batch.parts);
        for part in parts {
            if let Part::Stored { key, .. } = part {
                self.pending.remove(key);
            }
        }
        state.retired.iter().flat_map(|retired| &retired.keys).for_each(|key| {
            self.pending.remove(key);
        });
        let (settled, unsettled) = (std::mem::take(&mut self.unsettled).into_iter())
            .partition(|(seqno, _)| *seqno <= state.seqno);
        self.unsettled = unsettled;
        let settled: Vec<(u64, Vec<String>)> = settled;
        for key in settled.into_iter().flat_map(|(_, keys)| keys) {
            // Not named by now, it never will be: its number has gone to another entry.
            self.garbage |= self.pending.remove(&key);
        }
    }
}
