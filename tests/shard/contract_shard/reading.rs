//! Goal: what is opened for reading writes nothing, ever, and reads all there is. Method: every way to
//! read a shard, over a directory compared byte for byte before and after, and through a store that
//! counts writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use differential_upsert::codec::{DataError, Postcard, encode_stored};
use differential_upsert::health::{HealthState, Role};
use differential_upsert::io::Io;
use differential_upsert::pipeline::Changes;
use differential_upsert::shard::{Access, Append, Appended, HandleConfig, History, Update};
use differential_upsert::store::{Fault, Faults, Root};
use differential_upsert::timely;
use differential_upsert::{Encoded, Error, ErrorKind, Packed, Pipeline, Shard};
use timely::dataflow::operators::capture::{Capture, Extract};

type Typed = Shard<String, u64>;

fn row(key: &str, value: Result<u64, &str>, time: u64, diff: isize) -> Update {
    let mut stored = Vec::new();
    let value = value.map_err(|e| DataError(e.to_string()));
    encode_stored::<u64, Postcard>(&value, &mut stored).unwrap();
    let key = Packed::pack(&key.to_string()).unwrap().cast();
    ((key, Encoded::from_bytes(stored)), time, diff)
}

async fn append(shard: &Typed, lower: u64, upper: u64, rows: Vec<Update>) {
    let parts = shard.handle().prepare(rows).await.unwrap();
    let append = Append { lower, upper, parts, ..Append::default() };
    let appended = shard.handle().compare_and_append(append).await.unwrap();
    assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
}

/// A shard of three times, one of them large.
fn make(url: &str, io: &Io) -> Typed {
    io.block_on(async {
        let root = Root::open(url, Access::Write).unwrap();
        let history = Some(History::Keep);
        let config = HandleConfig { inline_bytes_max: 100, history, ..HandleConfig::default() };
        let shard = Typed::open_with(root, io.clone(), config).await.unwrap();
        append(&shard, 0, 1, vec![row("a", Ok(1), 0, 1), row("b", Err("bad"), 0, 1)]).await;
        let many = (0..50).map(|n| row(&format!("many {n}"), Ok(n), 1, 1));
        append(&shard, 1, 2, many.collect()).await;
        let update = vec![row("a", Ok(1), 2, -1), row("a", Ok(2), 2, 1)];
        append(&shard, 2, 4, update).await;
        shard.handle().close().await.unwrap();
        shard
    })
}

/// Every file below a directory: what is in it, and when it was written.
fn files(directory: &Path) -> BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>> {
    let mut all = BTreeMap::new();
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            all.insert(path.clone(), None);
            all.extend(files(&path));
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            all.insert(path.clone(), Some((std::fs::read(&path).unwrap(), written)));
        }
    }
    all
}

/// Reads a shard in every way there is.
fn read(shard: &Typed) {
    let io = shard.io().clone();
    assert_eq!(shard.upper(), 4);
    let at_0 = vec![("a".to_string(), Ok(1)), ("b".to_string(), Err(DataError("bad".to_string())))];
    assert_eq!(io.block_on(shard.snapshot(0)).unwrap(), at_0);
    let last = io.block_on(shard.snapshot(3)).unwrap();
    assert_eq!((last.len(), &last[0]), (52, &("a".to_string(), Ok(2))));
    assert_eq!(io.block_on(shard.snapshot(4)).unwrap_err().kind(), ErrorKind::Invalid);

    let mut changes = io.block_on(shard.listen(1)).unwrap();
    let first = io.block_on(changes.next()).unwrap().unwrap();
    assert_eq!((first.lower, first.upper, first.updates.len()), (1, 2, 50));
    let second = io.block_on(changes.next()).unwrap();
    let a = |value| ("a".to_string(), Ok(value));
    let updates = vec![(a(1), 2, -1), (a(2), 2, 1)];
    assert_eq!(second, Some(Changes { lower: 2, upper: 4, updates }));
    drop(changes);

    for workers in [1, 2] {
        let (shard, built) = (shard.clone(), std::sync::Barrier::new(workers));
        let read = timely::execute(timely::Config::process(workers), move |worker| {
            let shard = shard.clone();
            let (rows, errors, health, token) = worker.dataflow(|scope| {
                let follow = Pipeline::follow(scope, &shard);
                let rows = follow.collection().inner.capture();
                let errors = follow.data_errors().inner.capture();
                (rows, errors, follow.health, follow.token)
            });
            // All are there, and none stops before all have read.
            built.wait();
            while !matches!(health.report().state, HealthState::Idle | HealthState::Finished) {
                assert_eq!(health.error().map(|e| e.to_string()), None);
                worker.step();
                std::thread::yield_now();
            }
            let report = health.report();
            assert_eq!((report.role, report.input, report.output), (Role::Reader, 4, 4));
            drop(token);
            while worker.has_dataflows() {
                worker.step();
            }
            assert_eq!(health.report().state, HealthState::Finished);
            let rows: usize = rows.extract().iter().map(|(_, rows)| rows.len()).sum();
            let errors: usize = errors.extract().iter().map(|(_, rows)| rows.len()).sum();
            (rows, errors)
        });
        let read: Vec<_> = read.unwrap().join().into_iter().map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|(rows, _)| rows).sum::<usize>(), 51, "{workers} workers");
        assert_eq!(read.iter().map(|(_, errors)| errors).sum::<usize>(), 1);
    }
}

#[test]
fn every_way_to_read_leaves_a_directory_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().to_str().unwrap();
    let io = Io::process().unwrap();
    drop(make(url, &io));
    let before = files(directory.path());
    let shard = Typed::read(url).unwrap();
    read(&shard);
    for refused in [
        io.block_on(shard.seal(4)),
        io.block_on(shard.take_over()).map(drop),
        io.block_on(shard.handle().prepare(vec![row("k", Ok(1), 4, 1)])).map(drop),
        io.block_on(shard.handle().compact()).map(drop),
        io.block_on(shard.handle().collect()).map(drop),
        // Through the root, too, in any hands.
        io.block_on(async {
            let root = Root::open(url, Access::Read)?;
            root.blob().put("data/notes", "mine".into()).await
        }),
        io.block_on(async {
            let root = Root::open(url, Access::Read)?;
            Typed::open_with(root, io.clone(), HandleConfig::default()).await.map(drop)
        }),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    io.block_on(shard.handle().maintain());
    io.block_on(shard.handle().close()).unwrap();
    assert!(files(directory.path()) == before, "something was written");
    // And not one write was tried.
    let writes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&writes);
    let faults = Faults::new(move |action| {
        seen.fetch_add(u64::from(action.operation.writes()), Ordering::Relaxed);
        Fault::None
    });
    let root = Root::open(url, Access::Write).unwrap().with_faults(faults);
    let shard = io.block_on(Typed::read_with(root, io.clone(), HandleConfig::default())).unwrap();
    read(&shard);
    assert_eq!(writes.load(Ordering::Relaxed), 0);
    assert!(files(directory.path()) == before, "something was written");
}

#[test]
fn who_may_write_holds_what_it_listens_to_and_who_may_not_hears_that_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().to_str().unwrap();
    let io = Io::process().unwrap();
    let writer = make(url, &io);
    io.block_on(async {
        let mut held = writer.listen(1).await.unwrap();
        assert_eq!(writer.handle().refresh().await?.leases.len(), 1);
        let reader =
            Typed::read_with(Root::open(url, Access::Read)?, io.clone(), HandleConfig::default());
        let reader = reader.await?;
        let mut best_effort = reader.listen(1).await.unwrap();
        let last =
            Append { lower: 4, upper: 5, history: Some(History::Last(1)), ..Append::default() };
        let _ = writer.handle().compare_and_append(last).await?;
        writer.handle().compact().await?;
        // Nothing of what is held was merged away: both go on.
        for changes in [&mut held, &mut best_effort] {
            let first = changes.next().await?.unwrap();
            assert_eq!((first.lower, first.upper), (1, 2));
        }
        drop(held);
        // The lease goes with it, and then the history.
        while writer.handle().refresh().await?.leases.values().any(|l| l.since.is_some()) {
            tokio::task::yield_now().await;
        }
        append(&writer, 5, 6, vec![row("c", Ok(3), 5, 1)]).await;
        writer.handle().compact().await?;
        writer.handle().collect().await?;
        reader.handle().refresh().await?;
        let lost = best_effort.next().await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::LeaseLost, "{lost}");
        assert_eq!(reader.snapshot(5).await?.len(), 53);
        Ok::<_, Error>(())
    })
    .unwrap();
}
