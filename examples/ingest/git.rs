//! Owns reading a git repository's first-parent history as a feed: one row per path that a commit
//! changed against its first parent, `ts` = the commit's number, oldest first. It does not own how
//! git is run; that is `git_command`.
//!
//! Only plumbing is read, whose output is promised not to change, and two processes run for the
//! whole history however long it is: `rev-list` names the commits and `diff-tree --stdin` is told
//! each with the one before it, so that a merge is compared with its first parent only. So
//! `git ls-tree -r` of commit N is what the rows up to `ts` N add up to.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use differential_upsert::codec::Json;
use differential_upsert::input::blocking::{self, Batch, RowSink, Throttle};
use differential_upsert::input::{Outlet, TimedSource};
use differential_upsert::source::SourceStats;
use differential_upsert::{Command, DataError, Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::git_command::{Repository, Running};

/// Rows wait no longer than this for more of them.
const LINGER: Duration = Duration::from_millis(20);

/// A repository's history, not yet opened.
#[derive(Debug)]
pub(crate) struct GitHistory {
    pub(crate) path: String,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) stats: SourceStats,
    pub(crate) stop: CancellationToken,
}

/// What a path maps to: its mode and object. No row here has an error.
pub(crate) type Cell = Result<Json, DataError>;

/// One record of `git diff-tree --stdin -r -z`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The changes that follow are those of the next commit.
    Commit,
    /// A path has this mode and object now, or neither.
    Change(Change),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Json,
    pub(crate) value: Option<Json>,
}

impl GitHistory {
    /// Reads the history and returns its end E, the number of commits. Blocks.
    pub(crate) fn read<S>(mut self, sink: S, stop: &CancellationToken) -> Result<u64, Error>
    where
        S: RowSink<Key = Json, Value = Cell, Order = u64>,
    {
        let repository = Repository::open(&self.path)?;
        let commits = repository.count()?;
        self.stats.set_position(0, Some(commits));
        let mut batch = Batch::new(sink);

        let mut list = repository.list()?;
        let mut diff = repository.diff()?;
        let named = name_commits(&mut list, &mut diff);
        let mut output = BufReader::with_capacity(256 << 10, diff.stdout());
        let read = self.rows(&repository, &mut output, &mut batch, commits, stop);
        // A reader that gave up must not leave git writing into a pipe that is not emptied.
        drop(output);
        let seen = read?;
        list.finish()?;
        diff.finish()?;
        let named = named.join().unwrap_or(0);
        if seen != commits || named != commits {
            let what = format!("git named {commits} commits but told the changes of {seen}");
            return Err(repository.wrong(ErrorKind::Unavailable, &what));
        }
        batch.boundary(commits);
        batch.flush()?;
        Ok(commits)
    }

    /// Sends every row and returns the number of commits seen.
    fn rows<S>(
        &mut self,
        repository: &Repository,
        output: &mut impl BufRead,
        batch: &mut Batch<S>,
        commits: u64,
        stop: &CancellationToken,
    ) -> Result<u64, Error>
    where
        S: RowSink<Key = Json, Value = Cell, Order = u64>,
    {
        let (mut seen, mut order, mut sent) = (0u64, 0, Instant::now());
        while let Some(record) = next_record(output).map_err(|what| {
            let kind = ErrorKind::Unavailable;
            repository.wrong(kind, &format!("unexpected output of git diff-tree: {what}"))
        })? {
            match record {
                Record::Commit => {
                    blocking::check(stop)?;
                    // All rows of the commits before this one have been added.
                    batch.boundary(seen);
                    (seen, order) = (seen + 1, 0);
                    self.stats.set_position(seen, Some(commits));
                }
                Record::Change(change) => {
                    let Some(time) = seen.checked_sub(1) else {
                        let what = "git told a change before its commit";
                        return Err(repository.wrong(ErrorKind::Unavailable, what));
                    };
                    if let Some(wait) = self.throttle.as_mut().and_then(Throttle::next_wait) {
                        batch.flush()?;
                        blocking::sleep(wait, stop)?;
                    }
                    let value_bytes = change.value.as_ref().map_or(0, |value| value.as_str().len());
                    let bytes = change.key.as_str().len() + value_bytes;
                    let command = match change.value {
                        Some(value) => Command::put(change.key, Ok(value), order),
                        None => Command::delete(change.key, order),
                    };
                    order += 1;
                    self.stats.add_rows_read(1);
                    batch.row(command, time, bytes)?;
                }
            }
            if sent.elapsed() > LINGER {
                batch.flush()?;
                sent = Instant::now();
            }
        }
        Ok(seen)
    }
}

impl TimedSource for GitHistory {
    type Key = Json;
    type Value = Cell;
    type Order = u64;

    async fn run(self, outlet: Outlet<Json, Cell, u64>) -> Result<u64, Error> {
        let stop = self.stop.clone();
        blocking::read(outlet, &stop, |sink, stop| self.read(sink, stop)).await
    }
}

/// Tells `diff` every commit that `list` names, with the one before it as its only parent, on a
/// thread of its own: both pipes are bounded. Returns how many there were.
fn name_commits(list: &mut Running, diff: &mut Running) -> JoinHandle<u64> {
    let commits = BufReader::new(list.stdout());
    let mut told = BufWriter::new(diff.stdin());
    std::thread::spawn(move || {
        let (mut count, mut parent) = (0, String::new());
        for commit in commits.lines().map_while(Result::ok) {
            // A failure means that diff-tree has ended, which its exit status and the number of
            // commits it told both show.
            if writeln!(told, "{commit} {parent}").is_err() {
                break;
            }
            (count, parent) = (count + 1, commit);
        }
        let _ = told.flush();
        count
    })
}

/// Reads the next record, or `None` at the end.
pub(crate) fn next_record(output: &mut impl BufRead) -> Result<Option<Record>, String> {
    let Some(head) = next_field(output)? else {
        return Ok(None);
    };
    let Some(head) = head.strip_prefix(b":") else {
        return Ok(Some(Record::Commit));
    };
    let path = next_field(output)?.ok_or("a change without its path")?;
    let head = std::str::from_utf8(head).map_err(|e| e.to_string())?;
    let fields: Vec<&str> = head.split(' ').collect();
    let [_, mode, _, blob, _] = fields[..] else {
        return Err(format!("a change of {} fields", fields.len()));
    };
    let present = mode != "000000";
    let value = format!("{{\"blob\":\"{blob}\",\"mode\":\"{mode}\"}}");
    Ok(Some(Record::Change(Change {
        key: path_key(&path),
        value: present.then(|| Json::from_canonical(&value)),
    })))
}

fn next_field(output: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut field = Vec::new();
    output.read_until(0, &mut field).map_err(|e| e.to_string())?;
    match field.pop() {
        None => Ok(None),
        Some(0) => Ok(Some(field)),
        Some(_) => Err("it ends in the middle of a field".to_string()),
    }
}

/// Returns the key of a path: its text, and if it is not UTF-8 its bytes read as Latin-1.
fn path_key(path: &[u8]) -> Json {
    match std::str::from_utf8(path) {
        Ok(path) => Json::string(path),
        Err(_) => Json::string(&path.iter().map(|byte| char::from(*byte)).collect::<String>()),
    }
}
