//! Goal: the rows that a writer still has in memory are those of its own commits and of nothing else. Method: two
//! handles on one root, every part stored under a key of its own; what is read, and how many bytes that took.

use differential_upsert::shard::{Append, Appended, Handle, HandleConfig, HandleOptions, Update};
use differential_upsert::store::{Access, Root};

use crate::common::{append, config, io, row, runtime, schema};

/// Opens a handle that stores every part, and keeps so many bytes of them.
async fn open(root: &Root, base: u64, cache_bytes_max: usize) -> Handle {
    let config = HandleConfig { inline_bytes_max: 0, cache_bytes_max, ..config() };
    let options = HandleOptions::write("data", schema()).with_config(config);
    Handle::open(root.clone(), io(base), options).await.unwrap()
}

/// Reads the rows of the last batch, and returns how many bytes of the store that took, too.
async fn last(handle: &Handle) -> (Vec<Update>, u64) {
    let state = handle.refresh().await.unwrap();
    let batch = state.batches.last().unwrap();
    let before = handle.counters().bytes_read;
    let mut rows = Vec::new();
    for part in &batch.parts {
        rows.extend(handle.fetch(part, batch.lower, batch.upper).await.unwrap());
    }
    (rows, handle.counters().bytes_read - before)
}

#[test]
fn the_rows_of_an_own_commit_are_not_read_while_they_are_in_memory() {
    runtime().block_on(async {
        for (bytes_max, from_memory) in [(1 << 20, true), (0, false)] {
            let root = Root::open("mem:", Access::Write).unwrap();
            let writer = open(&root, 1, bytes_max).await;
            let rows = vec![row("a", "1", 0, 1), row("b", "2", 0, 1), row("c", "3", 1, 1)];
            let _ = append(&writer, 0, 2, rows).await.unwrap();
            let (first, read) = last(&writer).await;
            assert_eq!((first.len(), read == 0), (3, from_memory), "of {bytes_max} bytes at most");
            // They are given out once; in the store is the same.
            let (again, read) = last(&writer).await;
            assert!(again == first && read > 0, "{again:?} after {read} bytes");
            assert_eq!(last(&open(&root, 50, bytes_max).await).await.0, first);
        }
    });
}

#[test]
fn the_rows_of_a_lost_append_are_not_taken_for_those_that_won() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let (ours, rival) = (open(&root, 1, 1 << 20).await, open(&root, 50, 1 << 20).await);
        let parts = ours.prepare(vec![row("k", "ours", 0, 1)]).await.unwrap();
        let won = append(&rival, 0, 1, vec![row("k", "theirs", 0, 1)]).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }), "{won:?}");
        let lost = Append { lower: 0, upper: 1, parts, ..Append::default() };
        assert_eq!(ours.compare_and_append(lost).await.unwrap(), Appended::UpperMismatch(1));
        assert_eq!(last(&ours).await.0, [row("k", "theirs", 0, 1)], "what was committed");
    });
}

#[test]
fn what_is_left_of_a_lost_append_counts_from_where_it_was_committed() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let (ours, rival) = (open(&root, 1, 1 << 20).await, open(&root, 50, 1 << 20).await);
        let rows = vec![row("k", "ours", 0, 1), row("k", "ours", 1, -1), row("k", "later", 1, 1)];
        let parts = ours.prepare(rows).await.unwrap();
        let _ = append(&rival, 0, 1, vec![row("k", "ours", 0, 1)]).await.unwrap();
        let rest = Append { lower: 1, upper: 2, parts, ..Append::default() };
        let won = ours.compare_and_append(rest).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }), "{won:?}");
        let expected = [row("k", "ours", 1, -1), row("k", "later", 1, 1)];
        let (rows, read) = last(&ours).await;
        assert_eq!((rows.as_slice(), read), (&expected[..], 0), "of the rest of the append");
        assert_eq!(last(&rival).await.0, expected);
    });
}
