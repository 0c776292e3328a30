//! Owns the one hash of an encoded key, and which of several workers has the keys of a hash. Rows are sorted by
//! this hash where they are stored, so it never changes without a version of what is stored.
//!
//! A worker has a *range* of hashes. So its rows lie next to each other wherever rows are in order of the hash, for
//! any number of workers.

use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_64;

/// Returns the hash of a key's encoded bytes.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Returns the number of the worker, of `peers`, that has the keys of a hash.
#[inline]
pub(crate) fn worker(hash: u64, peers: u64) -> u64 {
    // Below peers, for the hash is below 2^64.
    ((u128::from(hash) * u128::from(peers)) >> 64) as u64
}

/// Returns the hashes of a worker, of `peers`: those for which [`worker`] is `worker`.
///
/// # Panics
///
/// Panics if there is no such worker.
pub(crate) fn share(worker: u64, peers: u64) -> RangeInclusive<u64> {
    assert!(worker < peers, "worker {worker} of {peers}");
    // Up to 2^64, where the last share ends.
    let first = |worker: u64| (u128::from(worker) << 64).div_ceil(u128::from(peers));
    let from = if crate::mutant::on("share_begins_late") && worker > 0 {
        first(worker) + 1
    } else {
        first(worker)
    };
    from as u64..=(first(worker + 1) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored parts are in the order of it.
    #[test]
    fn the_hash_of_a_key_is_for_ever() {
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"pear"), 0x0595_7f35_653e_c60d);
        assert_eq!(hash(&[0xAB; 300]), 0xc3bb_a68e_636e_3292);
    }

    #[test]
    fn shares_are_all_hashes_once_and_nearly_equal() {
        for peers in [1, 2, 3, 5, 7, 8, 64, 1_000] {
            let mut next = 0u128;
            for each in 0..peers {
                let (first, last) = share(each, peers).into_inner();
                assert_eq!(u128::from(first), next, "worker {each} of {peers}");
                assert_eq!((worker(first, peers), worker(last, peers)), (each, each));
                let size = u128::from(last) + 1 - next;
                assert!(size.abs_diff((1 << 64) / u128::from(peers)) <= 1, "{size} of {peers}");
                next = u128::from(last) + 1;
            }
            assert_eq!(next, 1 << 64, "{peers}");
        }
    }
}
