//! Goal: writers whose clocks are hours apart make the same shard as writers whose clocks agree: clocks
//! may decide how long a lease lasts, never what is in a shard. Method: one script of racing appends,
//! under several pairs of clocks; everything that a reader can see is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{append, config, contents, io, row, runtime, schema};
use differential_upsert::io::Clock;
use differential_upsert::shard::{
    Access, Appended, Handle, HandleConfig, HandleOptions, History, verify,
};
use differential_upsert::store::Root;

const HOUR_MS: u64 = 3_600_000;
/// Some day of 2026.
const NOON_MS: u64 = 1_790_000_000_000;
const TIMES: u64 = 40;

/// A clock that goes on by a minute whenever somebody looks at it.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(60_000, Ordering::Relaxed)
    }
}

/// Everything a reader can see of a run.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// The upper that each append was told when it lost. Which entry a win is, is not compared: leases
    /// have entries too.
    lost_to: Vec<Option<u64>>,
    upper: u64,
    since: u64,
    contents: Vec<Vec<(String, String, isize)>>,
}

/// Two writers race for every time, in an order that the script decides.
async fn run(clocks: [u64; 2]) -> Seen {
    let root = Root::open("mem:", Access::Write).unwrap();
    let config = HandleConfig {
        // Rows are uploaded, as what a writer's lease may be for.
        inline_bytes_max: 0,
        rollup_every: 3,
        history: Some(History::Keep),
        ..config()
    };
    let mut writers = Vec::new();
    for (base, now_ms) in [1_000_000, 2_000_000].into_iter().zip(clocks) {
        let io = io(base).with_clock(Arc::new(Ticking(AtomicU64::new(now_ms))));
        let (root, config) = (root.clone(), config.clone());
        let handle =
            Handle::open(root, io, HandleOptions::write("data", schema()).with_config(config))
                .await;
        writers.push(handle.unwrap());
    }
    let mut lost_to = Vec::new();
    for time in 0..TIMES {
        // Now this one is first, now the other; both have the same rows.
        let order = if time % 3 == 0 { [1, 0] } else { [0, 1] };
        for writer in order {
            let mut rows = vec![row("k", &time.to_string(), time, 1)];
            if time > 0 {
                rows.push(row("k", &(time - 1).to_string(), time, -1));
            }
            lost_to.push(match append(&writers[writer], time, time + 1, rows).await.unwrap() {
                Appended::Won { .. } => None,
                Appended::UpperMismatch(upper) => Some(upper),
                Appended::Fenced(epoch) => panic!("nobody raised an epoch to {epoch}"),
            });
        }
    }
    let reader = io(3_000_000).with_clock(Arc::new(Ticking(AtomicU64::new(NOON_MS))));
    let reader =
        Handle::open(root.clone(), reader, HandleOptions::read("data").with_config(config))
            .await
            .unwrap();
    let mut seen = Vec::new();
    for time in 0..TIMES {
        seen.push(contents(&reader, time).await.unwrap());
    }
    verify(root, io(4_000_000)).await.unwrap();
    let state = reader.state();
    Seen { lost_to, upper: state.upper, since: state.since, contents: seen }
}

#[test]
fn clocks_an_hour_apart_change_nothing_that_can_be_seen() {
    runtime().block_on(async {
        let agreeing = run([NOON_MS, NOON_MS]).await;
        assert_eq!((agreeing.upper, agreeing.since), (TIMES, 0));
        let wins = agreeing.lost_to.iter().filter(|lost| lost.is_none()).count();
        assert_eq!(wins as u64, TIMES, "one writer wins each time");
        for clocks in [
            [NOON_MS + HOUR_MS, NOON_MS - HOUR_MS],
            [NOON_MS - HOUR_MS, NOON_MS + HOUR_MS],
            [NOON_MS, NOON_MS + 24 * HOUR_MS],
            // One whose clock was never set.
            [0, NOON_MS],
        ] {
            assert_eq!(run(clocks).await, agreeing, "{clocks:?}");
        }
    });
}
