//! Owns the book of this crate, chapter by chapter: texts, and no code. What an item does stands with the item.
//!
//! | chapter | for |
//! |---|---|
//! | [`model`] | who writes a program with it: what a command, a time, an order, an upper and the collection are |
//! | [`cursors`] | who reads a source: how a place in a feed becomes durable, and what a lost one means |
//! | [`protocol`] | who doubts it: why no interleaving loses a row or doubles one, and which test shows it |
//! | [`operations`] | who runs it: symptoms, backups, disks, probes, standbys, upgrades |
//! | [`format`](mod@format) | who reads a shard with another program: every byte |

pub mod model {
    #![doc = include_str!("model.md")]
}

pub mod cursors {
    #![doc = include_str!("cursors.md")]
}

pub mod protocol {
    #![doc = include_str!("protocol.md")]
}

pub mod operations {
    #![doc = include_str!("operations.md")]
}

pub mod format {
    #![doc = include_str!("format.md")]
}
