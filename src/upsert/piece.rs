//! Owns how much a drain does in one wake-up, and what it says it did. It does not own what is done.

/// What a drain did, and with the commands that it did not emit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Changed a key, and emitted.
    pub emitted: u64,
    /// Lost to a greater order in the same time, or patched there by a later command.
    pub superseded: u64,
    /// Rewrites of the live value, patches that change nothing, and deletes of absent keys.
    pub unchanged: u64,
    /// Commands and swept rows looked at, and patches applied.
    pub work: u64,
    /// Rows that it has asked for, which were not in memory.
    pub missed: u64,
    /// It goes on when these have come.
    pub waits: bool,
    /// All of it is out.
    pub done: bool,
}

/// A wake-up's share: a drain stops when one of these is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Updates to emit.
    pub rows: usize,
    /// Bytes of their keys and values, and of values that are patched on.
    pub bytes: usize,
    /// Commands and rows to look at, and patches to apply.
    pub work: usize,
}

impl Piece {
    /// Whether something of it is used up.
    pub fn is_used_up(&self) -> bool {
        self.rows == 0
            || (self.bytes == 0 || self.work == 0) && !crate::mutant::on("pieces_by_rows")
    }

    pub(super) fn emit(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn pass(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn look(&mut self, commands: u64, drained: &mut Drained) {
        self.work = self.work.saturating_sub(commands as usize);
        drained.work += commands;
    }
}
