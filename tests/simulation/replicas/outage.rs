//! Goal: an outage of the store, of whatever it begins and however long, loses nothing: a pipeline whose
//! patience outlasts it goes on to the end, another has failed and the next run goes on. Method: two
//! workers over a store that answers nothing of a kind for a while, from a random step on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use differential_upsert::ErrorKind;
use differential_upsert::store::{Action, Fault, Faults, Operation, Report as Reply};

use crate::feed::{Feed, Row};
use crate::random::{Random, for_seeds};
use crate::replicas::stage::{Stage, memory, put};

/// Longer than a few attempts, and than the shorter patience.
const OUTAGE_S: u64 = 20;

/// What is away: all, what the sink needs, or what the reader of the shard needs.
fn is_away(kind: u64, action: &Action) -> bool {
    use Operation::*;
    match kind {
        0 => true,
        1 => matches!(action.operation, CreateEntry | Put),
        _ => matches!(action.operation, GetEntry | Get | Floor | List),
    }
}

fn feed() -> Arc<Feed> {
    let row = |time: u64| (0..6).map(move |key| put(key, 1 + (key + time) % 7, 0, time));
    Arc::new(Feed::new((0..6).flat_map(row).collect()))
}

#[test]
fn an_outage_loses_nothing_and_only_the_impatient_fail() {
    let feed = feed();
    let (mut failed, mut ended) = (0, 0);
    for_seeds("SIM", 40, |seed| {
        let random = Random::new(seed);
        let kind = seed % 3;
        let patience = Duration::from_secs(random.pick(&[2, 300]));
        let report = random.pick(&[Reply::Error, Reply::Timeout]);
        let away = Arc::new(AtomicBool::new(false));
        let is_out = Arc::clone(&away);
        // Applied or not: nobody hears which.
        let flips = Random::new(seed + 1_000);
        let faults = Faults::new(move |action| {
            if !is_out.load(Ordering::SeqCst) || !is_away(kind, action) {
                return Fault::None;
            }
            let applied = report == Reply::Timeout && flips.one_in(3);
            Fault::Fail { applied, report }
        });
        let from_source = random.one_in(2);
        let mut stage = Stage::open_for(&memory(), &feed, 2, from_source, faults, patience);
        let half: Vec<Row> = feed.rows.iter().filter(|row| row.1 < 3).cloned().collect();
        let rest: Vec<Row> = feed.rows.iter().filter(|row| row.1 >= 3).cloned().collect();
        stage.give(0, &half);
        stage.close(0, 3);
        (0..random.below(60) as usize).for_each(|n| stage.tick(n));
        away.store(true, Ordering::SeqCst);
        stage.give(0, &rest);
        stage.close(0, feed.end);
        if !from_source {
            stage.end(1);
        }
        // Three seconds each.
        (0..OUTAGE_S.div_ceil(3)).for_each(|_| stage.run());
        away.store(false, Ordering::SeqCst);
        stage.run();
        stage.run();
        let errors: Vec<_> = stage.reports().into_iter().filter_map(|r| r.error).collect();
        let transient = |kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Indeterminate);
        assert!(errors.iter().all(|e| transient(e.kind())), "seed {seed}: {errors:?}");
        match errors.is_empty() {
            true => {
                ended += 1;
                assert_eq!(stage.upper(), feed.end, "seed {seed}: it has got there by itself");
            }
            false => {
                failed += 1;
                assert_eq!(patience.as_secs(), 2, "seed {seed}: gave up: {errors:?}");
            }
        }
        stage.rerun(&feed);
    });
    // A run of few seeds may have but one kind.
    let few = failed + ended < 40;
    assert!(few || (failed > 5 && ended > 5), "{failed} failed, {ended} ended");
}
