//! Owns the list of contestants and how one is run by its name. It does not own how they work: a file each.

pub mod differential;

pub mod durable;

mod bare;

mod kv;

pub mod log;

pub mod map;

pub mod rows;

mod workers;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Figures, Pace};
use crate::load::Record;

/// What is compared.
#[derive(
    clap::ValueEnum,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// A loop over a `HashMap` of arrays: what no upsert can be faster than.
    Hashmap,
    /// The same, and before each time is done one write to a log, and its fdatasync.
    HashmapLog,
    /// `arrange_from_upsert` with values in arrays, in memory.
    Arrange,
    /// `arrange_from_upsert` with values in `Vec`s, in memory.
    ArrangeVec,
    /// RocksDB: get, then one batch per time, its log synced.
    Rocksdb,
    /// fjall: the same.
    Fjall,
    /// Our operator with packed rows, fed back in memory.
    Packed,
    /// Our operator with rows in columns, fed back in memory.
    Columns,
    /// Our whole loop on a local directory, committed and read back; each time waits for the one before.
    Strict,
    /// The same, running ahead of its commits.
    Ahead,
}

impl Contestant {
    /// Returns the name that the command line and the tables have.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("none is skipped");
        value.get_name().to_string()
    }

    /// Whether this binary was built with it.
    pub fn is_here(self) -> bool {
        (self != Contestant::Rocksdb || cfg!(feature = "rocksdb"))
            && (self != Contestant::Fjall || cfg!(feature = "fjall"))
    }

    /// Whether what it has done outlives its process.
    pub fn is_durable(self) -> bool {
        use Contestant::*;
        matches!(self, HashmapLog | Rocksdb | Fjall | Strict | Ahead)
    }

    /// Whether it can have several workers.
    pub fn has_workers(self) -> bool {
        use Contestant::*;
        !matches!(self, Hashmap | HashmapLog | Rocksdb | Fjall)
    }

    /// Runs it over `records`. What is durable is kept in `directory`, which is empty. Packed rows, the whole loop and
    /// RocksDB keep to `state_bytes` in memory.
    pub fn run(
        self,
        records: Vec<Record>,
        pace: Pace,
        directory: &Path,
        state_bytes: Option<usize>,
    ) -> Figures {
        let records = Arc::new(records);
        match self {
            Contestant::Hashmap => map::run(&records, pace),
            Contestant::HashmapLog => log::run(&records, pace, directory),
            Contestant::Arrange => differential::run::<rows::Arrays>(records, pace),
            Contestant::ArrangeVec => differential::run::<rows::Vecs>(records, pace),
            #[cfg(feature = "rocksdb")]
            Contestant::Rocksdb => {
                kv::run(&records, pace, kv::rocks::Rocks::open(directory, state_bytes))
            }
            #[cfg(feature = "fjall")]
            Contestant::Fjall => kv::run(&records, pace, kv::fjall::Fjall::open(directory)),
            Contestant::Packed => bare::run::<rows::Packs>(records, pace, state_bytes),
            Contestant::Columns => bare::run::<rows::Vecs>(records, pace, None),
            Contestant::Strict => {
                durable::run(records, pace, directory, durable::Mode::Strict, state_bytes)
            }
            Contestant::Ahead => {
                durable::run(records, pace, directory, durable::Mode::Ahead, state_bytes)
            }
            #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
            absent => panic!("{} needs the feature of its name", absent.name()),
        }
    }
}
