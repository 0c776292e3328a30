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
    /// Returns the column that numbers need. Wrapping, so that signed ones are as well.
    pub(crate) fn of(numbers: &[u64], least: u64) -> Column {
        let above = numbers.iter().map(|number| number.wrapping_sub(least)).max().unwrap_or(0);
        let width = match above {
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
    pub(crate) fn write(&self, numbers: &[u64], into: &mut Vec<u8>) {
        let above = numbers.iter().map(|number| number.wrapping_sub(self.least));
        match self.width {
            0 => {}
            1 => into.extend(above.map(|number| number as u8)),
            2 => above.for_each(|n| into.extend_from_slice(&(n as u16).to_le_bytes())),
            4 => above.for_each(|n| into.extend_from_slice(&(n as u32).to_le_bytes())),
            _ => above.for_each(|n| into.extend_from_slice(&n.to_le_bytes())),
        }
    }

    /// Returns one of the numbers. The caller has checked that they are all there.
    #[inline]
    pub(crate) fn get(&self, bytes: &[u8], row: usize) -> u64 {
        let mut word = [0; 8];
        let at = self.start + row * self.width;
        match self.width {
            0 => {}
            1 => word[0] = bytes[at],
            2 => word[..2].copy_from_slice(&bytes[at..at + 2]),
            4 => word[..4].copy_from_slice(&bytes[at..at + 4]),
            _ => word.copy_from_slice(&bytes[at..at + 8]),
        }
        self.least.wrapping_add(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_as_few_bytes_as_they_need() {
        let signed = |numbers: &[i64]| numbers.iter().map(|n| *n as u64).collect::<Vec<_>>();
        let cases = [
            (vec![7, 7, 7], 7, 0),
            (vec![0, 255], 0, 1),
            (vec![1_000, 1_255, 1_256], 1_000, 2),
            (vec![5, 70_000], 5, 4),
            (vec![0, 1 << 32], 0, 8),
            (vec![0, u64::MAX], 0, 8),
            (signed(&[-1, 1]), -1i64 as u64, 1),
            (signed(&[i64::MIN, i64::MAX]), i64::MIN as u64, 8),
        ];
        for (numbers, least, width) in cases {
            let column = Column::of(&numbers, least);
            assert_eq!(column.width, width, "{numbers:?}");
            let mut bytes = vec![9; 3];
            column.write(&numbers, &mut bytes);
            assert_eq!(bytes.len(), 3 + width * numbers.len());
            let named = Column::named("column", least, width as u8).unwrap().at(3);
            let read: Vec<_> = (0..numbers.len()).map(|row| named.get(&bytes, row)).collect();
            assert_eq!(read, numbers);
        }
        assert!(Column::named("column", 0, 3).is_err());
    }
}
