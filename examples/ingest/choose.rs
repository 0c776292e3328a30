//! Owns which feed a run reads, and how its times are made: as the command line says, else as the shard
//! has them, else as the feed's first row does. It does not own reading it.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use differential_upsert::Error;
use differential_upsert::shard::State;

use crate::args::{Args, FeedName, TimesFrom};
use crate::change::Format;
use crate::emit::Counts;
use crate::feed::Feed;
use crate::git::GitHistory;
use crate::input::is_stream;
use crate::look::{Look, look};
use crate::minted::{MintedConfig, MintedLines};
#[cfg(feature = "planetscale")]
use crate::planetscale::Table;
use crate::reader::JsonLines;
use crate::stop::Stop;
use crate::throttle::Throttle;

/// A feed, not yet opened, by how its times are made.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// It has times of its own.
    Given(Once<Feed>),
    /// Its writers agree on them.
    Minted(Once<MintedLines>),
    /// They are made by the one writer there is.
    #[cfg(feature = "planetscale")]
    PlanetScale(Once<Box<Table>>),
}

/// Something for whichever worker asks first.
#[derive(Debug)]
pub(crate) struct Once<T>(Mutex<Option<T>>);

impl<T> Once<T> {
    fn new(value: T) -> Once<T> {
        Once(Mutex::new(Some(value)))
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Chooses the feed that the arguments name. Calls `waits` before it waits for the first row.
///
/// # Errors
///
/// What keeps its first row from being read, if that has to decide.
pub(crate) fn choose(
    args: &Args,
    state: &State,
    counts: &Arc<Counts>,
    stop: &Stop,
    waits: impl FnOnce(),
) -> Result<Chosen, Error> {
    let counts = Arc::clone(counts);
    let throttle = args.throttle.map(Throttle::new);
    let path = match &args.feed {
        FeedName::Git(path) => {
            let (path, stop) = (path.clone(), stop.clone());
            let history = Feed::Git(GitHistory { path, throttle, counts, stop });
            return Ok(Chosen::Given(Once::new(history)));
        }
        #[cfg(feature = "planetscale")]
        FeedName::PlanetScale(url) => {
            let table = Table::open(url, args.on_error, counts)?;
            return Ok(Chosen::PlanetScale(Once::new(Box::new(table))));
        }
        FeedName::Lines(path) => path.clone(),
    };
    let Look { given, input } = match times(args, state, &path) {
        Some(times) => Look { given: times == TimesFrom::Given, input: None },
        None => {
            waits();
            look(&path, args.follow, args.on_error, stop)?
        }
    };
    let (follow, on_error, stop) = (args.follow, args.on_error, stop.clone());
    if given {
        let looked = input;
        let lines = JsonLines { path, looked, follow, on_error, throttle, counts, stop };
        return Ok(Chosen::Given(Once::new(Feed::Lines(lines))));
    }
    let (format, resnapshot, throttle) = (args.format, args.resnapshot, args.throttle);
    let lines = MintedConfig { path, format, resnapshot, follow, on_error, throttle, counts, stop };
    Ok(Chosen::Minted(Once::new(MintedLines::new(lines, input))))
}

/// Returns where times come from, unless the feed's first row has to say it.
fn times(args: &Args, state: &State, path: &str) -> Option<TimesFrom> {
    if args.times.is_some() {
        return args.times;
    }
    if args.format == Format::Debezium {
        return Some(TimesFrom::Mint);
    }
    match state.feed.as_ref().map(|feed| feed.mode.as_str()) {
        Some("given") => return Some(TimesFrom::Given),
        Some("minted") => return Some(TimesFrom::Mint),
        _ => {}
    }
    // Process 0 alone reads the feed, and may be the only one that can. Of a pipe, nobody else may
    // take a byte.
    let elsewhere = args.process > 0 && (is_stream(path) || File::open(path).is_err());
    elsewhere.then_some(TimesFrom::Given)
}
