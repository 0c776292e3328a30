//! Owns the command line of `ingest`. It does not own the cluster that the options describe; that
//! is `cluster`.
//!
//! One parser takes everything: timely's own would not know our options, nor we its.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use differential_upsert::login::{hint, login};
use differential_upsert::shard::History;

use crate::feed_name::{FeedName, feed, scheme};
use crate::values::{Format, OnError, OnUnavailable, PositionLost, Resnapshot, Switch, TimesFrom};

/// What `--help` says of tables.
#[cfg(feature = "planetscale")]
const TABLES: &str = "\
Tables of PlanetScale and Vitess: planetscale://HOST:PORT/KEYSPACE/TABLE?NAME=VALUE&NAME=VALUE
  PLANETSCALE_USER and PLANETSCALE_PASSWORD, in the environment, are the login; an address has none.
  shard=NAME,NAME                the keyspace's shards [default: -, an unsharded keyspace]
  key=COLUMN,COLUMN              a row's key, unique together [default: the primary key]
  protocol=vstream|sync          VTGate's, or PlanetScale's psdbconnect [default: vstream]
  tls=on|off                     off sends the password in the clear [default: on]
  ca=FILE                        who may have signed the server's certificate, PEM [default: the system's]
  cert=FILE key_file=FILE        the client's certificate and its key, PEM
  auth=basic|static              static: VTGate's static authentication [default: basic]
  tablet=primary|replica|rdonly  the tablets to read from [default: primary]
  cells=NAME,NAME                where to pick them [default: the server's own]
  attempts=N                     how often in a row a transaction may fail [default: 10]
  idle_commit=SECONDS            how long a place without rows waits to be durable [default: 1]";
#[cfg(not(feature = "planetscale"))]
const TABLES: &str = "planetscale:// feeds need this program built with --features planetscale";

/// What `--help` says of topics.
#[cfg(feature = "kafka")]
const TOPICS: &str = "\
Topics of Kafka: kafka://HOST:PORT[,HOST:PORT]/TOPIC?NAME=VALUE&NAME=VALUE
  key=json|string|bytes             what the bytes of a key are [default: json]
  value=json|string|bytes|debezium  what those of a value are [default: json]
  rdkafka.NAME=VALUE                a setting of librdkafka: rdkafka.security.protocol=sasl_ssl
  rdkafka.NAME=env:VARIABLE         the same from the environment, as passwords have to be:
                                    rdkafka.sasl.password=env:KAFKA_PASSWORD
  rdkafka.group.id=GROUP            where to commit places once they are durable, to be watched there";
#[cfg(not(feature = "kafka"))]
const TOPICS: &str = "kafka:// feeds need this program built with --features kafka";

/// What `--help` says of tables of PostgreSQL.
#[cfg(feature = "postgres-source")]
const POSTGRES: &str = "\
Tables of PostgreSQL: postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE[,..]&slot=NAME&publication=NAME
  PGPASSWORD, in the environment, is the password; an address has none.
  table=SCHEMA.TABLE[,..]        of several, keys are [\"SCHEMA.TABLE\",KEY]; shard snapshot --collection shows one
  slot=NAME                      the replication slot; it is made if it is not there
  publication=NAME               CREATE PUBLICATION NAME FOR TABLE SCHEMA.TABLE[,..]
  tls=on|off                     off sends rows in the clear [default: on]
  ca=FILE                        who may have signed the server's certificate, PEM [default: the Web's]
  attempts=N                     how often in a row a transaction may fail [default: 10]
  idle_commit=SECONDS            how long a place without rows waits to be durable [default: 1]";
#[cfg(not(feature = "postgres-source"))]
const POSTGRES: &str = "postgres:// feeds need this program built with --features postgres-source";

/// What `--help` says of the last line on stdout.
const SUMMARY: &str = "\
The last line on stdout, an object of JSON:
  read, skipped                  rows read by this run, and messages that change no row
  below                          of those read: the shard had their time, or they lie before its place
  superseded, unchanged          another row of the same time came after them; they change nothing
  lost                           another writer has committed them first
  inserted, updated, deleted     what has become of the others, and
  errors                         how many errors were kept in place of values
  upper                          the time up to which the shard is final; null once it is sealed
  wins, losses                   commits won and lost against other writers
  seconds, quarantined           how long it took, and how many bad lines were written away";

/// What stands at the end of `--help`.
fn feeds() -> String {
    format!("{TABLES}\n\n{POSTGRES}\n\n{TOPICS}\n\n{SUMMARY}")
}

/// Runs a keyed change feed into a durable shard.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest", version, disable_help_flag = true, after_help = feeds())]
pub(crate) struct Args {
    /// The feed: a path to lines, a directory or a quoted glob of part files, any of them gzip or zstd,
    /// `-` for standard input, git:PATH for the first-parent history
    /// of a git repository, planetscale://HOST:PORT/KEYSPACE/TABLE, kafka://HOST:PORT/TOPIC, or
    /// postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE[,..]&slot=NAME&publication=NAME
    #[arg(value_name = "FEED", value_parser = feed)]
    pub(crate) feed: FeedName,

    /// The shard: file:DIR, mem:, s3://BUCKET/PREFIX, gs://.. or az://.. (a bare path is file:)
    #[arg(long, value_name = "URL", value_parser = shard)]
    pub(crate) shard: String,

    /// Where times come from [default: as the shard has them; in a new one given, if the first row
    /// has "ts", else mint]
    #[arg(long, value_name = "given|mint")]
    pub(crate) times: Option<TimesFrom>,

    /// What a line is: a row whose value is JSON or a Debezium envelope, a message as kcat -J or the console
    /// consumer print it, a row of Maxwell's or rows of Canal's, or bare, the value itself [default: json]
    #[arg(long, value_name = "json|debezium|kcat|console|maxwell|canal|bare")]
    pub(crate) format: Option<Format>,

    /// Take the key out of the value: of one member its value, of several an array. It stays in the value
    #[arg(long, value_name = "FIELD[,FIELD]", value_delimiter = ',')]
    pub(crate) key: Vec<String>,

    /// The member of the value that says that the row is deleted, if it is true or "true"; it is taken out
    /// of the value. Debezium's unwrapped rows have __deleted
    #[arg(long, value_name = "FIELD")]
    pub(crate) deleted_field: Option<String>,

    /// What a second snapshot in a Debezium feed of one table does to rows that it does not have
    #[arg(long, value_name = "keep|replace", default_value = "keep")]
    pub(crate) resnapshot: Resnapshot,

    /// What an update in a Debezium feed comes to that lacks columns which did not change: its row keeps
    /// them, or it is a bad line
    #[arg(long, value_name = "error|keep", default_value = "keep")]
    pub(crate) on_unavailable: OnUnavailable,

    /// Keep reading what is appended to FEED after its end, and the files that come: of a directory or a glob
    /// the later ones, and of a file that is renamed the new one of its name
    #[arg(long)]
    pub(crate) follow: bool,

    /// Wait for a FEED that is not there yet
    #[arg(long)]
    pub(crate) wait: bool,

    /// Guess nothing of FEED: --times and --format have to be said
    #[arg(long)]
    pub(crate) no_input_guess: bool,

    /// Finish when what the feed has at the start is committed; for planetscale:// and kafka:// feeds,
    /// which have no end
    #[arg(long, conflicts_with = "follow")]
    pub(crate) stop_at_current: bool,

    /// After the clean end of a finite feed, close the shard for good
    #[arg(long, conflicts_with = "follow")]
    pub(crate) seal: bool,

    /// How many times back the shard can be read: `keep` for all, or a number [default: as the shard has it; in a
    /// new one 1]
    #[arg(long, value_name = "keep|N", value_parser = history)]
    pub(crate) history: Option<History>,

    /// What happens at a bad line or message, or an update that cannot keep what its row had: stop, or keep it
    /// as an error value, under its key or, where that cannot be read, under {"key_base64": LINE}; of a line, also
    /// append it to FILE with what is bad about it, and go on
    #[arg(long, value_name = "stop|keep|quarantine:FILE", default_value = "stop", value_parser = OnError::parse)]
    pub(crate) on_error: OnError,

    /// What happens when the server does not have what comes after the shard's place any more
    /// (planetscale:// and kafka:// feeds): copy everything anew, and replace what is there in one step,
    /// or fail [default: copy; of kafka://, fail]
    #[arg(long, value_name = "fail|copy")]
    pub(crate) on_position_lost: Option<PositionLost>,

    /// Copy everything anew, and replace what is there in one step (planetscale:// and kafka:// feeds);
    /// each start does so again
    #[arg(long)]
    pub(crate) copy_anew: bool,

    /// Follow the shard and write nothing, until promoted
    #[arg(long)]
    pub(crate) standby: bool,

    /// Do not check that the feed is the one that the shard was made from; once is for ever
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Work times out before those below them are committed; off is slower where times are many
    /// [default: on, unless --unchecked]
    #[arg(long, value_name = "on|off")]
    pub(crate) ahead: Option<Switch>,

    /// Bound what this process keeps of the live rows in memory, in bytes: the rest is in a scratch file, and read when it
    /// is needed [default: all of them are in memory]
    #[arg(long, value_name = "N")]
    pub(crate) state_bytes: Option<usize>,

    /// Where the rest of the live rows is, and an image of all of them: a start on it reads only what the shard has gained
    /// since. One directory for one shard; deleting it costs a start on the shard's contents [default: a temporary file]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

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

    /// Take POST /promote under these names of a host as well, that of a proxy in front, say; addresses and localhost are
    /// taken in any case
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',', requires = "http", value_parser = host)]
    pub(crate) http_host: Vec<String>,

    /// After a failure, answer HTTP for so many seconds more: what was wrong is then still to be seen
    #[arg(long, value_name = "SECONDS", default_value = "0", requires = "http", value_parser = seconds)]
    pub(crate) linger: Duration,

    /// What this pipeline is called on the page and in the metrics: then these have the labels shard and pipeline
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) name: String,

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
    #[arg(short = 'H', long, value_name = "FILE")]
    pub(crate) hostfile: Option<String>,

    /// Print this help
    #[arg(short = 'h', long, action = ArgAction::HelpLong)]
    pub(crate) help: Option<bool>,
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
        args.check()?;
        Ok(args)
    }

    /// Returns what a line is.
    pub(crate) fn format(&self) -> Format {
        self.format.unwrap_or(Format::Json)
    }

    /// Returns whether only a signal ends the run well.
    pub(crate) fn is_endless(&self) -> bool {
        self.follow || self.standby || (self.feed.is_served() && !self.stop_at_current)
    }

    /// Returns whether everything is copied anew where the position is lost. A topic that was made anew may
    /// have nothing in it, and a log that is short does not have what was deleted from it long ago.
    pub(crate) fn copies_what_is_lost(&self) -> bool {
        let copies = self.feed.is_table();
        self.on_position_lost.map_or(copies, |lost| lost == PositionLost::Copy)
    }

    /// Checks what depends on more than one option.
    fn check(&self) -> Result<(), clap::Error> {
        let what = match self.conflict().or_else(|| self.misplaced().map(str::to_string)) {
            Some(what) => what,
            None => return Ok(()),
        };
        let kind = clap::error::ErrorKind::ArgumentConflict;
        use clap::CommandFactory as _;
        Err(Args::command().error(kind, what))
    }

    /// Returns what is wrong with options together, whatever the feed.
    fn conflict(&self) -> Option<String> {
        if self.process >= self.processes.get() {
            let (process, processes) = (self.process, self.processes);
            Some(format!("-p {process} is not a process of -n {processes}: they count from 0"))
        } else if self.processes.get() > 1 && self.shard == "mem:" {
            let what = "--shard mem: is the memory of one process: a cluster needs a store that all \
                        reach";
            Some(what.to_string())
        } else {
            let address = self.http.filter(|a| !a.ip().is_loopback() && !self.http_remote)?;
            let what = "can be reached from other machines: add --http-remote";
            Some(format!("--http {address} {what}"))
        }
    }

    /// Returns what does not go with this kind of feed.
    fn misplaced(&self) -> Option<&'static str> {
        let (git, served) = (matches!(self.feed, FeedName::Git(_)), self.feed.is_served());
        let (format, lines) = (self.format(), self.feed.is_lines());
        let debezium = format == Format::Debezium;
        // What a line says of a delete, and of its key.
        let says = debezium || matches!(format, Format::Maxwell | Format::Canal);
        let rules = [
            (
                git && self.follow,
                "--follow does not go with git:PATH: HEAD is read once, at the start",
            ),
            (
                git && self.times == Some(TimesFrom::Mint),
                "--times mint does not go with git:PATH: a commit's number is its time",
            ),
            (
                self.unchecked && self.ahead == Some(Switch::On),
                "--ahead on does not go with --unchecked: only the check proves what was worked out ahead",
            ),
            (format != Format::Json && !lines, "--format is for feeds of lines: a path or -"),
            (
                (!self.key.is_empty() || self.deleted_field.is_some()) && !lines,
                "--key and --deleted-field are for feeds of lines: a path or -",
            ),
            (self.wait && !lines, "--wait is for feeds of lines: a path"),
            (
                self.on_error.quarantine().is_some() && !lines,
                "--on-error quarantine:FILE is for feeds of lines: a path or -",
            ),
            (
                self.no_input_guess && lines && (self.times.is_none() || self.format.is_none()),
                "--no-input-guess guesses nothing: say --times and --format",
            ),
            (
                self.key.iter().any(String::is_empty),
                "--key names members of the value, with commas between them",
            ),
            (
                debezium && !self.key.is_empty(),
                "--key does not go with --format debezium: its connectors make keys, by message.key.columns",
            ),
            (
                says && self.deleted_field.is_some(),
                "--deleted-field is for --format json, kcat, console and bare: the lines of others say what a delete is",
            ),
            (
                format == Format::Bare && self.key.is_empty(),
                "--format bare needs --key: the line is the value, and its key some of its members",
            ),
            (
                !matches!(format, Format::Json | Format::Kcat)
                    && self.times == Some(TimesFrom::Given),
                "--times given is for --format json and kcat: the times of others are minted",
            ),
            (
                self.resnapshot == Resnapshot::Replace && !debezium,
                "--resnapshot replace is for --format debezium: others say nothing of snapshots",
            ),
            (
                self.on_unavailable == OnUnavailable::Error && !debezium && !self.feed.is_topic(),
                "--on-unavailable error is for Debezium's messages: others leave no columns out",
            ),
            (
                self.stop_at_current && !served,
                "--stop-at-current is for planetscale://, postgres:// and kafka:// feeds: others have an end",
            ),
            (
                self.copy_anew && !served,
                "--copy-anew is for planetscale://, postgres:// and kafka:// feeds: others are read from their start",
            ),
            (
                self.on_position_lost.is_some() && !served,
                "--on-position-lost is for planetscale://, postgres:// and kafka:// feeds: others keep what they had",
            ),
            (
                served && self.times.is_some(),
                "--times does not go with planetscale://, postgres:// and kafka://: times are made as changes are committed",
            ),
            (
                served && self.throttle.is_some(),
                "--throttle counts lines, and planetscale://, postgres:// and kafka:// feeds have none",
            ),
            (
                served && self.seal,
                "--seal needs a feed that ends, and planetscale://, postgres:// and kafka:// feeds go on",
            ),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, what)| what)
    }
}

/// Says what is wrong with an argument that must not be shown.
fn refused(arg: &str) -> Option<String> {
    let scheme = login(arg)?;
    Some(format!("a user, a password or a token in an address of {scheme}:; {}", hint(scheme)))
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

fn host(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains([':', '/']) {
        true => Err("use the name of a host, without a scheme and a port".to_string()),
        false => Ok(text.to_string()),
    }
}

fn history(text: &str) -> Result<History, String> {
    if text == "keep" {
        return Ok(History::Keep);
    }
    let times = text.parse().map(|times: NonZeroU64| History::Last(times.get()));
    times.map_err(|_| "use keep, or a number of times from 1".to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "use a number of seconds".to_string())
}
