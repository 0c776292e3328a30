//! Owns [`Evolving`]: postcard's bytes, of which values of another shape are read by the names of their fields. It does
//! not own which shapes a shard has; that is its log's. How one value is read is `reader`'s.

mod reader;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::reader::Refused;
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
/// | a field is renamed | `#[serde(alias = "old")]` |
/// | a number gets wider, a value becomes an `Option` | nothing |
/// | a variant is added | nothing |
///
/// Anything else, as a narrower number, is refused when the shard is opened, by the name of the field. Where a type refuses
/// a value for what it is (a date that is none), that shows when such a row is read.
///
/// The attributes are those of serde that postcard knows: not `skip`, not `flatten`, not `untagged`.
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
/// assert_eq!(shard.handle().shapes().len(), 2);
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
        let Some(count) = samples(from, 0).map(|all| all.len()) else {
            return Err(unreadable(&"part of its shape is not known"));
        };
        for index in 0..count {
            for plan in 0..PLANS {
                // As many in each plan.
                let Some(all) = samples(from, plan) else { break };
                match reader::read::<T>(from, &all[index]) {
                    Err(refused) if refused.is_of_shape() => return Err(unreadable(&refused)),
                    Err(Refused { .. }) => {}
                    Ok(_) => break,
                }
            }
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
