//! Owns the bytes of a log entry: the frame of its kind, a JSON header, and the inline parts raw
//! after it; and what entries say of a feed and of history. What an entry does to a state is
//! [`transition`](super::transition)'s.
//!
//! Members that this program does not know are ignored; a kind or a version that it does not know
//! is refused, since an entry that is skipped changes everything after it.

use serde::{Deserialize, Serialize};

use super::format::Fingerprint;
use super::frame::{self, damaged};
use super::id::{Id, hex};
use super::lease::Grant;
use super::part::PartRef;
use super::sum::{Mark, digest};
use crate::error::{Error, ErrorKind};

/// How many lost races an entry tells of.
pub const LOST_MAX: usize = 16;

const MAGIC: &[u8; 8] = b"DUPSLOG\n";
const VERSION: u16 = 1;
const WHAT: &str = "log entry";

/// How far `since` lags `upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Every time stays readable.
    Keep,
    /// The last so many times stay readable; at least 1.
    Last(u64),
}

impl Default for History {
    fn default() -> Self {
        History::Last(1)
    }
}

/// What feeds a shard: set by the first commit that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// How times are made; a shard keeps to one way.
    pub mode: String,
    /// Which feed it is, for people.
    pub identity: String,
}

impl Feed {
    /// The mode of times that are bound in `remap/` before a row has them.
    pub(crate) const MINTED: &str = "minted";
    /// The mode of times that come with the cursor that covers them: one writer at a time.
    pub(crate) const CO_COMMITTED: &str = "co-committed";
    /// The mode of times that come with the rows.
    pub(crate) const GIVEN: &str = "given";
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; the first is 1.
    pub seqno: u64,
    /// Tells this entry from any other that was ever proposed for its number.
    pub token: Id,
    /// The token of the entry before it; 0 for the first.
    pub prev_token: Id,
    /// The writer that made it.
    pub writer: Id,
    /// When it was made: milliseconds since 1970, by its writer's clock. For people; nothing depends on it. `None` if an
    /// earlier program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Entries of others whose numbers its writer had proposed an entry for since its last one, the last [`LOST_MAX`] of
    /// them. For people, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u64>,
    /// What it does.
    #[serde(flatten)]
    pub change: Change,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "one at a time, and nearly all are appends")]
pub enum Change {
    /// Adds rows and moves the upper.
    Append(Commit),
    /// Grants, renews or releases a lease.
    Lease(Leased),
    /// Merges batches.
    Compact(Merged),
    /// Claims a round of maintenance, and says what it has done.
    Collect(Collected),
    /// Adds a shape that values may have from here on.
    Shape(Shaped),
}

/// The kinds that this program knows, as an entry names them.
const KINDS: [&str; 5] = ["append", "lease", "compact", "collect", "shape"];

/// The contents of a change of one lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The since after.
    pub since: u64,
    /// Grants a lease, or renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Ends a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Id>,
    /// Sets the history, if this is the first entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// The contents of a compaction: a run of batches becomes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The entry of the first batch it replaces.
    pub first: u64,
    /// The entry of the last batch it replaces.
    pub last: u64,
    /// The time to which earlier ones were forwarded.
    pub forwarded: u64,
    /// The since after.
    pub since: u64,
    /// The rows, sorted from part to part, by hash in format 2; none if all cancelled.
    #[serde(default)]
    pub parts: Vec<PartRef>,
}

/// The contents of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The since after.
    pub since: u64,
    /// What was retired by entries up to this one has been deleted.
    pub floor: u64,
    /// Leases that are ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<Id>,
    /// Leases that look wrong to the maker of this entry: their holders renew them now. Changes no state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Id>,
}

/// The contents of a shape that is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaped {
    /// The since after.
    pub since: u64,
    /// Its number, which values of it have: one more than the last one's. 0 is the shape in `FORMAT`.
    pub number: u16,
    /// What it is.
    #[serde(flatten)]
    pub shape: Fingerprint,
    /// Sets the history, if this is the first entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// The contents of an append.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The upper before.
    pub lower: u64,
    /// The upper after.
    pub upper: u64,
    /// The since after.
    pub since: u64,
    /// Where the rows are.
    #[serde(default)]
    pub parts: Vec<EntryPart>,
    /// Sets the feed, if there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
    /// Sets the count of commands below upper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Sets the sum of their hashes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "digest")]
    pub digest: Option<u128>,
    /// Remembers where a feed began that continues another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Raises the epoch to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Whether the shard, whose epoch this raises, stays everybody's that opens it from here on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Sets the source cursor.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex")]
    pub cursor: Option<Vec<u8>>,
    /// Sets the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Closes the shard for good, at this upper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_at: Option<u64>,
    /// Grants a lease to the writer, or renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
}

/// Where some rows of an entry are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryPart {
    /// Under a key of their own.
    Stored(PartRef),
    /// In the raw bytes of this entry.
    Inline {
        /// Where in the raw bytes they begin.
        offset: u64,
        /// How many bytes there are.
        bytes: u64,
        /// The crc32c of them.
        crc: u32,
        /// How many updates they hold.
        updates: u64,
    },
}

impl Entry {
    /// Encodes it, with the raw bytes that its inline parts point into.
    ///
    /// # Errors
    ///
    /// `Invalid` if the header has 4 GiB or more.
    pub fn encode(&self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(|e| {
            Error::new(ErrorKind::Invalid, "an entry that JSON cannot hold").because(e)
        })?;
        frame::encode(MAGIC, VERSION, &json, raw)
    }

    /// Decodes what is stored as entry `seqno`; also returns its raw bytes.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, and for the bytes of another entry; `Unsupported` for a version or a
    /// kind that this program does not know.
    pub fn decode(seqno: u64, bytes: &[u8]) -> Result<(Entry, &[u8]), Error> {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let (json, raw) = frame::decode(MAGIC, VERSION, WHAT, bytes)?;
        let entry: Entry = match serde_json::from_slice(json) {
            Ok(entry) => entry,
            Err(e) => {
                return Err(match serde_json::from_slice::<Kind>(json) {
                    Ok(Kind { kind }) if !KINDS.contains(&kind.as_str()) => {
                        let what = format!("a log entry of kind \"{kind}\"");
                        Error::new(ErrorKind::Unsupported, what)
                            .hint("use a newer version of the program")
                    }
                    _ => damaged(WHAT, &e),
                });
            }
        };
        if entry.seqno != seqno {
            return Err(damaged(WHAT, format!("it says that it is entry {}", entry.seqno)));
        }
        let parts = match &entry.change {
            Change::Append(commit) => commit.parts.as_slice(),
            _ => &[],
        };
        // Inline parts tile the raw bytes, so that no byte is outside some part's checksum and
        // every offset a state remembers is inside the entry.
        let mut end = 0u64;
        for part in parts {
            if let EntryPart::Inline { offset, bytes, .. } = part {
                if *offset != end {
                    return Err(damaged(WHAT, "inline parts that leave a gap"));
                }
                end = end.checked_add(*bytes).ok_or_else(|| damaged(WHAT, "a length too large"))?;
            }
        }
        if end != raw.len() as u64 {
            return Err(damaged(WHAT, "inline parts that do not fill it"));
        }
        Ok((entry, raw))
    }

    /// Returns its token without a full decode, to tell whose entry it is.
    ///
    /// # Errors
    ///
    /// As [`decode`](Entry::decode).
    pub fn token_of(seqno: u64, bytes: &[u8]) -> Result<Id, Error> {
        Entry::decode(seqno, bytes).map(|(entry, _)| entry.token)
    }
}
