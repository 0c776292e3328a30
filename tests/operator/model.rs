//! Goal: for every stream of commands, however batched, ordered and interleaved with feedback, the
//! operator emits exactly the minimal difference of the collection that the commands describe.
//!
//! Method: random commands (proptest shrinks them) run under a random schedule (a seed) on 1 to 4
//! workers. The test plays the durable shard: it commits what was emitted once the frontier has
//! passed it, or, as a rival, commits a time from the oracle first; and it feeds commits back late,
//! shuffled, split, with canceling pairs among them. The oracle folds the commands from scratch.
//!
//! `PROPTEST_RNG_SEED` replays a seed, `PROPTEST_CASES` sets how many.

use std::collections::{BTreeMap, BTreeSet};

use crate::rig::{Bytes, Columns, Counts, Layout, Rig, Timed, Updates, collection, consolidated};
use differential_upsert::{Command, UpsertConfig};
use fastrand::Rng;
use proptest::prelude::*;

const KEYS: u8 = 5;
const TIMES: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Verb {
    Put(u8),
    Patch(u8),
    Delete,
    Reset,
    /// Of the key's collection.
    ResetOf,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    time: u64,
    key: u8,
    verb: Verb,
    order: u8,
}

#[derive(Clone, Debug)]
struct Case {
    lines: Vec<Line>,
    schedule: u64,
    workers: usize,
    rival: bool,
    drain_rows_max: usize,
    stash_bytes_max: usize,
    /// Whether it runs ahead of what is fed back, and how far.
    overlay_bytes_max: usize,
    /// Of packed rows, how much of the state is in memory: all, two chunks of a few rows, or some more.
    state_bytes_max: Option<usize>,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let verb = prop_oneof![
        8 => (0..6u8).prop_map(Verb::Put),
        3 => (0..6u8).prop_map(Verb::Patch),
        3 => Just(Verb::Delete),
        1 => Just(Verb::Reset),
        2 => Just(Verb::ResetOf),
    ];
    let line = (0..TIMES, 0..KEYS, verb, 0..4u8).prop_map(|(time, key, verb, order)| Line {
        time,
        key,
        verb,
        order,
    });
    prop::collection::vec(line, 0..60)
}

fn cases() -> impl Strategy<Value = Case> {
    let bounds = (
        prop_oneof![Just(1), Just(2), Just(1 << 14)],
        prop_oneof![Just(0), Just(300), Just(1 << 20)],
        prop_oneof![Just(0), Just(300), Just(1 << 20)],
        prop_oneof![Just(None), Just(Some(0)), Just(Some(700))],
    );
    (lines(), any::<u64>(), 1..=4usize, any::<bool>(), bounds).prop_map(
        |(
            lines,
            schedule,
            workers,
            rival,
            (drain_rows_max, stash_bytes_max, overlay_bytes_max, state_bytes_max),
        )| Case {
            lines,
            schedule,
            workers,
            rival,
            drain_rows_max,
            stash_bytes_max,
            overlay_bytes_max,
            state_bytes_max,
        },
    )
}

/// What a line does to a key, in ascending order of effect.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Effect<V> {
    Gone,
    Put(V),
    Patch(V),
}

/// The collection after each time, folded from scratch: a reset is a delete of every key, or of those of a collection.
fn oracle<L: Layout>(lines: &[Line]) -> Vec<BTreeMap<L::K, L::V>> {
    let mut now = BTreeMap::new();
    let at = |time| {
        for key in 0..KEYS {
            let about_key = |line: &&Line| match line.verb {
                Verb::Reset => line.time == time,
                Verb::ResetOf => line.time == time && collection(line.key) == collection(key),
                _ => line.time == time && line.key == key,
            };
            let effect = |line: &Line| match line.verb {
                Verb::Put(value) => (line.order, Effect::Put(L::value(value))),
                Verb::Patch(patch) => (line.order, Effect::Patch(L::value(patch))),
                Verb::Delete | Verb::Reset | Verb::ResetOf => (line.order, Effect::Gone),
            };
            // Not a set: equal patches of one order are as many.
            let mut effects: Vec<_> = lines.iter().filter(about_key).map(effect).collect();
            effects.sort();
            for (_, effect) in effects {
                let value = match effect {
                    Effect::Put(value) => Some(value),
                    Effect::Patch(patch) => Some(L::fold(now.get(&L::key(key)), &patch)),
                    Effect::Gone => None,
                };
                match value {
                    Some(value) => drop(now.insert(L::key(key), value)),
                    None => drop(now.remove(&L::key(key))),
                }
            }
        }
        now.clone()
    };
    (0..TIMES).map(at).collect()
}

/// The least updates that lead from each time's collection to the next.
fn difference<L: Layout>(contents: &[BTreeMap<L::K, L::V>], time: u64) -> Updates<L> {
    let nothing = BTreeMap::new();
    let after = &contents[time as usize];
    let before = if time == 0 { &nothing } else { &contents[time as usize - 1] };
    let gone = before.iter().filter(|(key, value)| after.get(*key) != Some(*value));
    let new = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let own = |diff| move |(key, value): (&L::K, &L::V)| ((key.clone(), value.clone()), diff);
    let all = gone.map(own(-1)).chain(new.map(own(1)));
    all.map(|(data, diff)| (data, time, diff)).collect()
}

fn command<L: Layout>(line: &Line) -> Timed<L::K, L::V> {
    let Line { time, key, verb, order } = *line;
    let command = match verb {
        Verb::Put(value) => Command::put(L::key(key), L::value(value), order),
        Verb::Patch(patch) => Command::patch(L::key(key), L::value(patch), order),
        Verb::Delete => Command::delete(L::key(key), order),
        Verb::Reset => Command::reset(order),
        Verb::ResetOf => Command::reset_of(collection(key).to_string(), order),
    };
    (command, time)
}

/// What a run leaves for the checks.
struct Outcome<L: Layout> {
    /// All that the operator emitted, as it came.
    raw: Updates<L>,
    /// Those of it that were committed.
    won: Updates<L>,
    /// The times that the rival committed.
    lost: BTreeSet<u64>,
}

/// The durable shard, played by the test.
struct Shard<L: Layout> {
    contents: Vec<BTreeMap<L::K, L::V>>,
    upper: u64,
    raw: Updates<L>,
    won: Updates<L>,
    lost: BTreeSet<u64>,
    /// Committed and not yet fed back.
    on_the_way: Updates<L>,
    fed_below: u64,
}

impl<L: Layout> Shard<L> {
    /// Commits what the operator has emitted below its frontier.
    fn commit(&mut self, rig: &Rig<L>) {
        self.raw.extend(rig.take());
        let upper = rig.frontier().unwrap_or(TIMES);
        let owed = |time: u64| self.upper <= time && time < upper;
        let rows: Vec<_> = self.raw.iter().filter(|update| owed(update.1)).cloned().collect();
        self.on_the_way.extend(rows.iter().cloned());
        self.won.extend(rows);
        self.upper = self.upper.max(upper);
    }

    /// Commits times before the operator does.
    fn commit_by_rival(&mut self, upper: u64) {
        for time in self.upper..upper {
            self.on_the_way.extend(difference::<L>(&self.contents, time));
            self.lost.insert(time);
        }
        self.upper = self.upper.max(upper);
    }

    /// Puts pairs that cancel among what is on the way.
    fn add_noise(&mut self, random: &mut Rng) {
        if self.fed_below == self.upper {
            return;
        }
        let time = self.fed_below + random.u64(..self.upper - self.fed_below);
        let data = (L::key(random.u8(..7)), L::value(random.u8(..7)));
        self.on_the_way.push((data.clone(), time, 1));
        self.on_the_way.push((data, time, -1));
    }

    /// Feeds some of what is on the way, and perhaps tells how far that is complete.
    fn feed(&mut self, rig: &mut Rig<L>, random: &mut Rng) {
        let feedback = rig.feedback.as_mut().unwrap();
        random.shuffle(&mut self.on_the_way);
        let all = random.u32(..3) == 0;
        let keep = if all { 0 } else { random.usize(..self.on_the_way.len() + 1) };
        for (data, time, diff) in self.on_the_way.drain(keep..) {
            feedback.update_at(data, time, diff);
        }
        if random.u32(..2) == 0 {
            let times = self.on_the_way.iter().map(|(_, time, _)| *time);
            self.fed_below = times.min().unwrap_or(self.upper).max(self.fed_below);
            feedback.advance_to(self.fed_below);
        }
    }
}

fn drive<L: Layout>(rig: &mut Rig<L>, case: &Case) -> Outcome<L> {
    let mut random = Rng::with_seed(case.schedule);
    let mut unsent = case.lines.clone();
    random.shuffle(&mut unsent);
    let mut shard = Shard::<L> {
        contents: oracle::<L>(&case.lines),
        upper: 0,
        raw: Vec::new(),
        won: Vec::new(),
        lost: BTreeSet::new(),
        on_the_way: Vec::new(),
        fed_below: 0,
    };
    let mut closed = 0;
    // Each round makes one of few moves; this many suffice for the slowest schedule, by far.
    for _ in 0..3_000 {
        match random.usize(..9) {
            0 if rig.commands.is_some() => {
                // The rest of a time has to go out before the time is closed.
                let to = closed + 1 + random.u64(..3);
                for line in unsent.extract_if(.., |line| line.time < to) {
                    let (command, time) = command::<L>(&line);
                    rig.send(command, time);
                }
                closed = to;
                rig.close_below(closed);
                if closed >= TIMES {
                    rig.commands = None;
                }
            }
            1 if rig.commands.is_some() => {
                for line in unsent.split_off(unsent.len() - random.usize(..unsent.len() + 1)) {
                    let (command, time) = command::<L>(&line);
                    rig.send(command, time);
                    if random.u32(..4) == 0 {
                        rig.commands.as_mut().unwrap().flush();
                    }
                }
            }
            2 | 3 => shard.commit(rig),
            4 if case.rival && random.u32(..3) == 0 => {
                let upper = (shard.upper + 1 + random.u64(..3)).min(TIMES);
                shard.commit_by_rival(upper);
            }
            // Ahead, what comes back may only be what the operator would have emitted.
            5 if random.u32(..4) == 0 && case.overlay_bytes_max == 0 => {
                shard.add_noise(&mut random)
            }
            5 | 6 => shard.feed(rig, &mut random),
            _ => {
                rig.flush();
                (0..1 + random.usize(..3 * case.workers)).for_each(|_| rig.step());
            }
        }
        if rig.frontier().is_none() && shard.fed_below == TIMES {
            rig.settle();
            shard.raw.extend(rig.take());
            assert!(rig.errors.lock().unwrap().is_empty(), "{:?}", rig.errors.lock().unwrap());
            return Outcome { raw: shard.raw, won: shard.won, lost: shard.lost };
        }
    }
    panic!(
        "stuck: input {closed}, output {:?}, shard {}, feedback {}, errors {:?}",
        rig.frontier(),
        shard.upper,
        shard.fed_below,
        rig.errors.lock().unwrap(),
    );
}

fn check<L: Layout>(case: Case) {
    let config = UpsertConfig {
        drain_rows_max: case.drain_rows_max,
        stash_bytes_max: case.stash_bytes_max,
        overlay_bytes_max: case.overlay_bytes_max,
        state_bytes_max: case.state_bytes_max.filter(|_| L::PACKED),
        reads_on_worker: true,
        ..UpsertConfig::default()
    };
    let contents = oracle::<L>(&case.lines);
    let (driven, seed, workers) = (case.clone(), case.schedule, case.workers);
    let (outcome, counts) = Rig::<L>::cluster(workers, seed, config, move |rig| {
        let Outcome { raw, won, lost } = drive::<L>(rig, &driven);
        (raw, won, lost)
    });
    let (raw, won, lost) = outcome;
    for time in 0..TIMES {
        let least = consolidated(difference::<L>(&contents, time));
        let at = |updates: &Updates<L>| -> Updates<L> {
            updates.iter().filter(|update| update.1 == time).cloned().collect()
        };
        let (emitted, committed) = (at(&raw), at(&won));
        let count = emitted.len();
        let emitted = consolidated(emitted);
        // As many rows as remain after consolidation: the raw stream has no repeats and no pairs.
        assert_eq!(emitted.len(), count, "time {time}: {count} rows for {emitted:?}");
        for (update, diff) in &emitted {
            assert_eq!(
                least.get(update),
                Some(diff),
                "time {time}: {update:?} is not in {least:?}"
            );
        }
        if lost.contains(&time) {
            assert!(committed.is_empty(), "time {time} is the rival's");
        } else {
            assert_eq!(consolidated(committed), least, "time {time}");
        }
    }
    if lost.is_empty() {
        check_counts(&case, &contents, counts);
    }
}

/// Every put, patch and delete is counted in one place: superseded, unchanged, or in effect.
fn check_counts<L: Ord, V: PartialEq>(case: &Case, contents: &[BTreeMap<L, V>], counts: Counts) {
    let keyed = case.lines.iter().filter(|line| !matches!(line.verb, Verb::Reset | Verb::ResetOf));
    let keyed_by: BTreeSet<_> = keyed.clone().map(|line| (line.time, line.key)).collect();
    let superseded = counts.superseded as usize;
    assert_eq!(counts.below, 0, "{counts:?}");
    assert!(superseded + keyed_by.len() >= keyed.clone().count(), "{counts:?}");
    if keyed.clone().count() == case.lines.len() {
        let changed = (0..TIMES as usize).map(|time| {
            let before = (time > 0).then(|| &contents[time - 1]);
            let after = &contents[time];
            let new = after
                .iter()
                .filter(|(key, value)| before.and_then(|before| before.get(*key)) != Some(*value));
            let gone =
                before.map_or(0, |b| b.keys().filter(|key| !after.contains_key(*key)).count());
            new.count() + gone
        });
        let (changed, total) = (changed.sum::<usize>(), case.lines.len());
        assert_eq!(superseded, total - keyed_by.len(), "{counts:?}");
        assert_eq!(counts.unchanged as usize, keyed_by.len() - changed, "{counts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn packed_rows_match_the_oracle(case in cases()) {
        check::<Bytes>(case);
    }

    #[test]
    fn columnation_rows_match_the_oracle(case in cases()) {
        check::<Columns>(case);
    }
}
