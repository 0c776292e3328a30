//! Owns the judgement of a run: after every step it reads the log through a store without faults, and
//! checks Safety at every commit, Ack for everything that the source was told, and that cursors and
//! epochs only rise. It does not own when a run must be done.

use std::collections::BTreeMap;

use differential_upsert::Encoded;
use differential_upsert::reclock::Times;
use differential_upsert::shard::{Handle, HandleConfig, HandleOptions, Id, State};
use differential_upsert::store::Root;
use differential_upsert::unstable::engine::entry::{Change, Commit, Entry};
use tokio::runtime::Runtime;

use crate::sources::clockwork::{Own, Time, runtime};
use crate::sources::place::Reached;
use crate::sources::upstream::{Asked, Contents, Shared, Upstream};

/// A cursor that was durable.
struct Seen {
    reached: Reached,
    /// A writer took the shard over with this one in it.
    at_takeover: bool,
}

/// Reads the shard's log, and the bindings, and checks them.
pub struct Observer {
    runtime: Runtime,
    root: Root,
    data: Handle,
    remap: Handle,
    times: Times,
    upstream: Shared,
    /// The last entry looked at.
    seqno: u64,
    epoch: u64,
    /// The writer that raised it.
    owner: Option<Id>,
    upper: u64,
    contents: Contents,
    bindings: BTreeMap<u64, Reached>,
    bound_to: u64,
    /// Bindings at this time and before it may have been merged before they were seen.
    blurred: Option<u64>,
    seen: Vec<Seen>,
    /// By life: how many cursors had been seen when it began.
    born: Vec<usize>,
}

impl Observer {
    pub fn new(root: &Root, times: Times, upstream: &Shared) -> Observer {
        let runtime = runtime();
        let io = Own::new(&Time::default(), 0, 1 << 60).io(&runtime);
        let open = |name| {
            let config = HandleConfig::default();
            let opened = Handle::open(
                root.clone(),
                io.clone(),
                HandleOptions::read(name).with_config(config),
            );
            runtime.block_on(opened).unwrap()
        };
        let (data, remap) = (open("data"), open("remap"));
        Observer {
            data,
            remap,
            runtime,
            root: root.clone(),
            times,
            upstream: upstream.clone(),
            seqno: 0,
            epoch: 0,
            owner: None,
            upper: 0,
            contents: Contents::new(),
            bindings: BTreeMap::new(),
            bound_to: 0,
            blurred: None,
            seen: vec![Seen { reached: Reached::default(), at_takeover: false }],
            born: Vec::new(),
        }
    }

    /// The durable cursor.
    pub fn reached(&self) -> &Reached {
        &self.seen.last().unwrap().reached
    }

    pub fn upper(&self) -> u64 {
        self.upper
    }

    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Reads what is new, and checks it.
    pub fn check(&mut self) {
        let upstream = self.upstream.clone();
        let mut upstream = upstream.lock().unwrap();
        self.born.resize(upstream.lives.len(), self.seen.len() - 1);
        if self.times == Times::WriteAhead {
            self.read_bindings();
        }
        let state = self.runtime.block_on(self.data.refresh()).unwrap();
        if state.seqno > self.seqno {
            self.read_data(&state, &upstream);
        }
        assert!(upstream.wrong.is_empty(), "{:?}", upstream.wrong);
        for (life, asked) in std::mem::take(&mut upstream.asked) {
            self.judge(life, asked, &mut upstream);
        }
    }

    fn read_bindings(&mut self) {
        let state = self.runtime.block_on(self.remap.refresh()).unwrap();
        if state.upper <= self.bound_to {
            return;
        }
        for batch in state.batches.iter().filter(|batch| batch.upper > self.bound_to) {
            if batch.forwarded.is_some_and(|to| to >= self.bound_to) {
                self.blurred = batch.forwarded;
            }
            for part in &batch.parts {
                let lower = batch.lower.max(self.bound_to);
                let rows = self.runtime.block_on(self.remap.fetch(part, lower, batch.upper));
                for ((key, value), time, diff) in rows.unwrap() {
                    assert_eq!(key.as_bytes(), b"cursor");
                    assert_eq!(value.as_bytes()[0], 0, "the tag of a value");
                    if diff > 0 {
                        let bound = Reached::decode(&value.as_bytes()[1..]);
                        assert_eq!(
                            self.bindings.insert(time, bound),
                            None,
                            "two bindings at {time}"
                        );
                    }
                }
            }
        }
        let bound: Vec<_> = self.bindings.values().collect();
        for pair in bound.windows(2) {
            assert!(pair[1].covers(pair[0]), "a binding goes back: {pair:?}");
        }
        self.bound_to = state.upper;
    }

    /// The cursor of a shard with this upper, by the bindings.
    fn bound_below(&self, upper: u64) -> Reached {
        let bound = self.bindings.range(..upper).next_back();
        bound.map(|(_, reached)| reached.clone()).unwrap_or_default()
    }

    fn read_data(&mut self, state: &State, upstream: &Upstream) {
        let commits = self.commits(state);
        let new = || state.batches.iter().filter(|batch| batch.upper > self.upper);
        let merged = |to: u64| to > 0 && to >= self.upper;
        let blurred = new().filter_map(|batch| batch.forwarded).any(merged);
        if let Some(commits) = commits.filter(|_| !blurred) {
            let mut rows: BTreeMap<u64, Vec<(u64, u64, isize)>> = BTreeMap::new();
            for batch in new() {
                let lower = batch.lower.max(self.upper);
                for part in &batch.parts {
                    let fetched = self.data.fetch(part, lower, batch.upper);
                    for ((key, value), time, diff) in self.runtime.block_on(fetched).unwrap() {
                        rows.entry(time).or_default().push((number(&key), stored(&value), diff));
                    }
                }
            }
            for (writer, commit) in commits {
                self.take(writer, &commit, &mut rows, upstream);
            }
            assert!(rows.is_empty(), "rows that no commit has: {rows:?}");
        } else if state.upper > 0 {
            // Merged before we saw it: only the last time is still apart from those before it.
            let last = state.upper - 1;
            let rows = self.runtime.block_on(self.data.snapshot(last)).unwrap();
            let rows = rows.iter().map(|((key, value), _, _)| (number(key), stored(value)));
            self.contents = rows.collect();
            self.owner = None;
        } else {
            self.owner = None;
        }
        assert!(state.upper >= self.upper && state.epoch >= self.epoch, "something went back");
        let raised = state.epoch > self.epoch;
        (self.seqno, self.upper, self.epoch) = (state.seqno, state.upper, state.epoch);
        let reached = match self.times {
            Times::CoCommitted => {
                state.cursor.as_ref().map(|bytes| Reached::decode(bytes)).unwrap_or_default()
            }
            Times::WriteAhead => {
                assert!(state.upper <= self.bound_to, "the shard is past its bindings");
                self.stored_below(state.upper)
            }
        };
        self.settle(reached, raised, upstream);
    }

    /// The binding below the upper as a reader finds it now: nobody may have merged it away.
    fn stored_below(&self, upper: u64) -> Reached {
        let Some(at) = upper.checked_sub(1) else { return Reached::default() };
        let rows = self.runtime.block_on(self.remap.snapshot(at)).unwrap();
        let reached = match &rows[..] {
            [] => Reached::default(),
            [((_, value), _, 1)] => Reached::decode(&value.as_bytes()[1..]),
            rows => panic!("two bindings at once: {rows:?}"),
        };
        if self.blurred.is_none_or(|to| at >= to) {
            assert_eq!(reached, self.bound_below(upper), "the binding below {upper}");
        }
        reached
    }

    /// The new appends in the log; `None` if some of it was collected before we saw it. Under the floor
    /// a late create may stand in the place of what was collected: it fits no chain.
    fn commits(&self, state: &State) -> Option<Vec<(Id, Commit)>> {
        let (mut commits, mut before) = (Vec::new(), None);
        for seqno in self.seqno + 1..=state.seqno {
            let key = format!("data/log/{seqno:020}");
            let bytes = self.runtime.block_on(self.root.blob().get(&key)).unwrap()?;
            let (entry, _) = Entry::decode(seqno, &bytes).unwrap();
            let last = seqno == state.seqno && entry.token != state.token;
            if last || before.is_some_and(|token| token != entry.prev_token) {
                return None;
            }
            before = Some(entry.token);
            if let Change::Append(commit) = entry.change {
                commits.push((entry.writer, commit));
            }
        }
        Some(commits)
    }

    /// Applies one commit, and checks the state after it.
    fn take(
        &mut self,
        writer: Id,
        commit: &Commit,
        rows: &mut BTreeMap<u64, Vec<(u64, u64, isize)>>,
        upstream: &Upstream,
    ) {
        assert_eq!(commit.lower, self.upper, "a commit that leaves a gap");
        let raised = commit.epoch.is_some_and(|epoch| epoch > self.epoch);
        if let Some(epoch) = commit.epoch {
            assert!(raised, "the epoch goes from {} to {epoch}", self.epoch);
            (self.epoch, self.owner) = (epoch, Some(writer));
        }
        if self.times == Times::CoCommitted && commit.upper > commit.lower {
            assert!(self.owner.is_none_or(|owner| owner == writer), "a fenced writer appends");
        }
        let later = rows.split_off(&commit.upper);
        for (time, rows) in std::mem::replace(rows, later) {
            assert!(time >= commit.lower, "a row before its commit");
            // Between commits, what is bound tells what there must be.
            if self.times == Times::WriteAhead && self.blurred.is_none_or(|to| time > to) {
                assert!(self.bindings.contains_key(&time), "rows at {time}, which is not bound");
            }
            self.apply(time, rows);
            if self.times == Times::WriteAhead && self.blurred.is_none_or(|to| time > to) {
                self.compare(&self.bound_below(time + 1), time + 1, upstream);
            }
        }
        self.upper = commit.upper;
        let reached = match (&commit.cursor, self.times) {
            (Some(bytes), Times::CoCommitted) => Reached::decode(bytes),
            (Some(_), _) => panic!("a cursor in the shard, and bindings too"),
            (None, Times::CoCommitted) => self.reached().clone(),
            (None, Times::WriteAhead) if self.blurred.is_none_or(|to| commit.upper > to) => {
                self.bound_below(commit.upper)
            }
            (None, Times::WriteAhead) => return,
        };
        self.settle(reached, raised, upstream);
    }

    /// Takes a cursor for durable, and checks it.
    fn settle(&mut self, reached: Reached, raised: bool, upstream: &Upstream) {
        self.compare(&reached, self.upper, upstream);
        let before = self.reached();
        assert!(reached.covers(before), "the cursor went back from {before:?} to {reached:?}");
        if raised || reached != *before {
            self.seen.push(Seen { reached, at_takeover: raised });
        }
    }

    /// Safety.
    fn compare(&self, reached: &Reached, upper: u64, upstream: &Upstream) {
        let fold = upstream.fold(reached);
        assert_eq!(
            self.contents, fold,
            "the contents below {upper}, where the cursor is {reached:?}"
        );
        let whole = reached.generation == 0
            || (!reached.copies() && reached.places.len() == upstream.names.len());
        assert!(whole, "a copy made anew shows before it is whole: {reached:?}");
    }

    /// Applies the updates of one time, which must be minimal.
    fn apply(&mut self, time: u64, mut rows: Vec<(u64, u64, isize)>) {
        rows.sort_by_key(|(key, _, diff)| (*key, *diff));
        let mut retracted = None;
        for (key, value, diff) in rows {
            match diff {
                -1 => {
                    let held = self.contents.remove(&key);
                    assert_eq!(held, Some(value), "retraction of key {key} at time {time}");
                    retracted = Some((key, value));
                }
                1 => {
                    assert_ne!(retracted, Some((key, value)), "an update to itself at time {time}");
                    let held = self.contents.insert(key, value);
                    assert_eq!(held, None, "key {key} has two values at time {time}");
                }
                _ => panic!("key {key} changes by {diff} at time {time}"),
            }
        }
    }

    /// Judges what a source was asked.
    fn judge(&self, life: usize, asked: Asked, upstream: &mut Upstream) {
        match asked {
            Asked::From(from) => {
                let since = &self.seen[self.born[life]..];
                let exclusive = self.times == Times::CoCommitted;
                let may = |seen: &Seen| seen.reached == from && (seen.at_takeover || !exclusive);
                assert!(
                    since.iter().any(may),
                    "life {life} is connected at {from:?}, which was not durable then; it is {:?}",
                    self.reached(),
                );
            }
            Asked::Acked(acked) => {
                let durable = self.reached();
                assert!(durable.covers(&acked), "{acked:?} is acked, and {durable:?} is durable");
                assert!(!acked.copies(), "{acked:?} is acked inside of a copy");
                let before = upstream.lives[life].acked.replace(acked.clone());
                let rises = before.as_ref().is_none_or(|before| acked.covers(before));
                assert!(rises, "life {life} is told {acked:?} after {before:?}");
            }
        }
    }

    /// Every object of the store, to compare runs.
    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let blob = self.root.blob();
        let all = async {
            let mut objects = Vec::new();
            for listed in blob.list("", usize::MAX).await.unwrap() {
                let bytes = blob.get(&listed.key).await.unwrap().unwrap();
                objects.push((listed.key, bytes.to_vec()));
            }
            objects
        };
        self.runtime.block_on(all)
    }
}

fn number(bytes: &Encoded) -> u64 {
    let [number] = bytes.as_bytes() else { panic!("not one byte: {:?}", bytes.as_bytes()) };
    u64::from(*number)
}

fn stored(bytes: &Encoded) -> u64 {
    let [0, number] = bytes.as_bytes() else { panic!("not a value: {:?}", bytes.as_bytes()) };
    u64::from(*number)
}
