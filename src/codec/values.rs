//! Owns [`Values`]: the values of one shard as a program reads and writes them, whatever shapes they have, and how a patch
//! changes one. It does not own which shapes there are, nor how one is read as another, which is the codec's.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Codec;
use super::shape::{Shape, difference};
use super::stored::{DataError, Stored, encode_shaped, split};
use crate::error::{Error, ErrorKind};

/// The number of a shape that is not of the shard: of a reader that writes none.
pub(crate) const UNWRITTEN: u16 = u16::MAX;

/// Says which shape of a shard has a number, as far as its log was read.
pub(crate) type Shapes = Arc<dyn Fn(u16) -> Option<Option<String>> + Send + Sync>;

/// The values of a shard, of a type of this program.
pub(crate) struct Values<V, C> {
    /// The number of the shape that is written.
    written: u16,
    shapes: Shapes,
    /// The shapes that were met, by their numbers.
    met: Mutex<BTreeMap<u16, Arc<Met>>>,
    types: PhantomData<fn() -> (V, C)>,
}

enum Met {
    /// The type's own.
    Own,
    Other(Shape),
}

impl<V, C> Clone for Values<V, C> {
    fn clone(&self) -> Self {
        // A lock of its own: each worker has a clone.
        let met = Mutex::new(self.met.lock().clone());
        Values { written: self.written, shapes: Arc::clone(&self.shapes), met, types: PhantomData }
    }
}

impl<V, C> fmt::Debug for Values<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.written)
    }
}

impl<V, C: Codec<V>> Values<V, C> {
    /// Values of a shard with these shapes; the number is that of the type's own.
    pub(crate) fn new(written: u16, shapes: Shapes) -> Self {
        Values { written, shapes, met: Mutex::default(), types: PhantomData }
    }

    /// Returns the number of the shape that is written.
    pub(crate) fn written(&self) -> u16 {
        self.written
    }

    /// Decodes what is stored as a value, of whichever shape it is.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the bytes are damaged; `Unsupported` if the type does not take a value of its shape.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Result<V, DataError>, Error> {
        match split(bytes)? {
            Stored::Error(error) => Ok(Err(error)),
            Stored::Value(number, value) if number == self.written => C::decode(value).map(Ok),
            Stored::Value(number, value) => self.upgraded(number, value).map(Ok),
        }
    }

    /// Decodes a value of another shape than is written.
    fn upgraded(&self, number: u16, value: &[u8]) -> Result<V, Error> {
        let known = self.met.lock().get(&number).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let known = Arc::new(self.meet(number)?);
                self.met.lock().insert(number, Arc::clone(&known));
                known
            }
        };
        match &*known {
            Met::Own => C::decode(value),
            Met::Other(shape) => C::upgrade(shape, value),
        }
    }

    fn meet(&self, number: u16) -> Result<Met, Error> {
        let Some(stored) = (self.shapes)(number) else {
            let what = format!("a value of shape {number}, which the shard does not have");
            return Err(Error::new(ErrorKind::Corrupt, what));
        };
        match (stored, C::shape()) {
            (Some(stored), Some(own)) if difference(&stored, &own).is_none() => Ok(Met::Own),
            (Some(stored), Some(_)) => Ok(Met::Other(Shape::new(stored))),
            // Names were compared when the shard was opened, and a shard of which names are known has one shape.
            _ if number == 0 => Ok(Met::Own),
            _ => {
                let what = format!("a value of shape {number}, and the type has none to compare");
                Err(Error::new(ErrorKind::Unsupported, what))
            }
        }
    }

    /// Returns what a patch makes of a stored value: of none, an error; of an error, the same error.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the bytes of one are damaged, and what the codec reports.
    pub(crate) fn fold(
        &self,
        prior: Option<&[u8]>,
        patch: &[u8],
        fold: fn(V, V) -> Result<V, DataError>,
    ) -> Result<Vec<u8>, Error> {
        let patched = match (prior, self.decode(patch)?) {
            (_, Err(error)) => Err(error),
            (None, Ok(_)) => Err(DataError(PATCH_OF_NOTHING.to_string())),
            (Some(prior), Ok(patch)) => self.decode(prior)?.and_then(|prior| fold(prior, patch)),
        };
        let mut bytes = Vec::new();
        encode_shaped::<V, C>(&patched, self.written, &mut bytes)?;
        Ok(bytes)
    }
}

/// The error of a patch that found no value. It is stored, so another text would be another value.
const PATCH_OF_NOTHING: &str = "a patch of a key that has no value";
