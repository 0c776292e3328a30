//! Owns cursors: how far a feed has come, as four types that only move forward, and their bytes. It
//! does not own when one becomes the next; that is the stager's and the shard's.
//!
//! ```text
//!   Received --unit complete--> Boundary --handed on--> Released --in the shard's log--> Durable
//!   (a source says it)          (the stager)            (the dataflow has it)            (read back)
//! ```
//!
//! A cursor is a claim about durable output, so only [`Durable`] can be acked or kept outside, and
//! nothing makes one but the shard. The compiler says so:
//!
//! ```compile_fail,E0308
//! use differential_upsert::source::{Boundary, Source};
//! fn premature<S: Source>(source: &mut S, boundary: &Boundary<S::Position>) {
//!     let _ = source.ack(boundary); // expected `&Durable`, found `&Boundary`
//! }
//! ```
//!
//! ```compile_fail,E0599
//! use differential_upsert::source::Received;
//! let _ = Received::at(Default::default(), 7u64).to_bytes(); // only a `Durable` has bytes
//! ```

use std::fmt;
use std::sync::Arc;

use super::by_partition::{ByPartition, Partition};
use crate::error::{Error, ErrorKind};

/// A place in one partition of a feed: all changes up to it have been handed over.
pub trait Position: Clone + fmt::Debug + Send + Sync + 'static {
    /// Returns whether every change that `other` covers is covered by this one, or `None` if the two
    /// are of different histories. Never a comparison of texts: two places may be written differently
    /// and be the same, or lie on different ways to the same.
    fn contains(&self, other: &Self) -> Option<bool>;

    /// Returns whether this lies inside a first copy of the partition's contents: nothing may be
    /// acked from here, and no new generation may end here.
    fn is_snapshot(&self) -> bool {
        false
    }

    /// Returns whether the feed may be told of this place once it is durable: by default where it lies in no copy. A feed
    /// whose copy goes on from a place alone, and needs nothing that lies behind it, says true.
    fn may_be_acked(&self) -> bool {
        !self.is_snapshot()
    }

    /// Returns the number that orders the units of a partition, the same on every replay; `None` for
    /// an opaque position. Only feeds that have it can be followed by several writers, and only if
    /// units with changes end at the same places on every replay, for every reader and from any place: a
    /// place inside a unit that another run has ended there would be closed without its changes.
    fn order(&self) -> Option<u64> {
        None
    }

    /// Appends the position as bytes, which must stay readable for ever: begin with a version.
    fn encode(&self, into: &mut Vec<u8>);

    /// Reads what [`encode`](Position::encode) wrote.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a version it does not know, `Corrupt` for anything else. Never fall back to
    /// the start: that would read everything twice, or skip it.
    fn decode(bytes: &[u8]) -> Result<Self, Error>;
}

/// An offset: every change at a lower one has been handed over.
impl Position for u64 {
    fn contains(&self, other: &u64) -> Option<bool> {
        Some(self >= other)
    }

    fn order(&self) -> Option<u64> {
        Some(*self)
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<u64, Error> {
        let bytes = bytes.try_into();
        bytes.map(u64::from_le_bytes).map_err(|_| damaged("an offset is not of 8 bytes"))
    }
}

/// How far a whole feed has come: which feed, and the place in each of its partitions.
///
/// Immutable: to move on is to make another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor<P> {
    identity: Arc<str>,
    generation: u64,
    partitions: ByPartition<P>,
}

/// Format of a cursor's bytes.
const VERSION: u8 = 1;

impl<P> Cursor<P> {
    /// Returns which feed it is of.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns how often the feed had to be copied anew from its start; 0 before the first time.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether nothing has been handed over yet.
    pub fn is_start(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Returns the place in a partition, or `None` if nothing of it has been handed over.
    pub fn get(&self, partition: &str) -> Option<&P> {
        self.partitions.get(partition)
    }

    /// Returns the partitions of which something has been handed over, in the order of their names.
    pub fn partitions(&self) -> impl Iterator<Item = (&Partition, &P)> {
        self.partitions.iter()
    }

    /// Returns how many partitions these are.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether there are none: the start.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

impl<P: Position> Cursor<P> {
    pub(crate) fn start(identity: impl Into<Arc<str>>, generation: u64) -> Self {
        Cursor { identity: identity.into(), generation, partitions: ByPartition::default() }
    }

    #[cfg(test)]
    pub(crate) fn of(
        identity: &str,
        generation: u64,
        places: impl IntoIterator<Item = (Partition, P)>,
    ) -> Self {
        let partitions = places.into_iter().collect();
        Cursor { identity: identity.into(), generation, partitions }
    }

    /// Returns whether this covers everything that `other` does; `None` if they cannot be compared.
    pub fn contains(&self, other: &Self) -> Option<bool> {
        if self.identity != other.identity {
            return None;
        }
        if self.generation != other.generation {
            return Some(self.generation > other.generation);
        }
        let mut all = true;
        for (ours, theirs) in self.partitions.beside(&other.partitions) {
            all &= match ours {
                Some(ours) => ours.contains(theirs)?,
                None => false,
            };
        }
        Some(all)
    }

    /// Checks that it is of this feed.
    ///
    /// # Errors
    ///
    /// `FeedDiffers`.
    pub(crate) fn check(&self, identity: &str) -> Result<(), Error> {
        if self.identity() == identity {
            return Ok(());
        }
        let theirs = self.identity();
        let what =
            format!("FeedDiffers: the shard's cursor is of {theirs}, this feed is {identity}");
        Err(Error::new(ErrorKind::FeedDiffers, what).hint("feed it as before, or another shard"))
    }

    /// Returns whether a copy of some partition is under way.
    pub fn is_snapshot(&self) -> bool {
        self.partitions.values().any(Position::is_snapshot)
    }

    /// Returns whether the feed may be told of it.
    pub(crate) fn may_be_acked(&self) -> bool {
        self.partitions.values().all(Position::may_be_acked)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let text = |bytes: &mut Vec<u8>, text: &[u8]| {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text);
        };
        text(&mut bytes, self.identity.as_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&(self.partitions.len() as u32).to_le_bytes());
        let mut position = Vec::new();
        for (partition, at) in self.partitions.iter() {
            text(&mut bytes, partition.as_bytes());
            position.clear();
            at.encode(&mut position);
            text(&mut bytes, &position);
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let [version, ..] = bytes else { return Err(damaged("a cursor of no bytes")) };
        if *version != VERSION {
            let what = format!("a cursor of version {version}, this program reads {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer program"));
        }
        let (body, sum) = bytes.split_last_chunk().ok_or_else(|| damaged("a short cursor"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(damaged("a cursor whose checksum does not fit"));
        }
        let mut fields = Fields(&body[1..]);
        let identity = fields.text()?;
        let generation = u64::from_le_bytes(fields.chunk()?);
        let mut partitions = ByPartition::default();
        for _ in 0..u32::from_le_bytes(fields.chunk()?) {
            let partition = fields.text()?;
            let position = P::decode(fields.bytes()?)?;
            partitions.set(partition, position);
        }
        Ok(Cursor { identity, generation, partitions })
    }
}

/// Whether a cursor lies beyond another of the same feed. Partitions that others have taken the place
/// of make it one, too: neither contains the other then.
pub(crate) fn is_beyond<P: Position>(to: &Cursor<P>, from: &Cursor<P>) -> bool {
    let is_replaced = |(to, _): (Option<&P>, &P)| to.is_none();
    from.contains(to) != Some(true)
        || to.generation == from.generation
            && to.partitions.beside(&from.partitions).any(is_replaced)
}

/// The rest of a cursor's bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or_else(|| damaged("a short cursor"))?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = u32::from_le_bytes(self.chunk()?) as usize;
        let split = self.0.split_at_checked(length);
        let (bytes, rest) = split.ok_or_else(|| damaged("a short cursor"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<Arc<str>, Error> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(Arc::from).map_err(|e| damaged("a name in a cursor is not UTF-8").because(e))
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what).hint("restore the shard from a copy")
}

/// What a source says at the end of a unit: how far it is, once all of the unit is handed over.
#[derive(Clone, Debug)]
pub struct Received<P> {
    pub(super) moves: ByPartition<P>,
    /// These are all partitions there are now.
    pub(super) all: bool,
}

impl<P: Position> Received<P> {
    /// One partition's unit ends here; the others stay where they are.
    pub fn at(partition: Partition, position: P) -> Self {
        Received { moves: ByPartition::one(partition, position), all: false }
    }

    /// The units of all partitions end here, and these are all partitions there are from now on. A
    /// partition that is not named any more is complete: its changes come through others.
    pub fn all(positions: impl IntoIterator<Item = (Partition, P)>) -> Self {
        Received { moves: positions.into_iter().collect(), all: true }
    }

    /// Returns whether it names all partitions there are from now on.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Returns the partitions it names, sorted, with their places.
    pub fn moves(&self) -> impl Iterator<Item = (&Partition, &P)> {
        self.moves.iter()
    }

    /// Returns the place in a partition, or `None` if it does not name it.
    pub fn get(&self, partition: &str) -> Option<&P> {
        self.moves.get(partition)
    }
}

/// The cursor inside, and what a connector asks of it most.
macro_rules! view {
    ($name:ident) => {
        impl<P> $name<P> {
            /// Returns the cursor.
            pub fn cursor(&self) -> &Cursor<P> {
                &self.0
            }

            /// Returns which feed it is of.
            pub fn identity(&self) -> &str {
                self.0.identity()
            }

            /// Returns how often the feed had to be copied anew from its start; 0 before the first time.
            pub fn generation(&self) -> u64 {
                self.0.generation()
            }

            /// Returns the place in a partition, or `None` if nothing of it has been handed over.
            pub fn get(&self, partition: &str) -> Option<&P> {
                self.0.get(partition)
            }

            /// Returns the partitions of which something has been handed over, in the order of their
            /// names.
            pub fn partitions(&self) -> impl Iterator<Item = (&Partition, &P)> {
                self.0.partitions()
            }

            /// Returns whether nothing has been handed over yet.
            pub fn is_start(&self) -> bool {
                self.0.is_start()
            }
        }
    };
}

/// The last complete unit received: from here a connection that was lost is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary<P>(pub(super) Arc<Cursor<P>>);

view!(Boundary);

impl<P: Position> Boundary<P> {
    /// Returns the boundary of a feed of which nothing has been received.
    pub fn start(identity: &str) -> Self {
        Boundary(Arc::new(Cursor::start(identity, 0)))
    }

    /// Returns the boundary that follows when a source says how far it is.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if that is not at or past this one.
    pub(super) fn next(&self, received: &Received<P>) -> Result<Self, Error> {
        let Received { moves, all } = received;
        for (partition, to) in moves.iter() {
            let Some(from) = self.get(partition) else { continue };
            if to.contains(from) != Some(true) {
                let what = format!(
                    "the feed went back: its partition {partition:?} was at {from:?}, and says {to:?}"
                );
                let hint = "see whether it was restored from a backup; a new shard can take it";
                return Err(Error::new(ErrorKind::FeedDiffers, what).hint(hint));
            }
        }
        let mut partitions = if *all { ByPartition::default() } else { self.0.partitions.clone() };
        moves.iter().for_each(|(name, to)| partitions.set(name.clone(), to.clone()));
        if partitions.is_empty() && !self.is_start() {
            // That would be the start again, and all would be copied.
            let what = "the feed says that it has no partitions any more";
            return Err(Error::new(ErrorKind::FeedDiffers, what)
                .hint("report this to the maintainers of the source"));
        }
        let (identity, generation) = (Arc::clone(&self.0.identity), self.generation());
        Ok(Boundary(Arc::new(Cursor { identity, generation, partitions })))
    }

    /// Returns the start of the next generation.
    pub(super) fn anew(&self) -> Self {
        let start = Cursor::start(Arc::clone(&self.0.identity), self.generation() + 1);
        Boundary(Arc::new(start))
    }
}

/// A boundary whose unit was handed to the dataflow, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released<P>(pub(super) Arc<Cursor<P>>);

view!(Released);

impl<P: Position> Released<P> {
    /// Returns the bytes that go into the shard, in the commit that makes the cursor durable.
    pub(crate) fn to_commit(&self) -> Vec<u8> {
        self.0.encode()
    }
}

/// A cursor read from the shard: everything that it covers is below the shard's upper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable<P>(Arc<Cursor<P>>);

view!(Durable);

impl<P: Position> Durable<P> {
    /// The cursor of a shard that has none: nothing is durable.
    pub(crate) fn start(identity: &str) -> Self {
        Durable(Arc::new(Cursor::start(identity, 0)))
    }

    /// Reads a cursor that the shard's log holds.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another version, `Corrupt` for damage.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        Cursor::decode(bytes).map(|cursor| Durable(Arc::new(cursor)))
    }

    /// Returns its bytes, for a copy of it that is kept elsewhere.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// Returns the place to resume from.
    pub fn boundary(&self) -> Boundary<P> {
        Boundary(Arc::clone(&self.0))
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
