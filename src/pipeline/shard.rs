//! Owns [`Shard`]: a shard whose keys and values have types, and the schema that these give it. It adds
//! the codec, and nothing else, to a [`Handle`].

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::config::PatchErrors;
use crate::codec::packed::Encoded;
use crate::codec::{Codec, DataError, Postcard, UNWRITTEN, Values, is_error};
use crate::definite::Digest;
use crate::error::{Error, ErrorKind};
use crate::health::Pipelines;
use crate::io::Io;
use crate::shard::{
    Access, Append, Appended, DATA, Fingerprint, Handle, HandleConfig, HandleOptions, REMAP,
    Resumes, Schema, State,
};
use crate::store::Root;
use crate::upsert::{Rules, no_fold};

/// What a patch makes of a value: the prior value and the patch in, the key's value from then on out.
type PatchFold<V> = fn(V, V) -> Result<V, DataError>;

/// Which collection a key is of.
type CollectionOf<K> = fn(&K) -> &str;

/// An open shard of keys `K` and values `V`, encoded by `C`; clones share everything.
///
/// Open it once per process, before the workers start, and give each a clone.
///
/// ```
/// use differential_upsert::Shard;
/// let shard = Shard::<String, u64>::open("mem:")?;
/// assert_eq!(shard.upper(), 0);
/// # Ok::<(), differential_upsert::Error>(())
/// ```
pub struct Shard<K, V, C = Postcard> {
    handle: Handle,
    io: Io,
    resumes: Resumes,
    pipelines: Pipelines,
    /// The epoch that this writer works in.
    epoch: u64,
    /// What a patch makes of a value, and its name.
    fold: Option<(&'static str, PatchFold<V>)>,
    /// Which collection a key is of, and the name of that.
    collections: Option<(&'static str, CollectionOf<K>)>,
    values: Values<V, C>,
    types: PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C: Codec<K> + Codec<V>> Shard<K, V, C> {
    /// Opens a shard for writing, and makes it if the place is empty: `file:DIR` or a bare path,
    /// `mem:`, and with their features `s3://BUCKET/PREFIX`, `gs://`, `az://`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the place holds something else; `Unsupported` for another format, codec or
    /// other types; `Corrupt` for damage; `Unavailable` if the store cannot be reached.
    ///
    /// # Panics
    ///
    /// Panics inside an async runtime: use [`open_with`](Shard::open_with) there.
    pub fn open(url: &str) -> Result<Self, Error> {
        let io = Io::process()?;
        let root = Root::open(url, Access::Write)?;
        io.block_on(Shard::open_with(root, io.clone(), HandleConfig::default()))
    }

    /// Opens a shard in a root that the caller has opened, with I/O and limits of the caller's.
    ///
    /// # Errors
    ///
    /// As [`open`](Shard::open).
    pub async fn open_with(root: Root, io: Io, config: HandleConfig) -> Result<Self, Error> {
        let options = HandleOptions::write(DATA, schema::<K, V, C>()).with_config(config);
        Shard::open_as(root, io, options).await
    }

    /// Opens a shard for reading: nothing is ever written to it through what is returned, and so it
    /// holds no history either. What is read best effort says so, with a typed error, when it comes
    /// too late: [`LeaseLost`](ErrorKind::LeaseLost).
    ///
    /// # Errors
    ///
    /// `Missing` if nothing is there; else as [`open`](Shard::open).
    ///
    /// # Panics
    ///
    /// Panics inside an async runtime: use [`read_with`](Shard::read_with) there.
    ///
    /// ```
    /// use differential_upsert::{ErrorKind, Shard};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let url = directory.path().to_str().unwrap();
    /// let missing = Shard::<String, u64>::read("file:./nothing-here").unwrap_err();
    /// assert_eq!(missing.kind(), ErrorKind::Missing);
    /// Shard::<String, u64>::open(url)?;
    /// let shard = Shard::<String, u64>::read(url)?;
    /// assert_eq!(shard.upper(), 0);
    /// let refused = shard.io().block_on(shard.seal(0)).unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Invalid);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn read(url: &str) -> Result<Self, Error> {
        let io = Io::process()?;
        let root = Root::open(url, Access::Read)?;
        io.block_on(Shard::read_with(root, io.clone(), HandleConfig::default()))
    }

    /// Opens a shard for reading in a root that the caller has opened, with I/O and limits of the
    /// caller's.
    ///
    /// # Errors
    ///
    /// As [`read`](Shard::read).
    pub async fn read_with(root: Root, io: Io, config: HandleConfig) -> Result<Self, Error> {
        let options =
            HandleOptions::read(DATA).with_schema(schema::<K, V, C>()).with_config(config);
        Shard::open_as(root, io, options).await
    }

    async fn open_as(root: Root, io: Io, options: HandleOptions) -> Result<Self, Error> {
        let own = options.schema.as_ref().map(|schema| schema.value.clone()).unwrap_or_default();
        let options = options.with_upgrades(<C as Codec<V>>::upgrades);
        let handle = Handle::open(root, io.clone(), options).await?;
        let written = handle.number_of(&own).await?.unwrap_or(UNWRITTEN);
        let shapes = handle.clone();
        let values = Values::new(written, Arc::new(move |number| shapes.shape(number)));
        let state = handle.state();
        // An exclusive one is its holder's alone.
        let epoch = if state.is_shared() { state.epoch } else { 0 };
        drop(state);
        Ok(Shard {
            handle,
            io,
            resumes: Resumes::default(),
            pipelines: Pipelines::default(),
            epoch,
            fold: None,
            collections: None,
            values,
            types: PhantomData,
        })
    }

    /// Says what a patch makes of a value: the first is the prior value, the second the patch. Without it a
    /// [patch](crate::Command::Patch) is an error that stops the pipeline.
    ///
    /// The fold is part of the feed, like its times: it must come to the same bytes in every writer and every version of
    /// the program, for it is called again wherever a writer computes a time that it has not committed. So it sees its two
    /// arguments alone, and a value whose bytes depend on more than what it holds, as those of a `HashMap` do, has no place in
    /// it. `id` names it, and is hashed into the digest of each patch: where the feed is checked
    /// ([`checked`](crate::PipelineConfig::checked)), a writer with a fold of another name stops with
    /// [`FeedDiffers`](ErrorKind::FeedDiffers). So give a fold another name when it comes to other values, or to errors
    /// of other texts.
    ///
    /// An error is the key's value from then on, until the key is put or deleted; so is the patch of a key that has no
    /// value, and a key with an error keeps it. Where errors are to stop the pipeline, say so:
    /// [`PatchErrors`](crate::PatchErrors).
    ///
    /// ```
    /// use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
    /// use timely::dataflow::operators::{Input, capture::{Capture, Extract}};
    ///
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let shard = shard.with_fold("sum-1", |stock, more| Ok(stock + more));
    /// let rows = timely::execute_directly(move |worker| {
    ///     let (mut commands, token, rows) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
    ///         let rows = pipeline.collection().inner.capture();
    ///         (input, pipeline.token, rows)
    ///     });
    ///     commands.send((Command::put("apples".to_string(), 3, 0), 0));
    ///     commands.advance_to(1);
    ///     commands.send((Command::patch("apples".to_string(), 4, 0), 1));
    ///     commands.close();
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    ///     drop(token);
    ///     rows
    /// });
    /// let rows = rows.extract().into_iter().flat_map(|(_, rows)| rows);
    /// assert!(rows.into_iter().any(|row| row == (("apples".to_string(), 7), 1, 1)));
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn with_fold(self, id: &'static str, fold: fn(V, V) -> Result<V, DataError>) -> Self {
        Shard { fold: Some((id, fold)), ..self }
    }

    /// Says which collection a key is of. Without it a [reset of a collection](crate::Command::ResetOf) is an error that
    /// stops the pipeline.
    ///
    /// The function is part of the feed, as a [fold](Shard::with_fold) is: it must say the same of a key in every writer and
    /// every version of the program, and it sees the key alone. `id` names it, and is hashed into the digest of each such
    /// reset: where the feed is checked ([`checked`](crate::PipelineConfig::checked)), a writer with a function of another
    /// name stops with [`FeedDiffers`](ErrorKind::FeedDiffers). A key is of one collection; that of others may be any name
    /// that is not reset.
    ///
    /// It is called at a time with such a reset alone: for each key of that time and, as the reset sweeps the state,
    /// for each key there, of whichever collection.
    ///
    /// ```
    /// use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
    /// use timely::dataflow::operators::Input;
    ///
    /// let shard = Shard::<(String, u64), u64>::open("mem:")?;
    /// let shard = shard.with_collections("first-1", |(table, _)| table);
    /// let (read, key) = (shard.clone(), |table: &str, id| (table.to_string(), id));
    /// timely::execute_directly(move |worker| {
    ///     let (mut commands, _token) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         (input, commands.upsert_into(&shard, PipelineConfig::default()).token)
    ///     });
    ///     commands.send((Command::put(key("apples", 1), 3, 0), 0));
    ///     commands.send((Command::put(key("pears", 1), 4, 0), 0));
    ///     commands.advance_to(1);
    ///     commands.send((Command::reset_of("apples".to_string(), 0), 1));
    ///     commands.send((Command::put(key("apples", 2), 5, 1), 1)); // later than the reset
    ///     commands.close();
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    /// });
    /// let rows = read.io().block_on(read.snapshot(1))?;
    /// let mut keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
    /// keys.sort();
    /// assert_eq!(keys, [key("apples", 2), key("pears", 1)]);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn with_collections(self, id: &'static str, of: fn(&K) -> &str) -> Self {
        Shard { collections: Some((id, of)), ..self }
    }

    /// Returns what hashes the commands of its feed.
    pub(crate) fn digest(&self) -> Digest {
        let fold = self.fold.map_or("", |(id, _)| id);
        let collections = self.collections.map_or("", |(id, _)| id);
        Digest::default().with_fold(fold).with_collections(collections)
    }

    /// Returns what is known of stored keys and values.
    pub(crate) fn rules(&self, errors: PatchErrors) -> Rules<Encoded, Encoded>
    where
        K: fmt::Debug + 'static,
        V: 'static,
        C: 'static,
    {
        let (fold, values) = (self.fold, self.values.clone());
        let rules = Rules::new().with_keyed_fold(Rc::new(move |key: &Encoded, prior, patch| {
            let patched = match fold {
                Some((_, fold)) => patched(&values, prior, patch, fold, errors),
                None => Err(no_fold()),
            };
            patched.map_err(|error| match <C as Codec<K>>::decode(key.as_bytes()) {
                Ok(key) => error.at(format!("key {key:?}")),
                Err(_) => error.at(format!("key {key:?}")),
            })
        }));
        match self.collections {
            Some((_, of)) => rules.with_collections_told(Rc::new(move |key: &Encoded, told| {
                let key = <C as Codec<K>>::decode(key.as_bytes())
                    .map_err(|error| error.at(format!("key {key:?}")))?;
                told(of(&key));
                Ok(())
            })),
            None => rules,
        }
    }

    /// Returns the upper, as last read: where a program that brings its own times continues them.
    ///
    /// A program that asks is taken to continue there: a feed that begins at or past it starts from what
    /// the shard holds, even if another writer has gone on in the meantime.
    pub fn upper(&self) -> u64 {
        let state = self.state();
        self.resumes.note(&state);
        state.upper
    }

    pub(crate) fn resumes(&self) -> &Resumes {
        &self.resumes
    }

    /// Returns the state, as last read.
    pub fn state(&self) -> Arc<State> {
        self.handle.state()
    }

    /// Returns the handle below, which knows bytes and no types.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns how its values are read and written.
    pub(crate) fn values(&self) -> &Values<V, C> {
        &self.values
    }

    /// Returns where the shard's I/O runs.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Returns where the workers of a pipeline on this shard find each other.
    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// Takes the shard over: returns a shard whose pipelines may write, and shuts out every other
    /// writer, for good. They get [`Fenced`](ErrorKind::Fenced) and drop nothing. From here on the
    /// shard is exclusive: only the last one to take it over may write.
    ///
    /// For feeds whose times are not the same in every run. The epoch is raised first; the upper of
    /// what is returned was read after that, so no one else moves it.
    ///
    /// # Errors
    ///
    /// What an append reports.
    ///
    /// ```
    /// use differential_upsert::{Shard, ErrorKind};
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let ours = shard.io().block_on(shard.take_over())?;
    /// assert_eq!((shard.epoch(), ours.epoch()), (0, 1));
    /// // The one before it is shut out.
    /// let sealed = shard.io().block_on(shard.seal(0));
    /// assert_eq!(sealed.unwrap_err().kind(), ErrorKind::Fenced);
    /// ours.io().block_on(ours.seal(0))?;
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub async fn take_over(&self) -> Result<Self, Error> {
        let epoch = self.handle.take_over().await?;
        let (resumes, pipelines) = (Resumes::default(), Pipelines::default());
        Ok(Shard { epoch, resumes, pipelines, ..self.clone() })
    }

    /// Does the last work of a writer that is done: merges what is out of proportion, so that what the
    /// shard takes follows what is live although no later writer comes, and ends the lease. Call it
    /// when the pipelines on it have ended. Never fails, and takes `within` at the most.
    pub async fn tidy(&self, within: Duration) {
        let begun = tokio::time::Instant::now();
        self.handle.tidy(within).await;
        // The bindings of minted times, if there are any.
        if let Ok(remap) = self.handle.sibling(REMAP).await
            && remap.state().seqno > 0
        {
            remap.tidy(within.saturating_sub(begun.elapsed())).await;
        }
    }

    /// Returns the epoch in which it may write: that in which it was opened, 0 unless an error was ended
    /// [by hand](crate::shard::Handle::end_error), or what [`take_over`](Shard::take_over) made.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Seals the shard at `end`, if its upper is exactly that: nothing can be appended any more.
    /// Sealing again at the same time changes nothing.
    ///
    /// # Errors
    ///
    /// `Invalid` if the upper is another; else what an append reports.
    pub async fn seal(&self, end: u64) -> Result<(), Error> {
        if self.handle.refresh().await?.sealed_at == Some(end) {
            return Ok(());
        }
        let append = Append {
            lower: end,
            upper: end,
            seal: true,
            fence: Some(self.epoch),
            ..Append::default()
        };
        match self.handle.compare_and_append(append).await? {
            Appended::Won { .. } => Ok(()),
            // Another writer has done it since the look above.
            Appended::UpperMismatch(_) if self.handle.state().sealed_at == Some(end) => Ok(()),
            Appended::UpperMismatch(upper) => Err(Error::new(
                ErrorKind::Invalid,
                format!("cannot seal at {end}: the shard's upper is {upper}"),
            )
            .hint("another writer has gone on; seal from there")),
            Appended::Fenced(epoch) => Err(Error::new(
                ErrorKind::Fenced,
                format!("cannot seal: the shard's epoch is {epoch}"),
            )),
        }
    }
}

impl<K, V, C> Clone for Shard<K, V, C> {
    fn clone(&self) -> Self {
        Shard {
            handle: self.handle.clone(),
            io: self.io.clone(),
            resumes: self.resumes.clone(),
            pipelines: self.pipelines.clone(),
            epoch: self.epoch,
            fold: self.fold,
            collections: self.collections,
            values: self.values.clone(),
            types: PhantomData,
        }
    }
}

impl<K, V, C> fmt::Debug for Shard<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("upper", &self.handle.state().upper).finish_non_exhaustive()
    }
}

/// Returns what a patch makes of a stored value.
fn patched<V, C: Codec<V>>(
    values: &Values<V, C>,
    prior: Option<&Encoded>,
    patch: &Encoded,
    fold: PatchFold<V>,
    errors: PatchErrors,
) -> Result<Encoded, Error> {
    let prior = prior.map(Encoded::as_bytes);
    let patched = values.fold(prior, patch.as_bytes(), fold)?;
    let is_new = is_error(&patched) && !prior.is_some_and(is_error);
    let stops = errors == PatchErrors::Stop && !crate::mutant::on("patch_errors_kept");
    if let (true, Err(DataError(what))) = (is_new && stops, values.decode(&patched)?) {
        let hint = "correct the row, or keep such errors as values: `PipelineConfig::patch_errors`, \
                    or --on-error keep";
        return Err(Error::new(ErrorKind::Invalid, what).hint(hint));
    }
    Encoded::try_from_bytes(patched)
}

/// Returns what a shard of these types and codec stores about them.
fn schema<K, V, C: Codec<K> + Codec<V>>() -> Schema {
    Schema {
        codec: <C as Codec<K>>::ID.to_string(),
        key: Fingerprint { name: <C as Codec<K>>::fingerprint(), shape: <C as Codec<K>>::shape() },
        value: Fingerprint {
            name: <C as Codec<V>>::fingerprint(),
            shape: <C as Codec<V>>::shape(),
        },
    }
}
