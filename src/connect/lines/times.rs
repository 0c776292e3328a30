//! Owns the rule of given times: what a feed's rows say about time taken together, which times are
//! closed, and where the feed ends. It does not own reading or sending. Pure.
//!
//! Time t is closed by a later row with `ts` > t, by `{"closed": N}` with N > t, or by the clean
//! end of a finite feed, and by nothing else. So every reading of the lines, from any copy of
//! the feed that is longer or repaired at its end, closes the same times over the same rows.

use super::line::{Bad, Row};

/// Where a row stands: its time, and its order among the rows of its key and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) time: u64,
    pub(super) order: u64,
}

/// What the lines so far say about time.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// The greatest `ts`.
    last: Option<u64>,
    /// The greatest N of a closing, or 0.
    closed: u64,
    /// Whether rows have an `offset`, once a row has decided it.
    offsets: Option<bool>,
    /// The order of the last row placed.
    order: u64,
}

impl Times {
    /// Places a row, or says why it is not taken; then nothing has changed.
    pub(super) fn row(&mut self, row: &Row, line: u64) -> Result<Place, Bad> {
        let time = self.time(row).map_err(|bad| bad.of(row))?;
        let offsets = *self.offsets.get_or_insert(row.offset.is_some());
        let order = match (offsets, row.offset) {
            (true, Some(offset)) => offset,
            (false, None) => line,
            (had, _) => return Err(Bad::offset_on_some(had).of(row)),
        };
        (self.last, self.order) = (Some(time), order);
        Ok(Place { time, order })
    }

    fn time(&self, row: &Row) -> Result<u64, Bad> {
        let Some(ts) = row.ts else {
            let hint =
                "every row of this feed needs one: add it, or have times minted in a new shard";
            return Err(Bad::new("missing \"ts\"", hint));
        };
        if let Some(last) = self.last.filter(|last| ts < *last) {
            let what = format!("\"ts\" decreases from {last} to {ts}");
            let hint = "sort the feed by \"ts\", correct the line, or use --times mint, into another \
                        shard";
            return Err(Bad::new(what, hint));
        }
        if ts < self.closed {
            let closed = self.closed;
            let what = format!("\"ts\" {ts} was closed by {{\"closed\": {closed}}}");
            let hint = "write the row before the closing, or correct the line";
            return Err(Bad::new(what, hint));
        }
        Ok(ts)
    }

    /// Takes `{"closed": N}`. One that says less than is known already changes nothing.
    pub(super) fn close(&mut self, time: u64) {
        self.closed = self.closed.max(time);
    }

    /// Returns the time that bad lines are kept at: the least that is still open. `None` before
    /// the feed has said any time.
    pub(super) fn current(&self) -> Option<u64> {
        let said = self.last.is_some() || self.closed > 0;
        said.then(|| self.boundary())
    }

    /// Places a bad line at the current time, or at 0 if there is none. Its order is its `offset`
    /// if it has one, else that of a row at its place in the feed.
    pub(super) fn keep(&mut self, bad: &Bad, line: u64) -> Place {
        // `{"closed": 2^64 - 1}` leaves no time at which E would still be a time.
        let time = self.boundary().min(u64::MAX - 1);
        let order = match self.offsets {
            Some(true) => bad.offset.unwrap_or(self.order),
            _ => line,
        };
        self.last = Some(time);
        Place { time, order }
    }

    /// Returns the time below which everything is closed.
    pub(super) fn boundary(&self) -> u64 {
        self.last.unwrap_or(0).max(self.closed)
    }

    /// Returns E, the first time that a feed that ends here will never write.
    pub(super) fn end(&self) -> u64 {
        // `ts` is at most 2^64 - 2, so this cannot overflow.
        self.last.map_or(0, |last| last + 1).max(self.closed)
    }
}
