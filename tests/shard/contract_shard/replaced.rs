//! Goal: a root that is removed, or removed and made anew, under a process is a definite error to it,
//! and it writes nothing there. Method: whole lives of a writer and of a reader, with the root taken
//! away before each of their operations in turn; then a real directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, verify,
};
use differential_upsert::store::{Action, Blob, Fault, Faults, Operation, Root};
use differential_upsert::unstable::engine::incarnation;
use differential_upsert::{Error, ErrorKind};
use futures::FutureExt;

use super::memory;
use crate::common::{append, config, io, open, row, runtime, schema};

type Objects = BTreeMap<String, Bytes>;

const TIMES: u64 = 4;
const INCARNATION: &str = "INCARNATION";

/// A store in memory answers at once.
fn objects(blob: &dyn Blob) -> Objects {
    let listed = blob.list("", usize::MAX).now_or_never().unwrap().unwrap();
    let bytes = |key: &str| blob.get(key).now_or_never().unwrap().unwrap().unwrap();
    listed.into_iter().map(|found| (found.key.clone(), bytes(&found.key))).collect()
}

fn replace(blob: &dyn Blob, with: &Objects) {
    for key in objects(blob).keys() {
        blob.delete(key).now_or_never().unwrap().unwrap();
    }
    for (key, bytes) in with {
        blob.put(key, bytes.clone()).now_or_never().unwrap().unwrap();
    }
}

/// The objects of a shard of its own that has so many commits.
async fn another(commits: u64) -> Objects {
    let root = memory();
    let writer = open(&root, 77_000_000).await.unwrap();
    for time in 0..commits {
        let rows = vec![row("other", &time.to_string(), time, 1)];
        let _ = append(&writer, time, time + 1, rows).await.unwrap();
    }
    objects(&*root.blob())
}

fn limits() -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 60,
        part_bytes_max: 120,
        rollup_every: 2,
        entries_kept: 1,
        maintain_every: 3,
        compact_bytes_max: 1,
        cache_bytes_max: 0,
        history: Some(History::Last(2)),
        ..config()
    }
}

/// Everything that a writer does; counts what it is told to be durable.
async fn write(root: Root, base: u64, told: &AtomicU64) -> Result<(), Error> {
    let writer =
        Handle::open(root, io(base), HandleOptions::write("data", schema()).with_config(limits()));
    let writer = writer.await?;
    let hold = writer.hold(0).await?;
    for time in writer.state().upper..TIMES {
        let large = (0..6).map(|n| row(&format!("key {time} {n}"), "value", time, 1));
        let rows = if time % 2 == 0 {
            vec![row(&format!("k{time}"), "v", time, 1)]
        } else {
            large.collect()
        };
        match append(&writer, time, time + 1, rows).await? {
            Appended::Won { .. } => told.fetch_add(1, Ordering::Relaxed),
            lost => panic!("a lone writer lost: {lost:?}"),
        };
        writer.advance(&hold, time);
        writer.refresh().await?;
        writer.snapshot(time).await?;
    }
    writer.compact().await?;
    writer.maintain().await;
    writer.release(hold).await;
    writer.collect().await?;
    writer.close().await?;
    writer.refresh().await.map(drop)
}

async fn read(root: Root, base: u64) -> Result<(), Error> {
    let reader =
        Handle::open(root, io(base), HandleOptions::read("data").with_config(limits())).await?;
    for _ in 0..3 {
        let state = reader.refresh().await?;
        for as_of in state.since..state.upper {
            reader.snapshot(as_of).await?;
        }
    }
    reader.refresh().await.map(drop)
}

/// Takes the root away before operation `at`, and remembers what is written after that.
struct Thief {
    faults: Arc<Faults>,
    late: Arc<Mutex<Vec<Action>>>,
    /// What was there.
    taken: Arc<Mutex<Objects>>,
}

fn thief(blob: Arc<dyn Blob>, with: Objects, at: u64) -> Thief {
    let (late, taken) = (Arc::<Mutex<Vec<Action>>>::default(), Arc::<Mutex<Objects>>::default());
    let faults = Faults::new({
        let (late, taken) = (Arc::clone(&late), Arc::clone(&taken));
        move |action: &Action| {
            if action.number == at {
                *taken.lock().unwrap() = objects(&*blob);
                replace(&*blob, &with);
            }
            if action.number > at && action.operation.writes() {
                late.lock().unwrap().push(action.clone());
            }
            Fault::None
        }
    });
    Thief { faults, late, taken }
}

/// Counts the operations of a life, and says which was the first to know the root.
async fn count<F: Future<Output = Result<(), Error>>>(life: impl FnOnce(Root) -> F) -> (u64, u64) {
    let first = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&first);
    let faults = Faults::new(move |action| {
        let knows = matches!(action.operation, Operation::Get | Operation::Create);
        if knows && action.key == INCARNATION {
            let creates = action.operation == Operation::Create;
            // A writer that finds none makes it; one that finds it, and a reader, have it then.
            if creates || seen.load(Ordering::Relaxed) == 0 {
                seen.store(action.number, Ordering::Relaxed);
            }
        }
        Fault::None
    });
    life(memory().with_faults(Arc::clone(&faults))).await.unwrap();
    (first.load(Ordering::Relaxed), faults.operations())
}

#[test]
fn a_writer_writes_nothing_to_a_root_that_is_gone_or_another() {
    runtime().block_on(async {
        let (first, operations) =
            count(|root| async { write(root, 1, &AtomicU64::new(0)).await }).await;
        assert!(operations > 150 && first > 0, "{operations} operations are too few to test");
        for commits in [None, Some(0), Some(2), Some(9)] {
            let with = match commits {
                None => Objects::new(),
                Some(commits) => another(commits).await,
            };
            for at in first + 1..=operations {
                let (root, told) = (memory(), AtomicU64::new(0));
                let thief = thief(root.blob(), with.clone(), at);
                let ended = write(root.with_faults(Arc::clone(&thief.faults)), 1, &told).await;
                let case = format!("{commits:?} before {at} of {operations}: {ended:?}");
                let error = ended.expect_err(&case);
                assert_eq!(error.kind(), ErrorKind::Replaced, "{case}");
                let text = "the shard was removed or replaced at mem:; ";
                assert!(error.to_string().contains(text), "{case}");
                let taken = memory();
                replace(&*taken.blob(), &thief.taken.lock().unwrap());
                let upper = open(&taken, 9_000).await.unwrap().state().upper;
                let told = told.load(Ordering::Relaxed);
                assert!(told <= upper, "told to be durable: {told} of {upper}, {case}");
                let late = thief.late.lock().unwrap();
                assert!(late.is_empty(), "{case}: wrote {late:?}");
            }
        }
    });
}

#[test]
fn a_reader_says_that_the_root_is_gone_or_another() {
    runtime().block_on(async {
        let made = memory();
        write(made.clone(), 1, &AtomicU64::new(0)).await.unwrap();
        let made = objects(&*made.blob());
        // One that is older than incarnations, too.
        for nameless in [false, true] {
            let fill = |root: &Root| {
                replace(&*root.blob(), &made);
                if nameless {
                    let gone = root.blob().delete(INCARNATION).now_or_never();
                    gone.unwrap().unwrap();
                }
            };
            let root = memory();
            fill(&root);
            let none = Faults::new(|_| Fault::None);
            read(root.with_faults(Arc::clone(&none)), 5_000).await.unwrap();
            for with in [Objects::new(), another(0).await, another(9).await] {
                // FORMAT, INCARNATION: then it knows which root this is. Without a name it looks twice,
                // and nothing looks after the last time.
                for at in 3..=none.operations() - u64::from(nameless) {
                    let root = memory();
                    fill(&root);
                    let thief = thief(root.blob(), with.clone(), at);
                    let ended = read(root.with_faults(Arc::clone(&thief.faults)), 5_000).await;
                    let case = format!("{} objects before {at}, {nameless}", with.len());
                    // What opens a root without a name goes by the log. While it has not read it, it
                    // may as well have come later.
                    let opening = nameless && at < 9;
                    match ended {
                        Ok(()) => assert!(opening, "{case}: unseen"),
                        Err(_) if opening => {}
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Replaced, "{case}: {e}"),
                    }
                    assert_eq!(objects(&*root.blob()), with, "{case}");
                }
            }
        }
    });
}

#[test]
fn a_root_that_is_older_than_incarnations_gets_one_from_its_first_writer() {
    runtime().block_on(async {
        let root = memory();
        write(root.clone(), 1, &AtomicU64::new(0)).await.unwrap();
        root.blob().delete(INCARNATION).await.unwrap();
        let old = objects(&*root.blob());
        let process = || root.with_faults(Faults::new(|_| Fault::None));
        let read =
            |root| Handle::open(root, io(9), HandleOptions::read("data").with_config(config()));
        let reader = read(process()).await.unwrap();
        let state = reader.refresh().await.unwrap();
        verify(process(), io(1)).await.unwrap();
        assert_eq!(objects(&*root.blob()), old, "a reader writes nothing");
        // Two at once: one makes it, both go on, and so does the reader.
        let (one, two) = (process(), process());
        let (one, two) = tokio::join!(open(&one, 1_000), open(&two, 2_000));
        let (one, two) = (one.unwrap(), two.unwrap());
        let made = root.blob().get(INCARNATION).await.unwrap().expect("made");
        incarnation::decode(&made).unwrap();
        let upper = state.upper;
        let _ = append(&one, upper, upper + 1, vec![row("new", "v", upper, 1)]).await.unwrap();
        two.refresh().await.unwrap();
        let _ = append(&two, upper + 1, upper + 2, vec![]).await.unwrap();
        assert_eq!(reader.refresh().await.unwrap().upper, upper + 2);
        assert_eq!(root.blob().get(INCARNATION).await.unwrap(), Some(made), "it never changes");
        let verified = verify(process(), io(1)).await.unwrap();
        assert_eq!(verified.unknown, Vec::<String>::new());
        // From now on the reader knows it by that.
        replace(&*root.blob(), &Objects::new());
        assert_eq!(reader.refresh().await.unwrap_err().kind(), ErrorKind::Replaced);
    });
}

#[test]
fn what_was_opened_before_does_not_come_back_through_the_same_root() {
    runtime().block_on(async {
        let root = memory();
        let _ = append(&open(&root, 1).await.unwrap(), 0, 1, vec![]).await.unwrap();
        replace(&*root.blob(), &Objects::new());
        let again = open(&root, 1_000).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Replaced, "{again}");
        assert_eq!(objects(&*root.blob()), Objects::new());
    });
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(found) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = found.map(|entry| entry.unwrap().path());
    let deep = |path: std::path::PathBuf| match path.is_dir() {
        true => [vec![path.clone()], files(&path)].concat(),
        false => vec![path],
    };
    paths.flat_map(deep).collect()
}

#[test]
fn a_directory_that_is_gone_is_not_made_again() {
    let parent = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for anew in [false, true] {
            let path = parent.path().join(format!("shard-{anew}"));
            let url = path.display().to_string();
            let root = Root::open(&url, Access::Write).unwrap();
            let writer = Handle::open(
                root,
                io(1),
                HandleOptions::write("data", schema()).with_config(limits()),
            );
            let writer = writer.await.unwrap();
            let _ = append(&writer, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
            let large: Vec<_> = (0..9).map(|n| row(&format!("key {n}"), "v", 1, 1)).collect();
            let parts = writer.prepare(large.clone()).await.unwrap();
            std::fs::remove_dir_all(&path).unwrap();
            let mut left = Vec::new();
            if anew {
                let root = Root::open(&url, Access::Write).unwrap();
                let other = open(&root, 1_000).await.unwrap();
                let _ = append(&other, 0, 1, vec![row("other", "v", 0, 1)]).await.unwrap();
                left = files(&path);
            }
            let told = AtomicBool::new(false);
            let check = |what: &str, result: Result<(), Error>| {
                let error = result.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Replaced, "{what}: {error}");
                assert!(error.to_string().contains(&url), "{error}");
                told.store(true, Ordering::Relaxed);
            };
            let next = Append { lower: 1, upper: 2, parts, ..Append::default() };
            check("append", writer.compare_and_append(next).await.map(drop));
            check("prepare", writer.prepare(large).await.map(drop));
            check("refresh", writer.refresh().await.map(drop));
            check("snapshot", writer.snapshot(7).await.map(drop));
            check("compact", writer.compact().await.map(drop));
            check("collect", writer.collect().await.map(drop));
            writer.maintain().await;
            let _ = writer.close().await;
            drop(writer);
            assert_eq!(files(&path), left);
            assert_eq!(path.exists(), anew, "a directory came back");
        }
    });
}
