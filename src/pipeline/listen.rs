//! Owns what a program reads of a typed [`Shard`] without a dataflow: a snapshot, and every later
//! change. Together they are the collection. How parts are read is [`shard`](crate::shard)'s.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Codec, DataError, Postcard, Values};
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::pace::Pace;
use crate::pipeline::shard::Shard;
use crate::shard::{Handle, Hold, Part, SnapshotStream, State, Update};

/// How often changes are read again because a collector took a part of them.
const ATTEMPTS_MAX: u32 = 3;
/// How long another process's commit may go unseen, while they come and at rest.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(1280));

/// A key and what it maps to: a value, or the error that stands in its place.
pub type Keyed<K, V> = (K, Result<V, DataError>);

/// What changed in an interval of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<K, V> {
    /// The first time.
    pub lower: u64,
    /// The first time that is not in it; `lower` of a [piece](Listen::next_piece) that is not the last of its batch.
    pub upper: u64,
    /// The updates, by time; at one time retractions stand before insertions.
    pub updates: Vec<(Keyed<K, V>, u64, isize)>,
}

impl<K, V, C: Codec<K> + Codec<V>> Shard<K, V, C> {
    /// Returns the collection as of a time, sorted by the bytes of the keys. All of it is in memory;
    /// [`stream`](Shard::stream) is for one that is larger.
    /// Nothing is held: if a part is gone it starts again from the newest state, three times.
    ///
    /// # Errors
    ///
    /// `Invalid` unless `since <= as_of < upper`; `Corrupt` for damage; else those of the store.
    ///
    /// ```
    /// use differential_upsert::codec::{Postcard, encode_stored};
    /// use differential_upsert::shard::Append;
    /// use differential_upsert::{Encoded, Packed, Shard};
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// # let mut stored = Vec::new();
    /// # encode_stored::<u64, Postcard>(&Ok(3), &mut stored)?;
    /// # let key: Encoded = Packed::pack(&"pear".to_string())?.cast();
    /// # let row = ((key, Encoded::from_bytes(stored)), 0, 1);
    /// # let parts = shard.io().block_on(shard.handle().prepare(vec![row]))?;
    /// # let append = Append { upper: 1, parts, ..Append::default() };
    /// # let _ = shard.io().block_on(shard.handle().compare_and_append(append))?;
    /// let rows = shard.io().block_on(shard.snapshot(0))?;
    /// assert_eq!(rows, [("pear".to_string(), Ok(3))]);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub async fn snapshot(&self, as_of: u64) -> Result<Vec<Keyed<K, V>>, Error> {
        let rows = self.handle().snapshot(as_of).await?;
        rows.iter().map(|row| single(self.values(), row, self.handle())).collect()
    }

    /// Returns the collection as of a time a piece after another, in bounded memory and in no order of the keys: see
    /// [`Handle::stream`].
    ///
    /// # Errors
    ///
    /// As [`Handle::stream`].
    ///
    /// ```
    /// use differential_upsert::Shard;
    /// use differential_upsert::shard::Append;
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let io = shard.io().clone();
    /// let append = Append { upper: 7, ..Append::default() };
    /// let _ = io.block_on(shard.handle().compare_and_append(append))?;
    /// let mut contents = io.block_on(shard.stream(6))?;
    /// let mut rows = 0;
    /// while let Some(piece) = io.block_on(contents.next())? {
    ///     rows += piece.len();
    /// }
    /// assert_eq!(rows, 0);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub async fn stream(&self, as_of: u64) -> Result<Contents<K, V, C>, Error> {
        let stream = self.handle().stream(as_of).await?;
        let (handle, values) = (self.handle().clone(), self.values().clone());
        Ok(Contents { handle, stream, values, types: PhantomData })
    }

    /// Returns the changes at `from` and after, as they are committed; `snapshot(from - 1)` and these
    /// are the collection. If the shard was opened for writing, the history from there on is held
    /// until what is returned is dropped. If for reading, nothing is: a reader that does not keep up with
    /// the collector hears so.
    ///
    /// # Errors
    ///
    /// Those of taking a hold, as an append.
    ///
    /// ```
    /// use differential_upsert::Shard;
    /// use differential_upsert::pipeline::Changes;
    /// use differential_upsert::shard::Append;
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let io = shard.io().clone();
    /// let mut changes = io.block_on(shard.listen(0))?;
    /// let append = Append { upper: 7, seal: true, ..Append::default() };
    /// let _ = io.block_on(shard.handle().compare_and_append(append))?;
    /// let empty = Changes { lower: 0, upper: 7, updates: vec![] };
    /// assert_eq!(io.block_on(changes.next())?, Some(empty));
    /// // It is sealed: nothing comes after that.
    /// assert_eq!(io.block_on(changes.next())?, None);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub async fn listen(&self, from: u64) -> Result<Listen<K, V, C>, Error> {
        // Times up to the one before may be merged; `from` stays apart from them.
        let hold = self.handle().hold(from.saturating_sub(1)).await?;
        let (handle, io) = (self.handle().clone(), self.io().clone());
        let values = self.values().clone();
        let (hold, inside, types) = (Some(hold), None, PhantomData);
        Ok(Listen { handle, io, hold, next: from, inside, values, types })
    }
}

/// Reads the collection as of one time: see [`Shard::stream`].
#[derive(Debug)]
pub struct Contents<K, V, C = Postcard> {
    handle: Handle,
    stream: SnapshotStream,
    values: Values<V, C>,
    types: PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C: Codec<K> + Codec<V>> Contents<K, V, C> {
    /// Returns the next keys, each of which comes once; `None` at the end.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage; else as [`SnapshotStream::next`].
    pub async fn next(&mut self) -> Result<Option<Vec<Keyed<K, V>>>, Error> {
        let Some(rows) = self.stream.next().await? else { return Ok(None) };
        let keyed = rows.iter().map(|row| single(&self.values, row, &self.handle));
        keyed.collect::<Result<_, _>>().map(Some)
    }
}

/// Reads the changes of a shard: see [`Shard::listen`].
#[derive(Debug)]
pub struct Listen<K, V, C = Postcard> {
    handle: Handle,
    io: Io,
    /// Gone once it is dropped.
    hold: Option<Hold>,
    next: u64,
    /// The part that is next, if one before it in its batch has been returned.
    inside: Option<Part>,
    values: Values<V, C>,
    types: PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C: Codec<K> + Codec<V>> Listen<K, V, C> {
    /// Returns the first time that it has not returned.
    pub fn upper(&self) -> u64 {
        self.next
    }

    /// Waits for the next changes and returns them, of one batch at the most; `None` once the shard is
    /// sealed and all of it was returned. Dropped half way it has returned nothing, and can be called
    /// again. Memory: all rows of a batch; [`next_piece`](Listen::next_piece) is for those that are larger.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if since has passed its place, or a part is gone: begin again with a snapshot.
    /// `Replaced`, `Corrupt`, and those of the store.
    pub async fn next(&mut self) -> Result<Option<Changes<K, V>>, Error> {
        self.read_next(usize::MAX).await
    }

    /// As [`next`](Listen::next), of one part at the most, so that a commit of any size comes in bounded memory. As long as
    /// more of a batch is to come, `upper` is `lower`: none of its times is complete. Updates of the pieces of a batch
    /// come in no order.
    ///
    /// # Errors
    ///
    /// As [`next`](Listen::next). `LeaseLost` also for a reader that holds nothing, where others have merged the batch that
    /// it is inside of.
    pub async fn next_piece(&mut self) -> Result<Option<Changes<K, V>>, Error> {
        self.read_next(1).await
    }

    async fn read_next(&mut self, parts_max: usize) -> Result<Option<Changes<K, V>>, Error> {
        let mut state = self.handle.state();
        let (mut attempt, mut pace) = (1, Pace::new(POLL.0, POLL.1));
        loop {
            if state.upper > self.next {
                self.handle.holds().keep_surely().await?;
                if !state.tells_apart(self.next) {
                    return Err(lost(self.next).at(self.handle.url()));
                }
                match self.read(&state, parts_max).await {
                    Err(e) if e.kind() == ErrorKind::Missing => {
                        if attempt == ATTEMPTS_MAX {
                            return Err(lost(self.next).at(self.handle.url()).because(e));
                        }
                        attempt += 1;
                        state = self.handle.refresh().await?;
                        continue;
                    }
                    read => return read.map(Some),
                }
            }
            if state.sealed_at.is_some() {
                return Ok(None);
            }
            // Before the look, so that no change falls between the two.
            let change = self.handle.next_change();
            state = self.handle.state();
            if state.upper > self.next || state.sealed_at.is_some() {
                continue;
            }
            let pause = pace.pause();
            tokio::select! {
                () = change => state = self.handle.state(),
                () = tokio::time::sleep(pause) => {
                    pace.rest(pause);
                    match pace.is_at_rest() {
                        true => self.handle.glance().await?,
                        false => drop(self.handle.refresh().await?),
                    }
                    state = self.handle.state();
                    self.handle.holds().keep_surely().await?;
                }
            }
        }
    }

    /// Reads of the first batch that reaches beyond our place as many parts as asked for, or the times without rows before
    /// it.
    async fn read(&mut self, state: &Arc<State>, parts_max: usize) -> Result<Changes<K, V>, Error> {
        let lower = self.next;
        let next = state.batches.iter().find(|batch| batch.upper > lower);
        let (mut updates, mut upper, mut inside) = (Vec::new(), state.upper, None);
        if next.is_none() && self.inside.is_some() {
            return Err(lost(lower).at(self.handle.url()));
        }
        if let Some(batch) = next {
            // A merge has the rows in other parts, in another order.
            let place = self.inside.as_ref().map(|next| batch.parts.iter().position(|p| p == next));
            let first = match place {
                None => 0,
                Some(Some(first)) => first,
                Some(None) => return Err(lost(lower).at(self.handle.url())),
            };
            upper = batch.upper;
            if let Some(part) = batch.parts.get(first.saturating_add(parts_max)) {
                (upper, inside) = (lower, Some(part.clone()));
            }
            for part in batch.parts[first..].iter().take(parts_max) {
                let rows = self.handle.fetch(part, batch.lower.max(lower), batch.upper).await?;
                for row in &rows {
                    let keyed = decoded(&self.values, row);
                    let keyed = keyed.map_err(|e| e.at(self.handle.url()))?;
                    updates.push((keyed, row.1, row.2));
                }
            }
        }
        // Stable: but for that, rows stay in the order of their parts.
        updates.sort_by_key(|(_, time, diff)| (*time, *diff));
        (self.next, self.inside) = (upper, inside);
        if let Some(hold) = &self.hold {
            self.handle.advance(hold, upper.saturating_sub(1));
        }
        Ok(Changes { lower, upper, updates })
    }
}

impl<K, V, C> Drop for Listen<K, V, C> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            let handle = self.handle.clone();
            // If nobody runs it, the lease runs out.
            self.io.spawn(async move { handle.release(hold).await });
        }
    }
}

/// Decodes a row of a snapshot, which is there once.
fn single<K, V, C: Codec<K> + Codec<V>>(
    values: &Values<V, C>,
    row: &Update,
    of: &Handle,
) -> Result<Keyed<K, V>, Error> {
    let keyed = match row {
        (_, _, 1) => decoded(values, row),
        (_, time, count) => {
            let what = format!("a row with count {count} at time {time}");
            Err(Error::new(ErrorKind::Corrupt, what).hint("`shard verify` says where"))
        }
    };
    keyed.map_err(|e| e.at(of.url()))
}

fn decoded<K, V, C: Codec<K> + Codec<V>>(
    values: &Values<V, C>,
    row: &Update,
) -> Result<Keyed<K, V>, Error> {
    let ((key, value), _, _) = row;
    Ok((C::decode(key.as_bytes())?, values.decode(value.as_bytes())?))
}

fn lost(from: u64) -> Error {
    let what = format!("the history from time {from} on is merged away or gone");
    Error::new(ErrorKind::LeaseLost, what).hint("begin again with a snapshot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::RandomTokens;
    use crate::shard::{Append, Appended, HandleConfig};
    use crate::store::{Access, Root};

    /// A rest makes the next commit of another process come late by the longest pause, and not more.
    #[tokio::test(start_paused = true)]
    async fn another_process_is_heard_after_a_rest() {
        let io = Io::new(tokio::runtime::Handle::current(), Arc::new(RandomTokens));
        let root = Root::open("mem:", Access::Write).unwrap();
        let open =
            || Shard::<u64, u64>::open_with(root.clone(), io.clone(), HandleConfig::default());
        let (writer, reader) = (open().await.unwrap(), open().await.unwrap());
        let first = Append { upper: 3, ..Append::default() };
        let won = writer.handle().compare_and_append(first).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }));
        let mut changes = reader.listen(0).await.unwrap();
        assert_eq!(changes.next().await.unwrap().unwrap().upper, 3);

        let rest = Duration::from_secs(3600);
        let rival = async {
            tokio::time::sleep(rest).await;
            let next = Append { lower: 3, upper: 7, ..Append::default() };
            writer.handle().compare_and_append(next).await.unwrap()
        };
        let heard = tokio::time::timeout(rest + POLL.1, changes.next());
        let (won, heard) = tokio::join!(rival, heard);
        assert!(matches!(won, Appended::Won { .. }));
        assert_eq!(heard.expect("in time").unwrap().unwrap().upper, 7);
    }
}
