//! Owns reading a log entry by entry, as far as it is still there: which writer committed what. It applies nothing; that is
//! [`look`](super::look)'s.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::engine::entry::Entry;
use super::engine::id::Id;
use super::handle::Handle;
use super::view::View;
use crate::error::{Error, ErrorKind};

/// Entries that are read before one look at the floor.
const AT_ONCE: usize = 64;

/// The entries of a log that are still there, one after another: see [`Handle::entries`].
pub struct Entries {
    view: Arc<View>,
    /// The number of the next one to read.
    next: u64,
    /// That of the last one.
    head: u64,
    /// The token of the one before the next, if that was read.
    before: Option<Id>,
    /// Those that were read and lie above the floor.
    read: VecDeque<Entry>,
}

impl Handle {
    /// Returns the entries of the log up to its head, those that are not collected: from this number on, the first being
    /// 1. What rows they have is not read.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Handle::refresh).
    pub async fn entries(&self, from: u64) -> Result<Entries, Error> {
        let head = self.refresh().await?.seqno;
        let view = Arc::clone(self.view());
        let floor = view.log.floor().await?;
        let next = from.max(floor.saturating_add(1));
        Ok(Entries { view, next, head, before: None, read: VecDeque::new() })
    }
}

impl Entries {
    /// Returns the next entry; `None` at the end. Those that are collected meanwhile are left out.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, and for an entry that does not follow the one before; `Unsupported` for one of a later
    /// version; `Replaced` if the shard was removed or replaced; else those of the store.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.read.is_empty() {
            self.fill().await?;
        }
        Ok(self.read.pop_front())
    }

    async fn fill(&mut self) -> Result<(), Error> {
        let view = Arc::clone(&self.view);
        while self.next <= self.head {
            let (mut read, mut before, mut trouble) = (VecDeque::new(), self.before, None);
            for seqno in self.next..=self.head {
                match self.one(seqno, before).await {
                    Ok(entry) => {
                        before = Some(entry.token);
                        read.push_back(entry);
                    }
                    Err(e) => trouble = Some(e),
                }
                if trouble.is_some() || read.len() >= AT_ONCE {
                    break;
                }
            }
            // After the last one: what lies above this floor was never deleted, so it is what was first created there.
            let floor = view.log.floor().await?;
            if floor >= self.next {
                (self.next, self.before) = (floor.saturating_add(1), None);
                continue;
            }
            if let (true, Some(e)) = (read.is_empty(), trouble) {
                return view.same_root(Err(e)).await;
            }
            self.next += read.len() as u64;
            (self.before, self.read) = (before, read);
            break;
        }
        Ok(())
    }

    async fn one(&self, seqno: u64, before: Option<Id>) -> Result<Entry, Error> {
        let log = &self.view.log;
        let wrong = |what: String| {
            Error::new(ErrorKind::Corrupt, what)
                .at(log.place(seqno))
                .hint("run shard verify, and restore it from a copy")
        };
        let Some(bytes) = log.get(seqno).await? else {
            return Err(wrong(format!("entry {seqno} is gone")));
        };
        let (entry, _) = Entry::decode(seqno, &bytes).map_err(|e| e.at(log.place(seqno)))?;
        match before {
            Some(token) if token != entry.prev_token => {
                Err(wrong(format!("entry {seqno} does not follow the one before it")))
            }
            _ => Ok(entry),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Entries");
        debug.field("next", &self.next).field("head", &self.head).finish_non_exhaustive()
    }
}
