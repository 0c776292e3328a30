//! Owns a place in a partition of a topic: what it says, its bytes, and when two places are of one log. It
//! does not own whether a broker still has it; that is `judge`.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, ErrorKind};
use crate::source::Position;

/// An offset of a partition, below which every message has been handed over, and what the log was like
/// there. Ordered by offsets; a place in the log of another cluster or topic is not comparable.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaPosition {
    /// Every message at a lower offset has been handed over.
    pub(super) offset: u64,
    pub(super) log: Arc<Log>,
    /// The last message handed over.
    pub(super) seen: Option<Seen>,
    /// While the topic is copied anew: where the copy of the partition ends.
    pub(super) until: Option<u64>,
}

/// Which log a place is in: that of a topic as it was made in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// The cluster's id; "" if its brokers have none.
    pub(super) cluster: String,
    /// The topic's id, of 2.8 and newer brokers: another one once it was deleted and made anew.
    pub(super) topic: Option<String>,
}

/// A message that was handed over, to be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: u64,
    /// Milliseconds since 1970, by whatever clock the topic has; 0 if it has none.
    pub(super) timestamp: i64,
    /// The xxh3-64 of its value, seeded with that of its key, seeded with their lengths.
    pub(super) digest: u64,
}

impl KafkaPosition {
    /// Returns the offset of the next message.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the place after a message, in no copy.
    pub(super) fn past(seen: Seen, log: Arc<Log>) -> KafkaPosition {
        KafkaPosition { offset: seen.offset + 1, log, seen: Some(seen), until: None }
    }

    /// Returns the place after a message, in the same copy.
    pub(super) fn after(&self, seen: Seen) -> KafkaPosition {
        let log = Arc::clone(&self.log);
        KafkaPosition { offset: seen.offset + 1, log, seen: Some(seen), until: self.until }
    }
}

impl Log {
    /// Returns whether the two may be one log; of two topics that have an id, whether they are.
    pub(super) fn may_be(&self, other: &Log) -> bool {
        // Most often it is the very same: what is handed over shares it.
        if std::ptr::eq(self, other) {
            return true;
        }
        let differ = |ours: &Option<String>, theirs: &Option<String>| matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs);
        self.cluster == other.cluster && !differ(&self.topic, &other.topic)
    }
}

impl Seen {
    /// Takes a message's marks.
    pub(super) fn of(
        offset: u64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Seen {
        let length = |part: Option<&[u8]>| part.map_or(0, |part| part.len() as u64 + 1);
        let lengths = length(key) << 32 ^ length(value);
        let key = xxh3_64_with_seed(key.unwrap_or_default(), lengths);
        let digest = xxh3_64_with_seed(value.unwrap_or_default(), key);
        Seen { offset, timestamp, digest }
    }
}

impl fmt::Debug for KafkaPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.offset)?;
        if let Some(until) = self.until {
            write!(f, " of a copy up to {until}")?;
        }
        match &self.log.topic {
            Some(topic) => write!(f, " of topic {topic}"),
            None => Ok(()),
        }
    }
}

/// Format of a position's bytes.
const VERSION: u8 = 1;

const SEEN: u8 = 1;
const COPY: u8 = 2;
const TOPIC: u8 = 4;

impl Position for KafkaPosition {
    fn contains(&self, other: &Self) -> Option<bool> {
        self.log.may_be(&other.log).then_some(self.offset >= other.offset)
    }

    fn is_snapshot(&self) -> bool {
        self.until.is_some()
    }

    fn order(&self) -> Option<u64> {
        Some(self.offset)
    }

    /// `VERSION offset flags [seen: offset timestamp digest] [until] cluster [topic]`; numbers are eight
    /// bytes, texts their length in two and their bytes.
    fn encode(&self, into: &mut Vec<u8>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        into.push(VERSION);
        into.extend_from_slice(&self.offset.to_le_bytes());
        into.push(
            flag(self.seen.is_some(), SEEN)
                | flag(self.until.is_some(), COPY)
                | flag(self.log.topic.is_some(), TOPIC),
        );
        if let Some(Seen { offset, timestamp, digest }) = self.seen {
            into.extend_from_slice(&offset.to_le_bytes());
            into.extend_from_slice(&timestamp.to_le_bytes());
            into.extend_from_slice(&digest.to_le_bytes());
        }
        if let Some(until) = self.until {
            into.extend_from_slice(&until.to_le_bytes());
        }
        for text in [Some(&self.log.cluster), self.log.topic.as_ref()].into_iter().flatten() {
            let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
            into.extend_from_slice(&(text.len() as u16).to_le_bytes());
            into.extend_from_slice(text);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(bytes);
        let [version] = fields.take()?;
        if version != VERSION {
            let what = format!("a position of version {version}, this program reads {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer program"));
        }
        let offset = u64::from_le_bytes(fields.take()?);
        let [flags] = fields.take()?;
        if flags & !(SEEN | COPY | TOPIC) != 0 {
            return Err(damaged());
        }
        let mut seen = None;
        if flags & SEEN != 0 {
            seen = Some(Seen {
                offset: u64::from_le_bytes(fields.take()?),
                timestamp: i64::from_le_bytes(fields.take()?),
                digest: u64::from_le_bytes(fields.take()?),
            });
        }
        let mut until = None;
        if flags & COPY != 0 {
            until = Some(u64::from_le_bytes(fields.take()?));
        }
        let cluster = fields.text()?;
        let topic = if flags & TOPIC != 0 { Some(fields.text()?) } else { None };
        if !fields.0.is_empty() {
            return Err(damaged());
        }
        Ok(KafkaPosition { offset, log: Arc::new(Log { cluster, topic }), seen, until })
    }
}

/// The rest of a position's bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*field)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(damaged)?;
        self.0 = rest;
        std::str::from_utf8(text).map(str::to_string).map_err(|e| damaged().because(e))
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "a position in a topic that is damaged")
        .hint("restore the shard from a copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(topic: Option<&str>) -> Arc<Log> {
        Arc::new(Log { cluster: "c".into(), topic: topic.map(str::to_string) })
    }

    fn at(offset: u64, topic: Option<&str>) -> KafkaPosition {
        KafkaPosition { offset, log: log(topic), seen: None, until: None }
    }

    #[test]
    fn every_shape_reads_back() {
        let seen = Seen::of(6, -1, Some(b"k"), None);
        for place in [
            at(0, None),
            at(7, Some("AAAA")),
            KafkaPosition { seen: Some(seen), ..at(7, None) },
            KafkaPosition { until: Some(9), ..at(7, Some("AAAA")) },
            KafkaPosition { seen: Some(seen), until: Some(9), ..at(u64::MAX, Some("")) },
        ] {
            let mut bytes = Vec::new();
            place.encode(&mut bytes);
            assert_eq!(KafkaPosition::decode(&bytes).unwrap(), place);
            for short in 0..bytes.len() {
                KafkaPosition::decode(&bytes[..short]).unwrap_err();
            }
            bytes.push(0);
            assert_eq!(KafkaPosition::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_readable() {
        let bytes = [
            1, 7, 0, 0, 0, 0, 0, 0, 0, 7, 6, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
            0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, b'c', 2, 0, b't', b'1',
        ];
        let place = KafkaPosition::decode(&bytes).unwrap();
        let seen = Some(Seen { offset: 6, timestamp: 5, digest: 4 });
        assert_eq!(place, KafkaPosition { seen, until: Some(9), ..at(7, Some("t1")) });
        let mut again = Vec::new();
        place.encode(&mut again);
        assert_eq!(again, bytes);
        let newer = KafkaPosition::decode(&[2, 7]).unwrap_err();
        assert_eq!(newer.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn places_of_two_logs_cannot_be_compared() {
        assert_eq!(at(7, Some("a")).contains(&at(7, Some("a"))), Some(true));
        assert_eq!(at(7, Some("a")).contains(&at(8, Some("a"))), Some(false));
        assert_eq!(at(7, Some("a")).contains(&at(7, Some("b"))), None);
        assert_eq!(at(7, Some("a")).contains(&at(7, None)), Some(true), "an older broker's");
        let other = Arc::new(Log { cluster: "d".into(), topic: None });
        assert_eq!(at(7, None).contains(&KafkaPosition { log: other, ..at(7, None) }), None);
    }

    #[test]
    fn messages_are_told_apart() {
        let of = |key: Option<&[u8]>, value: Option<&[u8]>| Seen::of(1, 2, key, value).digest;
        let all = [
            of(None, None),
            of(Some(b""), None),
            of(None, Some(b"")),
            of(Some(b"a"), Some(b"b")),
            of(Some(b"ab"), Some(b"")),
        ];
        for (index, digest) in all.iter().enumerate() {
            assert!(!all[..index].contains(digest), "{index}");
        }
    }
}
