//! Owns the contract of a shard as far as it depends on its store: races, parts, collection, and a root that
//! is taken away. What the store itself must do is [`store`](super::store)'s.

use std::time::Duration;

use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::shard::{
    Append, Appended, Handle, HandleConfig, HandleOptions, Prepared, Schema, Update, verify,
};
use crate::store::Root;

/// Checks everything below, each in a new root that `make` makes.
///
/// # Panics
///
/// Panics if the shard breaks its contract, or the store fails.
pub async fn all(make: impl Fn() -> Root, io: &Io) {
    appends(make(), io).await;
    overtaken_reader(make(), io).await;
    parts(make(), io).await;
    let root = make();
    racing_writers(|| root.clone(), io).await;
    removed_root(make(), io).await;
}

fn schema() -> Schema {
    Schema { codec: "text".into(), key: "Key".into(), value: "Value".into() }
}

/// A config whose waits are too short to notice.
fn config() -> HandleConfig {
    HandleConfig {
        outage_max: Duration::from_secs(5),
        retry_delay_min: Duration::from_micros(1),
        retry_delay_max: Duration::from_micros(1),
        ..HandleConfig::default()
    }
}

async fn open(root: &Root, io: &Io, config: HandleConfig) -> Result<Handle, Error> {
    let options = HandleOptions::write("data", schema()).with_config(config);
    Handle::open(root.clone(), io.clone(), options).await
}

async fn read(root: &Root, io: &Io) -> Result<Handle, Error> {
    Handle::open(root.clone(), io.clone(), HandleOptions::read("data").with_config(config())).await
}

fn row(key: &str, value: &str, time: u64, diff: isize) -> Update {
    let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
    ((bytes(key), bytes(value)), time, diff)
}

async fn append(
    handle: &Handle,
    lower: u64,
    upper: u64,
    rows: Vec<Update>,
) -> Result<Appended, Error> {
    let parts = handle.prepare(rows).await?;
    handle.compare_and_append(Append { lower, upper, parts, ..Append::default() }).await
}

/// The rows of a snapshot as text.
async fn contents(handle: &Handle, as_of: u64) -> Result<Vec<(String, String, isize)>, Error> {
    let text = |row: &Encoded| String::from_utf8(row.as_bytes().to_vec()).unwrap();
    let rows = handle.snapshot(as_of).await?;
    Ok(rows.iter().map(|((k, v), _, diff)| (text(k), text(v), *diff)).collect())
}

fn strings(rows: &[(&str, &str)]) -> Vec<(String, String, isize)> {
    rows.iter().map(|(k, v)| (k.to_string(), v.to_string(), 1)).collect()
}

/// Checks two writers and a reader on one log, from its first entry to its end. The store may report errors
/// for what it has written, and late: these are settled.
///
/// # Panics
///
/// As [`all`].
pub async fn appends(root: Root, io: &Io) {
    let handle = open(&root, io, config()).await.unwrap();
    assert_eq!((handle.state().seqno, handle.state().upper), (0, 0));
    assert_eq!(handle.schema(), schema());
    let changed = handle.changed();

    // Two writers, one log: the second learns where the shard is, as a value.
    let won = append(&handle, 0, 5, vec![row("a", "1", 3, 1), row("b", "1", 4, 1)]).await.unwrap();
    assert_eq!(won, Appended::Won { seqno: 1 });
    assert_eq!(*changed.borrow(), 1, "told at once");
    let rival = open(&root, io, config()).await.unwrap();
    assert_eq!(rival.state(), handle.state());
    let won = append(&rival, 5, 6, vec![row("a", "1", 5, -1), row("a", "2", 5, 1)]).await.unwrap();
    assert_eq!(won, Appended::Won { seqno: 2 });
    let lost = append(&handle, 5, 9, vec![row("c", "1", 5, 1)]).await.unwrap();
    assert_eq!(lost, Appended::UpperMismatch(6));
    let lost = append(&handle, 7, 9, vec![row("c", "1", 8, 1)]).await.unwrap();
    assert_eq!(lost, Appended::UpperMismatch(6));

    // An interval without rows, and rows below the interval, which do not count.
    assert_eq!(append(&handle, 6, 8, vec![]).await.unwrap(), Appended::Won { seqno: 3 });
    let rows = vec![row("late", "x", 5, 1), row("d", "1", 8, 1)];
    assert_eq!(append(&rival, 8, 9, rows).await.unwrap(), Appended::Won { seqno: 4 });
    assert_eq!(rival.state().batches.len(), 3);
    assert_eq!(rival.state().since, 8, "history 1 by default");
    let expected = strings(&[("a", "2"), ("b", "1"), ("d", "1")]);
    assert_eq!(contents(&rival, 8).await.unwrap(), expected);
    assert_eq!(contents(&handle, 8).await.unwrap(), expected, "refreshes by itself");
    for as_of in [7, 9] {
        let error = contents(&handle, as_of).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(&format!("as of {as_of}: since is 8, upper is 9")), "{text}");
    }

    // A reader sees the same, and changes nothing.
    let reader = read(&root, io).await.unwrap();
    assert_eq!(reader.schema(), schema());
    assert_eq!(contents(&reader, 8).await.unwrap(), expected);
    assert_eq!(append(&reader, 9, 10, vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
    let other = Schema { value: "Other".into(), ..schema() };
    let options = HandleOptions::read("data").with_schema(other).with_config(config());
    let refused = Handle::open(root.clone(), io.clone(), options).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);

    // The end.
    let seal = Append { lower: 9, upper: 9, seal: true, ..Append::default() };
    assert_eq!(handle.compare_and_append(seal.clone()).await.unwrap(), Appended::Won { seqno: 5 });
    assert_eq!(rival.compare_and_append(seal).await.unwrap(), Appended::UpperMismatch(9));
    assert_eq!(rival.state().sealed_at, Some(9));
    let error = append(&rival, 9, 10, vec![]).await.unwrap_err();
    assert!(error.to_string().contains("sealed at 9"), "{error}");
    assert_eq!(append(&rival, 3, 10, vec![]).await.unwrap(), Appended::UpperMismatch(9));
    assert_eq!(contents(&rival, 8).await.unwrap(), expected);
    let verified = verify(root, io.clone()).await.unwrap();
    assert_eq!((verified.entries, verified.unknown), (5, vec![]));
}

/// Checks that a reader which the floor has overtaken goes on from a rollup.
///
/// # Panics
///
/// As [`all`].
pub async fn overtaken_reader(root: Root, io: &Io) {
    let reader = open(&root, io, config()).await.unwrap();
    let config = HandleConfig { rollup_every: 1, inline_bytes_max: 0, ..config() };
    let writer = open(&root, io, config).await.unwrap();
    for time in 0..4 {
        let rows = vec![row(&format!("k{time}"), "v", time, 1)];
        let _ = append(&writer, time, time + 1, rows).await.unwrap();
    }
    // The writer's lease is the first entry.
    root.log("data").raise_floor(4).await.unwrap();
    for seqno in 1..=4 {
        root.log("data").delete(seqno).await.unwrap();
    }
    assert_eq!(reader.refresh().await.unwrap(), writer.state());
    assert_eq!(contents(&reader, 3).await.unwrap().len(), 4);
    assert_eq!(verify(root, io.clone()).await.unwrap().entries, 1);
}

/// Checks that large batches are parts, that those of a lost append can be discarded, and that what is merged
/// and collected leaves the rows.
///
/// # Panics
///
/// As [`all`].
pub async fn parts(root: Root, io: &Io) {
    let config = HandleConfig { inline_bytes_max: 40, part_bytes_max: 100, ..config() };
    let handle = open(&root, io, config).await.unwrap();
    let rows: Vec<_> = (0..20).map(|n| row(&format!("key{n:02}"), "value", 0, 1)).collect();
    let parts = handle.prepare(rows.clone()).await.unwrap();
    assert!(parts.len() > 3 && parts.iter().all(|p| matches!(p, Prepared::Stored(_))));
    assert_eq!(parts.iter().map(Prepared::updates).sum::<u64>(), 20);
    let cancelled = vec![row("a", "b", 1, 1), row("a", "b", 1, -1)];
    assert!(handle.prepare(cancelled).await.unwrap().is_empty());
    let lost = handle.prepare(rows.clone()).await.unwrap();
    let won = Append { lower: 0, upper: 1, parts, ..Append::default() };
    // The lease under which parts are uploaded is an entry of its own.
    assert_eq!(handle.compare_and_append(won).await.unwrap(), Appended::Won { seqno: 2 });
    let late = Append { lower: 0, upper: 1, parts: lost.clone(), ..Append::default() };
    assert_eq!(handle.compare_and_append(late).await.unwrap(), Appended::UpperMismatch(1));
    let before = verify(root.clone(), io.clone()).await.unwrap();
    assert_eq!(before.orphans.len(), lost.len());
    handle.discard(lost).await;
    let orphans = verify(root.clone(), io.clone()).await.unwrap().orphans;
    assert_eq!(orphans, Vec::<String>::new());
    let expected: Vec<_> =
        rows.iter().map(|((k, v), _, _)| ((k.clone(), v.clone()), 0, 1)).collect();
    assert_eq!(read(&root, io).await.unwrap().snapshot(0).await.unwrap(), expected);
    let more = vec![row("more", "value", 1, 1)];
    assert_eq!(append(&handle, 1, 2, more).await.unwrap(), Appended::Won { seqno: 3 });
    assert_eq!(handle.compact().await.unwrap().compactions, 1);
    handle.close().await.unwrap();
    assert!(handle.collect().await.unwrap().entries_deleted > 0);
    assert_eq!(read(&root, io).await.unwrap().snapshot(1).await.unwrap().len(), 21);
    let left = verify(root, io.clone()).await.unwrap();
    assert_eq!((left.orphans, left.unknown), (vec![], vec![]));
}

/// Checks that every time is won by exactly one of several writers, each of which opens the root that `view`
/// returns: always the same one, as clones or opened anew.
///
/// # Panics
///
/// As [`all`].
pub async fn racing_writers(view: impl Fn() -> Root, io: &Io) {
    const WRITERS: u64 = 4;
    const TIMES: u64 = 20;
    let race = |n: u64| {
        let (root, io) = (view(), io.clone());
        async move {
            let handle = open(&root, &io, config()).await.unwrap();
            let (mut wins, mut upper) = (Vec::new(), handle.state().upper);
            while upper < TIMES {
                let rows = vec![row(&format!("{upper:02}"), &n.to_string(), upper, 1)];
                match append(&handle, upper, upper + 1, rows).await.unwrap() {
                    Appended::Won { .. } => {
                        wins.push((format!("{upper:02}"), n.to_string(), 1));
                        upper += 1;
                    }
                    Appended::UpperMismatch(now) => upper = now,
                    Appended::Fenced(_) => unreachable!("nobody fences"),
                }
            }
            wins
        }
    };
    let racers: Vec<_> = (0..WRITERS).map(|n| io.spawn(race(n))).collect();
    let mut wins = Vec::new();
    for racer in racers {
        wins.extend(racer.await.unwrap());
    }
    wins.sort();
    let found = contents(&read(&view(), io).await.unwrap(), TIMES - 1).await.unwrap();
    assert_eq!(found, wins, "what the shard holds is what the writers were told");
    assert_eq!(wins.len() as u64, TIMES);
    verify(view(), io.clone()).await.unwrap();
}

/// Checks that a writer whose root is taken away stops, and writes nothing there.
///
/// # Panics
///
/// As [`all`].
pub async fn removed_root(root: Root, io: &Io) {
    let writer = open(&root, io, config()).await.unwrap();
    let _ = append(&writer, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
    let (blob, log) = (root.blob(), root.log("data"));
    log.raise_floor(1).await.unwrap();
    log.delete(1).await.unwrap();
    for found in blob.list("", usize::MAX).await.unwrap() {
        blob.delete(&found.key).await.unwrap();
    }
    let refused = append(&writer, 1, 2, vec![]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Replaced, "{refused}");
    assert_eq!(writer.refresh().await.unwrap_err().kind(), ErrorKind::Replaced);
    assert_eq!(blob.list("", usize::MAX).await.unwrap(), vec![]);
    assert_eq!(log.entries().await.unwrap(), Vec::<u64>::new());
}
