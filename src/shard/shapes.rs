//! Owns the shapes that a shard's values have: the first is in `FORMAT`, each later one in an entry of its own, before any
//! value of it. It does not own how a value of one is read as another, which is the codec's.
//!
//! # Why it is sound
//!
//! A stored value says the number of its shape, and keeps it: a retraction carries the bytes that were read, so what is
//! stored of a value is never made anew but by a command. Numbers come from the log, where two writers that add
//! different shapes at once race like any others; and a program reads its log before it reads rows, so that every number in
//! a row is known. Programs that know one shape alone refuse the kind of the entry, and `FORMAT` from then on.

use std::sync::Arc;

use super::engine::entry::{Change, Shaped};
use super::engine::format::Fingerprint;
use super::handle::Handle;
use super::open::allow_shapes;
use crate::codec::UNWRITTEN;
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
    /// `Unsupported` if values have a shape that this opening of the shard does not read. Those of an entry.
    pub(crate) async fn number_of(&self, own: &Fingerprint) -> Result<Option<u16>, Error> {
        let view = self.view();
        loop {
            let state = self.state();
            if let (false, None) = (state.shapes.is_empty(), &own.shape) {
                let name = &own.name;
                let what = format!(
                    "the shard's values have several shapes, and that of \"{name}\" is not known"
                );
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .at(self.url())
                    .hint("see `codec::shape` for what leaves a type without one"));
            }
            let writes = view.access == Access::Write && state.sealed_at.is_none();
            for later in &state.shapes {
                if !crate::mutant::on("shapes_unasked") {
                    later.check(own, view.upgrades).map_err(|e| e.at(self.url()))?;
                }
            }
            // Another program may have written `FORMAT` anew from what it had read of it before.
            if writes && !state.shapes.is_empty() {
                self.allow().await?;
            }
            let mut shapes = self.shapes().into_iter();
            if let Some(number) = shapes.position(|stored| stored.differs(own).is_none()) {
                // Of an empty root that is read nothing is known yet.
                let known = view.access == Access::Write || state.seqno > 0;
                return Ok(u16::try_from(number).ok().filter(|_| known));
            }
            if !writes {
                return Ok(None);
            }
            let number = u16::try_from(state.shapes.len() + 1).ok();
            let Some(number) = number.filter(|number| *number < UNWRITTEN) else {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "the shard's values have 65,534 shapes",
                )
                .at(self.url())
                .hint("copy into another shard"));
            };
            self.allow().await?;
            self.add_shape(number, own.clone()).await?;
        }
    }

    /// Sees to it that programs that know one shape alone are refused. Before the entry: a rollup may soon hide that from
    /// them.
    async fn allow(&self) -> Result<(), Error> {
        let view = self.view();
        allow_shapes(&*view.blob, view.root.layout(), &self.schema()).await
    }

    /// Adds a shape with this number, unless another has it meanwhile.
    async fn add_shape(&self, number: u16, shape: Fingerprint) -> Result<(), Error> {
        let view = Arc::clone(self.view());
        let added = self.settler().propose(move |state| {
            if state.shapes.len() + 1 != usize::from(number) || state.sealed_at.is_some() {
                return Ok(None);
            }
            let history = view.first_history(state);
            let since = state.since_after(state.upper, history.unwrap_or(state.history), None, &[]);
            let shape = shape.clone();
            Ok(Some(Change::Shape(Shaped { since, number, shape, history })))
        });
        added.await.map(drop)
    }
}
