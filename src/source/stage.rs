//! Owns the boundary stager: the changes of a unit are kept back until its end has come, and go on
//! together with their cursor. It does not own where they come from, nor what time they get.

use std::collections::BTreeSet;

use super::by_partition::{ByPartition, Partition};
use super::cursor::{Boundary, Position, Received, Released};
use super::staged::{MEMORY_BYTES_MAX, Staged};
use super::{Change, Event, Source};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind};

/// How much may be kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLimits {
    /// Bytes of incomplete units in memory; past it they go to an unnamed temporary file. Default:
    /// 32 MiB.
    pub memory_bytes_max: usize,
    /// Bytes of incomplete units in all; a larger unit is an error. A copy after a lost position is
    /// one unit. Default: 64 GiB.
    pub unit_bytes_max: u64,
}

impl Default for StageLimits {
    fn default() -> Self {
        StageLimits { memory_bytes_max: 32 << 20, unit_bytes_max: 64 << 30 }
    }
}

impl StageLimits {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field and its range.
    pub fn validate(&self) -> Result<(), Error> {
        crate::error::at_least("unit_bytes_max", self.unit_bytes_max, 1)
    }
}

/// A complete unit: all of its changes, and the cursor that covers them.
#[derive(Debug)]
pub struct Unit<P> {
    /// The changes, encoded; none for a boundary without.
    pub changes: Staged,
    /// How far the feed is with them.
    pub boundary: Boundary<P>,
    /// The partitions that it moved, and to where.
    pub moved: Vec<(Partition, P)>,
    /// Of a whole copy made anew: how far the feed was that it takes the place of.
    pub replaces: Option<Boundary<P>>,
}

impl<P: Position> Unit<P> {
    /// Takes the unit apart, to hand it on.
    pub(crate) fn release(self) -> (Staged, Released<P>) {
        (self.changes, Released(self.boundary.0))
    }
}

/// A unit that has begun, and not ended.
#[derive(Debug, Default)]
struct Unended {
    changes: Staged,
    /// Which one it is, counted from the first of the feed.
    number: u64,
}

/// What waits in a partition: a unit for its end, or a copy for its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) partition: Partition,
    /// The number of the unit; none for a copy.
    pub(super) begun: Option<u64>,
    /// Of a copy: how many boundaries it has had.
    pub(super) ends: Option<u64>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Stages the changes of one feed.
///
/// After a position was lost, the feed is copied anew: then all that comes, from the start to the end
/// of the copy in every partition, is one unit that begins with a reset. So keys that the copy does
/// not have go in one step, and until then nothing has changed.
#[derive(Debug)]
pub struct Stager<P> {
    limits: StageLimits,
    /// The number of the values' shape in the shard.
    shape: u16,
    /// Of the last unit that went on.
    released: Boundary<P>,
    /// Of the last unit that was complete: further than `released` while a copy is made anew.
    reached: Boundary<P>,
    open: ByPartition<Unended>,
    /// Units begun so far.
    begun: u64,
    /// Partitions whose copy is under way, and how many boundaries it has had.
    copying: ByPartition<u64>,
    /// What a copy made anew has so far.
    anew: Option<Staged>,
    /// The partitions that such a copy must have.
    partitions: BTreeSet<Partition>,
}

impl<P: Position> Stager<P> {
    /// Stages what comes after a boundary.
    pub fn new(
        from: Boundary<P>,
        partitions: impl IntoIterator<Item = Partition>,
        limits: StageLimits,
    ) -> Self {
        let copied = from.partitions().filter(|(_, at)| at.is_snapshot());
        Stager {
            limits,
            shape: 0,
            copying: copied.map(|(name, _)| (name.clone(), 0)).collect(),
            released: from.clone(),
            reached: from,
            open: ByPartition::default(),
            begun: 0,
            anew: None,
            partitions: partitions.into_iter().collect(),
        }
    }

    /// Returns the same for a shard in which the values' shape has a number.
    pub(super) fn with_shape(self, shape: u16) -> Self {
        Stager { shape, ..self }
    }

    /// Returns where to connect: everything up to there has been taken in whole.
    pub fn boundary(&self) -> &Boundary<P> {
        &self.reached
    }

    /// Returns the boundary of the last unit that went on.
    pub fn released(&self) -> &Boundary<P> {
        &self.released
    }

    /// Returns whether a copy is under way: a first one or one made anew.
    pub fn copies(&self) -> bool {
        self.anew.is_some() || self.reached.cursor().is_snapshot()
    }

    /// Returns whether the feed is told of nothing meanwhile: a copy is under way that may need what lies behind it.
    pub fn keeps_acks(&self) -> bool {
        self.anew.is_some() || !self.reached.cursor().may_be_acked()
    }

    /// Returns the bytes kept back.
    pub fn bytes(&self) -> u64 {
        self.open.values().map(|unit| &unit.changes).chain(&self.anew).map(Staged::bytes).sum()
    }

    /// Returns the partitions of the feed, as far as is known: those it is at, if it was made with
    /// others, which have been replaced; and those of which something is here.
    pub(super) fn partitions(&self) -> BTreeSet<Partition> {
        let at = self.reached.partitions().map(|(name, _)| name.clone());
        let mut all: BTreeSet<Partition> = at.collect();
        if all.is_subset(&self.partitions) {
            all.extend(self.partitions.iter().cloned());
        }
        all.extend(self.open.iter().map(|(name, _)| name.clone()));
        all
    }

    /// Returns how many changes of an incomplete unit of a partition are here.
    pub(super) fn changes_of(&self, partition: &str) -> Option<u64> {
        self.open.get(partition).map(|unit| unit.changes.changes())
    }

    /// Returns what waits: units for their ends, copies for theirs.
    pub(super) fn open(&self) -> impl Iterator<Item = Open> {
        let units = self.open.iter().map(|(partition, unit)| Open {
            partition: partition.clone(),
            begun: Some(unit.number),
            ends: None,
            rows: unit.changes.changes(),
            bytes: unit.changes.bytes(),
        });
        let mut anew = self.anew.as_ref();
        let copies = self.copying.iter().map(move |(partition, ends)| {
            let (rows, bytes) = anew.take().map_or((0, 0), |all| (all.changes(), all.bytes()));
            Open { partition: partition.clone(), begun: None, ends: Some(*ends), rows, bytes }
        });
        units.chain(copies)
    }

    /// Takes in an event. Returns the unit that it completes.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if the feed went back; `Invalid` for more bytes than allowed, and for an end
    /// inside a unit; those of the codec and of the temporary file. Nothing has gone on then, and
    /// the boundary is what it was.
    pub fn take<S, C>(
        &mut self,
        event: Event<S::Key, S::Value, P>,
    ) -> Result<Option<Unit<P>>, Error>
    where
        S: Source<Position = P> + ?Sized,
        C: Codec<S::Key> + Codec<S::Value>,
    {
        match event {
            Event::Change(partition, change) => {
                self.change::<S::Key, S::Value, C>(partition.clone(), &change)?;
                if !crate::mutant::on("rows_before_boundary") {
                    return Ok(None);
                }
                let open = self.open.remove(&partition);
                let changes = open.map(|unit| unit.changes).unwrap_or_default();
                let boundary = self.released.clone();
                Ok(Some(Unit { changes, boundary, moved: Vec::new(), replaces: None }))
            }
            Event::Void(partition) => {
                // Nothing is lost: it comes again, from the beginning of the unit.
                self.open.remove(&partition);
                Ok(None)
            }
            Event::Boundary(received) => self.boundary_of(received),
            Event::End if self.open.is_empty() && !self.copies() => Ok(None),
            Event::End => {
                let what = "the feed says that it has ended, inside a unit or a copy";
                Err(Error::new(ErrorKind::Invalid, what)
                    .hint("report this to the maintainers of the source"))
            }
        }
    }

    /// Drops what is incomplete, because its connection is lost. Nothing is lost: all of it was still
    /// kept back, and lies beyond the boundary to connect from.
    pub fn discard(&mut self) {
        self.open.clear();
    }

    /// Begins a new generation: what the feed has from its start on replaces everything.
    pub fn begin_anew(&mut self) {
        self.open.clear();
        self.reached = self.released.anew();
        self.copying = self.partitions.iter().map(|name| (name.clone(), 0)).collect();
        let without = crate::mutant::on("anew_without_reset");
        self.anew = Some(if without { Staged::default() } else { Staged::reset() });
    }

    fn change<K, V, C>(&mut self, partition: Partition, change: &Change<K, V>) -> Result<(), Error>
    where
        C: Codec<K> + Codec<V>,
    {
        let unit = self.open.of(partition);
        if unit.number == 0 {
            self.begun += 1;
            unit.number = self.begun;
        }
        unit.changes.push::<K, V, C>(change, self.shape)?;
        let all = self.bytes();
        if all > self.limits.unit_bytes_max {
            return Err(too_large(all, self.limits.unit_bytes_max));
        }
        let open = self.open.values().map(|unit| unit.changes.memory_bytes()).sum::<usize>();
        let memory = open + self.anew.as_ref().map_or(0, Staged::memory_bytes);
        if memory > self.limits.memory_bytes_max.min(MEMORY_BYTES_MAX) {
            let units = self.open.values_mut().map(|unit| &mut unit.changes);
            for staged in units.chain(&mut self.anew) {
                staged.spill()?;
            }
        }
        Ok(())
    }

    fn boundary_of(&mut self, received: Received<P>) -> Result<Option<Unit<P>>, Error> {
        let reached = self.reached.next(&received)?;
        let Received { moves, all } = received;
        if all {
            self.partitions = moves.iter().map(|(name, _)| name.clone()).collect();
        }
        let (anew, mut changes) = (self.anew.is_some(), self.anew.take().unwrap_or_default());
        if all || !moves.is_empty() && crate::mutant::on("end_of_one_is_of_all") {
            for (_, unit) in std::mem::take(&mut self.open).into_vec() {
                changes.append(unit.changes)?;
            }
        } else {
            for (partition, _) in moves.iter().filter(|_| !crate::mutant::on("cursor_before_rows"))
            {
                if let Some(unit) = self.open.remove(partition) {
                    changes.append(unit.changes)?;
                }
            }
        }
        if all {
            self.copying.clear();
        }
        for (name, at) in moves.iter() {
            if at.is_snapshot() {
                let ends = self.copying.get(name).map_or(0, |ends| ends + 1);
                self.copying.set(name.clone(), ends);
            } else if !self.copying.is_empty() {
                self.copying.remove(name);
            }
        }
        self.reached = reached;
        if anew && !self.is_copied() {
            self.anew = Some(changes);
            return Ok(None);
        }
        if changes.changes() == 0 && crate::mutant::on("advance_on_rows") {
            return Ok(None);
        }
        let replaces = anew.then(|| self.released.clone());
        self.released = self.reached.clone();
        let moved = match anew {
            true => self.reached.partitions().map(|(n, at)| (n.clone(), at.clone())).collect(),
            false => moves.into_vec(),
        };
        let boundary = self.reached.clone();
        Ok(Some(Unit { changes, moved, boundary, replaces }))
    }

    /// Whether the copy of every partition is complete.
    fn is_copied(&self) -> bool {
        if crate::mutant::on("copy_shown_early") && !self.reached.is_start() {
            return true;
        }
        let copied = |name: &Partition| self.reached.get(name).is_some_and(|at| !at.is_snapshot());
        self.partitions.iter().all(copied)
    }
}

fn too_large(bytes: u64, bound: u64) -> Error {
    let what = format!("a unit of more than {bytes} bytes, over the bound of {bound}");
    Error::new(ErrorKind::Invalid, what)
        .hint("raise StageLimits::unit_bytes_max; nothing of the unit was handed on")
}
