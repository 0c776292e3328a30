//! Owns the two kinds of position that feeds here have: offsets, and sets of transactions with a place
//! in a copy. It does not own how they compare.

use std::collections::BTreeSet;

use differential_upsert::source::Position;

use crate::behaviours::script::At;

pub trait Place: Position + PartialEq {
    /// Whether transactions may come in another order than that of the log, if they do not conflict.
    const SETS: bool;
    fn place(history: u8, seen: &BTreeSet<u32>, copied: Option<u64>) -> Self;
    fn history(&self) -> u8;
    fn seen(&self) -> BTreeSet<u32>;
    fn copied(&self) -> Option<u64>;
}

impl Place for At {
    const SETS: bool = true;

    fn place(history: u8, seen: &BTreeSet<u32>, copied: Option<u64>) -> At {
        At { history, seen: seen.clone(), copied }
    }

    fn history(&self) -> u8 {
        self.history
    }

    fn seen(&self) -> BTreeSet<u32> {
        self.seen.clone()
    }

    fn copied(&self) -> Option<u64> {
        self.copied
    }
}

impl Place for u64 {
    const SETS: bool = false;

    fn place(_: u8, seen: &BTreeSet<u32>, _: Option<u64>) -> u64 {
        seen.len() as u64
    }

    fn history(&self) -> u8 {
        0
    }

    fn seen(&self) -> BTreeSet<u32> {
        (1..=*self as u32).collect()
    }

    fn copied(&self) -> Option<u64> {
        None
    }
}
