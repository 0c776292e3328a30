//! Owns reading one value by the shape that it was written with: a deserializer that tells the type the names of fields
//! and variants, which postcard's bytes do not have. It does not own the bytes of a leaf, which are postcard's.
//!
//! What the type asks for is compared with what is there before any value is looked at: a number that is narrower than
//! the stored one is refused, whatever the value.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IgnoredAny, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::codec::shape::{At, EXPECTED, Payload, Shape, Type};

/// Reads a value of a shape as one of another type.
pub(super) fn read<T: DeserializeOwned>(shape: &Shape, mut bytes: &[u8]) -> Result<T, Refused> {
    let value = T::deserialize(Reader { shape, at: 0, bytes: &mut bytes, depth: 0 })?;
    match bytes {
        [] => Ok(value),
        _ => Err(Refused::new(Why::Bytes, "bytes are left over")),
    }
}

/// Why a value was not read.
#[derive(Debug)]
pub(super) struct Refused {
    why: Why,
    what: String,
    /// The fields and variants that lead there, innermost first.
    path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The type does not take values of this shape.
    Shape,
    /// It does not take this value.
    Value,
    /// The bytes are no value of the shape.
    Bytes,
}

impl Refused {
    fn new(why: Why, what: impl fmt::Display) -> Refused {
        Refused { why, what: what.to_string(), path: Vec::new() }
    }

    /// Whether any value of this shape would be refused.
    pub(super) fn is_of_shape(&self) -> bool {
        self.why == Why::Shape
    }

    /// Whether it is damage.
    pub(super) fn is_of_bytes(&self) -> bool {
        self.why == Why::Bytes
    }

    fn inside(mut self, name: &str) -> Refused {
        self.path.push(name.to_string());
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.path.is_empty() {
            f.write_str(" in \"")?;
            self.path.iter().rev().try_for_each(|name| write!(f, ".{name}"))?;
            f.write_str("\"")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// What serde says of a type that asked for something else is of the shape; what a type says for itself is of a value.
impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(what: T) -> Refused {
        Refused::new(Why::Value, what)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Refused {
        Refused::new(Why::Shape, format_args!("it is {found}, not {expected}"))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Refused {
        Refused::new(Why::Shape, format_args!("no field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Refused {
        Refused::new(Why::Shape, format_args!("two values for the field `{field}`"))
    }

    fn missing_field(field: &'static str) -> Refused {
        Refused::new(Why::Shape, format_args!("no value for the field `{field}`"))
    }
}

const NEITHER: &str = "an option that is neither";

struct Reader<'a, 'de> {
    shape: &'a Shape,
    at: At,
    bytes: &'a mut &'de [u8],
    /// How many types are around it.
    depth: u32,
}

/// How deep values nest, at most: each level is several frames of the stack.
const DEPTH_MAX: u32 = 500;

impl<'a, 'de> Reader<'a, 'de> {
    fn part(&mut self, at: At) -> Reader<'_, 'de> {
        Reader { shape: self.shape, at, bytes: self.bytes, depth: self.depth + 1 }
    }

    /// Returns what is there, unless it is too deep inside.
    fn found(&self) -> Result<&'a Type, Refused> {
        match self.depth > DEPTH_MAX {
            true => Err(Refused::new(Why::Value, format_args!("it nests deeper than {DEPTH_MAX}"))),
            false => Ok(self.shape.at(self.at)),
        }
    }

    /// Returns the name of the leaf that is there.
    fn leaf(&self) -> Option<&str> {
        match self.shape.at(self.at) {
            Type::Leaf(name) => Some(name),
            _ => None,
        }
    }

    fn take<T: serde::Deserialize<'de>>(&mut self) -> Result<T, Refused> {
        let (value, rest) =
            postcard::take_from_bytes(self.bytes).map_err(|e| Refused::new(Why::Bytes, e))?;
        *self.bytes = rest;
        Ok(value)
    }

    /// Goes on if what is there is one of these.
    fn expect(&self, names: &[&str], wanted: &str) -> Result<(), Refused> {
        match self.leaf() {
            // What else it may be is the visitor's to say.
            Some(found) if !names.contains(&found) => Err(Refused::new(
                Why::Shape,
                format_args!("a {found} does not fit into a {wanted}"),
            )),
            _ => Ok(()),
        }
    }

    /// Reads past what is there.
    fn skip(mut self) -> Result<(), Refused> {
        match self.found()? {
            Type::Unknown | Type::Leaf(_) => self.any(IgnoredAny).map(drop),
            Type::Option(some) => match self.take::<u8>()? {
                0 => Ok(()),
                1 => self.part(*some).skip(),
                _ => Err(Refused::new(Why::Bytes, NEITHER)),
            },
            Type::Seq(element) => {
                let count = self.take::<u64>()?;
                (0..count).try_for_each(|_| self.part(*element).skip())
            }
            Type::Map(key, value) => {
                let count = self.take::<u64>()?;
                (0..count).try_for_each(|_| {
                    self.part(*key).skip()?;
                    self.part(*value).skip()
                })
            }
            Type::Tuple(types) => self.skip_all(types.iter().copied()),
            Type::Struct(fields) => self.skip_all(fields.iter().map(|(_, at)| *at)),
            Type::Enum(variants) => match &self.variant(variants)?.1 {
                Payload::Unit => Ok(()),
                Payload::Newtype(at) => self.part(*at).skip(),
                Payload::Tuple(types) => self.skip_all(types.iter().copied()),
                Payload::Struct(fields) => self.skip_all(fields.iter().map(|(_, at)| *at)),
            },
        }
    }

    fn skip_all(&mut self, mut types: impl Iterator<Item = At>) -> Result<(), Refused> {
        types.try_for_each(|at| self.part(at).skip())
    }

    fn variant<'s>(
        &mut self,
        variants: &'s [(String, Payload)],
    ) -> Result<&'s (String, Payload), Refused> {
        let number = self.take::<u32>()?;
        let variant = usize::try_from(number).ok().and_then(|number| variants.get(number));
        variant.ok_or_else(|| Refused::new(Why::Bytes, format_args!("no variant {number}")))
    }

    /// Hands on what is there, whatever that is.
    fn any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        match self.found()? {
            Type::Unknown => Err(Refused::new(Why::Shape, "part of its shape is not known")),
            Type::Leaf(name) => match name.as_str() {
                "unit" => visitor.visit_unit(),
                "bool" => visitor.visit_bool(self.take()?),
                "i8" => visitor.visit_i8(self.take()?),
                "i16" => visitor.visit_i16(self.take()?),
                "i32" => visitor.visit_i32(self.take()?),
                "i64" => visitor.visit_i64(self.take()?),
                "i128" => visitor.visit_i128(self.take()?),
                "u8" => visitor.visit_u8(self.take()?),
                "u16" => visitor.visit_u16(self.take()?),
                "u32" => visitor.visit_u32(self.take()?),
                "u64" => visitor.visit_u64(self.take()?),
                "u128" => visitor.visit_u128(self.take()?),
                "f32" => visitor.visit_f32(self.take()?),
                "f64" => visitor.visit_f64(self.take()?),
                "char" => visitor.visit_char(self.take()?),
                "string" => visitor.visit_borrowed_str(self.take()?),
                // `bytes`, and those of a `Packed`.
                _ => visitor.visit_borrowed_bytes(self.take()?),
            },
            Type::Option(some) => match self.take::<u8>()? {
                0 => visitor.visit_none(),
                1 => visitor.visit_some(self.part(*some)),
                _ => Err(Refused::new(Why::Bytes, NEITHER)),
            },
            Type::Seq(element) => {
                let left = self.take::<u64>()?;
                let mut elements = Elements { reader: self, element: *element, left };
                let read = visitor.visit_seq(&mut elements)?;
                whole(read, elements.left == 0)
            }
            Type::Map(key, value) => {
                let left = self.take::<u64>()?;
                let mut entries = Entries { reader: self, key: *key, value: *value, left };
                let read = visitor.visit_map(&mut entries)?;
                whole(read, entries.left == 0)
            }
            Type::Tuple(types) => parts(self, types, visitor),
            Type::Struct(of) => fields(self, of, visitor),
            Type::Enum(variants) => {
                let (name, payload) = self.variant(variants)?;
                let read = visitor.visit_enum(Variant { reader: self, name, payload });
                read.map_err(|e| e.inside(name))
            }
        }
    }
}

fn parts<'de, V: Visitor<'de>>(
    reader: Reader<'_, 'de>,
    types: &[At],
    visitor: V,
) -> Result<V::Value, Refused> {
    let mut parts = Parts { reader, types };
    let read = visitor.visit_seq(&mut parts)?;
    whole(read, parts.types.is_empty())
}

fn fields<'de, V: Visitor<'de>>(
    reader: Reader<'_, 'de>,
    fields: &[(String, At)],
    visitor: V,
) -> Result<V::Value, Refused> {
    let mut fields = Fields { reader, fields, name: "" };
    let read = visitor.visit_map(&mut fields)?;
    whole(read, fields.fields.is_empty())
}

/// Refuses what was not read to its end: the next bytes would be taken for another's.
fn whole<T>(read: T, is_whole: bool) -> Result<T, Refused> {
    match is_whole {
        true => Ok(read),
        false => Err(Refused::new(Why::Shape, "not all of it is read")),
    }
}

/// What a type that asks for one takes: itself, and what fits into it.
macro_rules! asked {
    ($($method:ident $wanted:literal $($fits:literal)*;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.expect(&[$wanted, $($fits),*], $wanted)?;
            self.any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Refused;

    asked! {
        deserialize_bool "bool";
        deserialize_i8 "i8";
        deserialize_i16 "i16" "i8" "u8";
        deserialize_i32 "i32" "i16" "i8" "u16" "u8";
        deserialize_i64 "i64" "i32" "i16" "i8" "u32" "u16" "u8";
        deserialize_i128 "i128" "i64" "i32" "i16" "i8" "u64" "u32" "u16" "u8";
        deserialize_u8 "u8";
        deserialize_u16 "u16" "u8";
        deserialize_u32 "u32" "u16" "u8";
        deserialize_u64 "u64" "u32" "u16" "u8";
        deserialize_u128 "u128" "u64" "u32" "u16" "u8";
        deserialize_f32 "f32";
        deserialize_f64 "f64" "f32";
        deserialize_char "char";
        deserialize_str "string" "char";
        deserialize_string "string" "char";
        deserialize_unit "unit";
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.any(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        // A `Packed` says of what type it is.
        let expected = (&visitor as &dyn Expected).to_string();
        let wanted = match expected.strip_prefix(EXPECTED) {
            Some(name) => format!("packed<{name:?}>"),
            None => "bytes".to_string(),
        };
        match self.leaf() {
            Some(found) if found != wanted => {
                let what = format!("a {found} does not fit into {wanted}");
                Err(Refused::new(Why::Shape, what))
            }
            _ => self.any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.shape.at(self.at) {
            Type::Option(_) => self.any(visitor),
            // A value that became optional.
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.shape.at(self.at) {
            Type::Tuple(types) if types.len() == length => self.any(visitor),
            Type::Tuple(types) => {
                let what = format!("{} values are not {length}", types.len());
                Err(Refused::new(Why::Shape, what))
            }
            _ => {
                let what = format!("it is not {length} values in a row");
                Err(Refused::new(Why::Shape, what))
            }
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.shape.at(self.at) {
            Type::Struct(_) => self.any(visitor),
            _ => Err(Refused::new(Why::Shape, "it has no fields with names")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.skip()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { unit_struct seq map identifier }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.shape.at(self.at) {
            Type::Enum(_) => self.any(visitor),
            _ => Err(Refused::new(Why::Shape, "it has no variants")),
        }
    }
}

/// The elements of a sequence.
struct Elements<'a, 'de> {
    reader: Reader<'a, 'de>,
    element: At,
    left: u64,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.reader.part(self.element)).map(Some)
    }
}

/// The entries of a map.
struct Entries<'a, 'de> {
    reader: Reader<'a, 'de>,
    key: At,
    value: At,
    left: u64,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.reader.part(self.key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(self.reader.part(self.value))
    }
}

/// The values of a tuple.
struct Parts<'a, 'de> {
    reader: Reader<'a, 'de>,
    types: &'a [At],
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some((first, rest)) = self.types.split_first() else { return Ok(None) };
        self.types = rest;
        seed.deserialize(self.reader.part(*first)).map(Some)
    }
}

/// The fields of a struct, by name.
struct Fields<'a, 'de> {
    reader: Reader<'a, 'de>,
    fields: &'a [(String, At)],
    /// The field whose value comes next.
    name: &'a str,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(((name, at), rest)) = self.fields.split_first() else { return Ok(None) };
        (self.fields, self.reader.at, self.name) = (rest, *at, name);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        let at = self.reader.at;
        seed.deserialize(self.reader.part(at)).map_err(|e| e.inside(self.name))
    }
}

/// A variant of an enum, by name.
struct Variant<'a, 'de> {
    reader: Reader<'a, 'de>,
    name: &'a str,
    payload: &'a Payload,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Refused;
    type Variant = Variant<'a, 'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), Refused> {
        match seed.deserialize(StrDeserializer::<Refused>::new(self.name)) {
            Ok(variant) => Ok((variant, self)),
            Err(_) => Err(Refused::new(Why::Shape, format_args!("no variant `{}`", self.name))),
        }
    }
}

impl Variant<'_, '_> {
    fn other<T>(&self) -> Result<T, Refused> {
        Err(Refused::new(Why::Shape, "what is in it is made up in another way"))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        if matches!(self.payload, Payload::Unit) { Ok(()) } else { self.other() }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        mut self,
        seed: T,
    ) -> Result<T::Value, Refused> {
        match self.payload {
            Payload::Newtype(at) => seed.deserialize(self.reader.part(*at)),
            _ => self.other(),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.payload {
            Payload::Tuple(types) if types.len() == length => parts(self.reader, types, visitor),
            _ => self.other(),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.payload {
            Payload::Struct(of) => fields(self.reader, of, visitor),
            _ => self.other(),
        }
    }
}
