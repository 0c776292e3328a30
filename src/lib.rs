//! Upsert for timely and differential dataflow (under construction).
pub mod command;
pub mod source;
pub mod upsert;
mod token;
pub mod packed;
pub mod io;
pub mod error;
pub use command::Command;
pub use error::{Error, ErrorKind};
pub use upsert::{Upsert, UpsertConfig, Upserted};
pub use packed::{Encoded, Packed, Packer};
