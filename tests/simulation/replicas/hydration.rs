//! Goal: a reader that its worker does not keep up with asks for no more bytes than it may, and one
//! that came too late says so. Method: a followed shard of many parts, with a store that counts the
//! bytes of parts it was asked for, and a worker that runs only now and then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_upsert::codec::{Postcard, encode_stored};
use differential_upsert::health::Health;
use differential_upsert::io::Io;
use differential_upsert::shard::{Append, Appended, HandleConfig};
use differential_upsert::store::{Fault, Faults, Operation, Root};
use differential_upsert::timely::dataflow::channels::pact;
use differential_upsert::timely::dataflow::operators::generic::Operator;
use differential_upsert::{Encoded, ErrorKind, Packed, Pipeline, Shard, Token};
use tokio::runtime::Runtime;

use crate::crew::Crew;
use crate::replicas::observer::{Counted, runtime};
use crate::replicas::stage::memory;

const ROWS: u64 = 1_200;
const BOUND: u64 = 1_500;

async fn append(shard: &Shard<u64, u64>, lower: u64, keys: std::ops::Range<u64>) {
    let row = |key: u64| {
        let mut value = Vec::new();
        encode_stored::<u64, Postcard>(&Ok(key * 7), &mut value).unwrap();
        let key: Encoded = Packed::pack(&key).unwrap().cast();
        ((key, Encoded::from_bytes(value)), lower, 1)
    };
    let parts = shard.handle().prepare(keys.map(row).collect()).await.unwrap();
    let append = Append { lower, upper: lower + 1, parts, ..Append::default() };
    let appended = shard.handle().compare_and_append(append).await.unwrap();
    assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
}

fn limits() -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 0,
        part_bytes_max: 300,
        cache_bytes_max: 0,
        read_bytes_max: BOUND as usize,
        compact_bytes_max: 1 << 20,
        ..HandleConfig::default()
    }
}

fn open(root: &Root, runtime: &Runtime, base: u64, writes: bool) -> Shard<u64, u64> {
    let tokens = Counted::from(base);
    let io = Io::new(runtime.handle().clone(), tokens.clone()).with_clock(tokens);
    let root = root.clone();
    let opened = async {
        match writes {
            true => Shard::open_with(root, io, limits()).await,
            false => Shard::read_with(root, io, limits()).await,
        }
    };
    runtime.block_on(opened).unwrap()
}

struct Reader {
    token: Option<Token>,
    health: Health,
    rows: Rc<RefCell<BTreeMap<u64, isize>>>,
}

fn follow(shard: Shard<u64, u64>) -> Crew<Reader> {
    Crew::new(1, move |worker| {
        let rows = Rc::new(RefCell::new(BTreeMap::new()));
        let sums = Rc::clone(&rows);
        worker.dataflow::<u64, _, _>(|scope| {
            let follow = Pipeline::follow(scope, &shard);
            let collection = follow.collection().inner;
            collection.sink(pact::Pipeline, "Sum", move |(input, _)| {
                input.for_each(|_, rows| {
                    for ((key, _), _, diff) in rows.drain(..) {
                        *sums.borrow_mut().entry(key).or_insert(0) += diff;
                    }
                });
            });
            Reader { token: Some(follow.token), health: follow.health, rows }
        })
    })
}

fn poll(runtime: &Runtime, times: u64) {
    runtime.block_on(async {
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn hydration_asks_for_no_more_bytes_than_its_worker_has_taken_and_the_bound() {
    let (root, runtime) = (memory(), runtime());
    let writer = open(&root, &runtime, 1, true);
    runtime.block_on(append(&writer, 0, 0..ROWS));
    // So that its rows are of a time that is forwarded: they are gathered, and added up.
    runtime.block_on(append(&writer, 1, 0..0));
    let listed = runtime.block_on(root.blob().list("data/part", usize::MAX)).unwrap();
    let sizes: BTreeMap<String, u64> = listed.into_iter().map(|l| (l.key, l.bytes)).collect();
    let total: u64 = sizes.values().sum();
    assert!(total > 10 * BOUND && sizes.len() > 50, "{total} bytes are too few to test");
    let asked = Arc::new(AtomicU64::new(0));
    let faults = Faults::new({
        let asked = Arc::clone(&asked);
        move |action| {
            if action.operation == Operation::Get {
                asked.fetch_add(sizes.get(&action.key).copied().unwrap_or(0), Ordering::Relaxed);
            }
            Fault::None
        }
    });
    let shard = open(&root.with_faults(faults), &runtime, 1 << 40, false);
    // A snapshot adds up as it reads, and asks for everything once.
    assert_eq!(runtime.block_on(shard.snapshot(1)).unwrap().len() as u64, ROWS);
    assert_eq!(asked.swap(0, Ordering::Relaxed), total);
    let mut crew = follow(shard);
    let mut taken = 0;
    for round in 0..2_000 {
        // Until it asks for nothing more, which is everything if nothing holds it back.
        let mut now = asked.load(Ordering::Relaxed);
        loop {
            poll(&runtime, 300);
            let before = std::mem::replace(&mut now, asked.load(Ordering::Relaxed));
            if now == before {
                break;
            }
        }
        assert!(now - taken <= BOUND, "round {round}: {} bytes are not taken", now - taken);
        if crew.on(0, |reader, _| reader.health.report().output) == 2 {
            break;
        }
        // Whatever had come in by now may be taken from here on.
        taken = now;
        crew.step(0);
    }
    crew.step(0);
    assert_eq!(asked.load(Ordering::Relaxed), total, "each part once");
    let rows = crew.on(0, |reader, _| reader.rows.borrow().clone());
    assert_eq!(rows, (0..ROWS).map(|key| (key, 1)).collect());
}

#[test]
fn a_follower_that_may_not_hold_history_says_when_it_is_lost() {
    let (root, runtime) = (memory(), runtime());
    let writer = open(&root, &runtime, 1, true);
    runtime.block_on(append(&writer, 0, 0..3));
    let shard = open(&root.with_faults(Faults::new(|_| Fault::None)), &runtime, 1 << 40, false);
    let mut crew = follow(shard);
    for _ in 0..20 {
        poll(&runtime, 20);
        crew.step(0);
    }
    assert_eq!(crew.on(0, |reader, _| reader.health.report().output), 1);
    runtime.block_on(async {
        for time in 1..6 {
            append(&writer, time, 3 * time..3 * time + 3).await;
        }
        writer.handle().compact().await.unwrap();
    });
    for _ in 0..20 {
        runtime.block_on(tokio::time::advance(Duration::from_millis(30)));
        poll(&runtime, 20);
        crew.step(0);
    }
    let (error, report) = crew.on(0, |reader, _| (reader.health.error(), reader.health.report()));
    let error = error.expect("times 1 to 5 are one by now");
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert_eq!(report.output, 1, "its frontier holds");
    let rows = crew.on(0, |reader, _| reader.rows.borrow().len());
    assert_eq!(rows, 3, "and nothing half was shown");
    crew.on(0, |reader, _| drop(reader.token.take()));
    (0..9).for_each(|_| crew.step(0));
}
