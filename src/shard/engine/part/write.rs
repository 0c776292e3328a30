//! Owns how the bytes of a part of format 2 are made: at once, of rows that are in memory anyway, or of rows that come
//! one after another. The layout is [`two`](super::two)'s, the order of rows [`arrange`](super::super::arrange)'s.

use super::column::Column;
use super::shape::{MAGIC, UPDATE_BYTES, Update};
use super::two::{CHECKSUMS, COLUMNS, FENCE, FENCED_ROWS, HEADER, TABLE, VERSION};

/// A part, as bytes and by what its header says.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// The crc32c of the bytes.
    pub(crate) crc: u32,
    pub(crate) updates: u64,
    pub(crate) time_min: u64,
    pub(crate) time_max: u64,
}

/// A row on its way into a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) time: u64,
    pub(crate) diff: i64,
}

impl<'a> Line<'a> {
    /// Returns an update as a row, with the hash of its key.
    pub(crate) fn of(hash: u64, ((key, value), time, diff): &'a Update) -> Line<'a> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        Line { hash, key, value, time: *time, diff: *diff as i64 }
    }

    fn numbers(&self) -> [u64; COLUMNS] {
        [self.key.len() as u64, self.value.len() as u64, self.time, self.diff as u64]
    }
}

/// Numbers of the column of diffs are ordered as signed ones are.
const SIGN: [u64; COLUMNS] = [0, 0, 0, 1 << 63];

/// What rows take together.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    rows: usize,
    keys: usize,
    values: usize,
    /// The least and the greatest number of each column, both with the [`SIGN`].
    bounds: Option<([u64; COLUMNS], [u64; COLUMNS])>,
}

impl Extent {
    #[inline]
    fn add(&mut self, row: &Line<'_>) {
        self.rows += 1;
        self.keys += row.key.len();
        self.values += row.value.len();
        let numbers = row.numbers();
        let (least, greatest) = self.bounds.get_or_insert(([u64::MAX; COLUMNS], [0; COLUMNS]));
        for column in 0..COLUMNS {
            let number = numbers[column] ^ SIGN[column];
            least[column] = least[column].min(number);
            greatest[column] = greatest[column].max(number);
        }
    }

    /// Returns the layout of a part of these rows.
    ///
    /// # Panics
    ///
    /// Panics if there is no row.
    fn layout(&self) -> Layout {
        let Extent { rows, keys, values, bounds } = *self;
        let Some((least, greatest)) = bounds else { panic!("a part of 0 updates") };
        let column = |at: usize| Column::spanning(least[at] ^ SIGN[at], greatest[at] ^ SIGN[at]);
        let columns = std::array::from_fn(column);
        Layout { rows, keys, values, columns, time_min: least[2], time_max: greatest[2] }
    }
}

/// How many bytes each section of a part has.
#[derive(Clone, Copy, Debug)]
struct Layout {
    rows: usize,
    keys: usize,
    values: usize,
    columns: [Column; COLUMNS],
    time_min: u64,
    time_max: u64,
}

/// The sections of a part that is written.
struct Sections<'a> {
    fences: &'a mut [u8],
    columns: [&'a mut [u8]; COLUMNS],
    keys: &'a mut [u8],
    values: &'a mut [u8],
}

impl Layout {
    fn fences(&self) -> usize {
        self.rows.div_ceil(FENCED_ROWS) * FENCE
    }

    fn bytes(&self) -> usize {
        let widths: usize = self.columns.iter().map(|column| column.width).sum();
        HEADER + self.fences() + self.rows * widths + self.keys + self.values
    }

    /// Returns the sections of the bytes.
    fn sections<'a>(&self, bytes: &'a mut [u8]) -> Sections<'a> {
        let mut rest = &mut bytes[HEADER..];
        let mut next = |length: usize| {
            let (section, behind) = std::mem::take(&mut rest).split_at_mut(length);
            rest = behind;
            section
        };
        let fences = next(self.fences());
        let columns = self.columns.map(|column| next(self.rows * column.width));
        Sections { fences, columns, keys: next(self.keys), values: next(self.values) }
    }

    /// Writes the header before the sections, which are complete.
    fn seal(&self, mut bytes: Vec<u8>) -> Written {
        let header = &mut bytes[..HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[10..16].fill(0);
        let (rows, keys, values) = (self.rows as u64, self.keys as u64, self.values as u64);
        let words = [rows, self.time_min, self.time_max, keys, values];
        for (into, word) in header[16..TABLE].chunks_exact_mut(8).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        for (into, column) in header[TABLE..CHECKSUMS].chunks_exact_mut(9).zip(&self.columns) {
            into[..8].copy_from_slice(&column.least.to_le_bytes());
            into[8] = column.width as u8;
        }
        let body = crc32c::crc32c(&bytes[HEADER..]);
        bytes[CHECKSUMS..CHECKSUMS + 4].copy_from_slice(&body.to_le_bytes());
        let header = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&header.to_le_bytes());
        // The bytes are looked at once: two checksums make that of the whole.
        let head = crc32c::crc32c(&bytes[..HEADER]);
        let crc = crc32c::crc32c_combine(head, body, bytes.len() - HEADER);
        let (updates, time_min, time_max) = (rows, self.time_min, self.time_max);
        Written { bytes, crc, updates, time_min, time_max }
    }
}

/// Returns the fence of a row, before which there are so many bytes of keys and of values.
fn fence(hash: u64, keys: usize, values: usize) -> [u8; FENCE] {
    let mut fence = [0; FENCE];
    fence[..8].copy_from_slice(&hash.to_le_bytes());
    // Offsets fit: a part ends far before, and one row that is longer than that `fits`.
    fence[8..12].copy_from_slice(&(keys as u32).to_le_bytes());
    fence[12..].copy_from_slice(&(values as u32).to_le_bytes());
    fence
}

/// Writes a part of rows that are in the order of a part. O(bytes): the rows are gone through twice, and each is
/// copied once.
///
/// # Panics
///
/// Panics if there are none.
pub(crate) fn write<'a>(rows: impl Iterator<Item = Line<'a>> + Clone) -> Written {
    let mut extent = Extent::default();
    rows.clone().for_each(|row| extent.add(&row));
    let layout = extent.layout();
    let mut bytes = vec![0; layout.bytes()];
    let mut sections = layout.sections(&mut bytes);
    let (mut keys, mut values) = (0, 0);
    for (index, row) in rows.enumerate() {
        if index.is_multiple_of(FENCED_ROWS) {
            let at = index / FENCED_ROWS * FENCE;
            sections.fences[at..at + FENCE].copy_from_slice(&fence(row.hash, keys, values));
        }
        let columns = layout.columns.iter().zip(&mut sections.columns);
        for ((column, into), number) in columns.zip(row.numbers()) {
            column.put(number, into, index);
        }
        sections.keys[keys..keys + row.key.len()].copy_from_slice(row.key);
        sections.values[values..values + row.value.len()].copy_from_slice(row.value);
        (keys, values) = (keys + row.key.len(), values + row.value.len());
    }
    layout.seal(bytes)
}

/// Rows on their way into parts, one part after another. It keeps its room from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    extent: Extent,
    fences: Vec<u8>,
    columns: [Vec<u64>; COLUMNS],
    keys: Vec<u8>,
    values: Vec<u8>,
    /// What the next part is written into.
    spare: Vec<u8>,
}

impl Writer {
    /// Returns a writer of parts that [count](UPDATE_BYTES) for so many bytes at the most. What is reserved and not
    /// needed is never touched.
    pub(crate) fn with_room(bytes: usize) -> Writer {
        let rows = bytes / UPDATE_BYTES;
        Writer {
            fences: Vec::with_capacity((rows / FENCED_ROWS + 1) * FENCE),
            columns: std::array::from_fn(|_| Vec::with_capacity(rows)),
            keys: Vec::with_capacity(bytes),
            values: Vec::with_capacity(bytes),
            ..Writer::default()
        }
    }

    /// Adds a row, which has to be behind the one before in the order of a part.
    #[inline]
    pub(crate) fn push(&mut self, row: &Line<'_>) {
        if self.extent.rows.is_multiple_of(FENCED_ROWS) {
            let fence = fence(row.hash, self.keys.len(), self.values.len());
            self.fences.extend_from_slice(&fence);
        }
        self.extent.add(row);
        for (column, number) in self.columns.iter_mut().zip(row.numbers()) {
            column.push(number);
        }
        self.keys.extend_from_slice(row.key);
        self.values.extend_from_slice(row.value);
    }

    /// Returns the part, and is empty.
    ///
    /// # Panics
    ///
    /// Panics if there is no row.
    pub(crate) fn finish(&mut self) -> Written {
        let layout = std::mem::take(&mut self.extent).layout();
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(layout.bytes());
        bytes.resize(HEADER, 0);
        bytes.append(&mut self.fences);
        for (column, numbers) in layout.columns.iter().zip(&mut self.columns) {
            column.append(numbers, &mut bytes);
            numbers.clear();
        }
        bytes.append(&mut self.keys);
        bytes.append(&mut self.values);
        layout.seal(bytes)
    }

    /// Gives back what a part was written into, for the next one.
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        self.spare = bytes;
    }
}
