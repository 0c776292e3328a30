//! Owns the hash of one command: which bytes go in, in which order. It is part of what a shard
//! stores, so it never changes without a version. It does not own the sums.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::shard::Sum;

/// Hashes commands; keeps its scratch space.
#[derive(Debug, Default)]
pub struct Digest {
    bytes: Vec<u8>,
    /// What names the fold of patches; nothing where they have none.
    fold: &'static str,
}

impl Digest {
    /// Returns the digest of a feed whose patches change values by the fold of this name.
    pub fn with_fold(fold: &'static str) -> Digest {
        Digest { bytes: Vec::new(), fold }
    }

    /// Returns the sum of one command at a time, its key and value given as the bytes that are
    /// stored.
    ///
    /// # Errors
    ///
    /// `Invalid` if serde cannot serialize the order.
    pub fn command<K, V, O>(&mut self, command: &Command<K, V, O>, time: u64) -> Result<Sum, Error>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        O: Serialize,
    {
        let (kind, key, value) = match command {
            Command::Put { key, value, .. } => (0, key.as_ref(), value.as_ref()),
            Command::Delete { key, .. } => (1, key.as_ref(), &[][..]),
            Command::Reset { .. } => (2, &[][..], &[][..]),
            Command::Patch { key, patch, .. } => (3, key.as_ref(), patch.as_ref()),
        };
        let Digest { bytes, fold } = self;
        bytes.clear();
        bytes.push(kind);
        bytes.extend_from_slice(&time.to_le_bytes());
        // Lengths first, so that no two commands have the same bytes.
        bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value);
        // Another fold makes other values of the same patch.
        if matches!(command, Command::Patch { .. }) && !crate::mutant::on("fold_unchecked") {
            bytes.extend_from_slice(&(fold.len() as u64).to_le_bytes());
            bytes.extend_from_slice(fold.as_bytes());
        }
        let ordered = postcard::to_extend(command.order(), std::mem::take(bytes));
        *bytes = ordered.map_err(|e| {
            Error::new(ErrorKind::Invalid, "an order that serde cannot serialize").because(e)
        })?;
        Ok(Sum { rows: 1, digest: xxh3_128(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored digests are sums of these: a change would make every shard differ from its feed.
    #[test]
    fn the_hash_of_a_command_is_for_ever() {
        let digest = |command: Command<&str, &str, u64>, time| {
            Digest::with_fold("sum-1").command(&command, time).unwrap().digest
        };
        let all = [
            digest(Command::put("pear", "\0green", 7), 3),
            digest(Command::delete("pear", 7), 3),
            digest(Command::reset(7), 3),
            digest(Command::patch("pear", "\0green", 7), 3),
        ];
        let golden = [
            "60f4dd92d694c1185abac101c257dff9",
            "3d814fa80e0f62cd83ea4a0018c93b38",
            "590de30d6cbbed1c654f4fdc4f82ea6c",
            "d92d0f4e08aac06370c207499746c00e",
        ];
        assert_eq!(all.map(|digest| format!("{digest:032x}")), golden);
    }

    #[test]
    fn every_part_of_a_command_counts() {
        let mut digest = Digest::default();
        let mut of = |command: Command<&str, &str, u64>, time| {
            digest.command(&command, time).unwrap().digest
        };
        let all = [
            of(Command::put("ab", "c", 0), 0),
            of(Command::put("a", "bc", 0), 0),
            of(Command::put("ab", "c", 1), 0),
            of(Command::put("ab", "c", 0), 1),
            of(Command::put("ab", "", 0), 0),
            of(Command::delete("ab", 0), 0),
            of(Command::reset(0), 0),
            of(Command::patch("ab", "c", 0), 0),
            Digest::with_fold("f").command(&Command::patch("ab", "c", 0u64), 0).unwrap().digest,
            Digest::with_fold("g").command(&Command::patch("ab", "c", 0u64), 0).unwrap().digest,
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
