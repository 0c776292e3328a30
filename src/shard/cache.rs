//! Owns the encoded parts this process has at hand: those it wrote and those that came with a log
//! entry, until they are read. Only a part that a committed entry names is ever asked for, so a lost append costs memory
//! and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::state::Part;

/// What names the bytes of a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartId {
    Stored(String),
    Inline { seqno: u64, offset: u64 },
}

impl PartId {
    pub(super) fn of(part: &Part) -> PartId {
        match part {
            Part::Stored { key, .. } => PartId::Stored(key.clone()),
            Part::Inline { seqno, offset, .. } => PartId::Inline { seqno: *seqno, offset: *offset },
        }
    }
}

/// Parts by name, at most so many bytes, the oldest forgotten first.
#[derive(Debug)]
pub(super) struct Cache {
    /// The bytes, and how many followers have read them.
    parts: BTreeMap<PartId, (Arc<Vec<u8>>, usize)>,
    /// By age; may name parts that are gone.
    order: VecDeque<PartId>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache { parts: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Takes a part out.
    pub(super) fn take(&mut self, id: &PartId) -> Option<Arc<Vec<u8>>> {
        let (bytes, _) = self.parts.remove(id)?;
        self.bytes -= bytes.len();
        while self.order.front().is_some_and(|oldest| !self.parts.contains_key(oldest)) {
            self.order.pop_front();
        }
        Some(bytes)
    }

    /// Returns a part and leaves it where it is.
    pub(super) fn peek(&self, id: &PartId) -> Option<Arc<Vec<u8>>> {
        self.parts.get(id).map(|(bytes, _)| Arc::clone(bytes))
    }

    /// Returns a part to one of its `readers`; the last one takes it out. Somebody who comes later
    /// than that finds it in the store.
    pub(super) fn read(&mut self, id: &PartId, readers: usize) -> Option<Arc<Vec<u8>>> {
        let (_, reads) = self.parts.get_mut(id)?;
        *reads += 1;
        if *reads >= readers { self.take(id) } else { self.peek(id) }
    }

    /// Keeps a part; one larger than the whole cache is not kept.
    pub(super) fn put(&mut self, id: PartId, bytes: Arc<Vec<u8>>) {
        if bytes.len() > self.bytes_max {
            return;
        }
        self.take(&id);
        self.bytes += bytes.len();
        self.parts.insert(id.clone(), (bytes, 0));
        self.order.push_back(id);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.take(&oldest);
        }
    }
}
