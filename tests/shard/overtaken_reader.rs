//! Goal: a reader that a collector overtakes, however often, is never told that the shard is damaged.
//! Method: each time it has seen a rollup listed, a newer one takes its place before it can be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{append, config, io, open, row, runtime, schema};
use bytes::Bytes;
use differential_upsert::ErrorKind;
use differential_upsert::shard::{Access, Handle, HandleConfig, HandleOptions};
use differential_upsert::store::{Fault, Faults, Operation, Root};
use futures::FutureExt;

const TIMES: u64 = 7;

/// What the reader hears, and then once all is calm, if the rollup is replaced under it so many times.
async fn overtaken(times: u64, outage_max: Duration) -> (Result<u64, ErrorKind>, u64) {
    let root = Root::open("mem:", Access::Write).unwrap();
    let left = Arc::new(AtomicU64::new(0));
    let (blob, log) = (root.blob(), root.log("data"));
    let rollups: Arc<std::sync::Mutex<BTreeMap<String, Bytes>>> = Arc::default();
    let faults = Faults::new({
        let (blob, left, rollups) = (Arc::clone(&blob), Arc::clone(&left), Arc::clone(&rollups));
        move |action| {
            let rollup = action.operation == Operation::Get && action.key.contains("/rollup/");
            if rollup && left.load(Ordering::Relaxed) > 0 {
                left.fetch_sub(1, Ordering::Relaxed);
                let rollups = rollups.lock().unwrap();
                let (newer, bytes) =
                    rollups.iter().find(|(key, _)| **key > action.key).expect("a newer one");
                // A store in memory answers at once.
                blob.put(newer, bytes.clone()).now_or_never().unwrap().unwrap();
                blob.delete(&action.key).now_or_never().unwrap().unwrap();
            }
            Fault::None
        }
    });
    let patient = HandleConfig { outage_max, ..config() };
    let faulty = root.with_faults(faults);
    let reader =
        Handle::open(faulty, io(1), HandleOptions::write("data", schema()).with_config(patient));
    let reader = reader.await.unwrap();
    let config = HandleConfig { rollup_every: 1, inline_bytes_max: 0, ..config() };
    let writer = Handle::open(
        root.clone(),
        io(1_000),
        HandleOptions::write("data", schema()).with_config(config),
    )
    .await;
    let writer = writer.unwrap();
    for time in 0..TIMES {
        let rows = vec![row(&format!("k{time}"), "v", time, 1)];
        let _ = append(&writer, time, time + 1, rows).await.unwrap();
    }
    // A collector has come as far as the first rollup: the others are yet to be made.
    for listed in blob.list("data/rollup", usize::MAX).await.unwrap() {
        let bytes = blob.get(&listed.key).await.unwrap().unwrap();
        rollups.lock().unwrap().insert(listed.key, bytes);
    }
    // Enough to be overtaken by; leases have entries too.
    assert!(rollups.lock().unwrap().len() as u64 >= TIMES);
    let later: Vec<String> = rollups.lock().unwrap().keys().skip(1).cloned().collect();
    for key in later {
        blob.delete(&key).await.unwrap();
    }
    log.raise_floor(1).await.unwrap();
    log.delete(1).await.unwrap();

    left.store(times, Ordering::Relaxed);
    let heard = reader.refresh().await.map(|state| state.upper).map_err(|error| error.kind());
    left.store(0, Ordering::Relaxed);
    (heard, reader.refresh().await.unwrap().upper)
}

#[test]
fn a_rollup_that_is_replaced_while_it_is_read_is_no_damage() {
    runtime().block_on(async {
        for times in 0..4 {
            assert_eq!(overtaken(times, Duration::ZERO).await, (Ok(TIMES), TIMES), "{times} times");
        }
        // There is an end to trying, and it is said what to do.
        assert_eq!(overtaken(6, Duration::ZERO).await, (Err(ErrorKind::Unavailable), TIMES));
        // How far is a matter of time.
        assert_eq!(overtaken(6, Duration::from_secs(60)).await, (Ok(TIMES), TIMES));
    });
}

#[test]
fn inline_rows_whose_entry_is_another_by_now_are_gone_and_not_damaged() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let writer = open(&root, 1).await.unwrap();
        let _ = append(&writer, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
        let reader = open(&root, 50).await.unwrap();
        let state = reader.state();
        let (part, seqno) = (&state.batches[0].parts[0], state.batches[0].seqno);
        // What was cached as the log was read is given out once.
        assert_eq!(reader.fetch(part, 0, 1).await.unwrap().len(), 1);
        let log = root.log("data");
        // A collector takes the entry; then somebody's late create lands under its number.
        log.raise_floor(seqno).await.unwrap();
        log.delete(seqno).await.unwrap();
        let gone = reader.fetch(part, 0, 1).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Missing, "{gone}");
        let _ = log.create(seqno, Bytes::from_static(b"another")).await.unwrap();
        let other = reader.fetch(part, 0, 1).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Missing, "{other}");
    });
}
