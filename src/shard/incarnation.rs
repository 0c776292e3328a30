//! Owns the making of a root's incarnation, the object `INCARNATION`. Its bytes are
//! [`engine::incarnation`](super::engine::incarnation)'s, when it is looked at is
//! [`guard`](crate::store)'s.
//!
//! It is created if absent, by the first writer that finds a root without one: right after `FORMAT`
//! in a new root, and at the first opening for writing of a root that is older than incarnations. A
//! creation that was interrupted in between is such a root, too. The loser of the race takes the
//! winner's; it never changes after that, but for its spelling when the layout of a directory becomes another. A
//! reader makes none: until a writer has come it goes by the log alone.

use bytes::Bytes;

use super::engine::entry::Entry;
use super::engine::id::Id;
use super::engine::incarnation::{decode, encode};
use super::engine::state::State;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Blob, Consensus, Create, Guarded, INCARNATION_KEY};

/// Finds out which root this is, for a reader: one of a root that has no incarnation makes none.
pub(super) async fn meet(root: &Guarded, layout: u32) -> Result<(), Error> {
    let found = read(&*root.blob()).await?;
    root.name(found.map(|found| spellings(found, layout)).transpose()?)
}

/// Returns what stands there, and how it is spelt once a writer has given the root this layout.
fn spellings(found: Bytes, layout: u32) -> Result<Vec<Bytes>, Error> {
    let spelt = Bytes::from(encode(decode(&found)?, layout));
    // A later spelling than ours is its last.
    let last = spelt == found || found != encode(decode(&found)?, 1);
    Ok(if last { vec![found] } else { vec![found, spelt] })
}

/// Finds out which root this is, for a writer, and gives it an incarnation if it has none. One that is spelt for
/// another version of the layout is written anew: a program that went by that spelling stops.
pub(super) async fn establish(root: &Guarded, io: &Io, layout: u32) -> Result<(), Error> {
    let blob = root.blob();
    let found = match read(&*blob).await? {
        Some(found) => found,
        None => {
            let made = Bytes::from(encode(Id(io.token()), layout));
            let created = blob.create(INCARNATION_KEY, made.clone()).await;
            if let Ok(Create::Created) = created {
                return root.name(Some(vec![made]));
            }
            // Anything else is settled by what is there now: maybe of a program that makes another layout.
            read(&*blob).await?.ok_or_else(|| {
                created.err().unwrap_or_else(|| {
                    let what = "the INCARNATION file could not be created";
                    Error::new(ErrorKind::Indeterminate, what)
                        .at(blob.place(INCARNATION_KEY))
                        .hint("retry")
                })
            })?
        }
    };
    // Both, for those of this process that look while it is spelt anew.
    root.name(Some(spellings(found.clone(), layout)?))?;
    let spelt = Bytes::from(encode(decode(&found)?, layout));
    if spelt != found {
        // The same bytes, whichever of several writers comes last.
        blob.put(INCARNATION_KEY, spelt.clone()).await?;
    }
    root.name(Some(vec![spelt]))
}

/// Says whether a root that had no incarnation is still the same, now that it has one: as far as its
/// log goes, for a root that was made anew lacks our entries.
pub(super) async fn recognise(
    root: &Guarded,
    log: &dyn Consensus,
    state: &State,
    floor: u64,
) -> Result<(), Error> {
    // Collected meanwhile, or never seen: there is nothing to compare.
    if state.seqno > floor {
        let entry = log.get(state.seqno).await?;
        let token = entry.map(|bytes| Entry::token_of(state.seqno, &bytes));
        if !token.is_some_and(|token| token.is_ok_and(|token| token == state.token)) {
            return Err(root.replaced());
        }
    }
    root.recognise();
    Ok(())
}

async fn read(blob: &dyn Blob) -> Result<Option<Bytes>, Error> {
    let Some(bytes) = blob.get(INCARNATION_KEY).await? else { return Ok(None) };
    decode(&bytes).map_err(|e| e.at(blob.place(INCARNATION_KEY)))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::store::{Access, Listed, Root};

    /// A root in which a program of before makes the incarnation right after the first look.
    #[derive(Debug)]
    struct Raced {
        inner: Arc<dyn Blob>,
        theirs: Bytes,
        raced: AtomicBool,
    }

    #[async_trait]
    impl Blob for Raced {
        async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
            self.inner.put(key, bytes).await
        }

        async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
            self.inner.create(key, bytes).await
        }

        async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
            let found = self.inner.get(key).await?;
            if key == INCARNATION_KEY && !self.raced.swap(true, Ordering::Relaxed) {
                assert_eq!(self.inner.create(key, self.theirs.clone()).await?, Create::Created);
            }
            Ok(found)
        }

        async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
            self.inner.list(folder, limit).await
        }

        async fn delete(&self, key: &str) -> Result<(), Error> {
            self.inner.delete(key).await
        }

        async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
            self.inner.sweep_leftovers(before_ms).await
        }

        fn place(&self, key: &str) -> String {
            self.inner.place(key)
        }
    }

    #[test]
    fn an_incarnation_of_a_program_of_before_is_spelt_anew_by_the_loser_of_the_race() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().display());
        let io = Io::process().unwrap();
        let theirs = Bytes::from(encode(Id(7), 1));
        io.block_on(async {
            let old = Root::open(&url, Access::Write).unwrap();
            let inner = old.blob();
            let raced = Raced { inner, theirs: theirs.clone(), raced: AtomicBool::new(false) };
            let log = old.log("data");
            let ours = Root::from_parts(Arc::new(raced), move |_| Arc::clone(&log), "raced:");
            establish(&ours.guarded(), &io, 2).await.unwrap();
            let found = old.blob().get(INCARNATION_KEY).await.unwrap().unwrap();
            assert_eq!(
                found,
                encode(Id(7), 2),
                "the same id, as programs of before do not read it"
            );
            // The other one goes by its own spelling: its next write is refused.
            old.guarded().name(Some(vec![theirs])).unwrap();
            let refused = old.guarded().log(old.log("data")).create(1, Bytes::new()).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Replaced);
        });
    }

    #[test]
    fn a_reader_goes_on_when_a_writer_spells_the_incarnation_anew() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().display());
        let io = Io::process().unwrap();
        io.block_on(async {
            let writer = Root::open(&url, Access::Write).unwrap();
            let bytes = Bytes::from(encode(Id(7), 1));
            writer.blob().put(INCARNATION_KEY, bytes).await.unwrap();
            let reader = Root::open(&url, Access::Read).unwrap().guarded();
            meet(&reader, 2).await.unwrap();
            establish(&writer.guarded(), &io, 2).await.unwrap();
            reader.check().await.unwrap();
            meet(&reader, 2).await.unwrap();
            let other = Bytes::from(encode(Id(8), 2));
            writer.blob().put(INCARNATION_KEY, other).await.unwrap();
            assert_eq!(reader.check().await.unwrap_err().kind(), ErrorKind::Replaced);
        });
    }
}
