//! Owns a connection: what it waits for, and when the tables are read beside the log. It does not own what comes of it;
//! the stream does.

use std::time::Duration;

use pgwire_replication::{Lsn, ReplicationClient, ReplicationEvent};
use tokio::time::{Instant, timeout_at};

use super::behind::Behind;
use super::failure::{of, transient};
use super::position::{History, PgPosition};
use super::question::Wanted;
use super::session::Session;
use super::stream::{Out, Stream};
use super::table::{Table, check_names};
use crate::source::{Failure, Lag};

/// Bytes of a piece of the copy, about; and how many rows the first piece has, and the largest.
const PIECE_BYTES: usize = 4 << 20;
const PIECE_ROWS: (usize, usize) = (100, 20_000);

/// A snapshot that does not see what it must is taken again after this, and then after twice as long, up to that.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Nothing may come for so long: a server asks for an answer every 30 s, by default.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Events that are handed over together.
const TOGETHER: usize = 512;

/// A connection.
pub(super) struct Wire {
    session: Session,
    client: ReplicationClient,
    /// In the order of the places' histories.
    tables: Vec<Table>,
    stream: Stream,
    place: String,
    history: History,
    /// Rows of the next piece.
    rows_max: usize,
    /// What was read could not be used: not sooner than this again.
    again: Option<Instant>,
    /// How long that is the next time.
    pause: Duration,
    /// When something came last.
    heard: Instant,
    behind: Behind,
}

impl Wire {
    pub(super) fn new(
        session: Session,
        client: ReplicationClient,
        tables: Vec<Table>,
        stream: Stream,
        behind: Behind,
        place: String,
        history: History,
    ) -> Wire {
        Wire {
            session,
            client,
            tables,
            stream,
            place,
            history,
            rows_max: PIECE_ROWS.0,
            again: None,
            pause: AGAIN.0,
            heard: Instant::now(),
            behind,
        }
    }

    /// Gives the connection up, and returns what is known of the end of its history's log.
    pub(super) fn give_up(self) -> (History, Behind) {
        (self.history, self.behind)
    }

    /// Tells the server what is durable, if that is a place in this history.
    pub(super) fn ack(&self, place: &PgPosition) {
        if self.history == place.history {
            self.client.update_applied_lsn(Lsn(place.lsn));
        }
    }

    /// Returns how far what is durable is behind, if that is a place in this history.
    pub(super) fn lag(&mut self, place: &PgPosition) -> Lag {
        if self.history == place.history { self.behind.lag(place) } else { Lag::default() }
    }

    pub(super) fn take_durable(&mut self) -> Vec<u64> {
        self.behind.take_durable()
    }

    /// May be dropped and called again: what is half received is in the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Out>>, Failure> {
        loop {
            // Before anything goes on. Dropped, it is asked again.
            if self.stream.doubts_names() {
                check_names(&mut self.session, &self.tables, &self.place).await?;
                self.stream.trusts_names();
            }
            if self.stream.waits() {
                self.settle().await?;
                continue;
            }
            let is_due = self.again.is_none_or(|again| again <= Instant::now());
            if is_due && let Some(wanted) = self.stream.wanted() {
                self.read(wanted).await?;
                continue;
            }
            let has = self.stream.out.len();
            if has >= TOGETHER || has > 0 && self.stream.rests() {
                return Ok(Some(std::mem::take(&mut self.stream.out)));
            }
            if self.behind.due() <= Instant::now() {
                self.behind.ask(&mut self.session, &self.place).await?;
                // Of a table that was replaced, the log may say nothing any more.
                check_names(&mut self.session, &self.tables, &self.place).await?;
                self.behind.answered();
            }
            // None: it is time to read again, or to ask.
            let Some(event) = self.event().await? else { continue };
            match event.map_err(|error| of(error, &self.place))? {
                Some(event) => self.take(event)?,
                None => return Ok(None),
            }
        }
    }

    /// Waits for an event; `None` if it is time to read again, or to ask how far the log goes.
    async fn event(
        &mut self,
    ) -> Result<Option<pgwire_replication::Result<Option<ReplicationEvent>>>, Failure> {
        let silent = self.heard + SILENCE_MAX;
        let until = self.again.filter(|_| self.stream.wanted().is_some()).unwrap_or(silent);
        let until = until.min(silent).min(self.behind.due());
        match timeout_at(until, self.client.recv()).await {
            Ok(event) => Ok(Some(event)),
            Err(_) if Instant::now() < silent => Ok(None),
            Err(_) => Err(transient("the server is silent", &self.place)),
        }
    }

    fn take(&mut self, event: ReplicationEvent) -> Result<(), Failure> {
        self.heard = Instant::now();
        match event {
            ReplicationEvent::Begin { xid, final_lsn, commit_time_micros } => {
                self.behind.began(final_lsn.as_u64(), commit_time_micros);
                self.stream.begin(xid);
            }
            ReplicationEvent::XLogData { data, .. } => self.stream.message(&data)?,
            ReplicationEvent::Commit { end_lsn, .. } => {
                self.behind.reached(end_lsn.as_u64());
                self.stream.commit(end_lsn.as_u64());
            }
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                self.behind.reached(wal_end.as_u64());
                if !crate::mutant::on("quiet_table_stays") {
                    self.stream.reached(wal_end.as_u64());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks where the keys of what waits are, if only the server knows, and sends it on its way.
    async fn settle(&mut self) -> Result<(), Failure> {
        let places = match self.stream.unplaced() {
            None => None,
            Some(asked) => {
                let table = &self.tables[asked.table];
                Some(table.places(&mut self.session, &asked).await?)
            }
        };
        self.stream.settle(places);
        Ok(())
    }

    /// Reads what the stream wants beside the log.
    async fn read(&mut self, wanted: Wanted) -> Result<(), Failure> {
        let session = &mut self.session;
        let (piece, is_last) = match &wanted {
            Wanted::After(table, key) => {
                let table = &self.tables[*table];
                let piece = table.after(session, key.as_deref(), self.rows_max).await?;
                let is_last = piece.rows.len() < self.rows_max;
                (piece, is_last)
            }
            Wanted::Keys(table, keys) => (self.tables[*table].rows_of(session, keys).await?, true),
        };
        let copied = matches!(wanted, Wanted::After(..)).then_some((piece.rows.len(), piece.bytes));
        let is_used = self.stream.read(wanted, piece, is_last);
        if is_used && let Some((rows, bytes)) = copied {
            self.behind.copied(rows);
            // Rows may become larger, not all at once; those of the next table are of another size.
            let more = if is_last { PIECE_ROWS.0 } else { self.rows_max * 4 };
            let each = bytes / rows.max(1) + 1;
            self.rows_max = (PIECE_BYTES / each).clamp(1, PIECE_ROWS.1).min(more);
        }
        self.again = (!is_used).then(|| Instant::now() + self.pause);
        self.pause = if is_used { AGAIN.0 } else { (self.pause * 2).min(AGAIN.1) };
        Ok(())
    }
}
