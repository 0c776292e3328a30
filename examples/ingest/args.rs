//! Owns the command line of `ingest`. It does not own the cluster that the options describe; that
//! is `cluster`.
//!
//! One parser takes everything: timely's own would not know our options, nor we its.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU64, NonZeroUsize};

use clap::{ArgAction, Parser, ValueEnum};
use differential_upsert::shard::History;

use crate::reader::OnError;

/// Runs a keyed change feed into a durable shard.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest", disable_help_flag = true)]
pub(crate) struct Args {
    /// The feed: a path to JSON lines, `-` for standard input, or git:PATH for the first-parent
    /// history of a git repository
    #[arg(value_name = "FEED", value_parser = feed)]
    pub(crate) feed: FeedName,

    /// The shard: file:DIR, mem:, s3://BUCKET/PREFIX, gs://.. or az://.. (a bare path is file:)
    #[arg(long, value_name = "URL", value_parser = shard)]
    pub(crate) shard: String,

    /// Where times come from [default: given, if the first row has "ts"]
    #[arg(long, value_name = "HOW")]
    pub(crate) times: Option<TimesFrom>,

    /// Keep reading what is appended to FEED after its end
    #[arg(long)]
    pub(crate) follow: bool,

    /// After the clean end of a finite feed, close the shard for good
    #[arg(long, conflicts_with = "follow")]
    pub(crate) seal: bool,

    /// How many times back the shard can be read: `keep` for all, or a number
    #[arg(long, value_name = "keep|N", value_parser = history)]
    pub(crate) history: Option<History>,

    /// What happens at a bad line: stop, or keep it as an error value
    #[arg(long, value_name = "stop|keep", default_value = "stop")]
    pub(crate) on_error: OnError,

    /// Follow the shard and write nothing, until promoted
    #[arg(long)]
    pub(crate) standby: bool,

    /// Do not check that the feed is the one that the shard was made from; once is for ever
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Read at most N lines per second
    #[arg(long, value_name = "N")]
    pub(crate) throttle: Option<NonZeroU64>,

    /// Answer HTTP at this address: /health, /metrics, a live page at /, POST /promote; port 0 takes
    /// a free one and says which on stderr; process I of a cluster takes the I-th port after it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,

    /// Let --http be reached from other machines: who can reach it can promote
    #[arg(long, requires = "http")]
    pub(crate) http_remote: bool,

    /// Worker threads of this process
    #[arg(short = 'w', long = "threads", value_name = "N", default_value = "1")]
    pub(crate) workers: NonZeroUsize,

    /// Processes of the cluster
    #[arg(short = 'n', long, value_name = "N", default_value = "1")]
    pub(crate) processes: NonZeroUsize,

    /// Which of them this is, from 0
    #[arg(short = 'p', long, value_name = "I", default_value = "0")]
    pub(crate) process: usize,

    /// A file with the address of each process, one HOST:PORT per line
    #[arg(short = 'h', long, value_name = "FILE")]
    pub(crate) hostfile: Option<String>,

    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    pub(crate) help: Option<bool>,
}

/// What FEED names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeedName {
    /// JSON lines at a path, or `-`.
    Lines(String),
    /// A git repository at a path.
    Git(String),
}

impl FeedName {
    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self, FeedName::Lines(path) if path == "-")
    }
}

impl std::fmt::Display for FeedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FeedName::Lines(path) => f.write_str(path),
            FeedName::Git(path) => write!(f, "git:{path}"),
        }
    }
}

/// Where times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimesFrom {
    /// Every row has a `ts`.
    Given,
}

impl Args {
    /// Parses arguments, the program's name first.
    ///
    /// # Errors
    ///
    /// What clap prints; its exit code is 2, or 0 for `--help`.
    pub(crate) fn of<I>(args: I) -> Result<Args, clap::Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let args = Args::try_parse_from(args)?;
        args.check()?;
        Ok(args)
    }

    /// Checks what depends on more than one option.
    fn check(&self) -> Result<(), clap::Error> {
        let git = matches!(self.feed, FeedName::Git(_));
        let what = if self.process >= self.processes.get() {
            let (process, processes) = (self.process, self.processes);
            format!("-p {process} is not a process of -n {processes}: they count from 0")
        } else if self.processes.get() > 1 && self.shard == "mem:" {
            "--shard mem: is the memory of one process: a cluster needs a store that all reach"
                .to_string()
        } else if let Some(address) = self.http.filter(|a| !a.ip().is_loopback())
            && !self.http_remote
        {
            format!("--http {address} can be reached from other machines: add --http-remote")
        } else if git && self.follow {
            "--follow does not go with git:PATH: HEAD is read once, at the start".to_string()
        } else {
            return Ok(());
        };
        let kind = clap::error::ErrorKind::ArgumentConflict;
        use clap::CommandFactory as _;
        Err(Args::command().error(kind, what))
    }
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let word = |char: char| char.is_ascii_alphanumeric() || "+-.".contains(char);
    (!scheme.is_empty() && scheme.chars().all(word)).then_some(scheme)
}

fn feed(text: &str) -> Result<FeedName, String> {
    if let Some(path) = text.strip_prefix("git:") {
        if path.is_empty() {
            return Err("git: needs the path of a repository, as in git:.".to_string());
        }
        return Ok(FeedName::Git(path.to_string()));
    }
    match scheme(text) {
        Some(scheme @ ("kafka" | "postgres" | "postgresql" | "planetscale")) => {
            Err(format!("{scheme}:// feeds are not supported yet; use a path, - or git:PATH"))
        }
        Some(scheme) => Err(format!("{scheme}:// is no feed; use a path, - or git:PATH")),
        None if text.is_empty() => Err("an empty path".to_string()),
        None => Ok(FeedName::Lines(text.to_string())),
    }
}

fn shard(text: &str) -> Result<String, String> {
    match scheme(text) {
        None | Some("file" | "s3" | "gs" | "az") if !text.is_empty() => Ok(text.to_string()),
        _ => Err("use file:DIR, mem:, s3://BUCKET/PREFIX, gs:// or az://".to_string()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|e| format!("{e}; use HOST:PORT"))?;
    found.next().ok_or_else(|| "it names no address".to_string())
}

fn history(text: &str) -> Result<History, String> {
    if text == "keep" {
        return Ok(History::Keep);
    }
    let times = text.parse().map(|times: NonZeroU64| History::Last(times.get()));
    times.map_err(|_| "use keep, or a number of times from 1".to_string())
}
