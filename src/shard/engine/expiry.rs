//! Owns which leases may be ended, from what was watched of them. Pure; ending one is
//! `upkeep`'s, keeping one `holds`'s.
//!
//! A moment here is the time since one fixed moment of the caller's, by a clock that only measures.
//!
//! Clocks differ, so nobody believes another's. A lease is ended for one of two reasons:
//!
//! * *Silent.* It has not changed before our own eyes for its whole duration, by a clock that only
//!   measures: its holder renews it at a quarter of that. When it says that it ends does not matter.
//! * *Asked.* It looks wrong: it is over by our clock, or claims more than a lease can. Then an entry asks
//!   for it by name, and its holder, which looks at the log all the time, renews it at once; if it has
//!   not within [`answer`](crate::shard::HandleConfig::answer), it is gone, or sleeps. This is for programs that only
//!   look in, and cannot watch for so long: a clock that is a day fast asks everybody, and ends nobody.
//!
//! A holder that sleeps through that, and wakes up, gets [`LeaseLost`](crate::ErrorKind::LeaseLost).

use std::collections::BTreeMap;
use std::time::Duration;

use super::id::Id;
use super::lease::Lease;
use super::state::State;

/// A lease cannot last for so many durations from now on, whatever clock made it.
const PLAUSIBLE: u32 = 2;

/// The leases that a handle has seen.
#[derive(Debug, Default)]
pub(crate) struct Watched(BTreeMap<Id, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    lease: Lease,
    /// Since when it says so.
    since: Duration,
    /// When it was asked for.
    asked: Option<Duration>,
}

/// By what a lease is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// For how long a lease may be silent.
    pub(crate) duration: Duration,
    /// For how long one that was asked for may be.
    pub(crate) answer: Duration,
    /// Milliseconds since 1970, by our clock.
    pub(crate) clock_ms: u64,
    /// The same moment by a clock that only measures.
    pub(crate) now: Duration,
}

impl Judge {
    fn looks_wrong(&self, lease: &Lease) -> bool {
        let most = self.duration.saturating_mul(PLAUSIBLE).as_millis();
        let most = self.clock_ms.saturating_add(u64::try_from(most).unwrap_or(u64::MAX));
        lease.expires_ms <= self.clock_ms || lease.expires_ms > most
    }
}

/// What is to be done about leases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Those that may be ended, as they are then.
    pub(crate) ended: BTreeMap<Id, Lease>,
    /// Those to ask for.
    pub(crate) doubtful: Vec<Id>,
}

impl Verdict {
    /// Returns those to be ended that `state` still has, and that say what they said.
    pub(crate) fn still_ended(&self, state: &State) -> Vec<Id> {
        let same = |(token, lease): &(&Id, &Lease)| state.leases.get(*token) == Some(*lease);
        self.ended.iter().filter(same).map(|(token, _)| *token).collect()
    }

    /// Returns those to ask for that `state` still has.
    pub(crate) fn still_doubtful(&self, state: &State) -> Vec<Id> {
        let there = |token: &Id| state.leases.contains_key(token);
        self.doubtful.iter().copied().filter(there).collect()
    }
}

impl Watched {
    /// Looks at the leases of a state.
    pub(crate) fn see(&mut self, state: &State, now: Duration) {
        self.0.retain(|token, _| state.leases.contains_key(token));
        for (token, lease) in &state.leases {
            let fresh = Seen { lease: *lease, since: now, asked: None };
            let seen = self.0.entry(*token).or_insert(fresh);
            if seen.lease != *lease {
                *seen = fresh;
            }
        }
    }

    /// Judges all leases.
    pub(crate) fn verdict(&self, judge: &Judge) -> Verdict {
        Verdict { ended: self.ended(judge), doubtful: self.doubtful(judge) }
    }

    /// Returns the leases that may be ended, as they are then.
    pub(crate) fn ended(&self, judge: &Judge) -> BTreeMap<Id, Lease> {
        let over = |since: Duration, most| judge.now.saturating_sub(since) >= most;
        let ended = self.0.iter().filter(|(_, seen)| {
            let unanswered = seen.asked.is_some_and(|asked| over(asked, judge.answer));
            let by_clock =
                crate::mutant::on("collect_by_clock") && seen.lease.expires_ms <= judge.clock_ms;
            by_clock
                || over(seen.since, judge.duration)
                || unanswered && judge.looks_wrong(&seen.lease)
        });
        ended.map(|(token, seen)| (*token, seen.lease)).collect()
    }

    /// Returns the leases to ask for: those that look wrong and were not asked for.
    pub(crate) fn doubtful(&self, judge: &Judge) -> Vec<Id> {
        let wrong = self.0.iter().filter(|(_, seen)| seen.asked.is_none());
        wrong.filter(|(_, seen)| judge.looks_wrong(&seen.lease)).map(|(token, _)| *token).collect()
    }

    /// Notes that an entry has asked for these.
    pub(crate) fn asked(&mut self, tokens: &[Id], now: Duration) {
        for token in tokens {
            if let Some(seen) = self.0.get_mut(token) {
                seen.asked.get_or_insert(now);
            }
        }
    }

    /// Whether an answer of somebody is still out.
    pub(crate) fn waits(&self, judge: &Judge) -> bool {
        self.0.values().any(|seen| {
            let out = |asked: Duration| judge.now.saturating_sub(asked) < judge.answer;
            judge.looks_wrong(&seen.lease) && seen.asked.is_some_and(out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// What is seen at each minute, from the first on, of a lease that ends then; and whether it may be
    /// ended after the last.
    fn watched(clock_min: u64, seen: &[(u64, u64)], asked_at: Option<u64>) -> bool {
        let (start, mut watched) = (Duration::from_secs(7), Watched::default());
        let at = |minute: u64| start + Duration::from_millis(minute * MINUTE);
        let mut last = 0;
        for (minute, ends) in seen {
            let lease = Lease { expires_ms: ends * MINUTE, ..Lease::default() };
            let leases = BTreeMap::from([(Id(7), lease)]);
            watched.see(&State { leases, ..State::default() }, at(*minute));
            if asked_at == Some(*minute) {
                watched.asked(&[Id(7)], at(*minute));
            }
            last = *minute;
        }
        let judge = Judge {
            duration: Duration::from_secs(15 * 60),
            answer: Duration::from_secs(60),
            clock_ms: clock_min * MINUTE,
            now: at(last),
        };
        !watched.ended(&judge).is_empty()
    }

    #[test]
    fn a_lease_is_ended_by_what_was_watched_and_by_no_clock() {
        let far = 1 << 30;
        // Silent for its duration, whatever it claims: a clock ten years ahead, or behind.
        for ends in [0, 100, far] {
            assert!(watched(50, &[(0, ends), (15, ends)], None), "{ends}");
            assert!(!watched(50, &[(0, ends), (14, ends)], None), "{ends}");
            assert!(!watched(50, &[(0, ends), (10, ends + 1), (20, ends + 1)], None), "{ends}");
        }
        // Seen for the first time, it is never ended, however long it is over.
        assert!(!watched(far, &[(0, 1)], None));
        // Asked for, and silent.
        assert!(watched(far, &[(0, 1), (1, 1)], Some(0)));
        assert!(watched(50, &[(0, far), (1, far)], Some(0)), "it claims too much");
        assert!(!watched(50, &[(0, 60), (1, 60)], Some(0)), "there is nothing wrong with it");
        // Asked for, and it answers.
        assert!(!watched(far, &[(0, 1), (1, 2), (5, 2)], Some(0)));
    }

    #[test]
    fn only_what_looks_wrong_is_asked_for_and_once() {
        let (start, mut watched) = (Duration::from_secs(7), Watched::default());
        let lease = |ends: u64| Lease { expires_ms: ends * MINUTE, ..Lease::default() };
        let leases = [(1, 50), (2, 51), (3, 80), (4, 81)];
        let leases = leases.map(|(token, ends)| (Id(token), lease(ends)));
        let leases = BTreeMap::from(leases);
        watched.see(&State { leases, ..State::default() }, start);
        let duration = Duration::from_secs(15 * 60);
        let answer = Duration::from_secs(60);
        let judge = Judge { duration, answer, clock_ms: 50 * MINUTE, now: start };
        assert_eq!(watched.doubtful(&judge), [Id(1), Id(4)]);
        assert!(!watched.waits(&judge));
        watched.asked(&[Id(1), Id(4)], start);
        assert!(watched.doubtful(&judge).is_empty() && watched.waits(&judge));
        assert!(!watched.waits(&Judge { now: start + answer, ..judge }));
    }
}
