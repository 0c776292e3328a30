//! Owns the shapes that a shard's values have: the first is in `FORMAT`, each later one in an entry of its own, before any
//! value of it. It does not own how a value of one is read as another, which is the codec's.
//!
//! # Why it is sound
//!
//! A stored value says the number of its shape, and keeps it: a retraction carries the bytes that were read, so what is
//! stored of a value is never made anew but by a command. Numbers come from the log, where two writers that add
//! different shapes at once race like any others; and a program reads its log before it reads rows, so that every number in
//! a row is known. Programs that know one shape alone refuse the kind of the entry, and `FORMAT` from then on.

use super::engine::entry::{Change, Shaped};
use super::engine::format::{FORMAT_KEY, Fingerprint};
use super::handle::Handle;
use super::open::allow_shapes;
use crate::error::{Error, ErrorKind};
use crate::store::Access;

impl Handle {
    /// Returns the shapes that values have, in the order of their numbers. No I/O.
    pub fn shapes(&self) -> Vec<Fingerprint> {
        let later = self.state();
        let later = later.shapes.iter().map(|shape| (**shape).clone());
        [self.schema().value].into_iter().chain(later).collect()
    }

    /// Returns the shape with a number, as far as the log was read. No I/O.
    pub(crate) fn shape(&self, number: u16) -> Option<Option<String>> {
        match usize::from(number).checked_sub(1) {
            None => Some(self.schema().value.shape),
            Some(later) => self.state().shapes.get(later).map(|found| found.shape.clone()),
        }
    }

    /// Returns the number of a shape, which is added unless values have it already; `None` if nothing can be written here.
    ///
    /// # Errors
    ///
    /// `Unsupported` if values have a shape that those who open the shard this way do not read. Those of an entry.
    pub(crate) async fn number_of(&self, own: &Fingerprint) -> Result<Option<u16>, Error> {
        let view = self.view();
        loop {
            let (shapes, state) = (self.shapes(), self.state());
            let mut found = None;
            for (number, stored) in shapes.iter().enumerate() {
                let place = || match number {
                    0 => view.blob.place(FORMAT_KEY),
                    _ => self.url().to_string(),
                };
                if number == 0 || !crate::mutant::on("shapes_unasked") {
                    stored.check(own, view.upgrades).map_err(|e| e.at(place()))?;
                }
                if found.is_none() && stored.differs(own).is_none() {
                    found = u16::try_from(number).ok();
                }
            }
            if view.access == Access::Read {
                // Of an empty root nothing is known yet.
                return Ok(found.filter(|_| state.seqno > 0));
            }
            if found.is_some() || state.sealed_at.is_some() {
                return Ok(found);
            }
            let number = u16::try_from(shapes.len()).ok().filter(|number| *number < u16::MAX);
            let Some(number) = number else {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "the shard's values have 65,535 shapes",
                )
                .at(self.url())
                .hint("copy into another shard"));
            };
            self.add_shape(number, own.clone()).await?;
        }
    }

    /// Adds a shape with this number, unless another has it meanwhile.
    async fn add_shape(&self, number: u16, shape: Fingerprint) -> Result<(), Error> {
        // Before the entry: a rollup may soon hide that from programs which do not know its kind.
        allow_shapes(&self.view().root, &self.schema()).await?;
        let first = self.view().config.history.unwrap_or_default();
        let added = self.settler().propose(move |state| {
            if state.shapes.len() + 1 != usize::from(number) || state.sealed_at.is_some() {
                return Ok(None);
            }
            let history = (state.seqno == 0).then_some(first);
            let since = state.since_after(state.upper, history.unwrap_or(state.history), None, &[]);
            let shape = shape.clone();
            Ok(Some(Change::Shape(Shaped { since, number, shape, history })))
        });
        added.await.map(drop)
    }
}
