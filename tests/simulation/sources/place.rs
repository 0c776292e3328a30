//! Owns the positions of the scripted feed, and cursors as the test sees them: decoded from stored
//! bytes by the test's own reader of the format.

use std::collections::BTreeMap;

use differential_upsert::source::{Cursor, Position};
use differential_upsert::{Error, ErrorKind};

/// What the positions of a feed look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The number of units.
    Number,
    /// The same, written differently each time it is shown.
    Spelled,
    /// A set of transactions, of which ours are some: partly ordered, and never the same on a replay.
    Set,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    /// Which log it is of, in case that is replaced by another.
    pub edition: u64,
    /// Units of the partition's log.
    pub units: u64,
    /// Transactions that are not the partition's.
    pub others: u64,
    /// In a copy of contents: all keys up to this one are as of `units`, the rest has not been handed over.
    pub copied: Option<u64>,
    /// In a copy of the log that is made anew: where it ends.
    pub until: Option<u64>,
}

impl Place {
    /// Whether it is inside of a copy.
    pub fn copies(&self) -> bool {
        self.copied.is_some() || self.until.is_some()
    }

    /// Whether this covers what another place does.
    pub fn covers(&self, other: &Place) -> bool {
        let others = self.kind != Kind::Set || self.others >= other.others;
        let copied = match (self.copied, other.copied) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours >= theirs,
        };
        self.edition == other.edition && self.units >= other.units && others && copied
    }
}

impl Position for Place {
    fn contains(&self, other: &Place) -> Option<bool> {
        (self.edition == other.edition).then(|| self.covers(other))
    }

    fn is_snapshot(&self) -> bool {
        self.copies()
    }

    fn order(&self) -> Option<u64> {
        (self.kind != Kind::Set && self.copied.is_none()).then_some(self.units)
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let one_more = |of: Option<u64>| of.map_or(0, |of| of as u8 + 1);
        let (copied, until) = (one_more(self.copied), one_more(self.until));
        into.extend([1, self.kind as u8, self.edition as u8, self.units as u8, copied, until]);
        into.extend(self.others.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Place, Error> {
        let [1, kind, edition, units, copied, until, others @ ..] = bytes else {
            return Err(Error::new(ErrorKind::Corrupt, "not a place"));
        };
        Ok(Place {
            kind: [Kind::Number, Kind::Spelled, Kind::Set][usize::from(*kind)],
            edition: u64::from(*edition),
            units: u64::from(*units),
            others: u64::from_le_bytes(others.try_into().unwrap()),
            copied: copied.checked_sub(1).map(u64::from),
            until: until.checked_sub(1).map(u64::from),
        })
    }
}

/// How far a feed has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub generation: u64,
    pub places: BTreeMap<String, Place>,
}

impl Reached {
    /// Reads a stored cursor.
    pub fn decode(bytes: &[u8]) -> Reached {
        fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken
        }
        fn number(bytes: &mut &[u8]) -> usize {
            u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize
        }
        fn field<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
            let length = number(bytes);
            take(bytes, length)
        }
        let mut rest = bytes;
        assert_eq!(take(&mut rest, 1), [1], "the version of a cursor");
        assert_eq!(field(&mut rest), b"feed", "whose cursor it is");
        let generation = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
        let mut places = BTreeMap::new();
        for _ in 0..number(&mut rest) {
            let name = String::from_utf8(field(&mut rest).to_vec()).unwrap();
            places.insert(name, Place::decode(field(&mut rest)).unwrap());
        }
        assert_eq!(rest.len(), 4, "a checksum, and nothing else");
        Reached { generation, places }
    }

    pub fn of(cursor: &Cursor<Place>) -> Reached {
        let places = cursor.partitions().map(|(name, place)| (name.to_string(), *place));
        Reached { generation: cursor.generation(), places: places.collect() }
    }

    /// Whether this covers what another does.
    pub fn covers(&self, other: &Reached) -> bool {
        let covers = |(name, theirs): (&String, &Place)| {
            self.places.get(name).is_some_and(|ours| ours.covers(theirs))
        };
        match self.generation.cmp(&other.generation) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => other.places.iter().all(covers),
            std::cmp::Ordering::Greater => true,
        }
    }

    /// Whether a copy is under way.
    pub fn copies(&self) -> bool {
        self.places.values().any(Place::copies)
    }
}
