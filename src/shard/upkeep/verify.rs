//! Owns the check of a whole root against itself. It repairs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::shard::config::{HandleConfig, HandleOptions};
use crate::shard::engine::entry::{Entry, Feed};
use crate::shard::engine::format::{DATA, FORMAT_KEY, REMAP};
use crate::shard::engine::id::Id;
use crate::shard::engine::part::{self, ALL, Update};
use crate::shard::engine::rollup;
use crate::shard::engine::state::{Part, State};
use crate::shard::holds::Holds;
use crate::shard::incarnation;
use crate::shard::open::read_format;
use crate::shard::rows::Rows;
use crate::shard::settle::Settler;
use crate::shard::stream::Woven;
use crate::shard::view::View;
use crate::store::{Access, INCARNATION_KEY, Root};

/// The shards a root may hold. In each of them a key has at most one value.
const SHARDS: [&str; 2] = [DATA, REMAP];
/// Bytes of parts in memory; two parts, if they are larger.
const READ_BYTES_MAX: usize = 32 << 20;
/// How often it starts again because a collector went by.
const ATTEMPTS_MAX: u32 = 5;

/// What a [`verify`] found in a root without damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Log entries read.
    pub entries: u64,
    /// Rollups read.
    pub rollups: u64,
    /// Parts read, inline ones too.
    pub parts: u64,
    /// Updates read.
    pub updates: u64,
    /// Bytes of the keys under the root.
    pub bytes: u64,
    /// Parts that no state names: left by lost appends and by crashes, or on their way into one. They
    /// are not read.
    pub orphans: Vec<String>,
    /// Files that belong to no shard. They are not read.
    pub unknown: Vec<String>,
}

/// Re-reads every file under a root: checksums and lengths, numbers and tokens and bounds of the log
/// from its oldest entry, rollups against the log, one live value per key at every time that can
/// still be told apart, and that `remap/` binds every time that `data/` holds.
///
/// Writers may go on meanwhile. Memory: parts of 32 MiB, or two, and the list of all files. Parts that are too many for that
/// are merged into a temporary file first.
///
/// # Errors
///
/// `Corrupt` for damage, naming the file; else those of [`Handle::open`](crate::shard::Handle::open).
pub async fn verify(root: Root, io: Io) -> Result<Verified, Error> {
    let mut attempt = 1;
    loop {
        let floors = floors(&root).await?;
        match verify_once(&root, &io).await {
            // A collector took what we had yet to look at: what we found proves nothing.
            Err(e) if attempt < ATTEMPTS_MAX && floors != self::floors(&root).await? => {
                tracing::debug!(error = %e, "collected meanwhile");
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn floors(root: &Root) -> Result<Vec<u64>, Error> {
    let mut floors = Vec::new();
    for name in SHARDS {
        floors.push(root.log(name).floor().await?);
    }
    Ok(floors)
}

async fn verify_once(root: &Root, io: &Io) -> Result<Verified, Error> {
    let mut verified = Verified::default();
    // The listing comes first: what is in it is surely there when the log is read after it.
    let listed = root.blob().list("", usize::MAX).await?;
    if read_format(root, Access::Read).await?.is_some() {
        incarnation::meet(&root.guarded(), root.layout()).await?;
    }
    let mut files: BTreeMap<&str, Files> = BTreeMap::new();
    for found in &listed {
        verified.bytes += found.bytes;
        let owner = SHARDS
            .iter()
            .find(|name| found.key.strip_prefix(**name).is_some_and(|rest| rest.starts_with('/')));
        let known = match owner {
            Some(name) if root.log(name).owns(&found.key) => true,
            Some(name) => files.entry(name).or_default().add(&found.key, name),
            None => found.key == FORMAT_KEY || found.key == INCARNATION_KEY,
        };
        if !known {
            verified.unknown.push(found.key.clone());
        }
    }
    // The log may be where no listing of the root shows it.
    for name in SHARDS {
        let log = root.log(name);
        let (entries, floor) = (log.entries().await?, log.floor().await?);
        if !entries.is_empty() || floor > 0 {
            let files = files.entry(name).or_default();
            files.entries.extend(entries);
            files.floor = files.floor.max(floor);
        }
    }
    let open = |name| {
        let (cache_bytes_max, read_bytes_max) = (0, READ_BYTES_MAX);
        let config = HandleConfig { cache_bytes_max, read_bytes_max, ..HandleConfig::default() };
        View::open(root.clone(), io.clone(), HandleOptions::read(name).with_config(config))
    };
    let mut data = State::default();
    for name in SHARDS {
        if let Some(files) = files.remove(name) {
            let rows = Rows::new(Holds::new(Settler::new(open(name).await?)));
            let state = Check { rows, files }.run(&mut verified).await?;
            if name == SHARDS[0] {
                data = state;
            }
        }
    }
    if data.feed.as_ref().is_some_and(|feed| feed.mode == Feed::MINTED) {
        // Read after `data/`, and it only moves forward: no writer at work makes it look behind.
        let bound = open(SHARDS[1]).await?.refresh().await?.upper;
        if data.upper > bound {
            return Err(remap_behind(data.upper, bound, root.url()));
        }
    }
    Ok(verified)
}

/// The error of a root whose `data/` has times that its `remap/` does not bind, as a copy of two
/// moments has them.
pub(crate) fn remap_behind(data: u64, remap: u64, url: &str) -> Error {
    let what = format!(
        "remap/ is behind data/: the upper of data/ is {data}, that of remap/ is {remap}, and what \
         was read of the feed between them is not known"
    );
    Error::new(ErrorKind::Corrupt, what)
        .at(url)
        .hint("restore both from one copy, in which remap/ was copied after data/")
}

/// The files of one shard, by what they are.
#[derive(Default)]
struct Files {
    entries: BTreeSet<u64>,
    floor: u64,
    rollups: BTreeMap<(u64, Id), String>,
    parts: BTreeSet<String>,
}

impl Files {
    /// Sorts in one key; false if it belongs to no shard.
    fn add(&mut self, key: &str, shard: &str) -> bool {
        let Some((kind, name)) = key[shard.len() + 1..].split_once('/') else { return false };
        let number = || name.parse::<u64>().ok().filter(|n| *n > 0 && format!("{n:020}") == name);
        match kind {
            "log" => number().is_some_and(|seqno| self.entries.insert(seqno)),
            "floor" => {
                self.floor = self.floor.max(number().unwrap_or(0));
                number().is_some()
            }
            "rollup" => {
                let known = rollup::parse_key(key)
                    .filter(|(seqno, token)| rollup::key(shard, *seqno, *token) == key);
                known.is_some_and(|id| self.rollups.insert(id, key.to_string()).is_none())
            }
            "part" => {
                let hex = |text: &str| text.parse().is_ok_and(|t: Id| t.to_string() == text);
                let known = name.split_once('/').is_some_and(|(w, token)| hex(w) && hex(token));
                known && self.parts.insert(key.to_string())
            }
            _ => false,
        }
    }
}

struct Check {
    rows: Rows,
    files: Files,
}

impl Check {
    async fn run(mut self, verified: &mut Verified) -> Result<State, Error> {
        let state = self.replay(verified).await?;
        for part in state.batches.iter().flat_map(|batch| &batch.parts) {
            verified.parts += 1;
            verified.updates += part.updates();
            if let Part::Stored { key, .. } = part {
                self.files.parts.remove(key);
            }
        }
        self.read_named(&state).await?;
        self.read_unnamed().await?;
        // Merged, and waiting for the floor to pass: or deleted, and the entry that says so is due.
        for key in state.retired.iter().flat_map(|retired| &retired.keys) {
            self.files.parts.remove(key);
        }
        verified.orphans.extend(std::mem::take(&mut self.files.parts));
        Ok(state)
    }

    /// Reads all rows that count, and checks that at every time each key has no value or one.
    async fn read_named(&self, state: &State) -> Result<(), Error> {
        let mut woven = Woven::new(&self.rows, state.batches.clone(), u64::MAX, 0, ALL);
        let mut live = Live::default();
        let at_shard = |e: Error| e.at(self.rows.view.url());
        loop {
            match woven.next().await {
                Ok(Some(rows)) => {
                    rows.into_iter().try_for_each(|row| live.add(row)).map_err(at_shard)?
                }
                Ok(None) => return live.settle().map_err(at_shard),
                Err(e) if e.kind() == ErrorKind::Missing => return Err(self.gone(e).await),
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads the parts that no batch names: they carry checksums of their own.
    async fn read_unnamed(&self) -> Result<(), Error> {
        let blob = &self.rows.view.blob;
        for key in &self.files.parts {
            // A collector may have taken it since the listing: that is not damage.
            if let Some(bytes) = blob.get(key).await? {
                let rows = part::decode(&Arc::new(bytes.to_vec()), 0, u64::MAX);
                rows.map_err(|e| e.at(blob.place(key)))?;
            }
        }
        Ok(())
    }

    /// Tells a part that a collector took while we read from one that was lost.
    async fn gone(&self, missing: Error) -> Error {
        let newest = match self.rows.view.refresh().await {
            Ok(newest) => newest,
            Err(e) => return e,
        };
        let place = missing.place().unwrap_or_default().to_string();
        let mut parts = newest.batches.iter().flat_map(|batch| &batch.parts);
        if parts.any(|part| self.rows.view.place(part) == place) {
            return damage("a part is lost".into(), &place).because(missing);
        }
        missing
    }

    /// Follows the log from its oldest state to its head, and holds every rollup against it.
    async fn replay(&mut self, verified: &mut Verified) -> Result<State, Error> {
        let view = &*self.rows.view;
        let mut rollups = BTreeMap::new();
        for (id, key) in &self.files.rollups {
            // A collector may have taken it since the listing: that is not damage.
            if let Some(bytes) = view.blob.get(key).await? {
                let state = rollup::decode(id.0, id.1, &bytes);
                rollups.insert(*id, state.map_err(|e| e.at(view.blob.place(key)))?);
                verified.rollups += 1;
            }
        }
        let mut state = match self.files.floor {
            0 => State::default(),
            floor => match rollups.range((floor, Id(0))..).next() {
                Some((_, state)) => state.clone(),
                None => {
                    let what = format!("no rollup at or above the floor {floor}");
                    return Err(damage(what, view.url()));
                }
            },
        };
        let oldest = state.seqno;
        // Entries that the oldest state makes superfluous: intact, but otherwise beside the point.
        for seqno in self.files.entries.range(..=oldest) {
            if let Some(bytes) = view.log.get(*seqno).await? {
                Entry::decode(*seqno, &bytes).map_err(|e| e.at(view.log.place(*seqno)))?;
                verified.entries += 1;
            }
        }
        while let Some(bytes) = view.log.get(state.seqno.saturating_add(1)).await? {
            let seqno = state.seqno.saturating_add(1);
            Entry::decode(seqno, &bytes)
                .and_then(|(entry, _)| state.apply(&entry))
                .map_err(|e| e.at(view.log.place(seqno)))?;
            verified.entries += 1;
            for (id, rolled) in rollups.range((seqno, Id(0))..=(seqno, Id(u128::MAX))) {
                if !is_same(rolled, &state) {
                    let place = view.blob.place(&self.files.rollups[id]);
                    return Err(damage("a rollup that differs from the log".into(), &place));
                }
            }
        }
        if let Some(beyond) = self.files.entries.range(state.seqno.saturating_add(1)..).next() {
            let what = format!(
                "entry {} is missing, and this one is there",
                state.seqno.saturating_add(1)
            );
            return Err(damage(what, &view.log.place(*beyond)));
        }
        if let Some((id, _)) = rollups.range((state.seqno.saturating_add(1), Id(0))..).next() {
            let what = format!("a rollup beyond the log, which ends at entry {}", state.seqno);
            return Err(damage(what, &view.blob.place(&self.files.rollups[id])));
        }
        Ok(state)
    }
}

/// Whether a rollup is the state that the log makes. How many bytes merges have replaced is said by
/// programs that know it, whichever program wrote the rollup that this replay began with.
fn is_same(rolled: &State, state: &State) -> bool {
    let plain = |state: &State| {
        let mut state = state.clone();
        state.retired.iter_mut().for_each(|retired| retired.bytes = 0);
        state
    };
    rolled == state || plain(rolled) == plain(state)
}

fn damage(what: String, place: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what).at(place).hint("restore the shard from a copy")
}

/// The values of one key at one time, as rows come by key and time.
#[derive(Default)]
struct Live {
    key: Option<Encoded>,
    time: u64,
    values: BTreeMap<Encoded, isize>,
}

impl Live {
    fn add(&mut self, ((key, value), time, diff): Update) -> Result<(), Error> {
        let is_same = self.key.as_ref() == Some(&key);
        if !is_same || time != self.time {
            self.settle()?;
            self.time = time;
        }
        if !is_same {
            self.values.clear();
            self.key = Some(key);
        }
        let count = self.values.entry(value).or_default();
        *count = count.saturating_add(diff);
        Ok(())
    }

    /// Checks that the key has no value or one, once.
    fn settle(&mut self) -> Result<(), Error> {
        self.values.retain(|_, count| *count != 0);
        if self.values.len() > 1 || self.values.values().any(|count| *count != 1) {
            let key = self.key.iter().flat_map(|key| key.as_bytes().escape_ascii());
            let (key, time) = (String::from_iter(key.map(char::from)), self.time);
            let what = format!("not one live value for key \"{key}\" at time {time}");
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::engine::state::Retired;

    /// Programs of before do not say how many bytes a merge replaced: their rollups are sound.
    #[test]
    fn a_rollup_may_not_say_what_was_retired_in_bytes() {
        let retired = |seqno, bytes| vec![Retired { seqno, bytes, ..Retired::default() }];
        let state = |retired| State { seqno: 9, retired, ..State::default() };
        assert!(is_same(&state(retired(8, 0)), &state(retired(8, 70))));
        assert!(is_same(&state(retired(8, 70)), &state(retired(8, 0))));
        assert!(!is_same(&state(retired(7, 70)), &state(retired(8, 70))));
    }
}
