//! Owns what this process has at hand of parts: the bytes of those that came with a log entry or were read, and the
//! [rows](super::own) of those it wrote itself, until they are read. Only a part that a committed entry names is ever
//! asked for, so a lost append costs memory and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::state::Part;

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

/// What takes so many bytes.
pub(super) trait Weighs {
    fn bytes(&self) -> usize;
}

impl Weighs for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Parts by name, at most so many bytes, the oldest forgotten first. While nothing lags it is all but empty: the
/// last follower takes a part out.
#[derive(Debug)]
pub(super) struct Cache<T> {
    parts: BTreeMap<PartId, Kept<T>>,
    /// The parts by age: exactly those that are there.
    order: BTreeMap<u64, PartId>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept<T> {
    part: Arc<T>,
    /// How many followers have read it.
    reads: usize,
    age: u64,
}

impl<T: Weighs> Cache<T> {
    pub(super) fn new(bytes_max: usize) -> Cache<T> {
        Cache { parts: BTreeMap::new(), order: BTreeMap::new(), next: 0, bytes: 0, bytes_max }
    }

    /// Returns how many bytes there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a part out.
    pub(super) fn take(&mut self, id: &PartId) -> Option<Arc<T>> {
        let Kept { part, age, .. } = self.parts.remove(id)?;
        self.order.remove(&age);
        self.bytes -= part.bytes();
        Some(part)
    }

    /// Returns a part and leaves it where it is.
    pub(super) fn peek(&self, id: &PartId) -> Option<Arc<T>> {
        self.parts.get(id).map(|kept| Arc::clone(&kept.part))
    }

    /// Returns a part to one of its `readers`; the last one takes it out. A reader that comes later
    /// than that finds it in the store.
    pub(super) fn read(&mut self, id: &PartId, readers: usize) -> Option<Arc<T>> {
        let kept = self.parts.get_mut(id)?;
        kept.reads += 1;
        if kept.reads >= readers { self.take(id) } else { self.peek(id) }
    }

    /// Keeps a part; one larger than the whole cache is not kept.
    pub(super) fn put(&mut self, id: PartId, part: Arc<T>) {
        if part.bytes() > self.bytes_max {
            return;
        }
        self.take(&id);
        self.bytes += part.bytes();
        let age = self.next;
        self.next += 1;
        self.order.insert(age, id.clone());
        self.parts.insert(id, Kept { part, reads: 0, age });
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.take(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seqno: u64) -> PartId {
        PartId::Inline { seqno, offset: 0 }
    }

    #[test]
    fn it_knows_no_more_names_than_it_has_parts() {
        let mut cache = Cache::<Vec<u8>>::new(100);
        let bytes = |count| Arc::new(vec![0; count]);
        // Nobody reads the first one; every other is read once.
        cache.put(id(0), bytes(1));
        for seqno in 1..10_000 {
            cache.put(id(seqno), bytes(10));
            assert!(cache.read(&id(seqno), 1).is_some());
            assert!(cache.order.len() == 1 && cache.parts.len() == 1, "after {seqno} commits");
        }
        // Kept again, and forgotten by age.
        cache.put(id(0), bytes(1));
        (1..20).for_each(|seqno| cache.put(id(seqno), bytes(10)));
        assert_eq!((cache.order.len(), cache.parts.len(), cache.bytes), (10, 10, 100));
        assert!(cache.peek(&id(0)).is_none() && cache.peek(&id(9)).is_none());
        assert!(cache.peek(&id(10)).is_some());
    }
}
