//! Owns values made up for a shape, in postcard's bytes: enough of them that each variant and each part occurs. It
//! does not own what they are read as.

use super::parsed::{At, Payload, Shape, Type};
use super::trace::{LENGTHS, STRINGS};

/// How many kinds of strings and lengths of bytes there are to try: what a type may take that reads something out of
/// them.
pub(crate) const PLANS: usize = STRINGS.len();

/// Returns values of a shape; `None` if not all of it is known.
pub(crate) fn samples(shape: &Shape, plan: usize) -> Option<Vec<Vec<u8>>> {
    Samples { shape, plan, around: Vec::new() }.all(0)
}

struct Samples<'a> {
    shape: &'a Shape,
    plan: usize,
    /// The types around the present one.
    around: Vec<At>,
}

impl Samples<'_> {
    /// Returns values that together have everything in them that the type has; inside itself, the least one.
    fn all(&mut self, at: At) -> Option<Vec<Vec<u8>>> {
        if self.around.contains(&at) {
            return Some(vec![self.least(at)?]);
        }
        self.around.push(at);
        let all = match self.shape.at(at) {
            Type::Unknown => None,
            Type::Leaf(name) => self.leaf(name).map(|leaf| vec![leaf]),
            Type::Option(some) => self.behind(&[1], *some).map(|mut all| {
                all.push(vec![0]);
                all
            }),
            Type::Seq(element) => self.behind(&[1], *element),
            Type::Map(key, value) => self.together(&[1], [*key, *value]),
            Type::Tuple(types) => self.together(&[], types.iter().copied()),
            Type::Struct(fields) => self.together(&[], fields.iter().map(|(_, at)| *at)),
            Type::Enum(variants) => {
                let mut all = Vec::new();
                for (index, (_, payload)) in variants.iter().enumerate() {
                    all.append(&mut self.together(&number(index)?, payload.parts())?);
                }
                Some(all)
            }
        };
        self.around.pop();
        all
    }

    fn behind(&mut self, head: &[u8], at: At) -> Option<Vec<Vec<u8>>> {
        self.together(head, [at])
    }

    /// Returns values of several parts, behind some bytes: as many as the part with the most values has.
    fn together(
        &mut self,
        head: &[u8],
        parts: impl IntoIterator<Item = At>,
    ) -> Option<Vec<Vec<u8>>> {
        let parts: Option<Vec<_>> = parts.into_iter().map(|at| self.all(at)).collect();
        let parts = parts?;
        let most = parts.iter().map(Vec::len).max().unwrap_or(1);
        let value = |index: usize| {
            let parts = parts.iter().map(|all| all[index % all.len()].as_slice());
            [head].into_iter().chain(parts).collect::<Vec<_>>().concat()
        };
        // A type without a value has none: an enum without variants.
        (!parts.iter().any(Vec::is_empty)).then(|| (0..most).map(value).collect())
    }

    /// Returns a value that ends; `None` if the type has none.
    fn least(&mut self, at: At) -> Option<Vec<u8>> {
        let mut within = Vec::new();
        self.least_in(at, &mut within)
    }

    fn least_in(&self, at: At, within: &mut Vec<At>) -> Option<Vec<u8>> {
        if within.contains(&at) {
            return None;
        }
        within.push(at);
        let all = |parts: Vec<At>, within: &mut Vec<At>| {
            let parts: Option<Vec<_>> =
                parts.into_iter().map(|at| self.least_in(at, within)).collect();
            parts.map(|parts| parts.concat())
        };
        let least = match self.shape.at(at) {
            Type::Unknown => None,
            Type::Leaf(name) => self.leaf(name),
            Type::Option(_) | Type::Seq(_) | Type::Map(..) => Some(vec![0]),
            Type::Tuple(types) => all(types.clone(), within),
            Type::Struct(fields) => all(fields.iter().map(|(_, at)| *at).collect(), within),
            Type::Enum(variants) => {
                variants.iter().enumerate().find_map(|(index, (_, payload))| {
                    let parts = all(payload.parts(), within)?;
                    Some([number(index)?, parts].concat())
                })
            }
        };
        within.pop();
        least
    }

    fn leaf(&self, name: &str) -> Option<Vec<u8>> {
        Some(match name {
            "unit" => Vec::new(),
            "bool" => vec![0],
            // One is not zero, where that matters.
            "u8" | "u16" | "u32" | "u64" | "u128" | "i8" => vec![1],
            "i16" | "i32" | "i64" | "i128" => vec![2],
            "f32" => 1f32.to_le_bytes().to_vec(),
            "f64" => 1f64.to_le_bytes().to_vec(),
            "char" => vec![1, b'a'],
            "string" => {
                let text = STRINGS[self.plan];
                [number(text.len())?, text.as_bytes().to_vec()].concat()
            }
            "bytes" => [number(LENGTHS[self.plan])?, vec![0; LENGTHS[self.plan]]].concat(),
            name if name.starts_with("packed<") => vec![0],
            _ => return None,
        })
    }
}

impl Payload {
    /// Returns the types in it.
    fn parts(&self) -> Vec<At> {
        match self {
            Payload::Unit => Vec::new(),
            Payload::Newtype(at) => vec![*at],
            Payload::Tuple(types) => types.clone(),
            Payload::Struct(fields) => fields.iter().map(|(_, at)| *at).collect(),
        }
    }
}

/// Returns a length, or the number of a variant.
fn number(number: usize) -> Option<Vec<u8>> {
    postcard::to_stdvec(&(number as u64)).ok()
}
