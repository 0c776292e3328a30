//! Owns the `FORMAT` file: which version of the layout a root has, and what its bytes encode; and the
//! checksum on a line of text. It does not create the file; that is `handle`'s.

use serde::{Deserialize, Serialize};

use super::frame::damaged;
use crate::error::{Error, ErrorKind};

/// The key of the file in a root.
pub const FORMAT_KEY: &str = "FORMAT";
const VERSION: u32 = 1;
const WHAT: &str = "FORMAT file";

/// What the keys and values of a shard are: names that must match, not code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// How rows become bytes, for example `"postcard"`.
    pub codec: String,
    /// The type of keys.
    pub key: String,
    /// The type of values.
    pub value: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    format: u32,
    min_reader: u32,
    min_writer: u32,
    codec: String,
    key: String,
    value: String,
}

impl Schema {
    /// Encodes the file: a line of JSON, and a line with its checksum.
    ///
    /// # Panics
    ///
    /// Never: three strings always are JSON.
    pub fn encode(&self) -> Vec<u8> {
        let line = Line {
            format: VERSION,
            min_reader: VERSION,
            min_writer: VERSION,
            codec: self.codec.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
        };
        with_checksum(serde_json::to_string(&line).expect("strings and numbers are JSON"))
    }

    /// Decodes the file.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage; `Unsupported` for a format that this program must not read, or must
    /// not write if it is a `writer`.
    pub fn decode(bytes: &[u8], writer: bool) -> Result<Schema, Error> {
        let line = checked_line(WHAT, bytes)?;
        let found: Line = match serde_json::from_str(line) {
            Ok(found) => found,
            // Intact, but not of our shape: some later format.
            Err(e) => {
                return Err(Error::new(ErrorKind::Unsupported, "an unknown format of shard")
                    .hint("use a newer version of the program")
                    .because(e));
            }
        };
        let (verb, needed) = match writer {
            false => ("reading", found.min_reader),
            true => ("writing", found.min_reader.max(found.min_writer)),
        };
        if needed > VERSION || found.format == 0 {
            let what = format!(
                "format {} needs version {needed} for {verb}; this is {VERSION}",
                found.format
            );
            return Err(
                Error::new(ErrorKind::Unsupported, what).hint("use a newer version of the program")
            );
        }
        Ok(Schema { codec: found.codec, key: found.key, value: found.value })
    }

    /// Refuses a shard of another schema; `self` is what is stored.
    ///
    /// # Errors
    ///
    /// `Unsupported`, naming both.
    pub fn check(&self, wanted: &Schema) -> Result<(), Error> {
        let pairs = [
            ("codec", &self.codec, &wanted.codec),
            ("keys", &self.key, &wanted.key),
            ("values", &self.value, &wanted.value),
        ];
        match pairs.into_iter().find(|(_, stored, wanted)| stored != wanted) {
            None => Ok(()),
            Some((name, stored, wanted)) => {
                let what = format!("the shard's {name} are \"{stored}\", not \"{wanted}\"");
                Err(Error::new(ErrorKind::Unsupported, what)
                    .hint("open it with the types it was made with"))
            }
        }
    }
}

/// Ends a line of text, and puts a second one after it with its checksum.
pub(super) fn with_checksum(mut text: String) -> Vec<u8> {
    text.push('\n');
    let crc = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {crc:08x}\n"));
    text.into_bytes()
}

/// Returns the line that [`with_checksum`] was given.
pub(super) fn checked_line<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| damaged(what, e))?;
    let (line, crc) = text
        .strip_suffix('\n')
        .and_then(|text| text.rsplit_once('\n'))
        .ok_or_else(|| damaged(what, "not two lines"))?;
    let crc = crc.strip_prefix("crc32c ").ok_or_else(|| damaged(what, "no checksum"))?;
    let expected = crc32c::crc32c(&bytes[..line.len() + 1]);
    if crc != format!("{expected:08x}") {
        return Err(damaged(what, "the checksum does not match"));
    }
    Ok(line)
}
