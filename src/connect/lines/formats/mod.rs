//! Owns the formats of lines that other programs write: the table of them, and what their lines say
//! together. It does not own any one of them, each of which is a file here, nor reading lines; nor
//! [`Format::Json`] and [`Format::Debezium`], which are `line`'s and `debezium`'s.
//!
//! A format is a pure function from a line to what it [says](Said).

mod said;

mod tools;

mod origins;

mod kcat;

mod console;

mod bare;

mod maxwell;

mod canal;

mod timed;

pub(super) use said::{Origin, Said};
pub(super) use timed::Timed;

use self::origins::Origins;
use self::tools::Tools;
use super::config::{Config, Format};
use super::row::Bad;
use crate::source::Change;

/// Reads a line of a format.
type Reads = fn(&[u8], &mut Tools) -> Result<Said, Bad>;

/// The formats, and what reads each.
const TABLE: [(Format, Reads); 5] = [
    (Format::Kcat, kcat::line),
    (Format::Console, console::line),
    (Format::Bare, bare::line),
    (Format::Maxwell, maxwell::line),
    (Format::Canal, canal::line),
];

/// Reads the lines of one of these formats, one after the other.
#[derive(Debug)]
pub(super) struct Formatted {
    reads: Reads,
    tools: Tools,
    origins: Origins,
    /// Whether its lines say where they come from.
    has_origins: bool,
}

impl Formatted {
    /// Returns what reads the lines of a feed, if its format is one of these.
    pub(super) fn new(config: &Config) -> Option<Formatted> {
        let (format, reads) = *TABLE.iter().find(|(format, _)| *format == config.format)?;
        let has_origins = !matches!(format, Format::Console | Format::Bare);
        let tools = Tools::new(config.shape.clone());
        Some(Formatted { reads, tools, origins: Origins::default(), has_origins })
    }

    /// Returns what a line says.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Said, Bad> {
        let said = (self.reads)(line, &mut self.tools)?;
        if let Said::Rows(changes, origin) = &said {
            self.origins.take(origin).map_err(|bad| match (&changes[..], origin) {
                // Of another topic, or one table of many, it is not a key of this feed.
                ([Change::Put(key, _) | Change::Delete(key)], Origin::Message { topic, .. })
                    if self.origins.is_of(topic) =>
                {
                    Bad { key: Some(key.clone()), ..bad }
                }
                _ => bad,
            })?;
        }
        Ok(said)
    }

    /// Whether what a line says depends on the lines before it.
    pub(super) fn remembers(&self) -> bool {
        self.has_origins
    }

    /// Learns from a line, before the place to go on from, and returns whether no more is to be learned.
    pub(super) fn learn(&mut self, line: &[u8]) -> bool {
        // A bad line has changed nothing.
        let _ = self.line(line);
        !self.has_origins || self.origins.is_known()
    }
}
