//! Owns the cursors on their way into the shard: each goes with the append that makes the rows durable
//! which it covers. It does not own when a cursor is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Cursors by the time whose rows they cover, the last of that time; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

impl Cursors {
    /// Notes what covers all rows up to a time, that included. Before the time is closed.
    pub(super) fn note(&self, time: u64, cursor: Vec<u8>) {
        self.0.lock().insert(time, cursor);
    }

    /// Returns the cursor for an append up to `upper`, and forgets those before it.
    pub(crate) fn covering(&self, upper: u64) -> Option<Vec<u8>> {
        let mut cursors = self.0.lock();
        let (time, cursor) = cursors.range(..upper).next_back()?;
        let (time, cursor) = (*time, cursor.clone());
        *cursors = cursors.split_off(&time);
        Some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_takes_the_last_cursor_below_its_upper() {
        let cursors = Cursors::default();
        assert_eq!(cursors.covering(9), None);
        (1..5).for_each(|time| cursors.note(time * 10, vec![time as u8]));
        assert_eq!(cursors.covering(10), None);
        assert_eq!(cursors.covering(11), Some(vec![1]));
        assert_eq!(cursors.covering(31), Some(vec![3]));
        assert_eq!(cursors.covering(31), Some(vec![3]), "an append may be tried again");
        assert_eq!(cursors.covering(100), Some(vec![4]));
    }
}
