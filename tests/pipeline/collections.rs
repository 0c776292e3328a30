//! Goal: what a reset of a collection deletes is the same in every writer, or nothing is written. Method: one pipeline after
//! another on one shard in memory, as for [`patches`](crate::patches).

use differential_upsert::shard::Access;
use differential_upsert::store::Root;
use differential_upsert::{Command, ErrorKind, PipelineConfig, Shard};

use crate::patches::{Row, feed, open};

fn by_parity(key: &u64) -> &str {
    if key.is_multiple_of(2) { "even" } else { "odd" }
}

fn by_size(key: &u64) -> &str {
    if *key < 10 { "even" } else { "odd" }
}

fn put(key: u64, time: u64) -> Row {
    (Command::put(key, 3, 0), time)
}

fn reset_of(name: &str, time: u64) -> Row {
    (Command::reset_of(name.to_string(), 0), time)
}

fn keys(shard: &Shard<u64, u64>) -> Vec<u64> {
    let last = shard.upper() - 1;
    let rows = shard.io().block_on(shard.snapshot(last)).unwrap();
    let mut keys: Vec<u64> = rows.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    keys
}

/// As a rolling deploy has it: writers of two versions at one shard.
#[test]
fn a_writer_with_other_collections_has_another_feed() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let before = [put(1, 0), put(2, 0), put(11, 0), put(12, 0), reset_of("even", 1)];
    let after = [&before[..], &[reset_of("odd", 2)]].concat();
    let config = PipelineConfig::default;
    feed(&open(&root).with_collections("parity-1", by_parity), &before, config()).unwrap();
    let other = open(&root).with_collections("size-1", by_size);
    let error = feed(&other, &after, config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!((open(&root).upper(), keys(&open(&root))), (2, vec![1, 11]));
    feed(&open(&root).with_collections("parity-1", by_parity), &after, config()).unwrap();
    assert_eq!((open(&root).upper(), keys(&open(&root))), (3, vec![]));
    // Without such a reset there is nothing in which they differ.
    let root = Root::open("mem:", Access::Write).unwrap();
    feed(&open(&root).with_collections("parity-1", by_parity), &[put(1, 0)], config()).unwrap();
    let other = open(&root).with_collections("size-1", by_size);
    feed(&other, &[put(1, 0), put(2, 1)], config()).unwrap();
}

#[test]
fn a_writer_that_resets_another_collection_has_another_feed() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let open = || open(&root).with_collections("parity-1", by_parity);
    let rows = |name| [put(1, 0), put(2, 0), reset_of(name, 1), put(3, 2)];
    let config = PipelineConfig::default;
    feed(&open(), &rows("even")[..3], config()).unwrap();
    let error = feed(&open(), &rows("odd"), config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!((open().upper(), keys(&open())), (2, vec![1]));
    feed(&open(), &rows("even"), config()).unwrap();
    assert_eq!((open().upper(), keys(&open())), (3, vec![1, 3]));
}

/// What came before it is committed, nothing of its time is, and a writer that knows the keys goes on.
#[test]
fn a_reset_of_a_collection_that_nothing_tells_names_it() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let rows = [put(1, 0), put(2, 0), put(4, 1), reset_of("even", 1)];
    let error = feed(&open(&root), &rows, PipelineConfig::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    for part in ["nothing says which keys it has at ", "\"even\"; ", "Shard::with_collections"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(open(&root).upper() <= 1);
    let told = open(&root).with_collections("parity-1", by_parity);
    feed(&told, &rows, PipelineConfig::default()).unwrap();
    // At equal orders a put beats a reset.
    assert_eq!(keys(&told), [1, 4]);
}
