//! Owns the shape of a type as serde sees it, as text: what stands with a shard instead of a mere
//! name. It does not compare two of them, which is `differ`'s, nor read values by one, which is
//! [`Evolving`](crate::codec::Evolving)'s; how a type is made to show its shape is `trace`'s.
//!
//! ```text
//! bool i8 .. i128 u8 .. u128 f32 f64 char string bytes unit
//! option<T>   [T]   [T; N]   (T, U)   {K: V}
//! struct{a: T, b: U}          fields by name, in order
//! enum{A, B(T), C{x: T}}      variants by name, in order
//! ^N                          the Nth type around it: a recursive type
//! packed<"T">                 the bytes of a Packed<T>, by name
//! ?                           not known
//! ```
//!
//! The names of types are not in it, so a type may be renamed and moved; a newtype is what it wraps.
//! Everything that says how bytes are read is: widths, the names and the order of fields and variants,
//! how things are nested. The names of fields say nothing of bytes, and are there for the case that
//! shows nowhere else: two numbers that change places.
//!
//! # How it is found
//!
//! The type's own [`Deserialize`](serde::Deserialize) is run on values made up on the spot, again until every variant of
//! every enum has been seen. What it asks for is its shape.
//!
//! # Limits
//!
//! A type that refuses what is made up (a date out of a string, say, or an id of so many bytes) is
//! tried with a few likely values. If it takes none, what it asked for up to there is known, and what
//! would have come after it inside the same value is `?`, which agrees with everything. A type in which a *variant* has
//! an alias (`#[serde(alias)]`) has no shape, for serde lists aliases as variants; give it another name by
//! `#[serde(rename)]`. Aliases of fields are seen through. A type that
//! asks for nothing in particular (`deserialize_any`, which [`Postcard`](crate::codec::Postcard) cannot read either) is `?`
//! too. If nothing at all is known, or the text would be longer than [`TEXT_MAX`], the type has no
//! shape, and names are compared. What a type writes is taken to be what it reads.
//!
//! A codec of your own says what it likes: [`Codec::shape`](crate::codec::Codec::shape).

mod differ;
mod ledger;
mod made_up;
mod parsed;
mod samples;
mod stopped;
mod trace;
mod words;

use serde::de::DeserializeOwned;

pub use differ::{Difference, difference};
use ledger::{Kind, Ledger, Node, Slot, Variant};
pub use parsed::Shape;
pub(crate) use parsed::{At, Payload, Type};
pub(crate) use samples::{PLANS, samples};
pub(crate) use trace::EXPECTED;
use trace::trace;

/// The longest text of a shape, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// Returns the shape of a type; `None` if nothing is known of it. The cost is that of decoding a few
/// small values for each of its variants.
///
/// ```
/// use differential_upsert::codec::shape::shape;
/// #[derive(serde::Deserialize)]
/// #[allow(dead_code)]
/// enum Tree {
///     Leaf { cents: u64, tags: Vec<String> },
///     Node(Box<Tree>, Option<Box<Tree>>),
/// }
/// let text = "enum{Leaf{cents: u64, tags: [string]}, Node(^1, option<^2>)}";
/// assert_eq!(shape::<Tree>().as_deref(), Some(text));
/// ```
pub fn shape<T: DeserializeOwned>() -> Option<String> {
    let ledger = trace::<T>();
    let mut text = Text { ledger: &ledger, around: Vec::new(), out: String::new() };
    let known =
        ledger.root().is_some() && !ledger.is_unknowable && text.slot(ledger.root()).is_some();
    known.then_some(text.out)
}

/// A shape on its way into text.
struct Text<'a> {
    ledger: &'a Ledger,
    /// The types around the present one, outermost first.
    around: Vec<&'static str>,
    out: String,
}

impl Text<'_> {
    /// Writes a type; `None` if the text becomes too long.
    fn slot(&mut self, slot: &Slot) -> Option<()> {
        match slot {
            None => self.out.push('?'),
            Some(Kind::Leaf(name)) => self.out.push_str(name),
            Some(Kind::Node(id)) => match self.around.iter().rev().position(|above| above == id) {
                Some(up) => self.out.push_str(&format!("^{}", up + 1)),
                None => {
                    self.around.push(id);
                    self.node(id)?;
                    self.around.pop();
                }
            },
        }
        (self.out.len() <= TEXT_MAX).then_some(())
    }

    fn node(&mut self, id: &'static str) -> Option<()> {
        let ledger = self.ledger;
        match ledger.node(id)? {
            Node::Option(some) => self.within("option<", some, ">"),
            Node::Seq(element) => self.within("[", element, "]"),
            Node::Map(key, value) => {
                self.within("{", key, ": ")?;
                self.within("", value, "}")
            }
            Node::Tuple(slots) if slots.len() > 3 && slots.iter().all(|slot| *slot == slots[0]) => {
                self.within("[", &slots[0], &format!("; {}]", slots.len()))
            }
            Node::Tuple(slots) => self.tuple(slots),
            Node::Struct(fields) => {
                self.out.push_str("struct");
                self.fields(fields)
            }
            Node::Enum(variants) => {
                self.out.push_str("enum{");
                for (index, (name, variant)) in variants.iter().enumerate() {
                    self.separate(index);
                    self.name(name);
                    match variant {
                        // Not reached.
                        None => self.out.push_str("(?)"),
                        Some(Variant::Unit) => {}
                        Some(Variant::Newtype(slot)) => self.within("(", slot, ")")?,
                        Some(Variant::Tuple(slots)) => self.tuple(slots)?,
                        Some(Variant::Struct(fields)) => self.fields(fields)?,
                    }
                }
                self.out.push('}');
                Some(())
            }
        }
    }

    fn within(&mut self, open: &str, slot: &Slot, close: &str) -> Option<()> {
        self.out.push_str(open);
        self.slot(slot)?;
        self.out.push_str(close);
        Some(())
    }

    fn tuple(&mut self, slots: &[Slot]) -> Option<()> {
        self.out.push('(');
        for (index, slot) in slots.iter().enumerate() {
            self.separate(index);
            self.slot(slot)?;
        }
        self.out.push(')');
        Some(())
    }

    fn fields(&mut self, fields: &[(&'static str, Slot)]) -> Option<()> {
        self.out.push('{');
        for (index, (name, slot)) in fields.iter().enumerate() {
            self.separate(index);
            self.name(name);
            self.within(": ", slot, "")?;
        }
        self.out.push('}');
        Some(())
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.out.push_str(", ");
        }
    }

    /// Writes a name, in quotes unless it is one word.
    fn name(&mut self, name: &str) {
        let word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        match word {
            true => self.out.push_str(name),
            false => self.out.push_str(&format!("{name:?}")),
        }
    }
}

#[cfg(test)]
mod tests;
