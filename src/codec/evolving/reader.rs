//! Owns reading one value by the shape that it was written with: a deserializer that tells the type the names of fields
//! and variants, which postcard's bytes do not have. It does not own the bytes of a leaf, which are postcard's, nor why a value
//! is not read, which is `refused`'s.
//!
//! What the type asks for is compared with what is there before any value is looked at: a number that is narrower than
//! the stored one is refused, whatever the value.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IgnoredAny, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::refused::{Refused, Why, misfit};
use crate::codec::shape::{At, EXPECTED, Payload, Shape, Type};

/// Reads a value of a shape as one of another type.
pub(super) fn read<T: DeserializeOwned>(shape: &Shape, mut bytes: &[u8]) -> Result<T, Refused> {
    let value = T::deserialize(Reader { shape, at: 0, bytes: &mut bytes, depth: 0 })?;
    match bytes {
        [] => Ok(value),
        _ => Err(Refused::new(Why::Bytes, "bytes are left over")),
    }
}

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
            Some(found) if !names.contains(&found) => {
                Err(misfit(format_args!("a {found} does not fit into a {wanted}")))
            }
            _ => Ok(()),
        }
    }

    /// Reads which variant is there.
    fn variant<'s>(
        &mut self,
        variants: &'s [(String, Payload)],
    ) -> Result<&'s (String, Payload), Refused> {
        let number = self.take::<u32>()?;
        let variant = usize::try_from(number).ok().and_then(|number| variants.get(number));
        variant.ok_or_else(|| Refused::new(Why::Bytes, format_args!("no variant {number}")))
    }

    /// Hands on values of these types, all of them.
    fn row<T, I: Iterator<Item = At>>(
        self,
        types: I,
        visit: impl FnOnce(&mut Row<'a, 'de, I>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut row = Row { reader: self, types };
        let read = visit(&mut row)?;
        whole(read, row.types.next().is_none())
    }

    /// Hands on what is there, whatever that is.
    fn any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        match self.found()? {
            Type::Unknown => Err(misfit("part of its shape is not known")),
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
                _ => Err(Refused::new(Why::Bytes, "an option that is neither")),
            },
            Type::Seq(element) => {
                let count = self.take()?;
                self.row(elements(count, *element), |row| visitor.visit_seq(row))
            }
            Type::Map(key, value) => {
                let count = self.take()?;
                self.row(entries(count, *key, *value), |row| visitor.visit_map(row))
            }
            Type::Tuple(types) => self.row(types.iter().copied(), |row| visitor.visit_seq(row)),
            Type::Struct(of) => fields(self, of, visitor),
            Type::Enum(variants) => {
                let (name, payload) = self.variant(variants)?;
                let read = visitor.visit_enum(Variant { reader: self, name, payload });
                read.map_err(|e| e.inside(name))
            }
        }
    }
}

/// The types of a sequence of so many elements.
fn elements(count: u64, element: At) -> impl Iterator<Item = At> {
    (0..count).map(move |_| element)
}

/// The types of a map of so many entries.
fn entries(count: u64, key: At, value: At) -> impl Iterator<Item = At> {
    (0..count).flat_map(move |_| [key, value])
}

fn fields<'de, V: Visitor<'de>>(
    reader: Reader<'_, 'de>,
    fields: &[(String, At)],
    visitor: V,
) -> Result<V::Value, Refused> {
    let mut fields = Fields { reader, left: fields.iter(), named: None };
    let read = visitor.visit_map(&mut fields)?;
    whole(read, fields.left.len() == 0)
}

/// Refuses what was not read to its end: the next bytes would be taken for another's.
fn whole<T>(read: T, is_whole: bool) -> Result<T, Refused> {
    match is_whole {
        true => Ok(read),
        false => Err(misfit("not all of it is read")),
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
        self.expect(&[&wanted], &wanted)?;
        self.any(visitor)
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
                Err(misfit(format_args!("{} values are not {length}", types.len())))
            }
            _ => Err(misfit(format_args!("it is not {length} values in a row"))),
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
            _ => Err(misfit("it has no fields with names")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        match self.found()? {
            // `any` asks the visitor what is in the variant, and this one does not know.
            Type::Enum(variants) => {
                let (_, payload) = self.variant(variants)?;
                self.row(payload.parts().into_iter(), |row| IgnoredAny.visit_seq(row))?;
                visitor.visit_unit()
            }
            _ => self.any(visitor),
        }
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
            _ => Err(misfit("it has no variants")),
        }
    }
}

/// Values of these types, one after the other: of a sequence, a map or a tuple.
struct Row<'a, 'de, I> {
    reader: Reader<'a, 'de>,
    types: I,
}

impl<'de, I: Iterator<Item = At>> Row<'_, 'de, I> {
    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(at) = self.types.next() else { return Ok(None) };
        seed.deserialize(self.reader.part(at)).map(Some)
    }
}

impl<'de, I: Iterator<Item = At>> SeqAccess<'de> for Row<'_, 'de, I> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        self.next(seed)
    }
}

impl<'de, I: Iterator<Item = At>> MapAccess<'de> for Row<'_, 'de, I> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        self.next(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        self.next(seed)?.ok_or_else(|| Refused::new(Why::Bytes, "a key without a value"))
    }
}

/// The fields of a struct, by name.
struct Fields<'a, 'de> {
    reader: Reader<'a, 'de>,
    left: std::slice::Iter<'a, (String, At)>,
    /// The field whose value comes next.
    named: Option<&'a (String, At)>,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        self.named = self.left.next();
        let Some((name, _)) = self.named else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        let Some((name, at)) = self.named.take() else {
            return Err(Refused::new(Why::Value, "a value is asked for before its field"));
        };
        seed.deserialize(self.reader.part(*at)).map_err(|e| e.inside(name))
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
            Err(_) => Err(misfit(format_args!("no variant `{}`", self.name))),
        }
    }
}

impl Variant<'_, '_> {
    fn other<T>(&self) -> Result<T, Refused> {
        Err(misfit("what is in it is made up in another way"))
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
            Payload::Tuple(types) if types.len() == length => {
                self.reader.row(types.iter().copied(), |row| visitor.visit_seq(row))
            }
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
