//! Owns the meaning of VTGate's events: which changes they are, and where a unit ends. It does not own
//! the connection they come by. Pure: no clock, no waiting.
//!
//! # Where a unit ends
//!
//! | phase | what closes the group | position |
//! | --- | --- | --- |
//! | copying | `COMMIT`, VGTID with this table's last primary key | the set and the key |
//! | copying | `COMMIT`, `DDL`, `OTHER`, VGTID without | none; rows wait for the next boundary |
//! | copying | `COPY_COMPLETED` | the newest set: streaming from here on |
//! | streaming | `COMMIT`, `DDL`, `OTHER` outside a transaction, VGTID | the set |
//! | any | `DDL` that empties the table of the one shard there is: a reset, then as above | as above |
//! | any | `HEARTBEAT`, `VERSION`, `FIELD`, `JOURNAL`, a VGTID alone, the end of a response | none |
//!
//! # Invariants
//!
//! 1. The first VGTID of a copy comes before all rows. It is not a position yet, and nothing here can make it
//!    one: without a key, a position of a copy needs `COPY_COMPLETED`.
//! 2. A shard's position is taken from a VGTID that closes a group of that shard. What the VGTID says
//!    of other shards may be the first of *their* copies.
//! 3. Rows of a `COMMIT` without VGTID are kept for the next boundary. Should the unit begin again
//!    before it, they might not come again on this connection, so that it is given up.
//! 4. The shards change only as a whole, at one boundary, and only while no shard is being copied.

use std::collections::{BTreeMap, BTreeSet};

use super::columns::{Columns, KeyColumns};
use super::ddl::{self, Effect};
use super::failure::{definite, transient, unseen};
use super::gtid::Gtid;
use super::position::{LastPk, VStreamPosition};
use super::proto::{FieldEvent, RowEvent, ShardGtid, VEvent, VEventType, VGtid};
use super::ranges::cover_the_same;
use super::row_change::changes;
use super::unique::Unique;
use crate::codec::canonical::Scratch;
use crate::source::{Change, Event, Failure, Partition, Position, Received};

type Out = Vec<Event<String, String, VStreamPosition>>;

/// Reads the events of one connection.
#[derive(Debug)]
pub(super) struct Phases {
    keyspace: String,
    table: String,
    key: KeyColumns,
    /// The shards of the stream.
    members: BTreeSet<Partition>,
    /// What is known of each, and of those that a reshard is about to bring.
    shards: BTreeMap<Partition, Shard>,
    scratch: Scratch,
}

/// What has come of one shard.
#[derive(Debug, Default)]
struct Shard {
    /// The last boundary.
    at: Option<VStreamPosition>,
    columns: Option<Columns>,
    unique: Unique,
    /// A transaction has begun and is not committed.
    open: bool,
    /// It has rows.
    rows: bool,
    /// Rows are committed, and wait for the next boundary.
    loose: bool,
    /// The newest VGTID, which nothing has closed yet.
    vgtid: Option<VGtid>,
    /// The set of the newest VGTID that closed a group.
    committed: Option<Gtid>,
}

impl Shard {
    fn is_streaming(&self) -> bool {
        self.at.as_ref().is_some_and(|at| !at.is_snapshot())
    }
}

impl Phases {
    /// Begins a connection at these places; `None` is a shard's start.
    pub(super) fn new(
        keyspace: &str,
        table: &str,
        key: Vec<String>,
        places: &[(Partition, Option<VStreamPosition>)],
    ) -> Self {
        let shard = |(name, at): &(Partition, Option<VStreamPosition>)| {
            (name.clone(), Shard { at: at.clone(), ..Shard::default() })
        };
        Phases {
            keyspace: keyspace.to_string(),
            table: table.to_string(),
            key: KeyColumns::new(key),
            members: places.iter().map(|(name, _)| name.clone()).collect(),
            shards: places.iter().map(shard).collect(),
            scratch: Scratch::default(),
        }
    }

    /// Takes in a response, and returns what it comes to.
    pub(super) fn take(&mut self, events: Vec<VEvent>) -> Result<Out, Failure> {
        let mut out = Vec::new();
        for event in events {
            self.event(event, &mut out)?;
        }
        Ok(out)
    }

    fn event(&mut self, event: VEvent, out: &mut Out) -> Result<(), Failure> {
        if !event.keyspace.is_empty() && event.keyspace != self.keyspace {
            // Nothing is lost: the stream was asked for one keyspace's table.
            return Ok(());
        }
        match event.r#type() {
            VEventType::Begin => self.begin(self.shard_of(&event)?, out),
            VEventType::Field => match event.field_event {
                Some(ref fields) => self.fields(self.shard_of(&event)?, fields),
                None => Ok(()),
            },
            VEventType::Row => match event.row_event {
                Some(ref rows) => self.rows(self.shard_of(&event)?, rows, out),
                None => Ok(()),
            },
            VEventType::Vgtid => {
                let shard = self.shard_of(&event)?;
                self.vgtid(shard.clone(), event.vgtid.unwrap_or_default())?;
                if crate::mutant::on("copy_start_cursor") {
                    self.boundary(shard, out)
                } else {
                    Ok(())
                }
            }
            VEventType::Commit => {
                let shard = self.shard_of(&event)?;
                let state = self.shards.entry(shard.clone()).or_default();
                state.loose |= std::mem::take(&mut state.rows);
                state.open = false;
                self.boundary(shard, out)
            }
            VEventType::Ddl | VEventType::Other => {
                let shard = self.shard_of(&event)?;
                // Only a DDL has a statement.
                self.statement(&shard, &event.statement, out)?;
                match self.shards.get(&shard).is_some_and(|state| state.open) {
                    true => Ok(()),
                    false => self.boundary(shard, out),
                }
            }
            VEventType::Rollback => self.void(self.shard_of(&event)?, out),
            VEventType::CopyCompleted => self.copy_completed(&event, out),
            kind @ (VEventType::Insert
            | VEventType::Replace
            | VEventType::Update
            | VEventType::Delete) => {
                let what = format!("a change as a statement ({kind:?}), whose rows are unknown");
                Err(definite(what, &self.place(), "set binlog_format=ROW"))
            }
            // A newer server may send kinds that say nothing here; what carries rows must be understood.
            VEventType::Unknown if event.row_event.is_some() || event.vgtid.is_some() => {
                let what = format!("rows in an event of the kind {}", event.r#type);
                Err(definite(what, &self.place(), "use a newer program"))
            }
            // Heartbeats, versions, journals and savepoints end nothing; GTID and LASTPK have
            // become VGTIDs on their way through VTGate.
            _ => Ok(()),
        }
    }

    /// Takes in a statement that changes the table. Of the rows that it removes or brings, no change
    /// tells.
    fn statement(&mut self, shard: &Partition, sql: &str, out: &mut Out) -> Result<(), Failure> {
        match ddl::effect(sql, &self.table) {
            Effect::Nothing => {}
            Effect::Columns => tracing::warn!(
                place = self.place(),
                %shard,
                statement = sql,
                "rows that are there are not sent again: they stay as they were, without new columns \
                 and defaults, until they change or the table is copied anew (ingest --copy-anew)"
            ),
            // The other shards keep theirs, so that only the one shard there is can be emptied alone.
            Effect::Gone if self.members.len() == 1 => {
                out.push(Event::Change(shard.clone(), Change::Reset));
                let state = self.shards.entry(shard.clone()).or_default();
                if state.open { state.rows = true } else { state.loose = true }
            }
            Effect::Gone | Effect::Replaced => return Err(unseen(sql, shard, &self.place())),
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("{}/{}", self.keyspace, self.table)
    }

    fn is_table(&self, name: &str) -> bool {
        name == self.table
            || name.strip_prefix(&*self.keyspace) == Some(&format!(".{}", self.table))
    }

    /// Returns the shard that an event is of. One that is not known is one that a reshard brings, or
    /// an error at its first boundary.
    fn shard_of(&self, event: &VEvent) -> Result<Partition, Failure> {
        let row = event.row_event.as_ref().map(|rows| &rows.shard);
        let field = event.field_event.as_ref().map(|fields| &fields.shard);
        let named = [Some(&event.shard), row, field].into_iter().flatten();
        if let Some(name) = named.into_iter().find(|name| !name.is_empty()) {
            let known = self.shards.get_key_value(&**name).map(|(name, _)| name.clone());
            return Ok(known.unwrap_or_else(|| Partition::from(&**name)));
        }
        match self.members.len() {
            1 => Ok(self.members.iter().next().cloned().unwrap_or_default()),
            _ => {
                let what = format!("an event ({:?}) that does not name its shard", event.r#type());
                Err(definite(what, &self.place(), "stream one shard, or use a newer Vitess"))
            }
        }
    }

    fn begin(&mut self, shard: Partition, out: &mut Out) -> Result<(), Failure> {
        if self.shards.get(&shard).is_some_and(|state| state.open) {
            self.void(shard.clone(), out)?;
        }
        self.shards.entry(shard).or_default().open = true;
        Ok(())
    }

    /// The open transaction is void: it begins again, from another tablet.
    fn void(&mut self, shard: Partition, out: &mut Out) -> Result<(), Failure> {
        let place = self.place();
        let state = self.shards.entry(shard.clone()).or_default();
        if state.rows && state.loose {
            return Err(transient(
                "a transaction that begins again, after one without VGTID",
                &place,
            ));
        }
        if state.rows {
            out.push(Event::Void(shard));
        }
        state.unique.forget();
        (state.open, state.rows, state.vgtid) = (false, false, None);
        Ok(())
    }

    fn fields(&mut self, shard: Partition, event: &FieldEvent) -> Result<(), Failure> {
        if !self.is_table(&event.table_name) {
            return Ok(());
        }
        let named = event.enum_set_string_values;
        let columns = self.key.columns(&self.place(), &event.fields, named)?;
        self.shards.entry(shard).or_default().columns = Some(columns);
        Ok(())
    }

    fn rows(&mut self, shard: Partition, event: &RowEvent, out: &mut Out) -> Result<(), Failure> {
        if !self.is_table(&event.table_name) {
            // Nothing is lost: the stream was asked for one table.
            return Ok(());
        }
        let place = self.place();
        let state = self.shards.entry(shard.clone()).or_default();
        let Some(columns) = &state.columns else {
            let hint = "turn on schema tracking (--track_schema_versions)";
            return Err(definite("rows whose columns were never described", &place, hint));
        };
        // In a copy before Vitess 18, BEGIN may be missing.
        state.open = true;
        for change in &event.row_changes {
            let changed = changes(columns, change, &mut state.unique, &place, &mut self.scratch)?;
            for change in changed {
                state.rows = true;
                out.push(Event::Change(shard.clone(), change));
            }
        }
        Ok(())
    }

    /// Remembers a VGTID, and refuses at once what nothing could resume from.
    fn vgtid(&mut self, shard: Partition, vgtid: VGtid) -> Result<(), Failure> {
        if let Some(entry) = self.entry(&vgtid, &shard) {
            self.last_pk(entry)?;
        }
        self.shards.entry(shard).or_default().vgtid = Some(vgtid);
        Ok(())
    }

    fn entry<'a>(&self, vgtid: &'a VGtid, shard: &str) -> Option<&'a ShardGtid> {
        let ours = |entry: &&ShardGtid| entry.keyspace == self.keyspace && entry.shard == shard;
        vgtid.shard_gtids.iter().find(ours)
    }

    fn gtid(&self, entry: &ShardGtid) -> Result<Gtid, Failure> {
        let hint = "the source must run MySQL with gtid_mode=ON";
        Gtid::parse(&entry.gtid).map_err(|what| definite(what, &self.place(), hint))
    }

    fn last_pk(&self, entry: &ShardGtid) -> Result<Option<LastPk>, Failure> {
        let mut keys = entry.table_pks.iter().filter(|pk| self.is_table(&pk.table_name));
        let Some(result) = keys.find_map(|pk| pk.lastpk.as_ref()) else { return Ok(None) };
        let hint = "nothing can resume from there; use Vitess 16 or newer";
        LastPk::new(result).map(Some).map_err(|what| definite(what, &self.place(), hint))
    }

    /// A group of the shard is complete: its VGTID, if it has one, is where it is.
    fn boundary(&mut self, shard: Partition, out: &mut Out) -> Result<(), Failure> {
        let state = self.shards.entry(shard.clone()).or_default();
        let Some(vgtid) = state.vgtid.take() else { return Ok(()) };
        let ours = vgtid.shard_gtids.iter().filter(|entry| entry.keyspace == self.keyspace);
        let now: BTreeSet<&str> = ours.map(|entry| &*entry.shard).collect();
        let Some(entry) = self.entry(&vgtid, &shard) else {
            return Err(self.lost_shard(&now));
        };
        let (gtid, last_pk) = (self.gtid(entry)?, self.last_pk(entry)?);
        if !self.members.iter().map(|name| &**name).eq(now.iter().copied()) {
            return self.reshard(&shard, &vgtid, &now, out);
        }
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        state.committed = Some(gtid.clone());
        let position = match last_pk {
            // The stream was asked for replication alone: a key is of no copy of ours.
            _ if state.is_streaming() => VStreamPosition::streaming(gtid),
            Some(pk) => VStreamPosition::copying(gtid, pk, state.at.as_ref()),
            None if crate::mutant::on("copy_start_cursor") => VStreamPosition::streaming(gtid),
            // The copy is complete, or has not begun: COPY_COMPLETED tells.
            None => return Ok(()),
        };
        state.loose = false;
        state.at = Some(position.clone());
        out.push(Event::Boundary(Received::at(shard, position)));
        Ok(())
    }

    fn copy_completed(&mut self, event: &VEvent, out: &mut Out) -> Result<(), Failure> {
        // Without a shard it is the last one, and means all.
        let completed: Vec<Partition> = match event.shard.is_empty() {
            true => self.members.iter().cloned().collect(),
            false => vec![self.shard_of(event)?],
        };
        for shard in completed {
            let Some(state) = self.shards.get(&shard).filter(|state| !state.is_streaming()) else {
                continue;
            };
            if state.rows {
                let what = "a copy that is complete inside a transaction";
                return Err(transient(what, &self.place()));
            }
            let begun = state.vgtid.as_ref().and_then(|vgtid| self.entry(vgtid, &shard));
            let gtid = match (&state.committed, begun, &state.at) {
                (Some(gtid), _, _) => gtid.clone(),
                // All rows are here as of the copy's begin: of an empty table, no more is said.
                (None, Some(entry), _) => self.gtid(entry)?,
                (None, None, Some(at)) => at.set().clone(),
                (None, None, None) => {
                    return Err(transient("a copy that is complete nowhere", &self.place()));
                }
            };
            let position = VStreamPosition::streaming(gtid);
            if let Some(state) = self.shards.get_mut(&shard) {
                (state.open, state.loose, state.vgtid) = (false, false, None);
                state.at = Some(position.clone());
            }
            out.push(Event::Boundary(Received::at(shard, position)));
        }
        Ok(())
    }

    /// The stream is of other shards now, from this boundary on.
    fn reshard(
        &mut self,
        shard: &Partition,
        vgtid: &VGtid,
        now: &BTreeSet<&str>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let before = self.members.iter().map(|name| &**name);
        if !cover_the_same(before, now.iter().copied()) {
            return Err(self.lost_shard(now));
        }
        if self.members.iter().any(|name| !self.shards[name].is_streaming()) {
            let what = format!("a reshard into {now:?} before the copy was complete");
            return Err(definite(
                what,
                &self.place(),
                "copy into a new shard, from the new shards",
            ));
        }
        let mut positions = Vec::new();
        for name in now {
            let old = self.shards.get(*name).filter(|_| self.members.contains(*name));
            let stays = old.filter(|_| **name != **shard);
            let at = stays.and_then(|state| state.at.clone());
            let waits = **name != **shard && self.shards.get(*name).is_some_and(|s| s.loose);
            let position = match (at, self.entry(vgtid, name)) {
                (Some(at), _) if !waits => at,
                (None, Some(entry)) if !waits && self.last_pk(entry)?.is_none() => {
                    VStreamPosition::streaming(self.gtid(entry)?)
                }
                _ => return Err(transient("a reshard in the middle of a unit", &self.place())),
            };
            positions.push((Partition::from(*name), position));
        }
        if self.shards.values().any(|state| state.rows) {
            return Err(transient("a reshard inside a transaction", &self.place()));
        }
        self.members = positions.iter().map(|(name, _)| name.clone()).collect();
        self.shards.retain(|name, _| self.members.contains(name));
        for (name, position) in &positions {
            let state = self.shards.entry(name.clone()).or_default();
            state.at = Some(position.clone());
            state.loose = false;
        }
        out.push(Event::Boundary(Received::all(positions)));
        Ok(())
    }

    fn lost_shard(&self, now: &BTreeSet<&str>) -> Failure {
        let what = format!("the stream is of the shards {now:?}, not {:?} any more", self.members);
        definite(what, &self.place(), "name the keyspace's shards with shard=")
    }
}

#[cfg(test)]
#[path = "phase_tests.rs"]
pub(super) mod tests;
