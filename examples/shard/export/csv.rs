//! Owns the table of comma-separated values: a first line of names, and what is not there empty.

use std::io::Write;

use differential_upsert::Error;
use differential_upsert::shard::Update;

use super::table::{Cells, Kind, Table, cells_of_change, cells_of_row, failed};
use crate::changes::Changed;
use crate::open::unwritable;
use crate::text::Form;

pub(super) struct Csv<'a, W: Write> {
    form: &'a Form,
    out: csv::Writer<&'a mut W>,
}

impl<'a, W: Write> Csv<'a, W> {
    pub(super) fn new(kind: Kind, form: &'a Form, out: &'a mut W) -> Result<Csv<'a, W>, Error> {
        let mut out = csv::Writer::from_writer(out);
        let names = kind.columns().iter().map(|(name, _)| *name).chain(kind.time());
        out.write_record(names).map_err(unwritten)?;
        Ok(Csv { form, out })
    }

    fn write(&mut self, (cells, time): Cells) -> Result<(), Error> {
        let cells = cells.into_iter().map(Option::unwrap_or_default);
        self.out.write_record(cells.chain(time.map(|time| time.to_string()))).map_err(unwritten)
    }
}

impl<W: Write> Table for Csv<'_, W> {
    fn row(&mut self, row: &Update) -> Result<(), Error> {
        self.write(cells_of_row(self.form, row)?)
    }

    fn change(&mut self, changed: &Changed) -> Result<(), Error> {
        self.write(cells_of_change(self.form, changed)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        self.out.flush().map_err(unwritable)
    }
}

/// The error of the output itself, so that a reader that went away is told apart.
fn unwritten(e: csv::Error) -> Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => unwritable(e),
        other => failed(std::io::Error::other(format!("{other:?}"))),
    }
}
