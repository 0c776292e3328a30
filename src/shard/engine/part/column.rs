//! Owns how a column of numbers is written: the least of them once, and of each what it has above that, in as few bytes
//! as the greatest needs. It does not know what the numbers are.

use super::super::frame::damaged;
use crate::error::Error;

/// Where the numbers of a column are, and in how many bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// Added to every one.
    pub(crate) least: u64,
    /// 0, 1, 2, 4 or 8 bytes a number.
    pub(crate) width: usize,
    /// Where the first one begins.
    start: usize,
}

impl Column {
    /// Returns the column that numbers need, from the least to the greatest of them. Wrapping, so that signed ones
    /// have one as well.
    pub(crate) fn spanning(least: u64, greatest: u64) -> Column {
        let width = match greatest.wrapping_sub(least) {
            0 => 0,
            1..=0xFF => 1,
            0x100..=0xFFFF => 2,
            0x1_0000..=0xFFFF_FFFF => 4,
            _ => 8,
        };
        Column { least, width, start: 0 }
    }

    /// Returns the column that a header names.
    ///
    /// # Errors
    ///
    /// `Corrupt` for a width that there is not.
    pub(crate) fn named(what: &str, least: u64, width: u8) -> Result<Column, Error> {
        match width {
            0 | 1 | 2 | 4 | 8 => Ok(Column { least, width: width.into(), start: 0 }),
            _ => Err(damaged(what, format!("numbers of {width} bytes"))),
        }
    }

    /// Returns the same column, at its place.
    pub(crate) fn at(self, start: usize) -> Column {
        Column { start, ..self }
    }

    /// Appends the numbers.
    pub(crate) fn append(&self, numbers: &[u64], into: &mut Vec<u8>) {
        let above = numbers.iter().map(|number| number.wrapping_sub(self.least));
        match self.width {
            0 => {}
            1 => into.extend(above.map(|number| number as u8)),
            2 => above.for_each(|n| into.extend_from_slice(&(n as u16).to_le_bytes())),
            4 => above.for_each(|n| into.extend_from_slice(&(n as u32).to_le_bytes())),
            _ => above.for_each(|n| into.extend_from_slice(&n.to_le_bytes())),
        }
    }

    /// Writes one of the numbers.
    ///
    /// # Panics
    ///
    /// Panics if there are not as many bytes as it takes.
    #[inline]
    pub(crate) fn put(&self, number: u64, into: &mut [u8], row: usize) {
        let (above, at) = (number.wrapping_sub(self.least), row * self.width);
        match self.width {
            0 => {}
            1 => into[at] = above as u8,
            2 => into[at..at + 2].copy_from_slice(&(above as u16).to_le_bytes()),
            4 => into[at..at + 4].copy_from_slice(&(above as u32).to_le_bytes()),
            _ => into[at..at + 8].copy_from_slice(&above.to_le_bytes()),
        }
    }

    /// Gets numbers from a row on. The caller has checked that they are all there.
    pub(crate) fn get<'a>(
        &self,
        bytes: &[u8],
        row: usize,
        into: impl ExactSizeIterator<Item = &'a mut u64>,
    ) {
        let start = self.start + row * self.width;
        let bytes = &bytes[start..start + into.len() * self.width];
        match self.width {
            0 => into.for_each(|number| *number = self.least),
            1 => self.decode(into, bytes, |[byte]: [u8; 1]| byte.into()),
            2 => self.decode(into, bytes, |bytes| u16::from_le_bytes(bytes).into()),
            4 => self.decode(into, bytes, |bytes| u32::from_le_bytes(bytes).into()),
            _ => self.decode(into, bytes, u64::from_le_bytes),
        }
    }

    fn decode<'a, const WIDTH: usize>(
        &self,
        into: impl Iterator<Item = &'a mut u64>,
        bytes: &[u8],
        number: impl Fn([u8; WIDTH]) -> u64,
    ) {
        let (numbers, _) = bytes.as_chunks();
        for (into, bytes) in into.zip(numbers) {
            *into = self.least.wrapping_add(number(*bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_as_few_bytes_as_they_need() {
        let signed = |numbers: &[i64]| numbers.iter().map(|n| *n as u64).collect::<Vec<_>>();
        let cases = [
            (vec![7, 7, 7], 0),
            (vec![0, 255], 1),
            (vec![1_000, 1_255, 1_256], 2),
            (vec![5, 70_000], 4),
            (vec![0, 1 << 32], 8),
            (vec![0, u64::MAX], 8),
            (signed(&[-1, 1]), 1),
            (signed(&[i64::MIN, i64::MAX]), 8),
        ];
        for (numbers, width) in cases {
            let (least, greatest) = (numbers[0], numbers[numbers.len() - 1]);
            let column = Column::spanning(least, greatest);
            assert_eq!(column.width, width, "{numbers:?}");
            let mut bytes = vec![9; 3 + width * numbers.len()];
            for (row, number) in numbers.iter().enumerate() {
                column.put(*number, &mut bytes[3..], row);
            }
            let mut appended = vec![9; 3];
            column.append(&numbers, &mut appended);
            assert_eq!(appended, bytes);
            let named = Column::named("column", least, width as u8).unwrap().at(3);
            for row in 0..numbers.len() {
                let mut read = vec![5; numbers.len() - row];
                named.get(&bytes, row, read.iter_mut());
                assert_eq!(read, numbers[row..]);
            }
        }
        assert!(Column::named("column", 0, 3).is_err());
    }
}
