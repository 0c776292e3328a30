//! Owns which feed a run reads, and how its times are made: as the command line says, else as the shard
//! has them, else as the feed's first row does. It does not own reading it.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use differential_upsert::Error;
#[cfg(feature = "kafka")]
use differential_upsert::connect::kafka::Kafka;
use differential_upsert::connect::lines::Lines;
#[cfg(feature = "planetscale")]
use differential_upsert::connect::planetscale::PlanetScale;
#[cfg(feature = "postgres-source")]
use differential_upsert::connect::postgres::Postgres;
use differential_upsert::input::blocking::Throttle;
use differential_upsert::io::Io;
use differential_upsert::shard::State;
use differential_upsert::source::SourceStats;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::feed_name::FeedName;
use crate::git::GitHistory;
use crate::git_command::Repository;
use crate::stop::or;
#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
use crate::table::Table;
use crate::values::{Format, TimesFrom};

/// A feed, not yet opened, by how its times are made.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// Lines that have times of their own.
    Given(Once<Lines>),
    /// A repository, whose commits are its times.
    Git(Once<GitHistory>),
    /// Lines whose writers agree on times.
    Minted(Once<Lines>),
    /// They are made by the one writer there is.
    #[cfg(feature = "planetscale")]
    PlanetScale(Once<Box<Table<PlanetScale>>>),
    /// The same.
    #[cfg(feature = "postgres-source")]
    Postgres(Once<Box<Table<Postgres>>>),
    /// A topic, whose writers agree on times.
    #[cfg(feature = "kafka")]
    Kafka(Once<Box<Kafka>>),
}

/// Said where nothing but the first row says that times are given.
const GUESSED: &str = "notice: times are guessed as given, for the feed's first row has a \"ts\": say --times given, or \
                       --times mint if that is a clock and not the shard's time";

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

/// Checks that there is a feed at a name, as far as that can be said without taking anything from it: one that is
/// served is asked when it is connected, and one that is waited for may still come.
///
/// # Errors
///
/// What keeps it from being opened.
pub(crate) async fn check(feed: &FeedName, waits: bool) -> Result<(), Error> {
    match feed {
        FeedName::Git(path) => Repository::open(path).map(drop),
        FeedName::Lines(path) if !waits => Lines::from_path(path).check().await,
        _ => Ok(()),
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
    io: &Io,
    stats: &SourceStats,
    stop: &CancellationToken,
    waits: impl FnOnce(),
) -> Result<Chosen, Error> {
    let (stats, token) = (stats.clone(), stop.clone());
    let path = match &args.feed {
        FeedName::Git(path) => {
            let (path, throttle) = (path.clone(), args.throttle.map(Throttle::new));
            let history = GitHistory { path, throttle, stats, stop: token };
            return Ok(Chosen::Git(Once::new(history)));
        }
        #[cfg(feature = "planetscale")]
        FeedName::PlanetScale(url) => {
            let table = Table::planetscale(url, args.on_error.clone(), stats)?;
            return Ok(Chosen::PlanetScale(Once::new(Box::new(table))));
        }
        #[cfg(feature = "postgres-source")]
        FeedName::Postgres(url) => {
            let table = Table::postgres(url, args.on_error.clone(), stats)?;
            return Ok(Chosen::Postgres(Once::new(Box::new(table))));
        }
        #[cfg(feature = "kafka")]
        FeedName::Kafka(url) => {
            let topic = Kafka::open(url)?
                .on_error((&args.on_error).into())
                .on_unavailable(args.on_unavailable.into())
                .count_into(stats);
            return Ok(Chosen::Kafka(Once::new(Box::new(topic))));
        }
        FeedName::Lines(path) => path,
    };
    let mut lines = Lines::from_path(path)
        .format(args.format().into())
        .key(&args.key)
        .deleted_field(args.deleted_field.clone())
        .resnapshot(args.resnapshot.into())
        .on_unavailable(args.on_unavailable.into())
        .on_error((&args.on_error).into())
        .quarantine(args.on_error.quarantine())
        .wait(args.wait)
        .follow(args.follow)
        .throttle(args.throttle)
        .count_into(stats)
        .stop_at(token);
    let given = match times(args, state, path, &lines) {
        Some(times) => times == TimesFrom::Given,
        None => {
            waits();
            let found = io.block_on(or(stop, lines.has_times()))?;
            if found == Some(true) && args.process == 0 {
                eprintln!("{GUESSED}");
            }
            found.unwrap_or(true)
        }
    };
    let lines = Once::new(lines);
    Ok(if given { Chosen::Given(lines) } else { Chosen::Minted(lines) })
}

/// Returns where times come from, unless the feed's first row has to say it.
fn times(args: &Args, state: &State, path: &str, lines: &Lines) -> Option<TimesFrom> {
    if args.times.is_some() {
        return args.times;
    }
    let format = args.format();
    if !matches!(format, Format::Json | Format::Kcat) {
        return Some(TimesFrom::Mint);
    }
    match state.feed.as_ref().map(|feed| feed.mode.as_str()) {
        Some("given") => return Some(TimesFrom::Given),
        Some("minted") => return Some(TimesFrom::Mint),
        // The clock of a broker is a time of the shard only where that is said.
        _ if format == Format::Kcat => return Some(TimesFrom::Mint),
        _ => {}
    }
    // Process 0 alone reads the feed, and may be the only one that can. Of a pipe, no other may
    // take a byte.
    let elsewhere = args.process > 0 && (lines.is_stream() || File::open(path).is_err());
    elsewhere.then_some(TimesFrom::Given)
}
