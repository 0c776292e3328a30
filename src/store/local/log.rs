//! Owns the [`Consensus`] of a directory: which questions are answered at once, from what the page cache holds,
//! and which on a thread that may wait for the disk. What is read is [`index`](super::index)'s, what is written
//! [`append`](super::append)'s.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::append::ENTRY_MAX;
use super::fail::{Fail, hop};
use super::os::Wait;
use super::shared::{Pending, Shared};
use crate::error::{Error, ErrorKind};
use crate::store::{Consensus, Create};

/// The log of one shard; clones and other handles of the same root share it.
#[derive(Debug)]
pub(super) struct LocalLog {
    shared: Arc<Shared>,
}

impl LocalLog {
    pub(super) fn new(shared: Arc<Shared>) -> LocalLog {
        LocalLog { shared }
    }

    /// Asks at once, and if that would wait, on a thread that may.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&Shared, Wait) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Error> {
        match ask(&self.shared, Wait::No) {
            Ok(answer) => return Ok(answer),
            Err(Fail::Error(e)) => return Err(e),
            Err(Fail::WouldBlock | Fail::Stale) => {}
        }
        let shared = Arc::clone(&self.shared);
        hop(move || {
            ask(&shared, Wait::Yes).map_err(|fail| match fail {
                Fail::Error(e) => e,
                Fail::WouldBlock | Fail::Stale => {
                    Error::new(ErrorKind::Unavailable, "the log changes faster than it can be read")
                        .at(shared.place(0))
                        .hint("retry")
                }
            })
        })
        .await
    }
}

#[async_trait]
impl Consensus for LocalLog {
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
        // Before it is queued: it is not the others' failure.
        if entry.len() > ENTRY_MAX {
            return Err(Error::new(ErrorKind::Invalid, "an entry of more than 1 GiB")
                .at(self.shared.place(seqno)));
        }
        let (answer, answered) = oneshot::channel();
        self.shared.queue(Pending { seqno, entry, answer });
        let shared = Arc::clone(&self.shared);
        // One of these writes all that is queued by then; the others find nothing left to do.
        drop(tokio::task::spawn_blocking(move || shared.append_queued()));
        answered.await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Indeterminate, "a write to the log was stopped")
                .at(self.shared.place(seqno))
                .because(e))
        })
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        self.ask(move |shared, wait| shared.get(seqno, wait)).await
    }

    async fn floor(&self) -> Result<u64, Error> {
        self.ask(|shared, wait| shared.floor(wait)).await
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        self.ask(|shared, wait| shared.numbers(wait)).await
    }

    async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        hop(move || shared.raise_floor(seqno)).await
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        if self.ask(move |shared, wait| shared.is_gone(seqno, wait)).await? {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        hop(move || shared.delete(seqno)).await
    }

    async fn sync_head(&self) -> Result<(), Error> {
        self.ask(|shared, wait| shared.sync_head(wait)).await
    }

    fn owns(&self, key: &str) -> bool {
        self.shared.owns(key)
    }

    fn place(&self, seqno: u64) -> String {
        self.shared.place(seqno)
    }
}
