//! Owns RocksDB as a store: as it comes, without compression, one batch per time, its log synced.

use std::path::Path;

use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::Store;

pub struct Rocks {
    store: DB,
    synced: WriteOptions,
}

impl Rocks {
    /// Opens the store of `directory`.
    pub fn open(directory: &Path) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        // Random values do not get smaller, and the others do not try.
        options.set_compression_type(DBCompressionType::None);
        let store = DB::open(&options, directory).expect("a directory to write to");
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Rocks { store, synced }
    }
}

impl Store for Rocks {
    fn get(&self, key: [u8; 8], with: impl FnOnce(&[u8])) {
        if let Some(value) = self.store.get_pinned(key).expect("a store that works") {
            with(&value);
        }
    }

    fn put(&mut self, rows: impl Iterator<Item = ([u8; 8], [u8; 64])>) {
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            batch.put(key, value);
        }
        self.store.write_opt(batch, &self.synced).expect("a store that works");
    }
}
