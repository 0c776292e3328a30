//! Owns the command line of `shard`. It does not own what the commands do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use differential_upsert::login::{hint, login};

/// Looks inside a shard. Nothing but `compact`, `gc`, `clear-error` and `probe` ever writes to it.
#[derive(Clone, Debug, Parser)]
#[command(name = "shard", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to look at.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what the shard is, as one JSON object
    Status {
        /// The shard: file:DIR, s3://BUCKET/PREFIX, gs://.. or az://.. (a bare path is file:)
        #[arg(value_name = "URL")]
        url: String,
        /// Print it for people
        #[arg(long)]
        text: bool,
    },
    /// Print the collection as of one time, sorted by key
    Snapshot {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// The time [default: the last one that is final]
        #[arg(long, value_name = "T")]
        as_of: Option<u64>,
        /// Only the keys of one collection, those written `["NAME",KEY]`, as KEY (of PostgreSQL's, NAME is
        /// SCHEMA.TABLE)
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Print the collection as of one time, then every later update as it becomes final
    Tail {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// The time to begin with [default: the first that can be read]
        #[arg(long, value_name = "T")]
        from: Option<u64>,
        /// The last time to print, waited for if need be; without it, what is final now
        #[arg(long, value_name = "T")]
        until: Option<u64>,
        /// Go on as the shard does, until it is sealed, --until, or SIGINT or SIGTERM, which ends it with whole times
        /// and exit 0. It holds nothing: a shard that keeps little history may merge what is yet to be read, exit 1
        #[arg(long)]
        follow: bool,
        /// Only the keys of one collection, those written `["NAME",KEY]`, as KEY (of PostgreSQL's, NAME is
        /// SCHEMA.TABLE)
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Print the rows that differ between two times: {"key","before","after"}, sorted by key; an absent value is null
    Diff {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// The time before
        #[arg(value_name = "T1")]
        before: u64,
        /// The time after
        #[arg(value_name = "T2")]
        after: u64,
        /// Only the keys of one collection, those written `["NAME",KEY]`, as KEY
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Print the log, an entry a line, as far as it is still there: which writer committed what, and when
    Log {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// The number of the first entry to print
        #[arg(long, value_name = "SEQNO", default_value_t = 1)]
        from: u64,
        /// Print it for people
        #[arg(long)]
        text: bool,
    },
    /// Write the collection, or its changes, as a table: keys and values as JSON text
    Export {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// How it is written; csv and parquet need the feature `export`
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Format,
        /// The collection as of this time [default: the last one that is final]: key, value, error
        #[arg(long, value_name = "T", conflicts_with = "changes")]
        as_of: Option<u64>,
        /// Instead the changes after time FROM, up to time TO, that one too: op (insert, update, delete), key, before,
        /// after, time. Without FROM they begin with the shard, without TO they end with what is final now
        #[arg(long, value_name = "FROM..TO")]
        changes: Option<Between>,
        /// Only the keys of one collection, those written `["NAME",KEY]`, as KEY
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
        /// The file to write, which appears when it is whole, in place of one of that name [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the keys that are in error now: {"key","error"}, sorted by key
    Errors {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
    },
    /// End the error of a key, by a commit that takes it back. It takes the next time, which the feed must not use, and
    /// shuts out writers that are at work. Refused where that cannot be sound: one more command in the feed ends it there
    ClearError {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// The key, as `errors` prints it
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Read every file again and check it: prints what was read (entries, parts, updates, bytes) and what belongs to
    /// nothing, as one JSON object; damage is exit 1 and names its file
    Verify {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Merge what is in the shard: its size then follows what is live, not what has been
    Compact {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Delete what nobody needs any more: old entries, merged parts, orphans
    Gc {
        /// The shard
        #[arg(value_name = "URL")]
        url: String,
        /// End this lease first, also one in use: an id as `status` shows it
        #[arg(long, value_name = "ID")]
        end_lease: Option<String>,
    },
    /// Find out whether a store really creates only what is absent, by racing for it
    Probe {
        /// The store
        #[arg(value_name = "URL")]
        url: String,
    },
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Apache Parquet
    Parquet,
    /// Comma-separated values, with a first line of names; nothing is empty
    Csv,
    /// JSON lines, as `snapshot` prints them
    Jsonl,
}

/// The changes after one time, up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between {
    pub(crate) from: Option<u64>,
    pub(crate) to: Option<u64>,
}

impl FromStr for Between {
    type Err = String;

    fn from_str(text: &str) -> Result<Between, String> {
        let (from, to) = text.split_once("..").ok_or("write FROM..TO, as in 3..7")?;
        let time = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("{text} is not a time")),
        };
        let (from, to) = (time(from)?, time(to)?);
        match (from, to) {
            (Some(from), Some(to)) if to < from => Err(format!("{to} is before {from}")),
            _ => Ok(Between { from, to }),
        }
    }
}

impl Command {
    /// Returns the shard it looks at.
    pub fn url(&self) -> &str {
        match self {
            Command::Status { url, .. }
            | Command::Snapshot { url, .. }
            | Command::Tail { url, .. }
            | Command::Diff { url, .. }
            | Command::Log { url, .. }
            | Command::Export { url, .. }
            | Command::Errors { url }
            | Command::ClearError { url, .. }
            | Command::Verify { url }
            | Command::Compact { url }
            | Command::Gc { url, .. }
            | Command::Probe { url } => url,
        }
    }
}

impl Args {
    /// Parses arguments, the program's name first.
    ///
    /// # Errors
    ///
    /// What clap prints; its exit code is 2, or 0 for `--help` and `--version`.
    pub(crate) fn of<I>(args: I) -> Result<Args, clap::Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        // First of all: whatever is wrong with an argument, the parser repeats it.
        let named = args.iter().map(|arg| arg.to_string_lossy());
        if let Some(what) = named.into_iter().find_map(|arg| refused(&arg)) {
            use clap::CommandFactory as _;
            return Err(Args::command().error(clap::error::ErrorKind::ValueValidation, what));
        }
        let args = Args::try_parse_from(args)?;
        if let Command::Export { format: Format::Parquet | Format::Csv, .. } = &args.command
            && cfg!(not(feature = "export"))
        {
            use clap::CommandFactory as _;
            let what = "built without the feature `export`: use --format jsonl, or build it with --features export";
            return Err(Args::command().error(clap::error::ErrorKind::InvalidValue, what));
        }
        if let Command::Tail { from: Some(from), until: Some(until), .. } = &args.command
            && until < from
        {
            use clap::CommandFactory as _;
            let what = format!("--until {until} is before --from {from}");
            return Err(Args::command().error(clap::error::ErrorKind::ArgumentConflict, what));
        }
        Ok(args)
    }
}

/// Says what is wrong with an argument that must not be shown.
fn refused(arg: &str) -> Option<String> {
    let scheme = login(arg)?;
    Some(format!("a user, a password or a token in an address of {scheme}:; {}", hint(scheme)))
}
