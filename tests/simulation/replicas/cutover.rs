//! Goal: a standby writes nothing until promoted and then exactly what is owed, whether the old writer
//! is alive, dead or paused; a takeover shuts the old writer out, which drops nothing and says so.
//! Method: two replicas on one store, cut over at every step of the way.

use std::sync::Arc;

use differential_upsert::health::HealthState;
use differential_upsert::{ErrorKind, Promotion};

use crate::feed::{Feed, Row};
use crate::replicas::observer::runtime;
use crate::replicas::stage::{Stage, delete, memory, no_faults, put};

/// Rows at times 0, 1, 3 and 6, the one at 3 larger than what may be in flight.
fn feed() -> Arc<Feed> {
    let mut rows: Vec<Row> = (0..6).map(|key| put(key, 1, 0, 0)).collect();
    rows.extend((0..6).map(|key| put(key, 2 + key % 2, 0, 1)));
    rows.extend((0..40).map(|key| put(key, 5, 0, 3)));
    rows.extend((0..2).map(|key| delete(key, 0, 6)));
    rows.extend((2..8).map(|key| put(key, 6, 0, 6)));
    Arc::new(Feed::new(rows))
}

/// Hands rows to the workers of a replica in turn, and closes their times.
fn give(stage: &mut Stage, feed: &Feed, from: u64, to: u64) {
    let rows: Vec<Row> =
        feed.rows.iter().filter(|row| (from..to).contains(&row.1)).cloned().collect();
    let peers = stage.peers;
    for worker in 0..peers {
        let mine: Vec<Row> = rows.iter().skip(worker).step_by(peers).cloned().collect();
        stage.give(worker, &mine);
        stage.close(worker, to);
    }
}

fn end(stage: &mut Stage) {
    (0..stage.peers).for_each(|worker| stage.end(worker));
}

/// The keys and lengths of every object in the store, but for the log.
fn objects(stage: &Stage) -> Vec<(String, u64)> {
    let listed = runtime().block_on(stage.root.blob().list("", usize::MAX)).unwrap();
    let kept = listed.into_iter().filter(|listed| !listed.key.starts_with("data/log/"));
    kept.map(|listed| (listed.key, listed.bytes)).collect()
}

#[test]
fn a_standby_writes_nothing_but_its_holds() {
    let feed = feed();
    for peers in [1, 2] {
        let root = memory();
        let mut old = Stage::open(&root, &feed, 1, false, no_faults());
        give(&mut old, &feed, 0, 1);
        old.run();
        let promotion = Promotion::default();
        let mut standby = Stage::standby(&root, &feed, peers, &promotion);
        let before = objects(&standby);
        give(&mut standby, &feed, 0, 6);
        standby.run();
        assert_eq!(standby.upper(), 1);
        assert_eq!(objects(&standby), before, "not even a part");
        let report = standby.reports().remove(0);
        assert_eq!(report.health.output, 3, "time 1 is computed, fills its bound, and waits");
        assert!(report.stash_bytes > 0, "time 3 waits for time 1");
        // The shard passes it: what it held goes.
        give(&mut old, &feed, 1, 6);
        old.run();
        standby.run();
        let report = standby.reports().remove(0);
        assert_eq!((report.health.output, report.health.state), (6, HealthState::Idle));
        assert_eq!((report.totals.wins, report.totals.inserted), (0, 0));
        // Both end, and the standby has nothing to say about it.
        give(&mut standby, &feed, 6, 7);
        end(&mut standby);
        standby.run();
        assert!(!standby.reports()[0].done);
        give(&mut old, &feed, 6, 7);
        end(&mut old);
        old.run();
        standby.run();
        standby.assert_ended(&feed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Old {
    Alive,
    Dead,
    /// Comes back after the standby has gone on.
    Paused,
}

#[test]
fn a_promotion_loses_and_doubles_nothing_whatever_the_old_writer_does() {
    let feed = feed();
    for (old_is, peers) in [Old::Alive, Old::Dead, Old::Paused].into_iter().zip([1, 2, 1]) {
        for ticks in (0..60).step_by(3) {
            let (root, promotion) = (memory(), Promotion::default());
            let mut old = Stage::open(&root, &feed, peers, false, no_faults());
            let mut standby = Stage::standby(&root, &feed, peers, &promotion);
            give(&mut standby, &feed, 0, 7);
            end(&mut standby);
            give(&mut old, &feed, 0, 7);
            // Somewhere in the middle of anything.
            (0..ticks).for_each(|n| old.tick(n));
            (0..ticks % 7).for_each(|n| standby.tick(n));
            promotion.promote();
            match old_is {
                Old::Alive => {
                    for n in 0..200 {
                        old.tick(n);
                        standby.tick(n);
                    }
                }
                Old::Dead => drop(std::mem::replace(
                    &mut old,
                    Stage::open(&root, &feed, 1, false, no_faults()),
                )),
                Old::Paused => {}
            }
            standby.run();
            standby.assert_ended(&feed);
            if old_is != Old::Dead {
                end(&mut old);
                old.run();
                old.assert_ended(&feed);
                let wins = |stage: &mut Stage| stage.reports()[0].totals;
                let (old, new) = (wins(&mut old), wins(&mut standby));
                let written = |t: differential_upsert::Totals| t.inserted + t.updated + t.deleted;
                // Each row of the shard was committed by exactly one of them.
                let rows: usize = (0..feed.end)
                    .map(|time| {
                        let (before, now) = (feed.before(time), feed.at(time));
                        let keys: std::collections::BTreeSet<_> =
                            before.keys().chain(now.keys()).collect();
                        keys.into_iter().filter(|key| before.get(key) != now.get(key)).count()
                    })
                    .sum();
                assert_eq!(written(old) + written(new), rows as u64, "{old_is:?} {ticks}");
            }
        }
    }
}

#[test]
fn a_fenced_writer_stops_with_a_typed_error_and_drops_nothing() {
    let feed = feed();
    for peers in [1, 2] {
        for ticks in [0, 1, 3, 10, 40] {
            let root = memory();
            let mut old = Stage::taking_over(&root, &feed, peers);
            give(&mut old, &feed, 0, 3);
            old.run();
            assert_eq!(old.upper(), 3);
            let below_of = |stage: &mut Stage| stage.reports()[0].totals.below;
            let below = below_of(&mut old);
            // Open: it waits in the stash.
            for worker in 0..peers {
                let at_3: Vec<Row> = feed.rows.iter().filter(|row| row.1 == 3).cloned().collect();
                let mine: Vec<Row> = at_3.into_iter().skip(worker).step_by(peers).collect();
                old.give(worker, &mine);
            }
            (0..ticks).for_each(|n| old.tick(n));
            let mut new = Stage::taking_over(&root, &feed, 1);
            give(&mut new, &feed, 0, 7);
            end(&mut new);
            new.run();
            new.assert_ended(&feed);
            (0..peers).for_each(|worker| old.close(worker, 4));
            old.run();
            for report in old.reports() {
                let error = report.error.expect("every worker reads the log");
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                assert!(error.to_string().contains("epoch 2"), "{error}");
                assert!(!report.done && !report.ended);
            }
            let totals = old.reports()[0].totals;
            assert_eq!((totals.below, totals.lost), (below, 0), "nothing is taken for persisted");
        }
    }
}

#[test]
fn a_writer_without_an_epoch_is_shut_out_of_an_exclusive_shard() {
    let feed = feed();
    let root = memory();
    let mut new = Stage::taking_over(&root, &feed, 1);
    give(&mut new, &feed, 0, 3);
    new.run();
    let mut plain = Stage::open(&root, &feed, 1, false, no_faults());
    give(&mut plain, &feed, 0, 7);
    plain.run();
    let report = plain.reports().remove(0);
    assert_eq!(report.error.expect("an error").kind(), ErrorKind::Fenced);
    assert_eq!((report.totals.below, plain.upper()), (0, 3));
    give(&mut new, &feed, 3, 7);
    end(&mut new);
    new.run();
    new.assert_ended(&feed);
}
