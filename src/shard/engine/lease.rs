//! Owns what a lease is, and its name, which is the folder of its holder's parts. How an entry changes
//! the table of leases is [`transition`](super::transition)'s, how far they let since and the floor go
//! [`bounds`](super::bounds)'s.
//!
//! A lease is three promises by everybody else, kept until an entry ends it: since does not pass its
//! `since`, no part that the state of entry `seqno` names is deleted, and what lies in the folder of
//! its token is not taken for an orphan. Clocks decide only which process proposes to end it. So a writer names a part of
//! its own only while the log shows its lease, and that is judged like any other condition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::Id;

/// What the holder of a lease may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The shard's since does not pass it; `None` holds no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// No part that the state of this entry names is deleted; `None` holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seqno: Option<u64>,
    /// When it may be ended unless it is renewed: milliseconds since 1970, by its holder's clock.
    pub expires_ms: u64,
}

/// A lease and its name, which is also the folder of its holder's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The name, never granted again once it has been ended.
    pub token: Id,
    /// What it says.
    pub lease: Lease,
}

/// Returns the since that no lease lets the shard's pass.
pub(crate) fn least_hold(leases: &BTreeMap<Id, Lease>) -> u64 {
    leases.values().filter_map(|lease| lease.since).min().unwrap_or(u64::MAX)
}

/// Returns the key of a part.
pub(crate) fn part_key(shard: &str, lease: Id, part: Id) -> String {
    format!("{}/{lease}/{part}", parts_folder(shard))
}

/// Returns the folder of a shard's parts.
pub(crate) fn parts_folder(shard: &str) -> String {
    format!("{shard}/part")
}

/// Returns the lease under which a part was uploaded.
pub(crate) fn lease_of(key: &str) -> Option<Id> {
    let (folder, _) = key.rsplit_once('/')?;
    folder.rsplit('/').next()?.parse().ok()
}
