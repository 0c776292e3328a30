//! Owns the look at a feed's first row, which says whether rows have times of their own, without taking
//! anything from what reads the feed afterwards. It does not own what is done about it.

use std::io::{self, Read};

use tokio_util::sync::CancellationToken;

use super::config::{Config, pace, rest};
use super::cut::{Cutter, Piece};
use super::input::{Input, unreadable};
use super::line::{Line, LineParser};
use crate::error::Error;
use crate::input::blocking::check;

/// Bytes of a pipe that are kept until a row comes.
const SEEN_BYTES_MAX: usize = 64 << 20;

/// What the beginning of a feed says.
#[derive(Debug)]
pub(super) struct Look {
    /// Whether its rows have times of their own, if it says so.
    pub(super) given: Option<bool>,
    /// The whole feed, if it cannot be opened again.
    pub(super) input: Option<Input>,
}

/// Looks at a feed, which was perhaps opened already, until its first row, its end or `stop`. A followed
/// feed has a row some day. Blocks.
///
/// # Errors
///
/// `Stopped` if it was told to stop meanwhile; else what keeps the feed from being read.
pub(super) fn look(
    config: &Config,
    opened: Option<Input>,
    stop: &CancellationToken,
) -> Result<Look, Error> {
    let passes = config.passes_bad_lines();
    let seen = config.is_stream().then(Vec::new);
    let mut lines = Cutter::new(Seeing { input: config.open(opened, &|| check(stop))?, seen });
    let (mut parser, mut signs) = (LineParser::new(config.shape.clone()), Signs::default());
    let mut pace = pace();
    let given = loop {
        let decided = loop {
            let Some(piece) = lines.next() else { break None };
            if let Some(found) = signs.line(&mut parser, &piece, passes) {
                break Some(found);
            }
        };
        if let Some(found) = decided {
            break found.given();
        }
        check(stop)?;
        let place = config.place(lines.number());
        let read = lines.fill().map_err(|e| unreadable(&place, e))?;
        let full = lines.input().seen.as_ref().is_some_and(|seen| seen.len() > SEEN_BYTES_MAX);
        match (read, config.follow) {
            _ if full => break signs.given(),
            (1.., _) => pace.wake(),
            (0, true) if lines.input_mut().input.go_on()? => {}
            (0, true) => rest(&mut pace, stop)?,
            (0, false) => {
                let rest = lines.rest();
                let last = rest.and_then(|piece| signs.line(&mut parser, &piece, passes));
                break last.map_or(signs.given(), Found::given);
            }
        }
    };
    let Seeing { input, seen } = lines.into_input();
    let input = seen.map(|bytes| input.behind(bytes));
    Ok(Look { given, input })
}

/// What decides.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// The first row, which has a time of its own or has not.
    Row(bool),
    /// A line that the run will stop at, with whatever times.
    Stop,
}

impl Found {
    fn given(self) -> Option<bool> {
        match self {
            Found::Row(given) => Some(given),
            Found::Stop => None,
        }
    }
}

/// What lines without a row say.
#[derive(Debug, Default)]
struct Signs {
    closings: bool,
    kept: bool,
}

impl Signs {
    /// Returns what a line decides.
    fn line(&mut self, parser: &mut LineParser, piece: &Piece<'_>, passes: bool) -> Option<Found> {
        let parsed = if piece.too_long { None } else { parser.parse(piece.bytes).ok() };
        match parsed {
            Some(Line::Row(row)) => return Some(Found::Row(row.ts.is_some())),
            Some(Line::Closed(_)) => self.closings = true,
            Some(Line::Blank) => {}
            None if !passes => return Some(Found::Stop),
            None => self.kept = true,
        }
        None
    }

    /// A feed without a row has nothing to mint times for, unless it is errors that are kept.
    fn given(&self) -> Option<bool> {
        (self.kept && !self.closings).then_some(false)
    }
}

/// An input that keeps what was read from it, if that cannot be read again.
#[derive(Debug)]
struct Seeing {
    input: Input,
    seen: Option<Vec<u8>>,
}

impl Read for Seeing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(seen) = &mut self.seen {
            seen.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}
