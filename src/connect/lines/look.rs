//! Owns the default of `--times`: a look at a feed's first row, without taking anything from whoever
//! reads the feed afterwards. It does not own what the shard knows about its feed.

use std::io::{self, Read};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use differential_upsert::{Error, ErrorKind};

use crate::input::{Input, is_stream, unreadable};
use crate::jsonl::{Line, LineParser};
use crate::lines::{Lines, Piece};
use crate::reader::OnError;
use crate::stop::Stop;
use crate::throttle;

/// How long a followed feed without a row is left alone.
const POLL: Duration = Duration::from_millis(50);

/// Bytes of a pipe that are kept while there is no row in them.
const SEEN_BYTES_MAX: usize = 64 << 20;

/// What the beginning of a feed says.
#[derive(Debug)]
pub(crate) struct Look {
    /// Whether its rows have times of their own.
    pub(crate) given: bool,
    /// The whole feed, if it cannot be opened again.
    pub(crate) input: Option<Input>,
}

/// Looks at a feed until its first row, or its end. A followed feed has one some day.
///
/// # Errors
///
/// `Stopped` if it was told to stop meanwhile; else what keeps the feed from being read.
pub(crate) fn look(
    path: &str,
    follow: bool,
    on_error: OnError,
    stop: &Stop,
) -> Result<Look, Error> {
    let (sender, receiver) = channel();
    let (path, looks) = (path.to_string(), stop.clone());
    // A read of a silent pipe ends only with the pipe: it must not be waited for.
    std::thread::spawn(move || sender.send(first_row(&path, follow, on_error, &looks)));
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(looked) => return looked,
            Err(RecvTimeoutError::Timeout) => stop.check()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Unavailable, "the feed could not be looked at"));
            }
        }
    }
}

fn first_row(path: &str, follow: bool, on_error: OnError, stop: &Stop) -> Result<Look, Error> {
    let stream = is_stream(path);
    let seen = stream.then(Vec::new);
    let mut lines = Lines::new(Seeing { input: Input::open(path)?, seen });
    let (mut parser, mut signs) = (LineParser::default(), Signs::default());
    let given = loop {
        let decided = loop {
            let Some(piece) = lines.next() else { break None };
            if let Some(given) = signs.line(&mut parser, &piece, on_error) {
                break Some(given);
            }
        };
        if let Some(given) = decided {
            break given;
        }
        stop.check()?;
        let place = format!("{path}:{}", lines.number());
        let read = lines.fill().map_err(|e| unreadable(&place, e))?;
        let full = lines.input().seen.as_ref().is_some_and(|seen| seen.len() > SEEN_BYTES_MAX);
        match (read, follow) {
            _ if full => break signs.given(),
            (1.., _) => {}
            (0, true) => {
                lines.input().input.unchanged()?;
                throttle::sleep(POLL, stop)?;
            }
            (0, false) => {
                let rest = lines.rest();
                let last = rest.and_then(|piece| signs.line(&mut parser, &piece, on_error));
                break last.unwrap_or(signs.given());
            }
        }
    };
    let Seeing { input, seen } = lines.into_input();
    let input = seen.map(|bytes| input.behind(bytes));
    Ok(Look { given, input })
}

/// What lines without a row say.
#[derive(Debug, Default)]
struct Signs {
    closings: bool,
    kept: bool,
}

impl Signs {
    /// Returns whether times are given, once a line says so.
    fn line(
        &mut self,
        parser: &mut LineParser,
        piece: &Piece<'_>,
        on_error: OnError,
    ) -> Option<bool> {
        let parsed = if piece.too_long { None } else { parser.parse(piece.bytes).ok() };
        match parsed {
            Some(Line::Row(row)) => return Some(row.ts.is_some()),
            Some(Line::Closed(_)) => self.closings = true,
            Some(Line::Blank) => {}
            None => self.kept = true,
        }
        // The run will fail at this line, with whatever times.
        (self.kept && on_error == OnError::Stop).then_some(true)
    }

    /// A feed without a row has nothing to mint times for, unless it is errors that are kept.
    fn given(&self) -> bool {
        self.closings || !self.kept
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
