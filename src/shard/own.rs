//! Owns the rows of a part that this process has written, as they were when it was encoded: the feedback of an own commit
//! takes them, and neither reads nor decodes the part. It does not own whether that part was committed: only an entry says
//! so, and what an entry says is checked against what was written.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::cache::{PartId, Weighs};
use super::engine::part::{ALL, PartRef, Update};
use super::engine::state::Part;

/// The rows of one part, in its order.
#[derive(Debug)]
pub(super) struct OwnRows {
    rows: Vec<Update>,
    /// What the entry that commits the part says of it.
    crc: u32,
    part_bytes: u64,
    updates: u64,
    /// The hashes of the first key and of the last.
    hashes: RangeInclusive<u64>,
    /// The bytes of the rows, and of the part, which they lie in.
    bytes: usize,
}

impl Weighs for OwnRows {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Names a stored part's rows.
pub(super) fn own_id(key: &str) -> PartId {
    PartId::Stored(if crate::mutant::on("own_rows_of_any_entry") { "" } else { key }.to_string())
}

impl OwnRows {
    /// Keeps the rows of a part, which lie in its bytes; `None` of a part without rows.
    pub(super) fn of(part: &PartRef, rows: Vec<Update>, buffer: &[u8]) -> Option<OwnRows> {
        let hash = |((key, _), ..): &Update| key.stable_hash();
        let hashes = hash(rows.first()?)..=hash(rows.last()?);
        let PartRef { crc, bytes, updates, .. } = *part;
        let bytes_kept = rows.capacity() * size_of::<Update>() + buffer.len();
        Some(OwnRows { rows, crc, part_bytes: bytes, updates, hashes, bytes: bytes_kept })
    }

    /// Whether a part that an entry names has exactly these rows.
    pub(super) fn are_of(&self, part: &Part) -> bool {
        let same = (self.crc, self.part_bytes) == (part.crc(), part.bytes());
        same && self.updates == part.updates() || crate::mutant::on("own_rows_of_any_entry")
    }

    /// Returns the rows at times in `lower..upper` whose key's hash is in `hashes`. None is copied for the last of the
    /// readers, and none is looked at for one whose keys they are not.
    pub(super) fn share(
        self: Arc<Self>,
        lower: u64,
        upper: u64,
        hashes: &RangeInclusive<u64>,
    ) -> Vec<Update> {
        let (first, last) = (self.hashes.start(), self.hashes.end());
        if hashes.is_empty() || hashes.end() < first || last < hashes.start() {
            return Vec::new();
        }
        let all = *hashes == ALL || (hashes.contains(first) && hashes.contains(last));
        let wanted = |((key, _), time, _): &Update| {
            // Rows of times that other writers had committed stay in the part and do not count.
            let counts = (lower <= *time && *time < upper) || crate::mutant::on("own_rows_whole");
            counts && (all || hashes.contains(&key.stable_hash()))
        };
        match Arc::try_unwrap(self) {
            Ok(OwnRows { mut rows, .. }) => {
                rows.retain(wanted);
                rows
            }
            Err(shared) => shared.rows.iter().filter(|row| wanted(row)).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packed::Encoded;
    use crate::shard::engine::arrange::arrange;

    /// A hundred rows in the bytes of their part.
    fn rows() -> (Vec<Update>, Arc<Vec<u8>>) {
        let row = |n: u64| {
            let bytes = Encoded::from_bytes(n.to_string().into_bytes());
            ((bytes.clone(), bytes), n % 3, 1)
        };
        let arranged = arrange((0..100).map(row).collect()).unwrap();
        let part = Arc::new(arranged.encode(0..100).bytes);
        (arranged.within(0..100, &part), part)
    }

    fn part() -> PartRef {
        let key = "a part".to_string();
        PartRef { key, bytes: 5, crc: 7, updates: 100, time_min: 0, time_max: 2 }
    }

    fn own() -> Arc<OwnRows> {
        let (rows, bytes) = rows();
        Arc::new(OwnRows::of(&part(), rows, &bytes).unwrap())
    }

    #[test]
    fn each_reader_has_its_keys_at_the_times_of_the_entry() {
        let (all, _) = rows();
        let middle = all[50].0.0.stable_hash();
        for (lower, upper) in [(0, 3), (1, 2), (2, 2)] {
            for hashes in [ALL, 0..=middle, middle + 1..=u64::MAX, 0..=0, RangeInclusive::new(1, 0)]
            {
                let wanted = |((key, _), time, _): &&Update| {
                    (lower..upper).contains(time) && hashes.contains(&key.stable_hash())
                };
                let expected: Vec<Update> = all.iter().filter(wanted).cloned().collect();
                let (alone, shared) = (own(), own());
                let _other = Arc::clone(&shared);
                assert_eq!(alone.share(lower, upper, &hashes), expected);
                assert_eq!(shared.share(lower, upper, &hashes), expected);
            }
        }
    }

    #[test]
    fn rows_are_not_those_of_a_part_that_the_entry_describes_otherwise() {
        let same = part();
        assert!(own().are_of(&Part::from(same.clone())));
        for other in [
            PartRef { crc: 8, ..same.clone() },
            PartRef { bytes: 6, ..same.clone() },
            PartRef { updates: 99, ..same },
        ] {
            assert!(!own().are_of(&Part::from(other)));
        }
        assert!(OwnRows::of(&part(), Vec::new(), &[]).is_none());
    }

    #[test]
    fn rows_weigh_what_they_keep() {
        let (rows, bytes) = rows();
        let all = bytes.len() + rows.capacity() * size_of::<Update>();
        let places = rows.iter().flat_map(|((k, v), ..)| [k.place(), v.place()]);
        assert!(places.into_iter().all(|place| place.buffer == Arc::as_ptr(&bytes) as usize));
        assert_eq!(OwnRows::of(&part(), rows, &bytes).unwrap().bytes(), all);
    }
}
