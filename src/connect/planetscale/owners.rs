//! Owns which shard the row of a key came from last, so that another shard's delete does not take it
//! away. It does not own what a row is.
//!
//! A row whose shard changes is deleted in one shard and inserted in another, and the two streams
//! are not ordered: the delete may come last. A delete counts only if the key's last row came
//! from the same shard. A patch of another shard's row does not count either, and does not say whose the row is: it is of
//! the row that goes, and what it lacks would be taken from the one that came.
//!
//! What is remembered is what came since the process began, of the last [`KEYS_MAX`] keys: about
//! 64 MiB. So a delete still takes the row of another shard away if that row came before the process
//! began, or before so many others; and if both shards had a row of the key at one time and the older one
//! came last. To drop every such delete, the shard would have to keep each row's owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use xxhash_rust::xxh3::xxh3_128;

use super::position::VStreamPosition;
use crate::source::{Change, Event, Partition};

/// Of so many keys the owner is remembered.
const KEYS_MAX: usize = 1 << 20;

/// The shards that the last rows of keys came from.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// By the hash of the key: two keys of one hash are less likely than a broken memory.
    known: BTreeMap<u128, Partition>,
    /// The oldest first; some are forgotten already.
    order: VecDeque<u128>,
    /// The shards of the stream. Of one, nothing is remembered.
    shards: BTreeSet<Partition>,
    warned: bool,
}

impl Owners {
    /// Begins a connection of these shards.
    pub(super) fn begin(&mut self, shards: impl IntoIterator<Item = Partition>, from_start: bool) {
        let shards = shards.into_iter().collect();
        if from_start || shards != self.shards {
            self.clear();
        }
        self.shards = shards;
    }

    /// Takes out the deletes and patches of keys whose last row came from another shard. Nothing is lost: that row
    /// is there, whole, and its own shard says when it changes or goes.
    pub(super) fn sift(&mut self, events: &mut Vec<Event<String, String, VStreamPosition>>) {
        if self.shards.len() > 1
            || events.iter().any(|event| matches!(event, Event::Boundary(at) if at.is_all()))
        {
            events.retain(|event| self.keeps(event));
        }
    }

    fn keeps(&mut self, event: &Event<String, String, VStreamPosition>) -> bool {
        match event {
            Event::Change(shard, Change::Put(key, _)) => self.put(shard, key),
            Event::Change(shard, Change::Patch(key, _)) => {
                return self.elsewhere(shard, key).is_none()
                    || crate::mutant::on("patch_of_another");
            }
            Event::Change(shard, Change::Delete(key)) => return self.delete(shard, key),
            Event::Change(_, Change::Reset) => self.clear(),
            Event::Boundary(at) if at.is_all() => {
                // The rows have new shards, and their old ones say no more.
                self.clear();
                self.shards = at.moves().map(|(name, _)| name.clone()).collect();
            }
            _ => {}
        }
        true
    }

    fn put(&mut self, shard: &Partition, key: &str) {
        let hash = xxh3_128(key.as_bytes());
        if self.known.insert(hash, shard.clone()).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Returns the shard that the key's last row came from, if that is known to be another.
    fn elsewhere(&self, shard: &Partition, key: &str) -> Option<&Partition> {
        let owner = self.known.get(&xxh3_128(key.as_bytes()))?;
        // A shard that a reshard is about to bring has the rows of others, for good.
        (owner != shard && self.shards.contains(shard)).then_some(owner)
    }

    fn delete(&mut self, shard: &Partition, key: &str) -> bool {
        match self.elsewhere(shard, key).cloned() {
            Some(owner) => {
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(
                        key, from = %shard, to = %owner,
                        "a row has moved to another shard of the database, or is in both: its \
                         delete is dropped; there is no order between shards, so that a move may \
                         be missed where the process starts between the two"
                    );
                }
                false
            }
            _ => {
                self.known.remove(&xxh3_128(key.as_bytes()));
                true
            }
        }
    }

    fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::phase::tests::{TWO, event, phases, show};
    use super::*;

    fn sift(owners: &mut Owners, script: &str) -> String {
        let events = script.split_whitespace().map(event).collect();
        let mut out = phases(TWO).take(events).unwrap();
        owners.sift(&mut out);
        out.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    fn of(shards: usize) -> Owners {
        let mut owners = Owners::default();
        owners.begin(names(shards), false);
        owners
    }

    fn names(shards: usize) -> impl Iterator<Item = Partition> {
        ["80-", "-80"].into_iter().map(Partition::from).take(shards)
    }

    #[test]
    fn a_moved_row_stays_whichever_shard_comes_first() {
        let (delete, put) = ("a:B a:F a:D1=x a:V=a2,b1 a:C", "b:B b:F b:R1=y b:V=a1,b2 b:C");
        let both = |first: &str, second: &str| sift(&mut of(2), &format!("{first} {second}"));
        assert_eq!(both(delete, put), "-1 [-80@2] 1=y [80-@2]");
        assert_eq!(both(put, delete), "1=y [80-@2] [-80@2]");
        // Also if the connection is another one in between.
        let mut owners = of(2);
        assert_eq!(sift(&mut owners, put), "1=y [80-@2]");
        owners.begin(names(2), false);
        assert_eq!(sift(&mut owners, delete), "[-80@2]");
        // Its own shard deletes it all the same, and then the other one's counts again.
        let own = "b:B b:F b:D1=y b:V=a1,b3 b:C";
        assert_eq!(sift(&mut owners, own), "-1 [80-@3]");
        assert_eq!(sift(&mut owners, delete), "-1 [-80@2]");
    }

    /// What a patch lacks is not what the row of another shard has.
    #[test]
    fn a_patch_of_the_row_that_goes_is_dropped() {
        let patch = |key| format!("{key}~{{\"row\":{{\"k\":{key}}},\"unsent\":[\"v\"]}}");
        let (old, new) = ("a:B a:F a:P1 a:D1=x a:V=a2,b1 a:C", "b:B b:F b:R1=y b:V=a1,b2 b:C");
        let mut owners = of(2);
        assert_eq!(sift(&mut owners, &format!("{new} {old}")), "1=y [80-@2] [-80@2]");
        let more = "b:B b:F b:P1 b:V=a2,b3 b:C";
        assert_eq!(sift(&mut owners, more), format!("{} [80-@3]", patch(1)));
        // Of a row that came before the process began, it says nothing: whose it is, the next row does.
        let mut owners = of(2);
        let early = sift(&mut owners, "a:B a:F a:P1 a:V=a2,b1 a:C");
        assert_eq!(early, format!("{} [-80@2]", patch(1)));
        assert!(owners.known.is_empty());
        assert_eq!(
            sift(&mut owners, "b:B b:F b:P1 b:V=a2,b2 b:C"),
            format!("{} [80-@2]", patch(1))
        );
    }

    #[test]
    fn where_the_shards_are_others_or_one_every_delete_counts() {
        let mut owners = of(2);
        sift(&mut owners, "b:B b:F b:R1=y b:V=a1,b2 b:C");
        let reshard = "c:B c:F c:D1=y c:V=c3,d1,b1 c:C d:B d:F d:D1=y d:V=c3,d2,b1 d:C";
        assert_eq!(sift(&mut owners, reshard), "-1 [all -40@3 40-80@1 80-@1] -1 [40-80@2]");
        assert_eq!(owners.shards.len(), 3);
        owners.begin(names(2), true);
        assert!(owners.known.is_empty());
        let mut one = of(1);
        sift(&mut one, "b:B b:F b:R1=y b:V=a1,b2 b:C");
        assert!(one.known.is_empty(), "costs nothing where nothing can move");
    }

    #[test]
    fn so_many_keys_are_remembered_and_no_more() {
        let (mut owners, shard) = (of(2), Partition::from("-80"));
        for key in 0..KEYS_MAX + 10 {
            owners.put(&shard, &key.to_string());
        }
        assert_eq!((owners.known.len(), owners.order.len()), (KEYS_MAX, KEYS_MAX));
        assert!(owners.delete(&Partition::from("80-"), "0"), "it is not known any more");
        assert!(!owners.delete(&Partition::from("80-"), "10"));
    }
}
