//! Owns how far the leases of a state let since and the floor go. What a lease is is
//! [`lease`](super::lease)'s.

use super::entry::History;
use super::id::Id;
use super::lease::{Grant, lease_of, least_hold};
use super::part::PartRef;
use super::state::{Part, State};

impl State {
    /// Whether the lease under which a part was uploaded is in the log.
    pub(crate) fn is_leased(&self, part: &PartRef) -> bool {
        lease_of(&part.key).is_some_and(|lease| self.leases.contains_key(&lease))
    }

    /// Returns the since after an entry that makes the upper `upper`, grants and ends leases.
    pub(crate) fn since_after(
        &self,
        upper: u64,
        history: History,
        grant: Option<&Grant>,
        ended: &[Id],
    ) -> u64 {
        let allowed = match history {
            History::Keep => 0,
            History::Last(times) => upper.saturating_sub(times),
        };
        self.since.max(allowed.min(self.hold_after(grant, ended)))
    }

    pub(crate) fn hold_after(&self, grant: Option<&Grant>, ended: &[Id]) -> u64 {
        let stays =
            |token: &Id| !ended.contains(token) && grant.is_none_or(|grant| grant.token != *token);
        let others = self.leases.iter().filter(|(token, _)| stays(token));
        let others = others.filter_map(|(_, lease)| lease.since);
        others.chain(grant.and_then(|grant| grant.lease.since)).min().unwrap_or(u64::MAX)
    }

    /// Returns up to which time all holders have read: batches below it may be merged without
    /// anybody reading twice what is in them.
    pub(crate) fn read_by_all(&self) -> u64 {
        least_hold(&self.leases).saturating_add(1)
    }

    /// Whether the rows at `from` and later are still apart from those before it.
    pub fn tells_apart(&self, from: u64) -> bool {
        from == 0
            || self
                .batches
                .iter()
                .filter(|batch| batch.upper > from)
                .all(|batch| batch.forwarded.is_none_or(|forwarded| forwarded < from))
    }

    /// Returns the greatest entry up to which the log may be collected, as far as readers and rows
    /// inside entries are concerned.
    pub(crate) fn collectable(&self) -> u64 {
        let inline = self.batches.iter().flat_map(|batch| &batch.parts);
        let inline = inline.filter_map(|part| match part {
            Part::Inline { seqno, .. } => Some(seqno.saturating_sub(1)),
            Part::Stored { .. } => None,
        });
        let leases = self.leases.values().filter(|_| !crate::mutant::on("collect_under_reader"));
        let held = leases.filter_map(|lease| lease.seqno).min().unwrap_or(u64::MAX);
        // The holder of a state before a merge may be reading the entries that it emptied.
        let emptied = self.retired.iter().filter(|retired| held < retired.seqno);
        let emptied = emptied.filter_map(|retired| retired.inline?.checked_sub(1));
        inline.chain(emptied).chain([held]).min().unwrap_or(u64::MAX)
    }
}
