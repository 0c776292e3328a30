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
    /// What names the collections of keys; nothing where they have none.
    collections: &'static str,
}

impl Digest {
    /// Returns the digest of a feed whose patches change values by the fold of this name.
    pub fn with_fold(self, fold: &'static str) -> Digest {
        Digest { fold, ..self }
    }

    /// Returns the digest of a feed whose keys are of collections by the function of this name.
    pub fn with_collections(self, collections: &'static str) -> Digest {
        Digest { collections, ..self }
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
            Command::ResetOf { .. } if crate::mutant::on("collection_unchecked") => {
                (4, &[][..], &[][..])
            }
            Command::ResetOf { collection, .. } => (4, collection.as_bytes(), &[][..]),
        };
        // Another fold makes other values of the same patch, and another function deletes other keys by the same reset.
        let made_by = match command {
            Command::Patch { .. } if !crate::mutant::on("fold_unchecked") => Some(self.fold),
            Command::ResetOf { .. } if !crate::mutant::on("collections_unchecked") => {
                Some(self.collections)
            }
            _ => None,
        };
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.push(kind);
        bytes.extend_from_slice(&time.to_le_bytes());
        // Lengths first, so that no two commands have the same bytes.
        bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value);
        if let Some(name) = made_by {
            bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
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
            let digest = Digest::default().with_fold("sum-1").with_collections("slash-1");
            { digest }.command(&command, time).unwrap().digest
        };
        let all = [
            digest(Command::put("pear", "\0green", 7), 3),
            digest(Command::delete("pear", 7), 3),
            digest(Command::reset(7), 3),
            digest(Command::patch("pear", "\0green", 7), 3),
            digest(Command::reset_of("fruit".to_string(), 7), 3),
        ];
        let golden = [
            "60f4dd92d694c1185abac101c257dff9",
            "3d814fa80e0f62cd83ea4a0018c93b38",
            "590de30d6cbbed1c654f4fdc4f82ea6c",
            "d92d0f4e08aac06370c207499746c00e",
            "e6c51d813117e88e587c8674ad618d17",
        ];
        assert_eq!(all.map(|digest| format!("{digest:032x}")), golden);
    }

    #[test]
    fn every_part_of_a_command_counts() {
        let by = |fold, collections, command: Command<&str, &str, u64>, time| {
            let mut digest = Digest::default().with_fold(fold).with_collections(collections);
            digest.command(&command, time).unwrap().digest
        };
        let of = |command, time| by("", "", command, time);
        let reset_of = |name: &str| Command::reset_of(name.to_string(), 0);
        let all = [
            of(Command::put("ab", "c", 0), 0),
            of(Command::put("a", "bc", 0), 0),
            of(Command::put("ab", "c", 1), 0),
            of(Command::put("ab", "c", 0), 1),
            of(Command::put("ab", "", 0), 0),
            of(Command::delete("ab", 0), 0),
            of(Command::reset(0), 0),
            of(Command::patch("ab", "c", 0), 0),
            by("f", "", Command::patch("ab", "c", 0), 0),
            by("g", "", Command::patch("ab", "c", 0), 0),
            of(reset_of(""), 0),
            of(reset_of("a"), 0),
            of(reset_of("b"), 0),
            of(reset_of("a"), 1),
            by("", "f", reset_of("a"), 0),
            by("", "g", reset_of("a"), 0),
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
