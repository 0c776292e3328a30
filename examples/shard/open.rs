//! Owns how a shard is opened for a command, and how what it prints is written. It does not own any command.

use std::io::Write;
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, Handle, HandleConfig, HandleOptions};
use differential_upsert::store::Root;
use differential_upsert::{Error, ErrorKind};

use crate::progress::Progress;
use crate::text::Form;

/// The shard of a root that holds the collection.
pub(crate) const DATA: &str = "data";

/// The one that holds the bindings of times, where times are minted.
pub(crate) const REMAP: &str = "remap";

/// What every command that reads rows is given.
pub(crate) struct Look<'a> {
    pub(crate) url: &'a str,
    pub(crate) io: &'a Io,
    /// The one collection whose rows are shown.
    pub(crate) collection: Option<&'a str>,
    pub(crate) progress: Progress,
}

impl<'a> Look<'a> {
    pub(crate) fn new(url: &'a str, io: &'a Io, collection: Option<&'a str>) -> Look<'a> {
        Look { url, io, collection, progress: Progress::start() }
    }

    /// Opens the collection for reading.
    pub(crate) async fn open(&self) -> Result<Handle, Error> {
        open(self.url, DATA, self.io).await
    }

    /// Returns how the rows of a shard are shown, of one collection if that is named.
    pub(crate) fn form(&self, shard: &Handle) -> Result<Form, Error> {
        let form = Form::of_codec(&shard.schema().codec);
        match self.collection {
            None => Ok(form),
            Some(name) => form.of_collection(name).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "the keys are not JSON: they are of no collection")
                    .at(self.url)
                    .hint("leave --collection out")
            }),
        }
    }
}

/// Somebody waits for the answer: what the store does not say soon is an error.
pub(crate) fn limits() -> HandleConfig {
    HandleConfig { outage_max: Duration::from_secs(10), ..HandleConfig::default() }
}

/// Opens a shard of a root for reading.
pub(crate) async fn open(url: &str, name: &str, io: &Io) -> Result<Handle, Error> {
    let root = Root::open(url, Access::Read)?;
    Handle::open(root, io.clone(), HandleOptions::read(name).with_config(limits())).await
}

/// Opens a shard that is there for writing.
pub(crate) async fn writable(url: &str, name: &str, io: &Io) -> Result<Handle, Error> {
    // Opened for reading first, so that nothing is created.
    Root::open(url, Access::Read)?;
    let root = Root::open(url, Access::Write)?;
    Handle::open(root, io.clone(), HandleOptions::write(name, None).with_config(limits())).await
}

/// The error of a root without a shard.
pub(crate) fn nothing_here(url: &str) -> Error {
    Error::new(ErrorKind::Missing, "no shard here")
        .at(url)
        .hint("check the address; only a writer creates a shard")
}

/// Writes a line.
pub(crate) fn print(out: &mut impl Write, line: &str) -> Result<(), Error> {
    writeln!(out, "{line}").map_err(unwritable)
}

/// The error of output that nobody takes.
pub(crate) fn unwritable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot write the output: {e}"))
        .at("stdout")
        .hint("send it to where there is room")
        .because(e)
}
