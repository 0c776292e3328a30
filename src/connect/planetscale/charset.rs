//! Owns how the bytes of a text become Unicode. It does not own which columns are text.
//!
//! A server sends texts as they are stored, in the column's character set: Vitess copies with
//! `set names 'binary'` (vitess go/vt/vttablet/tabletserver/vstreamer/rowstreamer.go), and hands on what
//! stands in the binary log. Which one it is, the number of the column's collation says
//! (`query.Field.charset`), from Vitess 20 on; before, that number is of the connection, which is UTF-8,
//! and a text that is not is its key's error.

/// The character sets that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// `utf8mb4`, `utf8mb3`, `ascii`, and where nothing is said.
    Utf8,
    /// `latin1`, which is Windows-1252, and where that has nothing the same number.
    Latin1,
    /// `utf16` and `ucs2`, its part without pairs.
    Utf16,
    Utf16Le,
    Utf32,
}

/// The collation of bytes.
pub(super) const BINARY: u32 = 63;

impl Charset {
    /// Returns the character set of a collation; otherwise its name, as far as it is known.
    pub(super) fn of(collation: u32) -> Result<Charset, &'static str> {
        Ok(match collation {
            // Binary: where the column is text all the same, it is the connection that says so.
            0 | BINARY => Charset::Utf8,
            33 | 76 | 83 | 192..=215 | 223 => Charset::Utf8,
            45 | 46 | 224..=247 | 255..=323 => Charset::Utf8,
            11 | 65 => Charset::Utf8,
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Charset::Latin1,
            35 | 90 | 128..=151 | 159 => Charset::Utf16,
            54 | 55 | 101..=124 => Charset::Utf16,
            56 | 62 => Charset::Utf16Le,
            60 | 61 | 160..=183 => Charset::Utf32,
            other => return Err(name(other)),
        })
    }

    /// Returns the text; `None` if the bytes are none.
    pub(super) fn read(self, bytes: &[u8]) -> Option<String> {
        let utf16 = |unit: fn([u8; 2]) -> u16| {
            let (units, rest) = bytes.as_chunks::<2>();
            let units = units.iter().map(|bytes| unit(*bytes));
            rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok())?
        };
        match self {
            Charset::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_string),
            Charset::Latin1 => Some(bytes.iter().map(|byte| latin1(*byte)).collect()),
            Charset::Utf16 => utf16(u16::from_be_bytes),
            Charset::Utf16Le => utf16(u16::from_le_bytes),
            Charset::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                let chars = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
                rest.is_empty().then(|| chars.collect())?
            }
        }
    }

    /// Returns its name, as MySQL says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Charset::Utf8 => "UTF-8",
            Charset::Latin1 => "latin1",
            Charset::Utf16 => "utf16",
            Charset::Utf16Le => "utf16le",
            Charset::Utf32 => "utf32",
        }
    }
}

/// Of the bytes from 0x80 to 0x9F, where Windows-1252 is not Latin-1; 0 where MySQL keeps the number.
const WINDOWS: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
    0x0152, 0, 0x017d, 0, 0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc,
    0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

fn latin1(byte: u8) -> char {
    let windows = byte.checked_sub(0x80).and_then(|at| WINDOWS.get(usize::from(at)));
    let char = windows.and_then(|code| char::from_u32(u32::from(*code)));
    char.filter(|char| *char != '\0').unwrap_or(char::from(byte))
}

/// Names the character set of a collation that is not read.
fn name(collation: u32) -> &'static str {
    match collation {
        1 | 84 => "big5",
        2 | 9 | 21 | 27 | 77 => "latin2",
        3 | 69 => "dec8",
        4 | 80 => "cp850",
        6 | 72 => "hp8",
        7 | 74 => "koi8r",
        10 | 82 => "swe7",
        12 | 91 => "ujis",
        13 | 88 => "sjis",
        14 | 23 | 50 | 51 | 52 => "cp1251",
        16 | 71 => "hebrew",
        18 | 89 => "tis620",
        19 | 85 => "euckr",
        20 | 41 | 42 | 79 => "latin7",
        22 | 75 => "koi8u",
        24 | 86 => "gb2312",
        25 | 70 => "greek",
        26 | 34 | 44 | 66 | 99 => "cp1250",
        28 | 87 => "gbk",
        29 | 58 | 59 => "cp1257",
        30 | 78 => "latin5",
        32 | 64 => "armscii8",
        36 | 68 => "cp866",
        37 | 73 => "keybcs2",
        38 | 43 => "macce",
        39 | 53 => "macroman",
        40 | 81 => "cp852",
        57 | 67 => "cp1256",
        92 | 93 => "geostd8",
        95 | 96 => "cp932",
        97 | 98 => "eucjpms",
        248..=250 => "gb18030",
        _ => "one that is not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_set_that_is_read_gives_the_same_text() {
        let text = "Zwölf €š";
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let units =
            |of: fn(u16) -> [u8; 2]| utf16.iter().copied().flat_map(of).collect::<Vec<u8>>();
        let utf32: Vec<u8> = text.chars().flat_map(|char| u32::from(char).to_be_bytes()).collect();
        for (collation, bytes) in [
            (45, text.as_bytes().to_vec()),
            (33, text.as_bytes().to_vec()),
            (255, text.as_bytes().to_vec()),
            (0, text.as_bytes().to_vec()),
            (8, b"Zw\xf6lf \x80\x9a".to_vec()),
            (47, b"Zw\xf6lf \x80\x9a".to_vec()),
            (35, units(u16::to_be_bytes)),
            (54, units(u16::to_be_bytes)),
            (56, units(u16::to_le_bytes)),
            (60, utf32),
        ] {
            let charset = Charset::of(collation).unwrap();
            assert_eq!(charset.read(&bytes).as_deref(), Some(text), "{collation}");
        }
    }

    #[test]
    fn latin1_has_a_character_for_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        let text = Charset::Latin1.read(&all).unwrap();
        let mut chars: Vec<char> = text.chars().collect();
        assert_eq!(chars.len(), 256);
        assert_eq!((chars[0], chars[0x81], chars[0xe9]), ('\0', '\u{81}', 'é'));
        chars.sort_unstable();
        chars.dedup();
        assert_eq!(chars.len(), 256, "no two bytes are one text");
    }

    #[test]
    fn bytes_that_are_no_text_are_none() {
        for (charset, bytes) in [
            (Charset::Utf8, &b"\xff"[..]),
            (Charset::Utf16, b"\x00"),
            (Charset::Utf16, b"\xd8\x00"),
            (Charset::Utf16Le, b"\x00\xd8\x00\x00"),
            (Charset::Utf32, b"\x00\x00\x00"),
            (Charset::Utf32, b"\x00\x11\x00\x00"),
        ] {
            assert_eq!(charset.read(bytes), None, "{charset:?} {bytes:?}");
        }
        assert_eq!(Charset::of(51), Err("cp1251"));
        assert_eq!(Charset::of(28), Err("gbk"));
        assert!(Charset::of(9999).is_err());
    }
}
