//! Goal: a root that is removed, or removed and made anew, under running pipelines stops every one of
//! them with a definite error, writers and standbys alike, and gets not one byte of them. Method: the
//! same scene, with the root taken away after every small step.

use std::sync::Arc;

use differential_upsert::ErrorKind;
use differential_upsert::Promotion;

use crate::feed::Feed;
use crate::replicas::observer::Rival;
use crate::replicas::stage::{Stage, memory, no_faults, put};

const TIMES: u64 = 5;

fn feed() -> Arc<Feed> {
    let row = |time: u64| (0..6).map(move |key| put(key, 1 + (key + time) % 7, 0, time));
    Arc::new(Feed::new((0..TIMES).flat_map(row).collect()))
}

/// What comes in the place of the shard.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// A shard whose log has so many commits.
    Another(u64),
}

/// A writer whose feed is closed up to the last time, some steps into its work, and a standby.
fn scene(feed: &Arc<Feed>, ticks: usize) -> [Stage; 2] {
    let root = memory();
    let mut writer = Stage::open(&root, feed, 2, false, no_faults());
    let promotion = Promotion::default();
    let mut standby = Stage::standby(&root, feed, 1, &promotion);
    writer.give(0, &feed.rows);
    standby.give(0, &feed.rows);
    (0..2).for_each(|worker| writer.close(worker, TIMES - 1));
    standby.close(0, TIMES - 1);
    for n in 0..ticks {
        writer.tick(n);
        standby.tick(n);
    }
    [writer, standby]
}

#[test]
fn a_root_that_is_replaced_stops_every_pipeline_and_gets_nothing_of_it() {
    let (feed, other) = (feed(), feed_of_another());
    for ticks in (0..150).step_by(3) {
        for then in [Then::Nothing, Then::Another(0), Then::Another(2), Then::Another(12)] {
            let [mut writer, mut standby] = scene(&feed, ticks);
            let root = writer.root.clone();
            writer.wipe();
            if let Then::Another(commits) = then {
                let rival = Rival::new(&root.with_faults(no_faults()), Arc::clone(&other));
                (0..commits).for_each(|time| rival.append(time, time + 1, &[]));
            }
            let left = writer.observer.objects(&root);
            // Whatever the steps before had under way is one write at the most.
            let under_way = left.len() + 1;
            writer.run_only(&[0, 1]);
            standby.run_only(&[0]);
            let case = format!("{then:?} after {ticks} ticks");
            for stage in [&mut writer, &mut standby] {
                let reports = stage.reports();
                let errors: Vec<_> = reports.iter().filter_map(|r| r.error.as_ref()).collect();
                assert!(!errors.is_empty(), "{case}: goes on: {reports:?}");
                for error in errors {
                    assert_eq!(error.kind(), ErrorKind::Replaced, "{case}: {error}");
                }
                assert!(reports.iter().all(|r| !r.done && !r.ended), "{case}: {reports:?}");
            }
            let found = writer.observer.objects(&root);
            assert!(found.len() <= under_way, "{case}: {found:?}");
            let same = left.iter().all(|object| found.contains(object));
            assert!(same, "{case}: what another has made was changed");
        }
    }
}

/// Nothing in it but times.
fn feed_of_another() -> Arc<Feed> {
    let mut feed = Feed::new(Vec::new());
    feed.extend_to(20);
    Arc::new(feed)
}
