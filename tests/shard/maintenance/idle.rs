//! Goal: a shard that nobody writes to does not grow, however long processes hold it; and no clock ends
//! the lease of a holder that is there. Method: handles that attend, in time that only passes when all
//! wait; their clocks go with it, or a day ahead of it.

use std::sync::Arc;
use std::time::Duration;

use super::{memory, objects};
use crate::common::{append, config, contents, io, io_at, row, runtime, schema};
use differential_upsert::ErrorKind;
use differential_upsert::io::Clock;
use differential_upsert::shard::{Handle, HandleConfig, HandleOptions, History, Hold, verify};
use differential_upsert::store::Root;

const DAY: Duration = Duration::from_secs(86_400);

/// The runtime's time, so many milliseconds ahead.
struct Passing(tokio::time::Instant, u64);

impl Clock for Passing {
    fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64 + self.1
    }
}

/// Looks four times in two minutes.
fn patient() -> HandleConfig {
    let answer = Duration::from_secs(120);
    HandleConfig { answer, history: Some(History::Last(1)), ..config() }
}

async fn opened(root: &Root, base: u64, ahead_ms: u64) -> Handle {
    let io = io_at(base, Arc::new(Passing(tokio::time::Instant::now(), ahead_ms)));
    let opened = Handle::open(
        root.clone(),
        io,
        HandleOptions::write("data", schema()).with_config(patient()),
    )
    .await;
    opened.unwrap()
}

/// What a follower does that is at rest: it attends, and says that it needs no state before the newest.
fn rests(handle: &Handle, hold: Arc<Hold>) -> tokio::task::JoinHandle<()> {
    let handle = handle.clone();
    tokio::spawn(async move {
        let advancing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                handle.advance(&hold, handle.state().upper - 1);
            }
        };
        tokio::select! {
            never = handle.attend() => match never {},
            () = advancing => {}
        }
    })
}

#[test]
fn an_idle_week_leaves_no_more_than_an_idle_day() {
    runtime().block_on(async {
        let root = memory();
        let writer = opened(&root, 1, 0).await;
        for time in 0..5 {
            let rows = vec![row(&format!("k{time}"), "v", time, 1)];
            let _ = append(&writer, time, time + 1, rows).await.unwrap();
        }
        let standby = opened(&root, 1 << 40, 0).await;
        let holds = [writer.hold(4).await.unwrap(), standby.hold(4).await.unwrap()];
        let tasks: Vec<_> = ([&writer, &standby].into_iter().zip(holds))
            .map(|(handle, hold)| rests(handle, Arc::new(hold)))
            .collect();
        let mut sizes = Vec::new();
        for _ in 0..7 {
            tokio::time::sleep(DAY).await;
            let entries = root.log("data").entries().await.unwrap().len();
            sizes.push((entries, objects(&root).await));
        }
        let state = writer.refresh().await.unwrap();
        assert!(state.seqno > 7 * 2 * 96, "the leases were renewed: entry {}", state.seqno);
        assert_eq!(state.leases.len(), 2, "{:?}", state.leases);
        for (entries, (files, bytes)) in &sizes {
            assert!(*entries <= 140 && *files <= 150 && *bytes <= 100_000, "{sizes:?}");
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(contents(&writer, 4).await.unwrap().len(), 5);
        verify(root, io(1)).await.unwrap();
    });
}

/// A collector whose clock is a day ahead, or behind, takes nothing from those that are there.
#[test]
fn a_collection_by_a_wrong_clock_ends_no_lease_that_is_attended() {
    for (holder_ms, collector_ms) in [(0, 86_400_000), (86_400_000, 0), (10 * 365 * 86_400_000, 0)]
    {
        runtime().block_on(async {
            let root = memory();
            let holder = opened(&root, 1, holder_ms).await;
            let _ = append(&holder, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
            let hold = holder.hold(0).await.unwrap();
            let lease = *holder.state().leases.keys().next().unwrap();
            let attending = rests(&holder, Arc::new(hold));
            let collector = opened(&root, 1 << 40, collector_ms).await;
            for _ in 0..10 {
                let done = collector.collect().await.unwrap();
                assert_eq!(done.leases_expired, 0, "{holder_ms} and {collector_ms} ms ahead");
                tokio::time::sleep(Duration::from_secs(200)).await;
            }
            assert!(collector.refresh().await.unwrap().leases.contains_key(&lease));
            // It dies: asked once more, it does not answer.
            attending.abort();
            tokio::task::yield_now().await;
            assert_eq!(collector.collect().await.unwrap().leases_expired, 1);
            verify(root, io(1)).await.unwrap();
        });
    }
}

/// Whoever only keeps house ends it too, having watched it for its duration, whatever it claims.
#[test]
fn a_dead_lease_of_the_far_future_is_ended_by_who_watched_it() {
    runtime().block_on(async {
        let root = memory();
        let dead = opened(&root, 1, 10 * 365 * 86_400_000).await;
        let _ = append(&dead, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
        let _hold = dead.hold(0).await.unwrap();
        let other = opened(&root, 1 << 40, 0).await;
        for time in 1..16 {
            other.maintain().await;
            assert_eq!(other.state().leases.len(), 1, "at minute {time}");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        other.maintain().await;
        assert!(other.state().leases.is_empty(), "{:?}", other.state().leases);
        let _ = append(&other, 1, 5, vec![row("k", "v", 1, -1)]).await.unwrap();
        assert_eq!(other.state().since, 4, "it holds nothing any more");
    });
}

/// A lease that is ended by name, under its holder.
#[test]
fn a_lease_that_is_ended_by_name_is_lost() {
    runtime().block_on(async {
        let root = memory();
        let holder = opened(&root, 1, 0).await;
        let large = |time| (0..200).map(|n| row(&format!("{n:0>100}"), "v", time, 1)).collect();
        let parts = holder.prepare(large(0)).await.unwrap();
        let lease = *holder.state().leases.keys().next().unwrap();
        let other = opened(&root, 1 << 40, 0).await;
        assert!(other.end_lease(lease).await.unwrap());
        assert!(!other.end_lease(lease).await.unwrap(), "it is gone");
        let append = differential_upsert::shard::Append {
            upper: 1,
            parts,
            ..differential_upsert::shard::Append::default()
        };
        let error = holder.compare_and_append(append).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    });
}
