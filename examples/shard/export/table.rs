//! Owns what a table is to the code that fills it, and that of JSON lines. Which columns there are stands here, once.

use std::io::Write;

use differential_upsert::Error;
use differential_upsert::shard::Update;

use crate::args::Format;
use crate::changes::Changed;
use crate::open::{print, unwritable};
use crate::text::Form;

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Those of a collection.
    Rows,
    /// Changes.
    Changes,
}

/// A column of text: its name, and whether each row has something there.
#[cfg(feature = "export")]
pub(crate) type Column = (&'static str, bool);

/// The cells of a row, one for each column of text, and its time, if that is a column: the last one.
#[cfg(feature = "export")]
pub(crate) type Cells = (Vec<Option<String>>, Option<u64>);

/// A value and an error, of which one is there at the most.
#[cfg(feature = "export")]
type Stored = [Option<String>; 2];

#[cfg(feature = "export")]
impl Kind {
    /// Returns the columns of text.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Kind::Rows => &[("key", true), ("value", false), ("error", false)],
            Kind::Changes => &[
                ("op", true),
                ("key", true),
                ("before", false),
                ("after", false),
                ("before_error", false),
                ("after_error", false),
            ],
        }
    }

    /// Returns the name of the column of times, if there is one.
    pub(crate) fn time(self) -> Option<&'static str> {
        (self == Kind::Changes).then_some("time")
    }
}

/// A table that is being written.
pub(crate) trait Table {
    /// Writes a row of a collection.
    fn row(&mut self, row: &Update) -> Result<(), Error>;

    /// Writes a change.
    fn change(&mut self, changed: &Changed) -> Result<(), Error>;

    /// Writes what is still to be written.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// Begins a table in a format.
pub(crate) fn opened<'a, W: Write + Send>(
    format: Format,
    kind: Kind,
    form: &'a Form,
    out: &'a mut W,
) -> Result<Box<dyn Table + 'a>, Error> {
    match format {
        Format::Jsonl => Ok(Box::new(Lines { form, out })),
        #[cfg(feature = "export")]
        Format::Csv => Ok(Box::new(super::csv::Csv::new(kind, form, out)?)),
        #[cfg(feature = "export")]
        Format::Parquet => Ok(Box::new(super::parquet::Parquet::new(kind, form, out)?)),
        #[cfg(not(feature = "export"))]
        Format::Csv | Format::Parquet => {
            let what = format!("built without the feature `export`, for {kind:?}");
            Err(Error::new(differential_upsert::ErrorKind::Unsupported, what)
                .hint("build it with --features export"))
        }
    }
}

/// Returns the cells of a row of a collection.
#[cfg(feature = "export")]
pub(crate) fn cells_of_row(form: &Form, ((key, value), ..): &Update) -> Result<Cells, Error> {
    let [value, error] = stored(form, Some(value))?;
    Ok((vec![Some(form.key_text(key)?), value, error], None))
}

/// Returns the cells of a change.
#[cfg(feature = "export")]
pub(crate) fn cells_of_change(form: &Form, changed: &Changed) -> Result<Cells, Error> {
    let [before, before_error] = stored(form, changed.before.as_ref())?;
    let [after, after_error] = stored(form, changed.after.as_ref())?;
    let (op, key) = (changed.op().to_string(), form.key_text(&changed.key)?);
    let cells = vec![Some(op), Some(key), before, after, before_error, after_error];
    Ok((cells, Some(changed.time)))
}

#[cfg(feature = "export")]
fn stored(form: &Form, value: Option<&differential_upsert::Encoded>) -> Result<Stored, Error> {
    Ok(match value.map(|value| form.value_text(value)).transpose()? {
        Some(Ok(value)) => [Some(value), None],
        Some(Err(error)) => [None, Some(error)],
        None => [None, None],
    })
}

/// The error of a table that cannot be written.
#[cfg(feature = "export")]
pub(crate) fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    unwritable(std::io::Error::other(e))
}

/// JSON lines.
struct Lines<'a, W> {
    form: &'a Form,
    out: &'a mut W,
}

impl<W: Write> Table for Lines<'_, W> {
    fn row(&mut self, row: &Update) -> Result<(), Error> {
        print(self.out, &self.form.snapshot(row)?)
    }

    fn change(&mut self, changed: &Changed) -> Result<(), Error> {
        print(self.out, &self.form.change(changed)?)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.out.flush().map_err(unwritable)
    }
}
