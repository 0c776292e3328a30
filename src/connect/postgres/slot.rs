//! Owns the questions about the server's log: the slot that keeps it, marks in it, and which transactions have ended. It
//! does not own what is in the log.

use super::address::Address;
use super::failure::{definite, transient};
use super::position::lsn;
use super::session::{Session, cell, literal};
use super::snapshot::Snapshot;
use crate::source::Failure;

/// What is known of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What it has been told that need not be kept.
    pub(super) confirmed: u64,
    /// It keeps what comes after that.
    pub(super) is_valid: bool,
}

impl Slot {
    /// Asks for a slot; `None` if it is not there.
    pub(super) async fn look(
        session: &mut Session,
        address: &Address,
        place: &str,
    ) -> Result<Option<Slot>, Failure> {
        let rows = session
            .ask(&format!(
                "SELECT plugin, database, confirmed_flush_lsn, coalesce(wal_status, '') FROM pg_replication_slots \
                 WHERE slot_name = {}",
                literal(&address.slot)
            ))
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        if cell(row, 0) != "pgoutput" || cell(row, 1) != address.database {
            let what = format!(
                "the slot {} is of plugin {:?} and database {:?}",
                address.slot,
                cell(row, 0),
                cell(row, 1)
            );
            return Err(definite(&what, place, "name a slot of its own"));
        }
        let confirmed = lsn(cell(row, 2));
        let is_valid = confirmed.is_some() && cell(row, 3) != "lost";
        Ok(Some(Slot { confirmed: confirmed.unwrap_or(0), is_valid }))
    }

    /// Makes a slot, in place of one that is not valid any more.
    pub(super) async fn make(
        session: &mut Session,
        address: &Address,
        replaces: bool,
        place: &str,
    ) -> Result<Slot, Failure> {
        let slot = literal(&address.slot);
        if replaces {
            session.ask(&format!("SELECT pg_drop_replication_slot({slot})")).await?;
        }
        let made = session
            .ask(&format!("SELECT lsn FROM pg_create_logical_replication_slot({slot}, 'pgoutput')"))
            .await?;
        let confirmed = made.first().and_then(|row| lsn(cell(row, 0)));
        let confirmed = confirmed.ok_or_else(|| transient("a slot without a place", place))?;
        Ok(Slot { confirmed, is_valid: true })
    }
}

/// Puts a mark into the log that the stream will bring, and returns where it is.
pub(super) async fn mark(session: &mut Session, place: &str) -> Result<u64, Failure> {
    let rows =
        session.ask("SELECT pg_logical_emit_message(true, 'differential-upsert', '')").await?;
    let at = rows.first().and_then(|row| lsn(cell(row, 0)));
    at.ok_or_else(|| transient("a mark without a place", place))
}

/// Asks which transactions have ended, and takes a number past all that have begun.
///
/// # Errors
///
/// Transient on a standby, whose name may be the primary's again.
pub(super) async fn now(session: &mut Session, place: &str) -> Result<(Snapshot, u64), Failure> {
    let standby = session.ask("SELECT pg_is_in_recovery()").await?;
    if standby.first().is_some_and(|row| cell(row, 0) == "t") {
        return Err(transient("the server is a standby: name the primary", place));
    }
    let rows =
        session.ask("SELECT pg_current_xact_id()::text, pg_current_snapshot()::text").await?;
    let row = rows.first();
    let number = row.and_then(|row| cell(row, 0).parse().ok());
    let snapshot = row.and_then(|row| Snapshot::parse(cell(row, 1)));
    snapshot.zip(number).ok_or_else(|| transient("an answer without its snapshot", place))
}
