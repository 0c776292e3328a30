//! Owns which rows of a part are a worker's, and what is gathered of several parts before it is sent. It
//! does not own which parts are read, nor when.
//!
//! A worker has a range of hashes ([`deal`](crate::codec::deal)), the same in every run of as many workers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::codec::deal::share;
use crate::error::{Error, ErrorKind};
use crate::shard::{Batch, CacheUse, Handle, Id as LeaseName, Room, Update, Window};

/// One worker's share of a shard.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) handle: Handle,
    pub(super) worker: u64,
    pub(super) peers: u64,
    /// Bounds what is read ahead.
    pub(super) window: Window,
}

impl Share {
    /// Reads this worker's rows of one part.
    pub(super) async fn fetch(
        &self,
        batch: &Arc<Batch>,
        number: usize,
        from: u64,
        lease: Option<LeaseName>,
    ) -> Result<Vec<Update>, Error> {
        let (worker, peers) = (self.worker, self.peers);
        let by_part = crate::mutant::on("deal_by_part").then(|| batch.seqno + number as u64);
        let ours = match by_part {
            None => share(worker, peers),
            Some(number) if number % peers == worker => 0..=u64::MAX,
            Some(_) => RangeInclusive::new(1, 0),
        };
        let (part, lower) = (&batch.parts[number], batch.lower.max(from));
        let rows =
            self.handle.rows().read(part, lower, batch.upper, CacheUse::Following, ours).await;
        match rows {
            Err(e) if e.kind() == ErrorKind::Missing => {
                Err(self.handle.holds().gone(lease, e, || lost(from)).await)
            }
            rows => rows,
        }
    }
}

/// Rows of several parts that are consolidated together.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) rows: Vec<Update>,
    pub(super) rooms: Vec<Room>,
    /// What their parts have.
    pub(super) bytes: u64,
}

impl Gathered {
    pub(super) fn add(&mut self, mut rows: Vec<Update>, room: Room) {
        // A part without rows for us is let go at once.
        if !rows.is_empty() {
            self.rows.append(&mut rows);
            self.bytes = self.bytes.saturating_add(room.bytes());
            if !crate::mutant::on("hydrate_by_rows") {
                self.rooms.push(room);
            }
        }
    }
}

pub(super) fn lost(from: u64) -> Error {
    let what =
        format!("the shard's history from time {from} on is merged away, and no lease has held it");
    Error::new(ErrorKind::LeaseLost, what).hint("start again; it reads the contents anew")
}
