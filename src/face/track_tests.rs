//! What looks at a clock of the test's own come to.

use super::*;
use crate::control::promotion::Promotion;
use crate::face::Face;

fn seen(upper: u64) -> Seen {
    let mut report = Face::new(Promotion::default()).report();
    report.upper = upper;
    let (waits, process) = (false, None);
    Seen { report, waits, process, stuck: None, feedback: 0, least: None, append: None }
}

#[test]
fn rates_are_of_ten_minutes_and_frontiers_know_since_when_they_stand() {
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::default();
    for look in 0..1000 {
        let counts = (u64::from(look) * 50, u64::from(look) / 2);
        track.look(began + second * look, &seen(u64::from(look.min(900))), counts, 0);
    }
    assert_eq!(track.rates.len(), LOOKS_MAX);
    assert!(track.rates.iter().all(|(rows, commits)| *rows == 50.0 && *commits <= 1.0));
    let (now, [input, _, shard, _]) = (began + second * 1000, track.frontiers);
    assert_eq!((shard.lasts(now, 900), shard.moved), (Some(second * 100), true));
    assert_eq!((input.lasts(now, 0), input.moved), (Some(second * 1000), false));
    assert_eq!(shard.lasts(now, 901), Some(Duration::ZERO), "it has moved since");
    // A pipeline that begins anew counts from 0, and has no rate below it.
    track.look(now, &seen(900), (10, 0), 0);
    assert_eq!(track.rates.back(), Some(&(0.0, 0.0)));
}

/// Between two commits a pipeline has nothing to do, and is at work all the same.
#[test]
fn what_has_moved_lately_is_known() {
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::default();
    assert!(!track.moved_lately(began, 7), "it was never looked at");
    track.look(began, &seen(7), (0, 0), 0);
    assert!(!track.moved_lately(began, 7), "it was there when it was first looked at");
    assert!(track.moved_lately(began, 8), "it has moved since");
    track.look(began + second, &seen(8), (0, 0), 0);
    assert!(track.moved_lately(began + second * 5, 8));
    assert!(!track.moved_lately(began + second * 6, 8));
}

#[test]
fn a_pace_says_when_it_gets_there() {
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    let mut pace = Pace::default();
    assert_eq!((pace.rate(), pace.eta(0, 9)), (None, None));
    for look in 0..100 {
        // It gets slower: the last looks count.
        let count = if look < 50 { look * 100 } else { 4900 + look };
        pace.look(began + second * look, u64::from(count));
    }
    assert_eq!(pace.rate(), Some(1.0));
    assert_eq!((pace.eta(4999, 5009), pace.eta(5009, 5009)), (Some(10.0), None));
    pace.look(began + second * 100, 3);
    assert_eq!(pace.rate(), None, "it began anew");
}
