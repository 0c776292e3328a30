//! Goal: a lease that is ended while the entry that grants it is still being settled costs its holder time
//! and never a committed row, and a collector relies on no floor that a power cut may take back. Method:
//! shards in memory behind a plan that lets single operations hang, so that each interleaving is spelled out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Stopped, append, config, contents, io_at, row, runtime, schema};
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Prepared, Update,
};
use differential_upsert::store::{Fault, Faults, Operation, Root};

fn large(time: u64) -> Vec<Update> {
    (0..5).map(|n| row(&format!("large{n}"), "value", time, 1)).collect()
}

fn small() -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 70,
        entries_kept: 0,
        rollup_every: 1,
        history: Some(History::Keep),
        ..config()
    }
}

async fn writer(root: &Root, base: u64, clock: &Arc<Stopped>) -> Handle {
    let io = io_at(base, clock.clone());
    let opened =
        Handle::open(root.clone(), io, HandleOptions::write("data", schema()).with_config(small()));
    opened.await.unwrap()
}

/// Lets every task run until all of them wait.
async fn quiet() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// The plan that hangs operations of one kind on keys that contain a word, while the switch is on.
fn hanging(kind: Operation, word: &'static str) -> (Arc<Faults>, Arc<AtomicBool>) {
    let on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&on);
    let faults = Faults::new(move |action| {
        let hangs = action.operation == kind && action.key.contains(word);
        if hangs && on.load(Ordering::Relaxed) { Fault::Hang } else { Fault::None }
    });
    (faults, switch)
}

/// A writer's first lease is in the log, and the rollup after it hangs; others end the lease, and the
/// writer reads that before it goes on. What it uploads then must lie under a lease of the log: a sweep
/// that has listed it takes it for an orphan otherwise, and it may be committed before the sweep deletes.
#[test]
fn a_lease_that_ended_while_it_was_granted_permits_no_upload() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let first = writer(&root, 1 << 60, &Arc::default()).await;
        let won = append(&first, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }));

        let (faults, slow_rollups) = hanging(Operation::Put, "/rollup/");
        let late = writer(&root.with_faults(Arc::clone(&faults)), 1, &Arc::default()).await;
        slow_rollups.store(true, Ordering::Relaxed);
        let preparing = tokio::spawn({
            let late = late.clone();
            async move { late.prepare(large(1)).await.unwrap() }
        });
        quiet().await;
        // By name: a collection would wait for an answer, and the rollup not for so long.
        let ending = writer(&root, 1 << 40, &Arc::default()).await;
        let leases: Vec<_> = ending.state().leases.keys().copied().collect();
        assert_eq!(leases.len(), 1, "the late one's");
        assert!(ending.end_lease(leases[0]).await.unwrap());
        late.refresh().await.unwrap();
        slow_rollups.store(false, Ordering::Relaxed);
        faults.let_go();
        let parts = preparing.await.unwrap();
        let leases = root.with_faults(Faults::new(|_| Fault::None));
        let leases = writer(&leases, 1 << 50, &Arc::default()).await.state().leases.clone();
        for part in &parts {
            let Prepared::Stored(part) = part else { panic!("too large to ride inline") };
            let folder = part.key.split('/').nth(2).unwrap();
            let held = leases.keys().any(|lease| lease.to_string() == folder);
            assert!(held, "{} was uploaded under no lease", part.key);
        }

        // A sweep that begins now, and has not deleted anything when the rows are committed.
        let (faults, slow_deletes) = hanging(Operation::Delete, "/part/");
        slow_deletes.store(true, Ordering::Relaxed);
        let sweeper =
            writer(&root.with_faults(Arc::clone(&faults)), 1 << 30, &Arc::default()).await;
        let sweeping = tokio::spawn(async move { sweeper.collect().await.unwrap() });
        quiet().await;
        late.refresh().await.unwrap();
        late.keep().await.unwrap();
        let all = Append { lower: 1, upper: 2, parts, ..Append::default() };
        let won = late.compare_and_append(all).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }), "{won:?}");
        slow_deletes.store(false, Ordering::Relaxed);
        faults.let_go();
        assert_eq!(sweeping.await.unwrap().orphans_deleted, 0);
        let reader = writer(&root, 1 << 20, &Arc::default()).await;
        assert_eq!(contents(&reader, 1).await.unwrap().len(), 6, "every committed row");
    });
}

/// The floor is where a collector wants it, by the mark of one that died before its mark was synced.
/// Nothing is deleted before this one has made it durable itself.
#[test]
fn a_floor_that_another_raised_is_made_durable_before_anything_goes() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let first = writer(&root, 1, &Arc::default()).await;
        for time in 0..4 {
            let won = append(&first, time, time + 1, large(time)).await.unwrap();
            assert!(matches!(won, Appended::Won { .. }));
        }
        first.compact().await.unwrap();
        first.close().await.unwrap();
        let head = first.state().seqno;
        // It died right after this.
        root.log("data").raise_floor(head).await.unwrap();

        let done: Arc<Mutex<Vec<Operation>>> = Arc::default();
        let noted = Arc::clone(&done);
        let faults = Faults::new(move |action| {
            noted.lock().unwrap().push(action.operation);
            Fault::None
        });
        let second = writer(&root.with_faults(faults), 1 << 30, &Arc::default()).await;
        let stats = second.collect().await.unwrap();
        assert!(stats.entries_deleted > 0 && stats.parts_deleted > 0, "{stats:?}");
        let done = done.lock().unwrap();
        let at = |kind: &[Operation]| done.iter().position(|done| kind.contains(done));
        let deleted = at(&[Operation::Delete, Operation::DeleteEntry]).unwrap();
        let raised = at(&[Operation::RaiseFloor]);
        assert!(raised.is_some_and(|raised| raised < deleted), "raised {raised:?}, then {deleted}");
    });
}
