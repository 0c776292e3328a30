//! Owns PlanetScale's side of a Sync: one shard's stream as responses of three lists and a cursor,
//! in every form in which they may come, and what of it a client may resume from.

use crate::planetscale::ledger::{Ledger, Place, Rows, resumable};
use crate::planetscale::leg::{Leg, Unit};
use crate::planetscale::model::{Change, Key, Kind, Model};
use crate::planetscale::proto::{
    DeletedRow, QueryResult, SyncRequest, SyncResponse, TableCursor, UpdatedRow,
};
use crate::planetscale::rows;
use crate::planetscale::shard::read_set;
use crate::planetscale::world::{KEYSPACE, Refusal, TABLE, refusal};
use crate::random::Random;

/// One response, and what may be resumed from once it has come.
pub struct Out {
    pub response: SyncResponse,
    pub resumable: Option<(Place, Rows)>,
}

pub struct Sync {
    leg: Leg,
    current: bool,
    /// Whether a client can tell that the copy is over: it has seen a last key.
    keyed: bool,
    /// A transaction is cut into several responses.
    cuts: bool,
    random: Random,
}

impl Sync {
    /// Begins what a client asks for, and notes what it gave.
    pub fn begin(
        request: &SyncRequest,
        model: &Model,
        ledger: &mut Ledger,
        random: &Random,
    ) -> Result<Sync, Refusal> {
        ledger.requested();
        let cursor = request.cursor.clone().unwrap_or_default();
        let TableCursor { shard, keyspace, position, last_known_pk } = &cursor;
        if request.table_name != TABLE {
            ledger.fault(format!("asked for another table: {:?}", request.table_name));
        }
        let all = [request.include_inserts, request.include_updates, request.include_deletes];
        if all != [true; 3] || !request.columns.is_empty() {
            return Err(Refusal::fault(ledger, format!("did not ask for all: {request:?}")));
        }
        let state = model.shards.get(shard).filter(|state| keyspace == KEYSPACE && !state.retired);
        let Some(state) = state else { return Err(Refusal::no_shard(keyspace, shard)) };
        let pk = match last_known_pk {
            None => None,
            Some(last) => match rows::read_key(last) {
                Ok(pk) => Some(pk),
                Err(wrong) => return Err(Refusal::fault(ledger, wrong)),
            },
        };
        let (cuts, random) = (random.one_in(2), random.clone());
        let sync = |leg, current| {
            Ok(Sync { leg, current, keyed: pk.is_some(), cuts, random: random.clone() })
        };
        match (position.as_str(), pk) {
            ("current", None) => sync(Leg::resume(shard, state.end(), None), true),
            ("", None) => {
                ledger.given(shard, None);
                sync(Leg::copy(shard), false)
            }
            ("" | "current", Some(_)) => {
                let what = format!("{shard}: a last key without the GTIDs that belong to it");
                Err(Refusal::fault(ledger, what))
            }
            (gtid, pk) => {
                let Some(set) = read_set(gtid) else {
                    return Err(Refusal::fault(ledger, format!("a set of no GTIDs: {gtid:?}")));
                };
                ledger.given(shard, Some(Place { shard: shard.clone(), set: set.clone(), pk }));
                let at = state.find(&set).map_err(|refused| refusal(&refused, ledger))?;
                sync(Leg::resume(shard, at, pk), false)
            }
        }
    }

    /// Returns the responses that come next, together; `None` if there are none.
    pub fn next(
        &mut self,
        model: &Model,
        ledger: &mut Ledger,
    ) -> Result<Option<Vec<Out>>, Refusal> {
        let shard = self.leg.shard.clone();
        if std::mem::take(&mut self.current) {
            return Ok(Some(vec![self.at(SyncResponse::default(), None, model, true)]));
        }
        let (random, before) = (self.random.clone(), self.leg.clone());
        let Some(unit) = self.leg.next(model, &random) else {
            if self.leg.at_journal() {
                return Err(Refusal::no_shard(KEYSPACE, &shard));
            }
            return Ok(None);
        };
        let columns = model.shards[&shard].columns_at(self.leg.at);
        let pk = self.leg.pk;
        let mut outs = match unit {
            // The place of a first copy comes before its rows, so it is not a cursor.
            Unit::Begin => {
                ledger.count(if pk.is_some() { "copy goes on" } else { "copy begins" });
                let out = self.at(SyncResponse::default(), pk, model, pk.is_some());
                vec![out]
            }
            Unit::Batch(rows) => {
                self.keyed = true;
                let result = QueryResult {
                    fields: rows::fields(columns),
                    rows: rows.iter().map(|row| rows::row(row, columns)).collect(),
                };
                // A result of several rows, or several of one.
                let result = if random.one_in(2) { vec![result] } else { single(result) };
                let response = SyncResponse { result, ..SyncResponse::default() };
                vec![self.at(response, pk, model, true)]
            }
            Unit::Copied => {
                let keyed = self.keyed;
                vec![self.at(SyncResponse::default(), None, model, keyed)]
            }
            Unit::Completed => {
                ledger.count("copy completed");
                return self.next(model, ledger);
            }
            Unit::Transaction(transaction) => {
                if pk.is_some() {
                    ledger.count("catch-up");
                }
                match transaction.kind {
                    Kind::Rows(changes) => {
                        let mut outs: Vec<Out> = self
                            .ordered(&changes, transaction.columns)
                            .into_iter()
                            .map(|response| Out { response, resumable: None })
                            .collect();
                        let last = outs.pop().expect("a transaction has changes");
                        outs.push(self.at(last.response, pk, model, true));
                        if outs.len() > 1 {
                            ledger.count("cut transaction");
                        }
                        outs
                    }
                    _ => vec![self.at(SyncResponse::default(), pk, model, true)],
                }
            }
        };
        if outs.len() > 1 && random.one_in(8) {
            // The gateway loses its stream, and begins the transaction again.
            outs.truncate(1 + random.index(outs.len() - 1));
            self.leg = before.restarted();
            ledger.count("torn group");
        }
        if random.one_in(8) {
            outs.push(Out { response: SyncResponse::default(), resumable: None });
        }
        Ok(Some(outs))
    }

    /// Puts the cursor on a response.
    fn at(&self, response: SyncResponse, pk: Option<Key>, model: &Model, resume: bool) -> Out {
        let Leg { shard, at, .. } = &self.leg;
        let cursor = TableCursor {
            shard: shard.clone(),
            keyspace: KEYSPACE.into(),
            position: model.shards[shard].gtid(*at, &self.random),
            last_known_pk: pk.map(rows::key),
        };
        let resumable = resume.then(|| resumable(model, shard, *at, pk));
        Out { response: SyncResponse { cursor: Some(cursor), ..response }, resumable }
    }

    /// Deals changes out to responses such that in each of them deletes, then inserts, then updates
    /// come to the same as the order in which they happened: that order is not in a response.
    fn ordered(&self, changes: &[Change], columns: usize) -> Vec<SyncResponse> {
        let (mut responses, mut open, mut rank) = (Vec::new(), SyncResponse::default(), 0);
        for change in changes {
            let of = match change {
                Change::Delete(_) => 0,
                Change::Insert(_) => 1,
                Change::Update(..) => 2,
            };
            if of < rank || (self.cuts && open != SyncResponse::default() && self.random.one_in(3))
            {
                responses.push(std::mem::take(&mut open));
            }
            rank = of;
            match change {
                Change::Delete(row) => {
                    open.deletes.push(DeletedRow { result: Some(rows::key(row.key())) });
                }
                Change::Insert(row) => open.result.push(rows::result(row, columns)),
                Change::Update(before, after) => open.updates.push(UpdatedRow {
                    before: Some(rows::result(before, columns)),
                    after: Some(rows::result(after, columns)),
                }),
            }
        }
        responses.push(open);
        responses
    }
}

/// A result of several rows as results of one.
fn single(result: QueryResult) -> Vec<QueryResult> {
    let QueryResult { fields, rows } = result;
    let one = |row| QueryResult { fields: fields.clone(), rows: vec![row] };
    rows.into_iter().map(one).collect()
}
