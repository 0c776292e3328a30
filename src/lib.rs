//! Upsert for timely and differential dataflow (under construction).
pub mod command;
pub mod source;
pub mod packed;
pub mod io;
pub mod error;
pub use command::Command;
pub use error::{Error, ErrorKind};
pub use packed::{Encoded, Packed, Packer};
