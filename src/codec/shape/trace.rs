//! Owns the tracing of a type: a deserializer that makes values up, and notes in a
//! [ledger](super::ledger) what it is asked for. How that reads is the [shape](super)'s.
//!
//! A type is known by the name of the visitor that it hands in, which has the type's own name and
//! parameters in it: so a type that contains itself is told from another of the same name, and from
//! itself with other parameters. That name is used within this process alone.
//!
//! # How it ends
//!
//! Where a value has a choice, what is more than the least (the `Some` of an option, the one element of
//! a sequence or a map, a variant of an enum) is taken if it has not been tried, or leads to something
//! that has not. Inside itself, and if there is nothing new, it is the least: nothing, or the first
//! variant that came to an end, inside which only values occur that had ended before. So every run
//! ends, and the runs end once nothing new was tried.

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::ledger::{Kind, Ledger, Node, Place, Slot, Variant};
use super::made_up::{LENGTHS, STRINGS};
use super::stopped::{STOPPED, Stopped};

/// How the visitor of a [`Packed`](super::super::packed::Packed) says what it expects: the name of the type
/// follows.
pub(crate) const EXPECTED: &str = "packed ";

/// Runs of one type with the same made-up values, at most.
const RUNS_MAX: usize = 10_000;
/// How deep values nest, at most.
const DEPTH_MAX: usize = 200;

/// Traces a type until nothing new comes of it.
pub(super) fn trace<T: DeserializeOwned>() -> Ledger {
    let mut ledger = Ledger::default();
    for plan in 0..STRINGS.len() {
        ledger.plan = plan;
        ledger.tried.clear();
        ledger.ended.clear();
        let mut whole = true;
        for _ in 0..RUNS_MAX {
            let before = ledger.found();
            ledger.around.clear();
            whole &= T::deserialize(Tracer { ledger: &mut ledger, place: Place::Root }).is_ok();
            if ledger.found() == before {
                break;
            }
        }
        // Nothing was refused, so nothing is missing.
        if whole {
            break;
        }
    }
    ledger
}

/// Deserializes one made-up value, and notes its shape.
struct Tracer<'a> {
    ledger: &'a mut Ledger,
    place: Place,
}

impl Tracer<'_> {
    fn leaf(&mut self, name: &str) {
        self.ledger.note(self.place, Kind::Leaf(name.to_string()));
    }

    /// Notes a node under the name of its visitor, and returns that.
    fn node<V>(&mut self, node: impl FnOnce() -> Node) -> Result<&'static str, Stopped> {
        let id = std::any::type_name::<V>();
        self.ledger.note(self.place, Kind::Node(id));
        self.ledger.nodes.entry(id).or_insert_with(node);
        self.ledger.around.push(id);
        if self.ledger.around.len() > DEPTH_MAX { Err(STOPPED) } else { Ok(id) }
    }

    /// Visits the values inside a node and leaves it.
    fn whole<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        id: &'static str,
        count: usize,
    ) -> Result<V::Value, Stopped> {
        let inside = Inside { ledger: &mut *self.ledger, id, variant: 0, next: 0, count };
        let value = visitor.visit_seq(inside)?;
        self.ledger.around.pop();
        Ok(value)
    }

    /// Visits the fields of a struct, of which serde lists all names: aliases, too. One that has fewer fields than names is
    /// visited by name from then on, until only one name of each field is left.
    fn fields<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        of: (&'static str, usize),
        names: &[&'static str],
    ) -> Result<V::Value, Stopped> {
        let ((id, variant), count) = (of, names.len());
        let ledger = self.ledger;
        if !ledger.aliased.contains_key(&of) {
            let mut inside = Inside { ledger: &mut *ledger, id, variant, next: 0, count };
            let value = visitor.visit_seq(&mut inside)?;
            if inside.next < count {
                ledger.note_alias(of, None);
                return Err(STOPPED);
            }
            return Ok(value);
        }
        let inside = Inside { ledger: &mut *ledger, id, variant, next: 0, count };
        let mut named = Named { inside, names };
        let visited = visitor.visit_map(&mut named);
        let next = named.inside.next;
        visited.map_err(|Stopped(twice)| {
            // The last name was of a field that had come; if it is the field's own, the one before was its alias.
            let last = twice.and_then(|own| match names.get(next)? {
                last if *last != own => Some(*last),
                _ => names.get(next.checked_sub(1)?).copied(),
            });
            if last.is_some() {
                ledger.note_alias(of, last);
            }
            STOPPED
        })
    }
}

macro_rules! leaves {
    ($($method:ident $visit:ident $name:literal $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
            self.leaf($name);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stopped;

    // One is not zero, where that matters.
    leaves! {
        deserialize_bool visit_bool "bool" false;
        deserialize_i8 visit_i8 "i8" 1;
        deserialize_i16 visit_i16 "i16" 1;
        deserialize_i32 visit_i32 "i32" 1;
        deserialize_i64 visit_i64 "i64" 1;
        deserialize_i128 visit_i128 "i128" 1;
        deserialize_u8 visit_u8 "u8" 1;
        deserialize_u16 visit_u16 "u16" 1;
        deserialize_u32 visit_u32 "u32" 1;
        deserialize_u64 visit_u64 "u64" 1;
        deserialize_u128 visit_u128 "u128" 1;
        deserialize_f32 visit_f32 "f32" 1.0;
        deserialize_f64 visit_f64 "f64" 1.0;
        deserialize_char visit_char "char" 'a';
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    /// No format that needs to know the type answers this.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stopped> {
        Err(STOPPED)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stopped> {
        Err(STOPPED)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stopped> {
        Err(STOPPED)
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        self.leaf("string");
        visitor.visit_borrowed_str(STRINGS[self.ledger.plan])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        // A `Packed` says what it wants.
        let expected = (&visitor as &dyn Expected).to_string();
        match expected.strip_prefix(EXPECTED) {
            Some(name) => self.leaf(&format!("packed<{name:?}>")),
            None => self.leaf("bytes"),
        }
        const ZEROS: [u8; 64] = [0; 64];
        visitor.visit_borrowed_bytes(&ZEROS[..LENGTHS[self.ledger.plan]])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stopped> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        self.leaf("unit");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        // As stored, it is what it wraps.
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        let id = self.node::<V>(|| Node::Option(None))?;
        let worth = self.ledger.is_worth(id, 0);
        self.ledger.tried.insert((id, 0));
        let value = match worth {
            true => {
                let place = Place::In { id, variant: 0, index: 0 };
                visitor.visit_some(Tracer { ledger: &mut *self.ledger, place })?
            }
            false => visitor.visit_none()?,
        };
        self.ledger.around.pop();
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        let id = self.node::<V>(|| Node::Seq(None))?;
        let count = usize::from(self.ledger.is_worth(id, 0));
        self.ledger.tried.insert((id, 0));
        self.whole(visitor, id, count)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stopped> {
        let id = self.node::<V>(|| Node::Map(None, None))?;
        let count = if self.ledger.is_worth(id, 0) { 2 } else { 0 };
        self.ledger.tried.insert((id, 0));
        let inside = Inside { ledger: &mut *self.ledger, id, variant: 0, next: 0, count };
        let value = visitor.visit_map(inside)?;
        self.ledger.around.pop();
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        mut self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        let id = self.node::<V>(|| Node::Tuple(vec![None; count]))?;
        self.whole(visitor, id, count)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        self.deserialize_tuple(count, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        let names = self.ledger.fields((std::any::type_name::<V>(), 0), fields);
        let id = self.node::<V>(|| Node::Struct(named(&names)))?;
        let inside = Tracer { ledger: &mut *self.ledger, place: self.place };
        let value = inside.fields(visitor, (id, 0), &names)?;
        self.ledger.around.pop();
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        let unseen = || Node::Enum(variants.iter().map(|name| (*name, None)).collect());
        let id = self.node::<V>(unseen)?;
        let worth = (0..variants.len()).find(|variant| self.ledger.is_worth(id, *variant));
        let variant = match worth {
            Some(variant) => variant,
            None => *self.ledger.ended.get(id).ok_or(STOPPED)?,
        };
        self.ledger.tried.insert((id, variant));
        let value = visitor.visit_enum(Chosen { ledger: &mut *self.ledger, id, variant })?;
        self.ledger.ended.entry(id).or_insert(variant);
        self.ledger.around.pop();
        Ok(value)
    }
}

fn named(fields: &[&'static str]) -> Vec<(&'static str, Slot)> {
    fields.iter().map(|name| (*name, None)).collect()
}

/// The values inside a node, one after the other.
struct Inside<'a> {
    ledger: &'a mut Ledger,
    id: &'static str,
    variant: usize,
    next: usize,
    count: usize,
}

impl Inside<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stopped> {
        if self.next == self.count {
            return Ok(None);
        }
        let place = Place::In { id: self.id, variant: self.variant, index: self.next };
        self.next += 1;
        seed.deserialize(Tracer { ledger: &mut *self.ledger, place }).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Inside<'_> {
    type Error = Stopped;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stopped> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Inside<'_> {
    type Error = Stopped;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stopped> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stopped> {
        self.next(seed)?.ok_or_else(|| Stopped::custom("a key without a value"))
    }
}

/// The fields of a struct, by name.
struct Named<'a, 'n> {
    inside: Inside<'a>,
    names: &'n [&'static str],
}

impl<'de> MapAccess<'de> for Named<'_, '_> {
    type Error = Stopped;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stopped> {
        let Some(name) = self.names.get(self.inside.next) else { return Ok(None) };
        let name: StrDeserializer<'_, Stopped> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stopped> {
        self.inside.next(seed)?.ok_or_else(|| Stopped::custom("a field without a value"))
    }
}

/// The variant of an enum that is tried.
struct Chosen<'a> {
    ledger: &'a mut Ledger,
    id: &'static str,
    variant: usize,
}

impl<'a> Chosen<'a> {
    fn is(self, holds: Variant) -> Tracer<'a> {
        if let Some(Node::Enum(variants)) = self.ledger.nodes.get_mut(self.id)
            && let Some((_, variant)) = variants.get_mut(self.variant)
        {
            variant.get_or_insert(holds);
        }
        let place = Place::In { id: self.id, variant: self.variant, index: 0 };
        Tracer { ledger: self.ledger, place }
    }
}

impl<'de, 'a> EnumAccess<'de> for Chosen<'a> {
    type Error = Stopped;
    type Variant = Chosen<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Chosen<'a>), Stopped> {
        let number = u32::try_from(self.variant).map_err(Stopped::custom)?;
        let number: U32Deserializer<Stopped> = number.into_deserializer();
        match seed.deserialize(number) {
            Ok(chosen) => Ok((chosen, self)),
            Err(stopped) => {
                self.ledger.is_unknowable = true;
                Err(stopped)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Stopped;

    fn unit_variant(self) -> Result<(), Stopped> {
        self.is(Variant::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stopped> {
        seed.deserialize(self.is(Variant::Newtype(None)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Stopped> {
        let at = (self.id, self.variant);
        let Tracer { ledger, .. } = self.is(Variant::Tuple(vec![None; count]));
        let (id, variant) = at;
        visitor.visit_seq(Inside { ledger, id, variant, next: 0, count })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stopped> {
        let at = (self.id, self.variant);
        let names = self.ledger.fields(at, fields);
        self.is(Variant::Struct(named(&names))).fields(visitor, at, &names)
    }
}
