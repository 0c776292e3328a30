//! Owns VTGate's side of a VStream: the groups of events of a stream over several shards, in every
//! form in which Vitess may cut them, and what of it a client may resume from.

use std::collections::BTreeMap;

use crate::planetscale::ledger::{Ledger, Place, Rows, resumable};
use crate::planetscale::leg::{Leg, Unit};
use crate::planetscale::model::{Change, Key, Kind, Model, Row};
use crate::planetscale::proto::{
    Bitmap, Event, EventType, FieldEvent, Journal, KeyspaceShard, RowChange, RowEvent, ShardGtid,
    TableLastPk, VGtid, VStreamRequest,
};
use crate::planetscale::rows;
use crate::planetscale::shard::read_set;
use crate::planetscale::world::{KEYSPACE, Refusal, TABLE, refusal};
use crate::random::Random;

/// One response, and what may be resumed from once all of it has come.
pub struct Out {
    pub events: Vec<Event>,
    pub resumable: Vec<(Place, Rows)>,
}

/// One shard's part of the VGTID.
#[derive(Clone, Debug, Default)]
struct Entry {
    gtid: String,
    pk: Option<Key>,
}

pub struct VStream {
    legs: Vec<Leg>,
    vgtid: BTreeMap<String, Entry>,
    /// Shards whose copy is not completed; the last of them completes all.
    copying: usize,
    /// Those that begin where the shard is now, and have not said so.
    current: Vec<String>,
    plain_names: bool,
    journals: bool,
    /// Transactions are cut between any two rows.
    cuts: bool,
    /// Before Vitess 18 a batch of a copy had no BEGIN.
    batches_begin: bool,
    random: Random,
}

impl VStream {
    /// Begins what a client asks for, and notes what it gave.
    pub fn begin(
        request: &VStreamRequest,
        model: &Model,
        ledger: &mut Ledger,
        random: &Random,
    ) -> Result<VStream, Refusal> {
        ledger.requested();
        let rules = request.filter.as_ref().map_or(&[][..], |filter| &filter.rules);
        if rules.len() != 1 || rules[0].r#match != TABLE || !rules[0].filter.contains(TABLE) {
            ledger.fault(format!("asked for another table: {rules:?}"));
        }
        let flags = request.flags.clone().unwrap_or_default();
        let mut stream = VStream {
            legs: Vec::new(),
            vgtid: BTreeMap::new(),
            copying: 0,
            current: Vec::new(),
            plain_names: flags.exclude_keyspace_from_table_name,
            journals: flags.include_reshard_journal_events,
            cuts: random.one_in(2),
            batches_begin: !random.one_in(4),
            random: random.clone(),
        };
        let mut wanted = request.vgtid.clone().unwrap_or_default().shard_gtids;
        if let [all] = &wanted[..]
            && all.shard.is_empty()
            && matches!(all.gtid.as_str(), "" | "current")
        {
            // No name stands for all that serve.
            let one = |shard| ShardGtid { shard, ..all.clone() };
            wanted = model.serving().into_iter().map(one).collect();
        }
        let mut all_given = Vec::new();
        for ShardGtid { keyspace, shard, gtid, table_p_ks } in &wanted {
            if keyspace != KEYSPACE || !model.shards.contains_key(shard) {
                return Err(Refusal::no_shard(keyspace, shard));
            }
            let pk = match &table_p_ks[..] {
                [] => None,
                [TableLastPk { table_name, lastpk: Some(last) }] if table_name == TABLE => {
                    match rows::read_key(last) {
                        Ok(pk) => Some(pk),
                        Err(wrong) => return Err(Refusal::fault(ledger, wrong)),
                    }
                }
                other => return Err(Refusal::fault(ledger, format!("last keys {other:?}"))),
            };
            let entry = Entry { gtid: gtid.clone(), pk };
            stream.vgtid.insert(shard.clone(), entry);
            if gtid == "current" {
                stream.current.push(shard.clone());
                stream.legs.push(Leg::resume(shard, model.shards[shard].end(), None));
                continue;
            }
            if gtid.is_empty() {
                if pk.is_some() {
                    let what = format!("{shard}: a last key without the GTIDs that belong to it");
                    return Err(Refusal::fault(ledger, what));
                }
                all_given.push((shard.clone(), None));
                stream.copying += 1;
                stream.legs.push(Leg::copy(shard));
                continue;
            }
            let Some(set) = read_set(gtid) else {
                return Err(Refusal::fault(ledger, format!("a set of no GTIDs: {gtid:?}")));
            };
            let place = Place { shard: shard.clone(), set, pk };
            all_given.push((shard.clone(), Some(place)));
        }
        // First all of it is noted, then what is wrong with it.
        let places: Vec<Place> = all_given.iter().filter_map(|(_, place)| place.clone()).collect();
        for (shard, place) in all_given {
            ledger.given(&shard, place);
        }
        for Place { shard, set, pk } in places {
            let at =
                model.shards[&shard].find(&set).map_err(|refused| refusal(&refused, ledger))?;
            stream.copying += usize::from(pk.is_some());
            stream.legs.push(Leg::resume(&shard, at, pk));
        }
        if stream.legs.is_empty() {
            return Err(Refusal::fault(ledger, "asked for no shard".into()));
        }
        if stream.copying < stream.legs.len() {
            // Only when all of them are copied is there an end for all.
            stream.copying = usize::MAX;
        }
        Ok(stream)
    }

    /// Returns the responses that come next, together; `None` if there are none.
    pub fn next(
        &mut self,
        model: &Model,
        ledger: &mut Ledger,
    ) -> Result<Option<Vec<Out>>, Refusal> {
        if let Some(shard) = self.current.pop() {
            let place = self.legs.iter().find(|leg| leg.shard == shard).expect("a leg").at;
            self.moved(&shard, place, None, model);
            let events = vec![self.position(&shard), self.event(EventType::Other, &shard)];
            return Ok(Some(vec![self.out(events, &shard, place, None, model)]));
        }
        self.switch(model, ledger)?;
        let mut order: Vec<usize> = (0..self.legs.len()).collect();
        order.rotate_left(self.random.index(self.legs.len()));
        for index in order {
            let before = self.legs[index].clone();
            let entry = self.vgtid[&before.shard].clone();
            let random = self.random.clone();
            let Some(unit) = self.legs[index].next(model, &random) else { continue };
            let mut outs = self.unit(index, unit, model, ledger);
            let torn = outs.len() > 1 && random.one_in(12);
            if torn {
                // VTGate loses its tablet, and begins again where the last group began.
                outs.truncate(1 + random.index(outs.len() - 1));
                outs.iter_mut().for_each(|out| out.resumable.clear());
                ledger.count("torn group");
                let now = self.vgtid[&before.shard].clone();
                self.legs[index] = before.restarted();
                // What it has said stays said, in the groups of other shards too.
                let said = outs.iter().flat_map(|out| &out.events).any(|e| e.vgtid.is_some());
                let shard = self.legs[index].shard.clone();
                self.vgtid.insert(shard, if said { now } else { entry });
            }
            for place in (1..=outs.len()).rev() {
                if random.one_in(6) {
                    let beat = Event::new(EventType::Heartbeat);
                    outs.insert(place, Out { events: vec![beat], resumable: Vec::new() });
                }
            }
            return Ok(Some(outs));
        }
        // The leg that comes to the journal last lets all go on.
        match self.legs.iter().all(Leg::at_journal) {
            true => self.next(model, ledger),
            false => Ok(None),
        }
    }

    /// Goes on with the new shards, once all old ones have come to the journal.
    fn switch(&mut self, model: &Model, ledger: &mut Ledger) -> Result<(), Refusal> {
        if !self.legs.iter().all(Leg::at_journal) {
            return Ok(());
        }
        let leg = &self.legs[0];
        let Kind::Journal(starts) = &model.shards[&leg.shard].transaction(leg.at).kind else {
            unreachable!("they are at the journal");
        };
        let participants = model.shards.values().filter(|shard| {
            let last = shard.retired.then(|| &shard.transaction(shard.end() - 1).kind);
            matches!(last, Some(Kind::Journal(other)) if other == starts)
        });
        if participants.count() != self.legs.len() {
            return Err(Refusal::journal());
        }
        ledger.count("reshard");
        self.vgtid.clear();
        self.legs.clear();
        for (shard, at) in starts {
            self.legs.push(Leg::resume(shard, *at, None));
            self.moved(shard, *at, None, model);
        }
        // The first VGTID that shows the new shards says where each of them begins.
        self.copying = usize::MAX;
        Ok(())
    }

    /// Writes what happens on a shard as responses.
    fn unit(&mut self, index: usize, unit: Unit, model: &Model, ledger: &mut Ledger) -> Vec<Out> {
        let leg = self.legs[index].clone();
        let shard = leg.shard.as_str();
        let bare = |events| Out { events, resumable: Vec::new() };
        match unit {
            Unit::Begin => {
                ledger.count(if leg.pk.is_some() { "copy goes on" } else { "copy begins" });
                let columns = model.shards[shard].columns_at(leg.at);
                self.legs[index].told = columns;
                self.moved(shard, leg.at, leg.pk, model);
                let begin = self.event(EventType::Begin, shard);
                let mut outs = vec![bare(vec![begin, self.fields(shard, columns)])];
                outs.push(bare(vec![self.position(shard)]));
                let random = self.random.clone();
                let next = self.legs[index].next(model, &random).expect("rows, or their end");
                let mut rest = self.unit(index, next, model, ledger);
                if let Some(first) = rest.first_mut()
                    && self.legs[index].pk.is_some()
                {
                    // The group is open.
                    first.events.retain(|event| event.r#type != EventType::Begin as i32);
                }
                outs.append(&mut rest);
                outs
            }
            Unit::Batch(rows) => {
                let columns = leg.told;
                self.moved(shard, leg.at, leg.pk, model);
                let mut events = Vec::new();
                if self.batches_begin {
                    events.push(self.event(EventType::Begin, shard));
                }
                let changes: Vec<_> = rows.into_iter().map(Change::Insert).collect();
                events.append(&mut self.changes(shard, &changes, columns));
                self.committed(events, shard, leg.at, leg.pk, model)
            }
            Unit::Copied => {
                self.moved(shard, leg.at, None, model);
                let kinds = [EventType::Begin, EventType::Commit];
                let [begin, commit] = kinds.map(|kind| self.event(kind, shard));
                vec![bare(vec![begin, self.position(shard), commit])]
            }
            Unit::Completed => {
                ledger.count("copy completed");
                self.copying = self.copying.saturating_sub(1);
                let mut events = vec![self.event(EventType::CopyCompleted, shard)];
                if self.copying == 0 {
                    events.push(Event::new(EventType::CopyCompleted));
                }
                vec![self.out(events, shard, leg.at, None, model)]
            }
            Unit::Transaction(transaction) => {
                if leg.pk.is_some() {
                    ledger.count("catch-up");
                }
                self.moved(shard, leg.at, leg.pk, model);
                match transaction.kind {
                    Kind::Other => {
                        let other = self.event(EventType::Other, shard);
                        let events = vec![self.position(shard), other];
                        vec![self.out(events, shard, leg.at, leg.pk, model)]
                    }
                    Kind::Ddl => {
                        self.legs[index].told = 0;
                        let mut ddl = self.event(EventType::Ddl, shard);
                        ddl.statement = "alter table t add column extra text".into();
                        let events = vec![self.position(shard), ddl];
                        vec![self.out(events, shard, leg.at, leg.pk, model)]
                    }
                    Kind::Elsewhere => {
                        let begin = self.event(EventType::Begin, shard);
                        self.committed(vec![begin], shard, leg.at, leg.pk, model)
                    }
                    Kind::Rows(changes) => {
                        let mut events = vec![self.event(EventType::Begin, shard)];
                        if leg.told != transaction.columns {
                            self.legs[index].told = transaction.columns;
                            events.push(self.fields(shard, transaction.columns));
                        }
                        events.append(&mut self.changes(shard, &changes, transaction.columns));
                        self.committed(events, shard, leg.at, leg.pk, model)
                    }
                    Kind::Journal(_) => unreachable!("a leg stops there"),
                }
            }
        }
    }

    /// Cuts a transaction into responses, the last of which commits it.
    fn committed(
        &mut self,
        mut events: Vec<Event>,
        shard: &str,
        at: usize,
        pk: Option<Key>,
        model: &Model,
    ) -> Vec<Out> {
        let random = self.random.clone();
        let mut outs = Vec::new();
        let bare = |events| Out { events, resumable: Vec::new() };
        if random.one_in(10) {
            // It flushes what is there.
            events.push(self.event(EventType::Version, shard));
            outs.push(bare(std::mem::take(&mut events)));
        } else if self.cuts && random.one_in(2) {
            while events.len() > 1 && !random.one_in(4) {
                let rest = events.split_off(1 + random.index(events.len() - 1));
                outs.push(bare(std::mem::replace(&mut events, rest)));
            }
            if random.one_in(3) {
                outs.push(bare(std::mem::take(&mut events)));
            }
        }
        if random.one_in(16) && outs.is_empty() && !events.is_empty() {
            // A commit that was a statement says nothing of where it is.
            let commit = self.event(EventType::Commit, shard);
            events.push(commit);
            outs.push(bare(std::mem::take(&mut events)));
            events.push(self.event(EventType::Begin, shard));
        }
        events.push(self.position(shard));
        events.push(self.event(EventType::Commit, shard));
        outs.push(self.out(events, shard, at, pk, model));
        outs
    }

    /// Notes where a shard is.
    fn moved(&mut self, shard: &str, at: usize, pk: Option<Key>, model: &Model) {
        let gtid = model.shards[shard].gtid(at, &self.random);
        self.vgtid.insert(shard.into(), Entry { gtid, pk });
    }

    /// A response after which a client may resume here.
    fn out(
        &self,
        events: Vec<Event>,
        shard: &str,
        at: usize,
        pk: Option<Key>,
        model: &Model,
    ) -> Out {
        let mut resumable = vec![resumable(model, shard, at, pk)];
        // After a switch the other new shards are where they begin.
        for leg in &self.legs {
            let shard = &model.shards[&leg.shard];
            if !leg.copies() && !self.current.contains(&leg.shard) && leg.at <= shard.end() {
                resumable
                    .push(crate::planetscale::ledger::resumable(model, &leg.shard, leg.at, None));
            }
        }
        Out { events, resumable }
    }

    fn event(&self, kind: EventType, shard: &str) -> Event {
        Event { keyspace: KEYSPACE.into(), shard: shard.into(), ..Event::new(kind) }
    }

    fn table(&self) -> String {
        if self.plain_names { TABLE.into() } else { format!("{KEYSPACE}.{TABLE}") }
    }

    fn fields(&self, shard: &str, columns: usize) -> Event {
        let fields = rows::fields(columns);
        let (table_name, keyspace) = (self.table(), KEYSPACE.into());
        let event = FieldEvent { table_name, fields, keyspace, shard: shard.into() };
        Event { field_event: Some(event), ..self.event(EventType::Field, shard) }
    }

    /// ROW events of one or some changes each.
    fn changes(&self, shard: &str, changes: &[Change], columns: usize) -> Vec<Event> {
        let (mut events, mut rest) = (Vec::new(), changes);
        while !rest.is_empty() {
            let (some, after) = rest.split_at((1 + self.random.index(3)).min(rest.len()));
            rest = after;
            let image = |row: &Row| Some(rows::row(row, columns));
            let noblob = |before: Option<&Row>, after: &Row| {
                let (after, sent) = rows::noblob(before, after, columns);
                let data_columns = Some(Bitmap { count: columns as i64, cols: vec![sent] });
                let before = before.and_then(image);
                RowChange { before, after: Some(after), data_columns }
            };
            let change = |change: &Change| match change {
                Change::Insert(after) if self.random.one_in(3) => noblob(None, after),
                Change::Insert(after) => RowChange { after: image(after), ..RowChange::default() },
                Change::Delete(before) => {
                    RowChange { before: image(before), ..RowChange::default() }
                }
                // As `binlog_row_image=NOBLOB` does it.
                Change::Update(before, after)
                    if before.key() == after.key() && self.random.one_in(3) =>
                {
                    noblob(Some(before), after)
                }
                Change::Update(before, after) => {
                    RowChange { before: image(before), after: image(after), ..RowChange::default() }
                }
            };
            let row_changes = some.iter().map(change).collect();
            let (table_name, keyspace) = (self.table(), KEYSPACE.into());
            let event = RowEvent { table_name, row_changes, keyspace, shard: shard.into() };
            events.push(Event { row_event: Some(event), ..self.event(EventType::Row, shard) });
        }
        events
    }

    /// The VGTID, with all shards.
    fn position(&self, shard: &str) -> Event {
        let entry = |(shard, entry): (&String, &Entry)| {
            let last = |pk| TableLastPk { table_name: TABLE.into(), lastpk: Some(rows::key(pk)) };
            ShardGtid {
                keyspace: KEYSPACE.into(),
                shard: shard.clone(),
                gtid: entry.gtid.clone(),
                table_p_ks: entry.pk.map(last).into_iter().collect(),
            }
        };
        let vgtid = VGtid { shard_gtids: self.vgtid.iter().map(entry).collect() };
        Event { vgtid: Some(vgtid), ..self.event(EventType::Vgtid, shard) }
    }

    /// The journal as an event, for a client that wants it.
    pub fn journal(&self, model: &Model) -> Option<Event> {
        let leg = self.legs.iter().find(|leg| self.journals && leg.at_journal())?;
        let Kind::Journal(starts) = &model.shards[&leg.shard].transaction(leg.at).kind else {
            return None;
        };
        let gtid = |(shard, at): &(String, usize)| ShardGtid {
            keyspace: KEYSPACE.into(),
            shard: shard.clone(),
            gtid: model.shards[shard].gtid(*at, &self.random),
            table_p_ks: Vec::new(),
        };
        let journal = Journal {
            id: 7,
            migration_type: 1,
            shard_gtids: starts.iter().map(gtid).collect(),
            participants: vec![KeyspaceShard {
                keyspace: KEYSPACE.into(),
                shard: leg.shard.clone(),
            }],
        };
        Some(Event { journal: Some(journal), ..self.event(EventType::Journal, &leg.shard) })
    }
}
