//! Goal: what a process uploads in vain does not stay as long as it lives, and what it has handed out does,
//! whatever fails. Method: one handle with a live lease over a store whose operations fail by plan; the
//! parts that are there are held against those that its state names.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{memory, writer};
use crate::common::{Stopped, append, config, contents, io, row, runtime};
use differential_upsert::shard::{
    Append, Appended, Handle, HandleConfig, History, Part, Prepared, Update, verify,
};
use differential_upsert::store::{Action, Fault, Faults, Operation, Report, Root};

fn usual() -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 0,
        part_bytes_max: 4_000,
        outage_max: Duration::ZERO,
        history: Some(History::Last(1)),
        ..config()
    }
}

/// A plan that can be changed at any time.
type Plan = Arc<Mutex<Box<dyn FnMut(&Action) -> Fault + Send>>>;

fn faulty(root: &Root) -> (Root, Plan) {
    let plan: Plan = Arc::new(Mutex::new(Box::new(|_: &Action| Fault::None)));
    let asked = Arc::clone(&plan);
    (root.with_faults(Faults::new(move |action| asked.lock().unwrap()(action))), plan)
}

fn set(plan: &Plan, faults: impl FnMut(&Action) -> Fault + Send + 'static) {
    *plan.lock().unwrap() = Box::new(faults);
}

fn failed(report: Report) -> Fault {
    Fault::Fail { applied: false, report }
}

fn large(time: u64) -> Vec<Update> {
    (0..100).map(|n| row(&format!("{time}-{n:0>90}"), "v", time, 1)).collect()
}

async fn fill(handle: &Handle, times: std::ops::Range<u64>) {
    for time in times {
        let won = append(handle, time, time + 1, large(time)).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }));
    }
}

/// The parts that are there and no state names.
async fn vain(handle: &Handle, root: &Root) -> BTreeSet<String> {
    let state = handle.state();
    let named = state.batches.iter().flat_map(|batch| &batch.parts);
    let named = named.filter_map(|part| match part {
        Part::Stored { key, .. } => Some(key.clone()),
        Part::Inline { .. } => None,
    });
    let retired = state.retired.iter().flat_map(|retired| retired.keys.clone());
    let named: BTreeSet<String> = named.chain(retired).collect();
    let listed = root.blob().list("data/part", usize::MAX).await.unwrap();
    listed.into_iter().map(|found| found.key).filter(|key| !named.contains(key)).collect()
}

#[test]
fn what_a_failed_merge_has_uploaded_goes() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let (broken, plan) = faulty(&root);
        let handle = writer(&broken, 1, &usual(), &clock).await;
        fill(&handle, 0..6).await;
        let puts = AtomicU64::new(0);
        set(&plan, move |action| {
            let put = action.operation == Operation::Put;
            let late = put && puts.fetch_add(1, Ordering::Relaxed) >= 3;
            if late { failed(Report::Error) } else { Fault::None }
        });
        handle.compact().await.unwrap_err();
        set(&plan, |_| Fault::None);
        assert_eq!(vain(&handle, &root).await.len(), 3);
        // The lease lives, and a round of maintenance is enough.
        for time in 6..80 {
            fill(&handle, time..time + 1).await;
            handle.maintain().await;
        }
        assert_eq!(handle.state().leases.len(), 1);
        assert_eq!(vain(&handle, &root).await, BTreeSet::new());
        assert_eq!(contents(&handle, 79).await.unwrap().len(), 8_000);
        verify(root, io(1)).await.unwrap();
    });
}

/// Nobody knows whether its entry is in the log until the log goes on; then it was, or never will be.
#[test]
fn a_merge_of_unknown_outcome_is_decided_by_the_log() {
    for lands in [false, true] {
        runtime().block_on(async {
            let (root, clock) = (memory(), Arc::<Stopped>::default());
            let (broken, plan) = faulty(&root);
            let handle = writer(&broken, 1, &usual(), &clock).await;
            fill(&handle, 0..6).await;
            let tried = AtomicBool::new(false);
            set(&plan, move |action| match action.operation {
                Operation::CreateEntry => {
                    tried.store(true, Ordering::Relaxed);
                    Fault::Fail { applied: lands, report: Report::Timeout }
                }
                Operation::GetEntry if tried.load(Ordering::Relaxed) => failed(Report::Error),
                _ => Fault::None,
            });
            handle.compact().await.unwrap_err();
            set(&plan, |_| Fault::None);
            let uploaded = vain(&handle, &root).await;
            assert!(uploaded.len() > 3, "{uploaded:?}");
            // While the log has not come as far, it stays.
            if !lands {
                let _ = handle.collect().await.unwrap();
            }
            let there = root.blob().list("data/part", usize::MAX).await.unwrap();
            assert!(uploaded.iter().all(|key| there.iter().any(|found| found.key == *key)));
            handle.refresh().await.unwrap();
            assert_eq!(handle.state().batches.len(), if lands { 1 } else { 6 });
            fill(&handle, 6..7).await;
            let _ = handle.collect().await.unwrap();
            assert_eq!(vain(&handle, &root).await, BTreeSet::new(), "it lands: {lands}");
            assert_eq!(contents(&handle, 6).await.unwrap().len(), 700);
            assert_eq!(handle.state().leases.len(), 1);
            verify(root, io(1)).await.unwrap();
        });
    }
}

#[test]
fn what_was_prepared_stays_and_what_failed_or_was_discarded_goes() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let (broken, plan) = faulty(&root);
        let handle = writer(&broken, 1, &usual(), &clock).await;
        fill(&handle, 0..2).await;
        let parts = handle.prepare(large(2)).await.unwrap();
        assert!(parts.len() > 1 && matches!(parts[0], Prepared::Stored(_)));
        // Another call fails half way.
        let puts = AtomicU64::new(0);
        set(&plan, move |action| {
            let put = action.operation == Operation::Put;
            let late = put && puts.fetch_add(1, Ordering::Relaxed) >= 1;
            if late { failed(Report::Error) } else { Fault::None }
        });
        handle.prepare(large(3)).await.unwrap_err();
        // And a third is discarded, while the store deletes nothing.
        set(&plan, |_| Fault::None);
        let lost = handle.prepare(large(4)).await.unwrap();
        let deletes = Arc::new(AtomicBool::new(true));
        let fail = Arc::clone(&deletes);
        set(&plan, move |action| {
            let delete = action.operation == Operation::Delete && fail.load(Ordering::Relaxed);
            if delete { failed(Report::Error) } else { Fault::None }
        });
        handle.discard(lost).await;
        deletes.store(false, Ordering::Relaxed);
        let handed_out = parts.len();
        assert!(vain(&handle, &root).await.len() > handed_out + 1);
        let _ = handle.collect().await.unwrap();
        assert_eq!(vain(&handle, &root).await.len(), handed_out, "what was handed out stays");
        let all = Append { lower: 2, upper: 3, parts, ..Append::default() };
        let won = handle.compare_and_append(all).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }), "{won:?}");
        let _ = handle.collect().await.unwrap();
        assert_eq!(vain(&handle, &root).await, BTreeSet::new());
        assert_eq!(contents(&handle, 2).await.unwrap().len(), 300);
        verify(root, io(1)).await.unwrap();
    });
}
