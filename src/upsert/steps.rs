//! Owns what the operator does in each step of a wake-up. No policy is here: [`classify`](super::classify) decides what is
//! eligible, [`drain`](super::drain) what it turns into. When a step is taken is [`operator`](super::operator)'s, and how a
//! wake-up ends [`settling`](super::settling)'s.

use differential_dataflow::ExchangeData;
use timely::dataflow::operators::Capability;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::classify::{Ahead, Frontiers, Placement};
use super::cold::ColdSpace;
use super::config::UpsertConfig;
use super::context::{Inflight, UpsertContext, flight_bytes};
use super::drain::Drain;
use super::events::Events;
use super::image::Images;
use super::inbox::{Inbox, Update};
use super::overlay::Overlay;
use super::piece::{Drained, Piece};
use super::route::Routed;
use super::rows::{Kept, Rows};
use super::rules::Rules;
use super::spill::SharedSpill;
use super::stash::Stash;
use super::state::State;
use super::stats::UpsertStats;
use super::warm::Warm;
use crate::command::time::{is_last, refused};
use crate::error::{Error, ErrorKind};

/// Commands and rows that a wake-up looks at, for each update that it may emit.
const WORK_PER_UPDATE: usize = 4;
/// Fewer are not worth another wake-up.
const WORK_MIN: usize = 1 << 10;
/// Pieces of an image that a wake-up reads because updates wait for them, of 112 KiB at the most, or chunks that it compacts.
const PIECES: usize = 4;

/// What the operator knows, and its steps.
pub(super) struct UpsertOperator<K: Kept<V>, V, O, T: Timestamp> {
    pub(super) stash: Stash<K, V, O, T>,
    pub(super) state: State<K, V>,
    /// Makes images of it.
    pub(super) images: Option<(Images, fn(&T) -> u64)>,
    /// The time below which the state has all updates, and no other, where that is so.
    pub(super) exact: Option<u64>,
    /// What it was told of keys and values.
    rules: Rules<K, V>,
    pub(super) drain: Option<Drain<K, V, O, T>>,
    /// The drain began on a state that had all updates below the frontier, and no other; it stands still since.
    on_whole: bool,
    /// What it has emitted and not read back.
    pub(super) overlay: Overlay<K, V, T>,
    /// It has drained a time when it was its turn: from there on it has seen every command.
    anchored: bool,
    /// An upper beyond what it had emitted, until the feedback has come to it.
    behind: Option<T>,
    /// Feedback that the state does not have yet: a drain reads the state as it was when it began.
    pub(super) inbox: Inbox<K, V, T>,
    /// What a run of small times is about to look up.
    warm: Warm,
    /// The share of a wake-up.
    piece: Piece,
    /// Something is left to do that no message will wake it for.
    pub(super) more: bool,
    /// Permission to emit at the least time not yet drained, else at the input frontier. Held all
    /// along, so that a failure can hold the frontier where it is.
    pub(super) capability: Option<(Capability<T>, Capability<T>)>,
    pub(super) failed: Option<Error>,
    /// The time that it failed in: those before it are whole, and go on.
    pub(super) failed_at: Option<T>,
    pub(super) reported: bool,
    pub(super) stats: UpsertStats,
    /// Where the worker has a logger for it.
    events: Option<Events>,
}

impl<K, V, O, T> UpsertOperator<K, V, O, T>
where
    K: ExchangeData + Kept<V>,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp + TotalOrder,
{
    pub(super) fn new(
        config: &UpsertConfig<T>,
        rules: Rules<K, V>,
        context: &UpsertContext<T>,
        space: ColdSpace,
        images: Option<(Images, fn(&T) -> u64)>,
        events: Option<Events>,
    ) -> UpsertOperator<K, V, O, T> {
        UpsertOperator {
            stash: Stash::new(config.stash_bytes_max, SharedSpill::clone(&context.spill)),
            state: State::new(config.state_bytes_max, space),
            images,
            exact: None,
            rules,
            drain: None,
            on_whole: false,
            overlay: Overlay::new(config.overlay_bytes_max),
            anchored: false,
            behind: None,
            inbox: Inbox::default(),
            warm: Warm::default(),
            piece: Piece {
                rows: config.drain_rows_max,
                bytes: config.drain_bytes_max,
                work: config.drain_rows_max.saturating_mul(WORK_PER_UPDATE).max(WORK_MIN),
            },
            more: false,
            capability: None,
            failed: context
                .invalid
                .clone()
                .or_else(|| config.validate().err())
                .or_else(|| (config.state_bytes_max.is_some() && !K::Rows::FILES).then(unbounded)),
            failed_at: None,
            // Its lender has said so.
            reported: context.invalid.is_some(),
            stats: context.stats.clone(),
            events,
        }
    }

    /// Drops what others have persisted meanwhile, a piece of it. Nothing is lost: a time below the shard's
    /// upper is durable, with the same rows, whichever writer wrote it.
    pub(super) fn shed(&mut self, at: &Frontiers<'_, T>) {
        let Some(known) = at.known.first().filter(|_| !crate::mutant::on("restash_below")) else {
            return;
        };
        match self.stash.shed(known, self.piece.work as u64) {
            Ok(below) => {
                self.stats.add_below(below);
                self.stats.add_work(below);
                self.more |= self.stash.first_time().is_some_and(|first| first < known);
            }
            Err(error) => self.fail(error.into()),
        }
    }

    pub(super) fn ingest(
        &mut self,
        message: &T,
        routed: &mut Vec<Routed<K, V, O, T>>,
        at: &Frontiers<'_, T>,
    ) {
        self.stats.add_work(routed.len() as u64);
        if let (Some(events), None) = (&self.events, &self.failed) {
            let keyed = routed.iter().filter_map(|routed| match routed {
                Routed::Keyed(_, time) => Some(time),
                Routed::Reset(..) => None,
            });
            events.placed(keyed, at);
        }
        for routed in routed.drain(..) {
            if self.failed.is_some() {
                // It holds its frontier, so that these times are not taken for done.
                return;
            }
            let (Routed::Keyed(_, time) | Routed::Reset(.., time)) = &routed;
            if time < message {
                // Its time may have been passed on as closed: it cannot be emitted any more.
                let what = format!("a command at {time:?} came in a message at {message:?}");
                let hint = "give messages the least time of their commands, or an earlier one";
                return self.fail(Error::new(ErrorKind::Invalid, what).hint(hint));
            }
            if is_last(time) {
                return self.fail(refused());
            }
            if at.place(time, false) == Placement::Below && !crate::mutant::on("restash_below") {
                // Persisted already, as in `shed`.
                self.stats.add_below(u64::from(matches!(routed, Routed::Keyed(..))));
                continue;
            }
            match routed {
                Routed::Keyed(command, time) => {
                    self.stash.push(time, command);
                    self.stats.add_stashed(1);
                }
                Routed::Reset(_, collection, order, time) => {
                    self.stash.reset(time, collection, order);
                }
            }
        }
    }

    pub(super) fn keep_bound(&mut self) {
        match self.stash.keep_bound() {
            Ok(more) => self.more |= more,
            Err(error) => self.fail(error.into()),
        }
    }

    pub(super) fn absorb(&mut self, mut rows: Vec<Update<K, V, T>>) {
        if self.failed.is_none() {
            if let Some((images, time_of)) = &mut self.images {
                images.take(&mut rows, *time_of);
            }
            self.inbox.push(rows);
        }
    }

    /// Ends a drain whose time another writer has committed first. Nothing is lost: that time is
    /// durable, and what was emitted of it is dropped by the sink, whole. What was not emitted is shed.
    pub(super) fn give_up_drain(&mut self, at: &Frontiers<'_, T>) {
        if let Some(drain) = self.drain.take_if(|d| at.place(d.time(), false) == Placement::Below) {
            let (taken, rest) = drain.give_up();
            self.stats.add_below(taken);
            self.stash.unseal(rest);
        }
    }

    pub(super) fn apply(&mut self) {
        if self.drain.is_some() || self.failed.is_some() {
            return;
        }
        match self.inbox.apply(&mut self.state, self.piece.work) {
            Ok(applied) => {
                self.stats.add_work(applied);
                self.exact.take_if(|_| applied > 0);
                self.more |= !self.inbox.is_empty();
            }
            Err(broken) => return self.fail(broken.into()),
        }
        let caught_up = match self.inbox.is_empty() {
            true => self.state.catch_up(PIECES),
            false => Ok(()),
        };
        if let Err(broken) = caught_up.and_then(|()| Ok(self.state.keep_bound()?)) {
            self.fail(broken.into());
        }
    }

    /// Notes an upper beyond the output frontier. Our frontier says what we have emitted; what lies between
    /// is another writer's, and our overlay does not have it.
    pub(super) fn look_behind(&mut self, at: &Frontiers<'_, T>) {
        if let (Some(known), Some((capability, _))) = (at.known.first(), &self.capability)
            && capability.time() < known
        {
            self.behind = self.behind.take().max(Some(known.clone()));
        }
    }

    /// Forgets what has come back. The frontier alone does not say so: its rows may wait for a drain.
    pub(super) fn expire(&mut self, at: &Frontiers<'_, T>) {
        let is_applied = self.drain.is_none() && self.inbox.is_empty();
        let is_applied = is_applied || crate::mutant::on("expire_unapplied");
        let come = match crate::mutant::on("expire_by_known") {
            true => at.known,
            false => at.complete,
        };
        let Some(applied) = come.first().filter(|_| is_applied) else { return };
        self.overlay.expire(applied);
        self.behind.take_if(|behind| *behind <= *applied);
    }

    /// Drains what is equal into `out`, until nothing is, or the wake-up's share is used up, or too much is in
    /// flight; then it is woken when that is less.
    pub(super) fn drain_equal(
        &mut self,
        at: &Frontiers<'_, T>,
        inflight: &Inflight,
        out: &mut Vec<Update<K, V, T>>,
    ) {
        let mut piece = self.piece;
        self.stash.wake();
        self.warm.begin(self.state.has_cold());
        let mut before = None;
        while !inflight.is_full() {
            self.start_drain(at);
            if self.drain.is_none() {
                break;
            }
            let has_cold = self.state.has_cold();
            // Only a second time in one wake-up says that there is a run.
            if let (Some(work), false) = (before, has_cold)
                && let Err(error) = self.look_ahead(work, at)
            {
                return self.fail(error);
            }
            let Some(drain) = &mut self.drain else { break };
            let (stash, overlay, start) = (&mut self.stash, &mut self.overlay, out.len());
            let (state, pins) = (&mut self.state, stash.pins());
            let step = drain.step(state, &self.rules, overlay, pins, &mut piece, out);
            // The drain may have read a piece of an image with which the state is not a collection.
            let is_judged = self.on_whole && !crate::mutant::on("drains_over_damage");
            let damage = if is_judged { state.damage() } else { None };
            match damage.map_or(step, Err) {
                Ok(drained) => {
                    self.stash.drains(drain.held_bytes());
                    let bytes = |((k, v), _, _): &Update<K, V, T>| flight_bytes(k, v);
                    inflight.add(out[start..].iter().map(bytes).sum());
                    before = Some(drained.work);
                    self.count(&drained);
                    // What it waits for wakes it.
                    self.more |= self.drain.is_some() && !drained.waits;
                }
                // Half a time was emitted: the failure keeps a capability for it, so that the frontier
                // never says it is whole.
                Err(error) => {
                    self.failed_at = Some(drain.time().clone());
                    return self.fail(error);
                }
            }
            // What has to be read for later times is asked for at once, in the room that this one leaves.
            if let (Some(work), true) = (before, has_cold)
                && let Err(error) = self.look_ahead(work, at)
            {
                return self.fail(error);
            }
            if self.drain.is_some() {
                break;
            }
        }
        // A drain under way reads the state as it was; it goes on once there is room, and is woken then.
        let waits = self.drain.is_some() && !crate::mutant::on("spin_for_room");
        self.more |= !waits && !self.inbox.is_empty();
    }

    /// Looks up what the next times will, so many commands having been drained.
    fn look_ahead(&mut self, drained: u64, at: &Frontiers<'_, T>) -> Result<(), Error> {
        let closed = |time: &T| !at.input.less_equal(time);
        let (state, overlay) = (&mut self.state, &self.overlay);
        let missed = self.warm.go_on(drained, &self.stash, state, overlay, closed)?;
        self.stats.add_cold_missed(missed);
        Ok(())
    }

    fn start_drain(&mut self, at: &Frontiers<'_, T>) {
        let Some(time) = self.stash.first_time() else { return };
        let applied = self.inbox.applied();
        let ahead = Ahead {
            anchored: self.anchored,
            behind: self.behind.as_ref(),
            applied,
            admitted: self.overlay.admits(time),
        };
        let equal = at.place(time, ahead.may(time)) == Placement::Equal;
        // The state is exact only when the frontier is beyond every time applied to it: rows of a
        // rival's commit at this very time may be here before its frontier is.
        let exact = applied.is_none_or(|applied| applied < time);
        let exact = exact || crate::mutant::on("ahead_of_early_rows");
        if self.drain.is_some() || !self.inbox.is_empty() || !equal || !exact {
            return;
        }
        let is_its_turn = at.complete.first() == Some(time) || crate::mutant::on("reset_ahead");
        match self.stash.seal() {
            Ok(Some(sealed)) => {
                // It sweeps the state, so it waits until that is exact, and what is past it waits too.
                let resets = sealed.resets.is_some();
                let named = sealed.resets.as_ref().and_then(|resets| resets.named());
                if let Some(Err(error)) = named.map(|name| self.rules.check_reset_of(name)) {
                    self.failed_at = Some(sealed.merge.time);
                    return self.fail(error);
                }
                if resets && !crate::mutant::on("ahead_past_a_reset") {
                    self.overlay.bar(sealed.merge.time.clone());
                }
                match resets && !is_its_turn {
                    true => self.stash.unseal_whole(sealed),
                    false => {
                        self.on_whole = self.is_whole(at);
                        self.drain = Some(Drain::new(sealed));
                    }
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(error.into()),
        }
        self.stats.add_work(1);
    }

    /// Counts what a step of the drain did, and ends the drain if that was the last.
    fn count(&mut self, drained: &Drained) {
        if let Some(events) = &self.events {
            events.drained(drained);
        }
        self.stats.add_emitted(drained.emitted);
        self.stats.add_superseded(drained.superseded);
        self.stats.add_unchanged(drained.unchanged);
        self.stats.add_cold_missed(drained.missed);
        self.stats.add_work(drained.work);
        if let Some(drain) = self.drain.take_if(|_| drained.done) {
            self.overlay.drained(drain.time());
            self.stash.unseal(drain.give_up().1);
            // One that is not may drain a time only when it is its turn.
            self.anchored = true;
        }
    }
}

/// A state of other types than packed ones stays in memory.
fn unbounded() -> Error {
    let what = "state_bytes_max bounds packed keys and values alone";
    Error::new(ErrorKind::Invalid, what).hint("pack them, or leave it out")
}
