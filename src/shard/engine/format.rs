//! Owns the `FORMAT` file: which version of the layout a root has, and what its bytes encode; the names of
//! the shards in a root; and the checksum on a line of text. It does not create the file; that is `open`'s.
//!
//! # Versions
//!
//! Version 1 has a file, or an object, for each log entry. Version 2 has the log of a local directory in segments:
//! a program that knows version 1 alone would see no entry. A directory of version 1 becomes one of version 2 at
//! its first opening for writing; what is not a local directory stays at 1. Either asks for a program that knows
//! version 3 once values have a second shape: their numbers, and the entries that add them.
//!
//! # Types
//!
//! A type stands there by its name, and by its shape where the codec knows one. Shapes are compared
//! where both sides have them, names where one has not. So a shard that was made before there were
//! shapes has names for ever: the schema is made once, and to write another beside programs that have read it
//! is not safe. (The versions are written anew: a program looks at them once, as it opens a shard.) A program that knows no shapes ignores these members, and compares names.

use serde::{Deserialize, Serialize};

use super::frame::damaged;
use crate::codec::shape::{Difference, Shape, difference};
use crate::error::{Error, ErrorKind};

/// The shards that a root may hold: rows, and the times that the positions of a feed are bound to.
pub(crate) const DATA: &str = "data";
/// See [`DATA`].
pub(crate) const REMAP: &str = "remap";

/// The key of the file in a root.
pub const FORMAT_KEY: &str = "FORMAT";
/// What this program reads and writes: 1 and 2 are layouts, 3 has values of several shapes.
const VERSION: u32 = 3;
/// What a program must know where values have several shapes.
const SHAPES: u32 = 3;
const WHAT: &str = "FORMAT file";

/// What the keys and values of a shard are: names and shapes that must match, not code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// How rows become bytes, for example `"postcard"`.
    pub codec: String,
    /// The type of keys.
    pub key: Fingerprint,
    /// The type of values.
    pub value: Fingerprint,
}

/// Says whether a codec reads values of another shape: [`Codec::upgrades`](crate::codec::Codec::upgrades).
pub type Upgrades = fn(&Shape) -> Result<(), Error>;

/// What is stored of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its name, without paths.
    pub name: String,
    /// How its values are made up, in the words of [`shape`](crate::codec::shape), if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
}

impl From<&str> for Fingerprint {
    fn from(name: &str) -> Fingerprint {
        Fingerprint::from(name.to_string())
    }
}

impl From<String> for Fingerprint {
    fn from(name: String) -> Fingerprint {
        Fingerprint { name, shape: None }
    }
}

impl Fingerprint {
    /// Checks values of another type against this one, which is stored: the same, or one that is upgraded.
    ///
    /// # Errors
    ///
    /// `Unsupported`, naming the place where they differ.
    pub(crate) fn check(
        &self,
        wanted: &Fingerprint,
        upgrades: Option<Upgrades>,
    ) -> Result<(), Error> {
        let Some(how) = self.differs(wanted) else { return Ok(()) };
        let differs = Error::new(ErrorKind::Unsupported, format!("the shard's values {how}"));
        match (&self.shape, &wanted.shape, upgrades) {
            (Some(stored), Some(_), Some(upgrades)) => match upgrades(&Shape::new(stored.as_str()))
            {
                Ok(()) => Ok(()),
                Err(why) => {
                    let differs = differs.also(why.what());
                    Err(match why.advice() {
                        Some(hint) => differs.hint(hint),
                        None => differs.hint(SAME),
                    })
                }
            },
            _ => Err(differs.hint(SAME)),
        }
    }

    /// Says how another one differs from this, which is stored.
    pub(crate) fn differs(&self, wanted: &Fingerprint) -> Option<String> {
        let (Some(stored), Some(shape)) = (&self.shape, &wanted.shape) else {
            let (stored, wanted) = (&self.name, &wanted.name);
            return (stored != wanted).then(|| format!("are \"{stored}\", not \"{wanted}\""));
        };
        let Difference { path, left, right } = difference(stored, shape)?;
        let at = if path.is_empty() { "at the top".into() } else { format!("at \"{path}\"") };
        let (stored, wanted) = (&self.name, &wanted.name);
        Some(format!(
            "have another shape {at}: `{left}` in the shard's \"{stored}\", `{right}` in \"{wanted}\""
        ))
    }
}

const SAME: &str = "open it with the types it was made with";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    format: u32,
    min_reader: u32,
    min_writer: u32,
    codec: String,
    key: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_shape: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_shape: Option<String>,
}

impl Schema {
    /// Encodes the file of a root with this version of the layout: a line of JSON, and a line with its checksum.
    ///
    /// # Panics
    ///
    /// Never: three strings always are JSON.
    pub fn encode(&self, version: u32) -> Vec<u8> {
        self.encode_for(version, version)
    }

    /// As [`encode`](Schema::encode), of a root whose values have several shapes: programs that know of one are refused.
    pub fn encode_with_shapes(&self, version: u32) -> Vec<u8> {
        self.encode_for(version, SHAPES)
    }

    fn encode_for(&self, version: u32, least: u32) -> Vec<u8> {
        let line = Line {
            format: version,
            min_reader: least,
            min_writer: least,
            codec: self.codec.clone(),
            key: self.key.name.clone(),
            value: self.value.name.clone(),
            key_shape: self.key.shape.clone(),
            value_shape: self.value.shape.clone(),
        };
        with_checksum(serde_json::to_string(&line).expect("strings and numbers are JSON"))
    }

    /// Decodes the file: the schema, and the version of the layout.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage; `Unsupported` for a format that this program must not read, or must
    /// not write if it is a `writer`.
    pub fn decode(bytes: &[u8], writer: bool) -> Result<(Schema, u32), Error> {
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
        let key = Fingerprint { name: found.key, shape: found.key_shape };
        let value = Fingerprint { name: found.value, shape: found.value_shape };
        Ok((Schema { codec: found.codec, key, value }, found.format))
    }

    /// Refuses a shard of another schema; `self` is what is stored.
    ///
    /// # Errors
    ///
    /// `Unsupported`, naming both, at the place where they differ.
    pub fn check(&self, wanted: &Schema) -> Result<(), Error> {
        self.check_with(wanted, None)
    }

    /// As [`check`](Schema::check), by a program that may read values of another shape.
    pub(crate) fn check_with(
        &self,
        wanted: &Schema,
        upgrades: Option<Upgrades>,
    ) -> Result<(), Error> {
        let codec = || {
            let (stored, wanted) = (&self.codec, &wanted.codec);
            (stored != wanted).then(|| format!("codec is \"{stored}\", not \"{wanted}\""))
        };
        let keys = || self.key.differs(&wanted.key).map(|how| format!("keys {how}"));
        match codec().or_else(keys) {
            None => self.value.check(&wanted.value, upgrades),
            Some(how) => {
                Err(Error::new(ErrorKind::Unsupported, format!("the shard's {how}")).hint(SAME))
            }
        }
    }
}

/// Whether a file is that of a root whose values may have several shapes.
pub(crate) fn has_shapes(bytes: &[u8]) -> bool {
    let line = checked_line(WHAT, bytes).ok();
    let line = line.and_then(|line| serde_json::from_str::<Line>(line).ok());
    line.is_some_and(|line| line.min_reader >= SHAPES)
}

/// Ends a line of text, and puts a second one after it with its checksum.
pub(crate) fn with_checksum(mut text: String) -> Vec<u8> {
    text.push('\n');
    let crc = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {crc:08x}\n"));
    text.into_bytes()
}

/// Returns the line that [`with_checksum`] was given.
pub(crate) fn checked_line<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
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
