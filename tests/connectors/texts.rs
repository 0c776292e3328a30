//! Owns a shard of JSON texts in memory, as tables of databases are written to it: how it is opened, and what is durable
//! in it. It does not own the pipelines that write it.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_upsert::codec::{COLLECTIONS, KEEP_UNSENT, collection, keep_unsent};
use differential_upsert::io::{Io, RandomTokens};
use differential_upsert::shard::HandleConfig;
use differential_upsert::store::Root;
use differential_upsert::{Encoded, Shard};
use tokio::runtime::Runtime;

/// Opens a shard on a runtime.
pub fn open(runtime: &Runtime, root: &Root) -> Shard<String, String> {
    let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
    let opened = Shard::open_with(root.clone(), io, HandleConfig::default());
    let shard = runtime.block_on(opened).expect("a store in memory");
    shard.with_fold(KEEP_UNSENT, keep_unsent).with_collections(COLLECTIONS, |key| collection(key))
}

/// Reads what is durable: keys and values as they are. Values that are errors come as `error: TEXT`.
pub fn texts(runtime: &Runtime, root: &Root) -> BTreeMap<String, String> {
    let shard = open(runtime, root);
    let text = |bytes: &[u8]| postcard::from_bytes::<String>(bytes).expect("a text");
    let row = |((key, value), _, diff): ((Encoded, Encoded), u64, isize)| {
        assert_eq!(diff, 1, "one live value");
        let value = match value.as_bytes() {
            [0, value @ ..] => text(value),
            [_, error @ ..] => format!("error: {}", String::from_utf8_lossy(error)),
            [] => panic!("a value without a tag"),
        };
        (text(key.as_bytes()), value)
    };
    runtime.block_on(async {
        let state = shard.handle().refresh().await.expect("a store in memory");
        if state.upper == 0 {
            return BTreeMap::new();
        }
        let rows = shard.handle().snapshot(state.upper - 1).await.expect("a store in memory");
        rows.into_iter().map(row).collect()
    })
}
