//! Owns [`Evolving`]: postcard's bytes, of which values of another shape are read by the names of their fields. It does
//! not own which shapes a shard has; that is its log's. How one value is read is `reader`'s.

mod reader;
mod refused;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shape::{PLANS, Shape, samples};
use super::{Codec, Postcard};
use crate::error::{Error, ErrorKind};

/// As [`Postcard`], with the same bytes and the same id; but values of another shape are read by the names of their
/// fields, as serde reads a map. So fields are added, dropped, renamed and put in another order without a copy:
///
/// | change | what the new type says |
/// |---|---|
/// | a field is added | `#[serde(default)]`, or it is an `Option` |
/// | a field is dropped | nothing; the old version, if it still reads, needs a default |
/// | a field is renamed | `#[serde(alias = "old")]`; or `#[serde(rename = "old")]`, with which nothing changes for the shard |
/// | a variant is renamed | `#[serde(rename = "old")]` |
/// | a number gets wider, a value becomes an `Option` | nothing |
/// | a variant is added | nothing |
///
/// Anything else, as a narrower number, is refused when the shard is opened, by the name of the field. That is seen on values
/// that are made up: where a type takes none of them (an id that begins with `ord_`), what comes behind it in the same value is
/// not seen, and shows when such a row is read. So does a value that the type refuses for what it is.
///
/// A default must be the same each time and in every program: a row and its retraction are decoded apart. What is inside a
/// [`Packed`](crate::Packed) does not evolve. The attributes are those that postcard knows: no `flatten`, no `untagged`, no
/// `skip_serializing_if`. Values that nest deeper than 500 are not read as another shape.
///
/// ```
/// use differential_upsert::Shard;
/// use differential_upsert::codec::Evolving;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Order { cents: u64, note: String }
///
/// mod later {
///     #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
///     pub struct Order {
///         #[serde(alias = "cents")] pub amount: u64,    // renamed
///         #[serde(default)] pub tax: Option<u64>,       // added; `note` is dropped
///     }
/// }
/// # let directory = tempfile::tempdir().unwrap();
/// # let url = directory.path().to_str().unwrap();
/// Shard::<u64, Order, Evolving>::open(url)?;
/// let shard = Shard::<u64, later::Order, Evolving>::open(url)?; // the same shard, with both kinds of values
/// let shapes = shard.handle().shapes().into_iter().filter_map(|known| known.shape);
/// let later = "struct{amount: u64, tax: option<u64>}";
/// assert_eq!(shapes.collect::<Vec<_>>(), ["struct{cents: u64, note: string}", later]);
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Evolving;

impl<T: Serialize + DeserializeOwned> Codec<T> for Evolving {
    const ID: &'static str = <Postcard as Codec<T>>::ID;

    fn encode(value: &T, into: &mut Vec<u8>) -> Result<(), Error> {
        <Postcard as Codec<T>>::encode(value, into)
    }

    fn decode(bytes: &[u8]) -> Result<T, Error> {
        <Postcard as Codec<T>>::decode(bytes)
    }

    fn shape() -> Option<String> {
        <Postcard as Codec<T>>::shape()
    }

    /// Reads values that are made up, each variant among them.
    fn upgrades(from: &Shape) -> Result<(), Error> {
        let Some(mut left) = samples(from, 0) else {
            return Err(unreadable(&"part of its shape is not known, or it is too large"));
        };
        let mut taken = vec![false; left.len()];
        for plan in 1.. {
            for (taken, bytes) in taken.iter_mut().zip(&left).filter(|(taken, _)| !**taken) {
                match reader::read::<T>(from, bytes) {
                    Err(refused) if refused.is_of_shape() => return Err(unreadable(&refused)),
                    read => *taken = read.is_ok(),
                }
            }
            // What a type refuses in all of them shows when a row is read.
            if plan == PLANS || taken.iter().all(|taken| *taken) {
                break;
            }
            left = samples(from, plan).unwrap_or_default();
        }
        Ok(())
    }

    fn upgrade(from: &Shape, bytes: &[u8]) -> Result<T, Error> {
        reader::read::<T>(from, bytes).map_err(|refused| match refused.is_of_bytes() {
            true => Error::new(ErrorKind::Corrupt, "stored bytes are not of their shape")
                .because(refused),
            false => unreadable(&refused),
        })
    }
}

/// The error of a value of another shape that the type does not take.
fn unreadable(why: &dyn std::fmt::Display) -> Error {
    let what = format!("a value of another shape: {why}");
    Error::new(ErrorKind::Unsupported, what).hint(
        "give a new field #[serde(default)] and a renamed one #[serde(alias = \"..\")], or copy into another shard",
    )
}

#[cfg(test)]
mod tests;
