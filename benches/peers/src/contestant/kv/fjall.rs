//! Owns fjall as a store: one keyspace, as it comes, one synced batch per time.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Store;

pub struct Fjall {
    database: Database,
    rows: Keyspace,
}

impl Fjall {
    /// Opens the store of `directory`.
    pub fn open(directory: &Path) -> Self {
        let database = Database::builder(directory).open().expect("a directory to write to");
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default).expect("a keyspace");
        Fjall { database, rows }
    }
}

impl Store for Fjall {
    fn get(&self, key: [u8; 8], with: impl FnOnce(&[u8])) {
        if let Some(value) = self.rows.get(key).expect("a store that works") {
            with(&value);
        }
    }

    fn put(&mut self, rows: impl Iterator<Item = ([u8; 8], [u8; 64])>) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in rows {
            batch.insert(&self.rows, key, value);
        }
        batch.commit().expect("a store that works");
    }
}
