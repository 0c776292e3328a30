//! Owns the last line on stdout: what a run did, as one JSON object. It does not own the counting.

use std::io::{self, Write};

use serde::Serialize;

use crate::args::Args;

/// What a run did. The order of the fields is the order of the members, which is a contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Rows read by this run.
    pub(crate) read: u64,
    /// Messages other than row changes.
    pub(crate) skipped: u64,
    /// Rows dropped because some writer had persisted their time already.
    pub(crate) below: u64,
    /// Rows that lost to a greater order in the same time, or that a later patch of it has changed.
    pub(crate) superseded: u64,
    /// Rewrites of the value a key had, patches that change nothing, and deletes of absent keys.
    pub(crate) unchanged: u64,
    /// Rows emitted here and committed by another.
    pub(crate) lost: u64,
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    /// Error values stored.
    pub(crate) errors: u64,
    /// The shard's upper as last read; `None` when it is sealed.
    pub(crate) upper: Option<u64>,
    /// Appends won and lost.
    pub(crate) wins: u64,
    pub(crate) losses: u64,
    pub(crate) seconds: f64,
    /// Bad lines that were written away, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quarantined: Option<u64>,
    /// Said when rows were dropped without proof that the shard has them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unchecked: bool,
}

impl Summary {
    /// Returns what stands in no other line for people: what became of bad lines, and where they are.
    pub(crate) fn notes(&self, args: &Args) -> Vec<String> {
        let count = |count: u64, one: &str, many: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        };
        let kept = Some(self.errors).filter(|errors| *errors > 0).map(|errors| {
            let errors = count(errors, "error was", "errors were");
            format!(
                "{errors} kept in place of values: shard errors {} lists those that are still there",
                args.shard
            )
        });
        let away = args.on_error.quarantine().zip(self.quarantined.filter(|away| *away > 0));
        let away = away.map(|(file, away)| {
            format!(
                "{} written away to {}",
                count(away, "bad line was", "bad lines were"),
                file.display()
            )
        });
        kept.into_iter().chain(away).collect()
    }

    /// Writes it as one line.
    ///
    /// # Errors
    ///
    /// If the output does not take it.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounded = Summary { seconds: (self.seconds * 1000.0).round() / 1000.0, ..self.clone() };
        serde_json::to_writer(&mut *out, &rounded)?;
        writeln!(out)?;
        out.flush()
    }
}
