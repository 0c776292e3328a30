//! Owns the last line on stdout: what a run did, as one JSON object. It does not own the counting.

use std::io::{self, Write};

use serde::Serialize;

/// What a run did. The order of the fields is the order of the members, which is a contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Rows read by this run.
    pub read: u64,
    /// Rows dropped because some writer had persisted their time already.
    pub below: u64,
    /// Rows that lost to a greater order in the same time.
    pub superseded: u64,
    /// Rewrites of the value a key had, and deletes of absent keys.
    pub unchanged: u64,
    /// Rows emitted here and committed by another.
    pub lost: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Error values stored.
    pub errors: u64,
    /// The shard's upper as last read; `None` when it is sealed.
    pub upper: Option<u64>,
    /// Appends won and lost.
    pub wins: u64,
    pub losses: u64,
    pub seconds: f64,
}

impl Summary {
    /// Writes it as one line.
    ///
    /// # Errors
    ///
    /// If the output does not take it.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounded = Summary { seconds: (self.seconds * 1000.0).round() / 1000.0, ..self.clone() };
        serde_json::to_writer(&mut *out, &rounded)?;
        writeln!(out)?;
        out.flush()
    }
}
