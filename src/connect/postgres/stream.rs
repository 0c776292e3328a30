//! Owns what transactions of the log come to: changes, and boundaries, while the tables are copied and after that. Pure:
//! what only the server knows is asked for by its owner. It does not own connections, nor what messages say.
//!
//! # The copy
//!
//! Rows are copied in pieces, in the order of tables and of keys, each as of a snapshot, and the log is read meanwhile. Of a
//! transaction's rows, those up to the last key *copied* go on. The others are dropped, and none is lost: a later piece has
//! them, since its snapshot must [see](Snapshot::sees) every transaction of which rows were dropped, or it is read again.
//!
//! A piece that was read, a *window*, waits until the stream has passed a mark that was put into the log after its
//! snapshot. Until then, rows of its keys are dropped if the snapshot sees their transaction, for the piece has them; else
//! they wait, and follow the piece's rows. So at the mark its rows are as of that place in the log, and the boundary
//! there is `(place, last key)`: one place, for the copy and for the stream.
//!
//! # Rows that are not sent whole
//!
//! An update sends no column that is stored apart and did not change. It is a patch of its row. If its key changed as well,
//! the row before has another key, and a patch finds nothing: then the row is read anew, in a window of its own, and
//! no boundary is said until that has passed its mark.

use std::collections::BTreeSet;

use super::changes::{Changes, Happened};
use super::position::{Copied, PgPosition};
use super::question::{Piece, Place, Unplaced, Wanted};
use super::rows::{Key, Row};
use super::snapshot::Snapshot;
use crate::codec::DataError;
use crate::source::{Change, Event, Failure, Partition, Received};

pub(super) type Out = Event<String, String, PgPosition>;

/// Rows of the log whose order among keys is asked for together, or fewer of so many bytes.
const TOGETHER: usize = 1_000;
const BYTES_TOGETHER: usize = 4 << 20;

/// Keys whose rows are read together.
const KEYS_TOGETHER: usize = 300;

/// What is read of the log, and of the tables beside it.
pub(super) struct Stream {
    partition: Partition,
    changes: Changes,
    /// What is handed over.
    at: PgPosition,
    /// Half the number of the transaction under way.
    transaction: Option<u32>,
    /// Its rows, until it is known where their keys are.
    rows: Vec<Happened>,
    /// The bytes that they came in.
    bytes: usize,
    /// Where the transaction ends whose rows these are.
    ends: Option<u64>,
    window: Option<Window>,
    /// Transactions of which rows were dropped that the next window must have.
    dropped: BTreeSet<u64>,
    /// Keys whose rows have to be read.
    unread: BTreeSet<Key>,
    /// The snapshot that was read last.
    snapshot: Snapshot,
    /// All transactions below it have ended when the first window is read: those that had committed before we
    /// connected, and were not seen yet, are not said again.
    settled_from: u64,
    pub(super) out: Vec<Out>,
}

/// Rows that were read, and wait for their mark.
struct Window {
    of: Of,
    snapshot: Snapshot,
    rows: Vec<(Key, Result<String, DataError>)>,
    high: u64,
    /// What transactions that the snapshot does not see have done to them.
    later: Vec<(Happened, u64)>,
}

enum Of {
    /// Keys of the table that is copied, after the last one copied, up to this one; without end, of the last piece.
    Piece(Option<Vec<String>>),
    /// Of one table.
    Keys(BTreeSet<Key>),
}

/// Where a row of the log belongs.
enum Way {
    On,
    ToWindow,
    Nowhere,
}

impl Stream {
    pub(super) fn new(
        partition: Partition,
        changes: Changes,
        at: PgPosition,
        (snapshot, number): (Snapshot, u64),
    ) -> Stream {
        let by_snapshot = crate::mutant::on("settled_by_snapshot");
        let settled_from = if by_snapshot { snapshot.max } else { number };
        Stream {
            partition,
            changes,
            at,
            transaction: None,
            rows: Vec::new(),
            bytes: 0,
            ends: None,
            window: None,
            dropped: BTreeSet::new(),
            unread: BTreeSet::new(),
            settled_from,
            snapshot,
            out: Vec::new(),
        }
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self, half: u32) {
        self.transaction = Some(half);
        self.rows.clear();
        self.bytes = 0;
    }

    /// Takes in a message of a transaction.
    pub(super) fn message(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes += bytes.len();
        self.changes.read(bytes, &mut self.rows)
    }

    /// Whether the server is to be asked if tables have their names still.
    pub(super) fn doubts_names(&self) -> bool {
        self.changes.is_renamed()
    }

    /// Takes in that they have.
    pub(super) fn trusts_names(&mut self) {
        self.changes.trust_names();
    }

    /// Ends a transaction.
    pub(super) fn commit(&mut self, end: u64) {
        self.ends = Some(end);
    }

    /// Takes in that the server has sent everything before a place.
    pub(super) fn reached(&mut self, place: u64) {
        if self.transaction.is_none() && self.ends.is_none() && place > self.at.lsn {
            self.pass(place);
        }
    }

    /// Whether rows wait, or the end of a transaction: go on with [`settle`](Stream::settle).
    pub(super) fn waits(&self) -> bool {
        self.ends.is_some() || self.rows.len() >= TOGETHER || self.bytes >= BYTES_TOGETHER
    }

    /// Returns the keys of what waits whose places only the server knows: those of the table that is copied.
    pub(super) fn unplaced(&self) -> Option<Unplaced<'_>> {
        let Copied { table, last, .. } = self.at.copy.as_ref()?;
        let piece = match &self.window {
            Some(Window { of: Of::Piece(Some(last)), .. }) => Some(&**last),
            _ => None,
        };
        let keys = self.rows.iter().filter_map(Happened::key);
        let keys: Vec<Key> = keys.filter(|key| key.table == *table).cloned().collect();
        let copied = last.as_deref();
        let is_asked = !keys.is_empty() && (copied.is_some() || piece.is_some());
        is_asked.then_some(Unplaced { table: *table, keys, copied, piece })
    }

    /// Sends what waits on its way: `places` are those of the keys that were [asked](Stream::unplaced) for.
    pub(super) fn settle(&mut self, places: Option<Vec<Place>>) {
        let mut places = places.map(Vec::into_iter);
        let half = self.transaction.unwrap_or_default();
        let transaction = self.snapshot.whole(half);
        self.bytes = 0;
        for happened in std::mem::take(&mut self.rows) {
            match &happened {
                Happened::Truncate(table) => self.truncated(*table, transaction),
                Happened::Put { key, .. } | Happened::Delete(key) => {
                    let place = self.place_of(key, &mut places);
                    self.happened(happened, place, transaction);
                }
            }
        }
        if let Some(end) = self.ends.take() {
            self.transaction = None;
            self.pass(end.max(self.at.lsn));
        }
    }

    /// Where a key is: by its table, or else as the server says.
    fn place_of(&self, key: &Key, asked: &mut Option<impl Iterator<Item = Place>>) -> Place {
        let Some(copy) = &self.at.copy else {
            return Place { is_copied: true, is_in_piece: false };
        };
        if key.table != copy.table {
            let is_copied = key.table < copy.table || crate::mutant::on("tables_count_as_copied");
            return Place { is_copied, is_in_piece: false };
        }
        let asked = asked.as_mut().and_then(Iterator::next);
        let asked = asked.unwrap_or(Place { is_copied: false, is_in_piece: false });
        let is_in_piece = match &self.window {
            Some(Window { of: Of::Piece(None), .. }) => true,
            Some(Window { of: Of::Piece(Some(_)), .. }) => asked.is_in_piece,
            _ => false,
        };
        Place { is_copied: copy.last.is_some() && asked.is_copied, is_in_piece }
    }

    fn happened(&mut self, happened: Happened, place: Place, transaction: u64) {
        let Some(key) = happened.key() else { return };
        match self.way(key, place, transaction) {
            Way::Nowhere => {}
            Way::ToWindow => {
                if let Some(window) = &mut self.window {
                    window.later.push((happened, transaction));
                }
            }
            Way::On => self.emit(happened, transaction),
        }
    }

    fn way(&mut self, key: &Key, place: Place, transaction: u64) -> Way {
        let seen = |window: &Window| window.snapshot.sees(transaction);
        match &self.window {
            Some(window @ Window { of: Of::Keys(keys), .. }) if keys.contains(key) => {
                if seen(window) { Way::Nowhere } else { Way::ToWindow }
            }
            _ if place.is_copied && !self.takes_as_read(transaction) => Way::On,
            Some(window) if place.is_in_piece => {
                if seen(window) || crate::mutant::on("window_drops_later") {
                    Way::Nowhere
                } else {
                    Way::ToWindow
                }
            }
            // A later piece has it.
            _ => {
                self.dropped.insert(transaction);
                Way::Nowhere
            }
        }
    }

    /// Whether what a transaction has done to rows that are copied is left to the next piece.
    fn takes_as_read(&self, transaction: u64) -> bool {
        let is_seen = self.at.copy.is_some() && self.snapshot.sees(transaction);
        is_seen && crate::mutant::on("resume_drops_copied")
    }

    fn emit(&mut self, happened: Happened, transaction: u64) {
        if happened.key().is_some_and(|key| self.unread.contains(key)) {
            // The row that is read instead must have it.
            self.dropped.insert(transaction);
        }
        let change = match happened {
            Happened::Put { key, row: Row::Whole(value), .. } => Change::Put(key.json, value),
            Happened::Put { key, row: Row::Partial(patch), moved } => {
                if moved && !crate::mutant::on("moved_stays_unread") {
                    self.dropped.insert(transaction);
                    self.unread.insert(key.clone());
                }
                match patch {
                    Ok(patch) => Change::Patch(key.json, patch),
                    Err(error) => Change::Put(key.json, Err(error)),
                }
            }
            Happened::Delete(key) => Change::Delete(key.json),
            Happened::Truncate(table) => match self.changes.collection(table) {
                Some(name) if !crate::mutant::on("truncate_takes_all") => {
                    Change::ResetOf(name.to_string())
                }
                _ => Change::Reset,
            },
        };
        self.out.push(Event::Change(Partition::clone(&self.partition), change));
    }

    fn truncated(&mut self, table: usize, transaction: u64) {
        if let Some(window) = &mut self.window
            && !window.snapshot.sees(transaction)
        {
            // All that are there are of one table.
            window.rows.retain(|(key, _)| key.table != table);
            window
                .later
                .retain(|(happened, _)| happened.key().is_none_or(|key| key.table != table));
            if let Of::Keys(keys) = &mut window.of {
                keys.retain(|key| key.table != table);
            }
        }
        self.unread.retain(|key| key.table != table);
        let copied = self.at.copy.as_ref().map_or(usize::MAX, |copy| copy.table);
        if table >= copied {
            // A later piece must not have what it took away.
            self.dropped.insert(transaction);
        }
        // Of a table whose turn is later, nothing is handed over.
        if table <= copied {
            self.emit(Happened::Truncate(table), transaction);
        }
    }

    /// Everything before a place has come.
    fn pass(&mut self, place: u64) {
        let was = self.at.clone();
        self.at.lsn = place;
        if let Some(window) = self.window.take_if(|window| window.high <= place) {
            self.open(window);
        }
        if !self.is_half_read() && self.at != was {
            self.say();
        }
    }

    /// Whether rows that were handed over want another reading, or a reading that waits has rows instead of the log.
    fn is_half_read(&self) -> bool {
        let reads = |window: &Window| matches!(&window.of, Of::Keys(keys) if !keys.is_empty());
        !self.unread.is_empty() || self.window.as_ref().is_some_and(reads)
    }

    /// Says the place as a boundary: at the start, before the first row, too.
    pub(super) fn say(&mut self) {
        let received = Received::at(Partition::clone(&self.partition), self.at.clone());
        self.out.push(Event::Boundary(received));
    }

    /// Hands over a window's rows, as of here.
    fn open(&mut self, window: Window) {
        let Window { of, rows, later, .. } = window;
        let partition = &self.partition;
        let put = |(key, value): (Key, _)| {
            Event::Change(Partition::clone(partition), Change::Put(key.json, value))
        };
        if let Of::Keys(keys) = &of {
            let gone = keys.iter().filter(|key| rows.iter().all(|(row, _)| row != *key));
            let gone = gone.map(|key| Change::Delete(key.json.clone()));
            self.out.extend(gone.map(|change| Event::Change(Partition::clone(partition), change)));
            self.unread.retain(|key| !keys.contains(key));
        }
        self.out.extend(rows.into_iter().map(put));
        later.into_iter().for_each(|(happened, transaction)| self.emit(happened, transaction));
        if let (Of::Piece(last), Some(copy)) = (of, &self.at.copy) {
            let (table, pieces) = (copy.table, copy.pieces + 1);
            let is_whole = last.is_none() && table + 1 == self.at.history.tables.len();
            self.at.copy = (!is_whole).then(|| match last {
                Some(last) => Copied { table, last: Some(last), pieces },
                None => Copied { table: table + 1, last: None, pieces },
            });
        }
    }

    /// Returns what has to be read beside the log.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        if self.window.is_some() {
            return None;
        }
        if let Some(table) = self.unread.first().map(|key| key.table) {
            let keys = self.unread.iter().take_while(|key| key.table == table);
            return Some(Wanted::Keys(table, keys.take(KEYS_TOGETHER).cloned().collect()));
        }
        self.at.copy.as_ref().map(|copy| Wanted::After(copy.table, copy.last.clone()))
    }

    /// Takes in what was read. Returns whether it can be used: else it is to be read again, after a while.
    pub(super) fn read(&mut self, wanted: Wanted, piece: Piece, is_last: bool) -> bool {
        let Piece { snapshot, rows, high, .. } = piece;
        let is_settled = snapshot.min >= self.settled_from || self.at.copy.is_none();
        let sees = self.dropped.iter().all(|transaction| snapshot.sees(*transaction));
        if !(is_settled && sees || crate::mutant::on("any_snapshot")) {
            self.snapshot = snapshot;
            return false;
        }
        self.dropped.clear();
        if self.at.copy.is_some() {
            self.settled_from = 0;
        }
        let of = match wanted {
            Wanted::Keys(_, keys) => Of::Keys(keys.into_iter().collect()),
            Wanted::After(..) => Of::Piece(match is_last {
                true => None,
                false if crate::mutant::on("cursor_short_of_key") => {
                    rows.get(rows.len() / 2).map(|(key, _)| key.texts.clone())
                }
                false => rows.last().map(|(key, _)| key.texts.clone()),
            }),
        };
        self.snapshot = snapshot.clone();
        self.window = Some(Window { of, snapshot, rows, high, later: Vec::new() });
        true
    }

    /// Whether nothing of a transaction waits.
    pub(super) fn rests(&self) -> bool {
        self.transaction.is_none() && !self.waits()
    }
}
