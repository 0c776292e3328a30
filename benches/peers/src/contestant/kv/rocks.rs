//! Owns RocksDB as a store: as it comes, without compression, one batch per time, its log synced. With a bound, its blocks,
//! their index and filters, and its tables in memory are within it.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::Store;

pub struct Rocks {
    store: DB,
    synced: WriteOptions,
}

impl Rocks {
    /// Opens the store of `directory`.
    pub fn open(directory: &Path, bytes_max: Option<usize>) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        // Random values do not get smaller, and the others do not try.
        options.set_compression_type(DBCompressionType::None);
        if let Some(bytes) = bytes_max {
            // A quarter of it for what is not in a file yet.
            let memory = bytes / 4;
            let mut table = BlockBasedOptions::default();
            table.set_block_cache(&Cache::new_lru_cache(bytes - memory));
            table.set_cache_index_and_filter_blocks(true);
            table.set_bloom_filter(10.0, false);
            options.set_block_based_table_factory(&table);
            options.set_db_write_buffer_size(memory);
            options.set_write_buffer_size((memory / 2).max(1 << 20));
        }
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
