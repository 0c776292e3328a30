//! Owns the table of Apache Parquet: columns of text and one of times, in groups of rows that fit in memory.

use std::io::Write;
use std::sync::Arc;

use differential_upsert::Error;
use differential_upsert::shard::Update;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::table::{Cells, Kind, Table, cells_of_change, cells_of_row, failed};
use crate::changes::Changed;
use crate::open::unwritable;
use crate::text::Form;

/// Bytes of rows at which a group ends.
const GROUP_BYTES: usize = 8 << 20;

/// Bytes that a cell takes beside its text.
const CELL_BYTES: usize = 64;

pub(super) struct Parquet<'a, W: Write + Send> {
    form: &'a Form,
    kind: Kind,
    out: SerializedFileWriter<&'a mut W>,
    /// The cells of the group, by column.
    group: Vec<Vec<Option<String>>>,
    times: Vec<i64>,
    bytes: usize,
}

impl<'a, W: Write + Send> Parquet<'a, W> {
    pub(super) fn new(kind: Kind, form: &'a Form, out: &'a mut W) -> Result<Self, Error> {
        let text = |(name, is_there): &(&str, bool)| {
            let repetition = if *is_there { "REQUIRED" } else { "OPTIONAL" };
            format!("{repetition} BYTE_ARRAY {name} (STRING);")
        };
        let mut columns: String = kind.columns().iter().map(text).collect();
        if let Some(name) = kind.time() {
            columns.push_str(&format!("REQUIRED INT64 {name} (INTEGER(64,false));"));
        }
        let schema = parse_message_type(&format!("message shard {{ {columns} }}"));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(
            out,
            Arc::new(schema.map_err(unwritten)?),
            Arc::new(properties),
        );
        let group = kind.columns().iter().map(|_| Vec::new()).collect();
        let out = out.map_err(unwritten)?;
        Ok(Parquet { form, kind, out, group, times: Vec::new(), bytes: 0 })
    }

    fn write(&mut self, (cells, time): Cells) -> Result<(), Error> {
        for (column, cell) in self.group.iter_mut().zip(cells) {
            self.bytes += cell.as_ref().map_or(0, String::len) + CELL_BYTES;
            column.push(cell);
        }
        // As the bits of a number without sign.
        self.times.extend(time.map(|time| time as i64));
        if self.bytes < GROUP_BYTES {
            return Ok(());
        }
        self.end_group().map_err(unwritten)
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        self.bytes = 0;
        if self.group.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for (cells, (_, is_there)) in self.group.iter_mut().zip(self.kind.columns()) {
            let Some(mut column) = group.next_column()? else { break };
            let levels: Vec<i16> = cells.iter().map(|cell| cell.is_some().into()).collect();
            let values = cells.drain(..).flatten().map(|cell| ByteArray::from(cell.into_bytes()));
            let values: Vec<ByteArray> = values.collect();
            let levels = (!*is_there).then_some(&*levels);
            column.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int64Type>().write_batch(&self.times, None, None)?;
            column.close()?;
        }
        self.times.clear();
        group.close().map(drop)
    }
}

impl<W: Write + Send> Table for Parquet<'_, W> {
    fn row(&mut self, row: &Update) -> Result<(), Error> {
        self.write(cells_of_row(self.form, row)?)
    }

    fn change(&mut self, changed: &Changed) -> Result<(), Error> {
        self.write(cells_of_change(self.form, changed)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        self.end_group().map_err(unwritten)?;
        self.out.close().map(drop).map_err(unwritten)
    }
}

/// The error of the output itself, so that a reader that went away is told apart.
fn unwritten(e: ParquetError) -> Error {
    match e {
        ParquetError::External(e) => match e.downcast::<std::io::Error>() {
            Ok(e) => unwritable(*e),
            Err(e) => failed(std::io::Error::other(e)),
        },
        e => failed(e),
    }
}
