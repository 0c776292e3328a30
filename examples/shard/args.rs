//! Owns the command line of `shard`. It does not own what the commands do.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use differential_upsert::login::{hint, login};

/// Looks inside a shard. Nothing but `compact`, `gc` and `probe` ever writes.
#[derive(Clone, Debug, Parser)]
#[command(name = "shard", disable_help_subcommand = true)]
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
        /// Only the keys of one collection, those written `["NAME",KEY]`, as KEY (of PostgreSQL's, NAME is
        /// SCHEMA.TABLE)
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Read every file again and check it
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

impl Command {
    /// Returns the shard it looks at.
    pub fn url(&self) -> &str {
        match self {
            Command::Status { url, .. }
            | Command::Snapshot { url, .. }
            | Command::Tail { url, .. }
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
    /// What clap prints; its exit code is 2, or 0 for `--help`.
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
