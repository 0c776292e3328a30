//! Owns reading lines that have times of their own, whatever their format. It does not own what the
//! times mean; that is [`times`](crate::connect::lines::times).

use super::kcat;
use super::origins::two_of;
use super::tools::Tools;
use crate::connect::lines::config::{Config, Format};
use crate::connect::lines::line::{Line, LineParser, TS_MAX};
use crate::connect::lines::row::Bad;

/// Reads lines, one after the other.
#[derive(Debug)]
pub(in crate::connect::lines) enum Timed {
    Lines(Box<LineParser>),
    /// Messages, and their topic.
    Kcat(Box<Tools>, Option<String>),
}

impl Timed {
    pub(in crate::connect::lines) fn new(config: &Config) -> Timed {
        let shape = config.shape.clone();
        match config.format {
            Format::Kcat => Timed::Kcat(Box::new(Tools::new(shape)), None),
            _ => Timed::Lines(Box::new(LineParser::new(shape))),
        }
    }

    /// Reads a line without its line break.
    pub(in crate::connect::lines) fn parse(&mut self, line: &[u8]) -> Result<Line, Bad> {
        let (tools, known) = match self {
            Timed::Lines(parser) => return parser.parse(line),
            Timed::Kcat(tools, known) => (tools, known),
        };
        let Some((row, topic, _)) = kcat::message(line, tools)? else { return Ok(Line::Blank) };
        let known = known.get_or_insert_with(|| topic.clone());
        if *known != topic {
            return Err(two_of("topics", known, &topic));
        }
        if row.ts.is_none_or(|ts| ts > TS_MAX) {
            let hint = "the broker has none: have times minted, in another shard";
            return Err(Bad::new("a message without a \"ts\"", hint).of(&row));
        }
        Ok(Line::Row(row))
    }
}
