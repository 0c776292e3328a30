//! Owns how far what is durable lies behind the server: the end of its log, when what is on its way was committed, and how
//! many rows the copy has left. It does not own the places themselves.
//!
//! Whatever a server sends says how far it has *read* its log; how far that goes, it has to be asked.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::transient;
use super::position::{PgPosition, lsn};
use super::session::{Session, cell};
use crate::source::trail::Trail;
use crate::source::{Age, Failure, Lag};

/// How often the server is asked for the end of its log, and how soon again if the answer was not waited for.
const ASK: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH: i64 = 946_684_800_000_000;

/// What is known of a connection's end.
#[derive(Debug)]
pub(super) struct Behind {
    /// Where the log ends.
    end: u64,
    /// Everything before it has come.
    reached: u64,
    /// Commits, and when they were made.
    commits: Trail,
    /// Where the log ended when it was asked for, and when that was, in milliseconds since 1970 by the server's clock.
    asked: Option<(u64, u64)>,
    /// All that the server had by then is durable.
    had: Option<u64>,
    /// Rows that the copy has not read, by the table's statistics.
    rows_left: Option<u64>,
    due: Instant,
}

impl Behind {
    /// Goes on after a place, when the log ended at `end`.
    pub(super) fn new(after: u64, end: u64, rows_left: Option<u64>) -> Behind {
        let (end, due) = (end.max(after), Instant::now() + ASK);
        let (commits, asked, had) = (Trail::default(), None, None);
        Behind { end, reached: after, commits, asked, had, rows_left, due }
    }

    /// Goes on in another connection of the same history: what this one has received may become durable in that one.
    pub(super) fn again(self, after: u64, end: u64) -> Behind {
        let Behind { commits, asked, had, .. } = self;
        Behind { commits, asked, had, ..Behind::new(after, end, None) }
    }

    /// Takes in that a transaction is on its way whose commit is at a place.
    pub(super) fn began(&mut self, commit: u64, committed_micros: i64) {
        let committed = committed_micros.saturating_add(EPOCH) / 1_000;
        self.commits.add(commit, committed.try_into().unwrap_or(0));
    }

    /// Takes in that everything before a place has come.
    pub(super) fn reached(&mut self, place: u64) {
        self.reached = self.reached.max(place);
        self.end = self.end.max(place);
    }

    /// Takes in that rows of the copy were read.
    pub(super) fn copied(&mut self, rows: usize) {
        self.rows_left = self.rows_left.map(|left| left.saturating_sub(rows as u64));
    }

    /// Returns how far what is durable is behind.
    pub(super) fn lag(&mut self, durable: &PgPosition) -> Lag {
        let to = if crate::mutant::on("lag_of_received") { self.reached } else { durable.lsn };
        if let Some((_, when)) = self.asked.take_if(|(end, _)| *end <= to) {
            self.had = Some(when);
        }
        let age = match (self.commits.age(to, self.reached >= self.end), self.had) {
            // Since then there is more, which has not come yet.
            (Age::Unknown, Some(when)) => Age::AsOf(when),
            (age, _) => age,
        };
        let bytes = Some(self.end.saturating_sub(to));
        match durable.is_copied() {
            true => Lag { rows: None, bytes, age },
            // A reader does not see all rows yet, however new those are that it sees.
            false => Lag { rows: self.rows_left, bytes, age: Age::Unknown },
        }
    }

    /// Returns when the transactions were committed that have become durable.
    pub(super) fn take_durable(&mut self) -> Vec<u64> {
        self.commits.take_durable()
    }

    /// Returns when the server is to be asked again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Asks the server where its log ends.
    pub(super) async fn ask(&mut self, session: &mut Session, place: &str) -> Result<(), Failure> {
        self.due = Instant::now() + ASK_AGAIN;
        let now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let rows = session.ask(&format!("SELECT {now}, pg_current_wal_flush_lsn()")).await?;
        let answer = rows.first().map(|row| (cell(row, 0).parse().ok(), lsn(cell(row, 1))));
        let Some((Some(when), Some(end))) = answer else {
            return Err(transient("a log without an end", place));
        };
        self.end = self.end.max(end);
        // One that is not durable yet stays: however long that takes, it is told then.
        self.asked.get_or_insert((end, when));
        Ok(())
    }

    /// Takes in that all was asked that is to be asked with it.
    pub(super) fn answered(&mut self) {
        self.due = Instant::now() + ASK;
    }
}

/// Returns how many rows tables have by their statistics, those of partitions summed up; `None` without statistics of one.
pub(super) async fn rows_of(
    session: &mut Session,
    tables: impl Iterator<Item = u32>,
) -> Result<Option<u64>, Failure> {
    let tables: Vec<String> = tables.map(|oid| oid.to_string()).collect();
    let tables = tables.join(", ");
    let rows = session
        .ask(&format!(
            "SELECT CASE WHEN min(reltuples) >= 0 THEN sum(reltuples)::bigint END FROM pg_class WHERE relkind = 'r' \
             AND (oid IN ({tables}) OR oid IN (SELECT relid FROM unnest(ARRAY[{tables}]) t, pg_partition_tree(t)))"
        ))
        .await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::super::position::{Copied, History, Lineage};
    use super::*;

    fn at(lsn: u64, copied: bool) -> PgPosition {
        let history =
            History { system: 7, timeline: 1, tables: [Lineage { oid: 1, key: 1 }].into() };
        PgPosition { history, lsn, copy: (!copied).then(Copied::default) }
    }

    #[test]
    fn what_the_server_has_and_is_not_durable_is_behind() {
        let mut behind = Behind::new(100, 500, Some(1_000));
        let lag = |bytes, age| Lag { rows: None, bytes: Some(bytes), age };
        assert_eq!(behind.lag(&at(100, true)), lag(400, Age::Unknown), "nothing has come yet");
        behind.began(180, 1_000_000);
        let second = 946_684_801_000;
        assert_eq!(behind.lag(&at(100, true)), lag(400, Age::AsOf(second)));
        behind.reached(200);
        behind.began(580, 2_000_000);
        behind.reached(600);
        assert_eq!(behind.lag(&at(100, true)), lag(500, Age::AsOf(second)));
        assert_eq!(behind.lag(&at(200, true)), lag(400, Age::AsOf(second + 1_000)));
        assert_eq!(behind.lag(&at(600, true)), lag(0, Age::Current));
        assert_eq!(behind.take_durable(), [second, second + 1_000]);
        // What others write changes this table in nothing, and its place may become durable later.
        behind.reached(700);
        assert_eq!(behind.lag(&at(600, true)), lag(100, Age::Current));
    }

    /// However old the last row of a quiet table is, what is there now is not.
    #[test]
    fn what_has_not_come_yet_is_as_old_as_what_was_asked_for() {
        let mut behind = Behind::new(100, 100, None);
        behind.began(180, 1_000_000);
        behind.reached(200);
        (behind.end, behind.asked) = (300, Some((300, 900_000_000_000)));
        let lag = |bytes, age| Lag { rows: None, bytes: Some(bytes), age };
        assert_eq!(behind.lag(&at(200, true)), lag(100, Age::Unknown));
        behind.reached(300);
        assert_eq!(behind.lag(&at(300, true)), lag(0, Age::Current));
        behind.end = 400;
        assert_eq!(behind.lag(&at(300, true)), lag(100, Age::AsOf(900_000_000_000)));
    }

    #[test]
    fn what_was_received_in_one_connection_is_known_in_the_next() {
        let mut behind = Behind::new(100, 100, None);
        behind.began(180, 1_000_000);
        behind.reached(200);
        let mut behind = behind.again(200, 200);
        let lag = |bytes, age| Lag { rows: None, bytes: Some(bytes), age };
        assert_eq!(behind.lag(&at(100, true)), lag(100, Age::AsOf(946_684_801_000)));
        assert_eq!(behind.lag(&at(200, true)), lag(0, Age::Current));
    }

    #[test]
    fn a_copy_has_rows_left() {
        let mut behind = Behind::new(100, 100, Some(1_000));
        behind.copied(300);
        let lag = |rows| Lag { rows, bytes: Some(0), age: Age::Unknown };
        assert_eq!(behind.lag(&at(100, false)), lag(Some(700)));
        behind.copied(900);
        assert_eq!(behind.lag(&at(100, false)), lag(Some(0)));
        assert_eq!(Behind::new(100, 100, None).lag(&at(100, false)), lag(None));
    }
}
