//! Owns values made up for a shape, in postcard's bytes: enough of them that each variant and each part occurs. It
//! does not own what they are read as.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::made_up::{LENGTHS, STRINGS};
use super::parsed::{At, Shape, Type, types};

/// How many kinds of strings and lengths of bytes there are to try: what a type may take that reads something out of
/// them.
pub(crate) const PLANS: usize = STRINGS.len();

/// The most bytes of all values of a type: a shape is a text, and may ask for more than there is.
const BYTES_MAX: usize = 1 << 20;

/// Values of one type.
type All = Rc<Vec<Vec<u8>>>;

/// Returns values of a shape, as many in each plan; `None` if not all of it is known, or they are too large.
pub(crate) fn samples(shape: &Shape, plan: usize) -> Option<Vec<Vec<u8>>> {
    let mut samples = Samples { shape, plan, around: Vec::new(), made: BTreeMap::new() };
    samples.all(0).map(|all| all.to_vec())
}

struct Samples<'a> {
    shape: &'a Shape,
    plan: usize,
    /// The types around the present one.
    around: Vec<At>,
    /// What was made of a type.
    made: BTreeMap<At, Option<All>>,
}

impl Samples<'_> {
    /// Returns values that together have everything in them that the type has; inside itself, the least one.
    fn all(&mut self, at: At) -> Option<All> {
        if self.around.contains(&at) {
            let least = self.least(at, &mut Vec::new())?;
            return Some(Rc::new(vec![least]));
        }
        if let Some(made) = self.made.get(&at) {
            return made.clone();
        }
        self.around.push(at);
        let all = self.make(at).map(Rc::new);
        self.around.pop();
        self.made.insert(at, all.clone());
        all
    }

    fn make(&mut self, at: At) -> Option<Vec<Vec<u8>>> {
        match self.shape.at(at) {
            Type::Unknown => None,
            Type::Leaf(name) => self.leaf(name).map(|leaf| vec![leaf]),
            Type::Option(some) => {
                let mut all = self.together(&[1], &[*some])?;
                all.push(vec![0]);
                Some(all)
            }
            Type::Seq(element) => self.together(&[1], &[*element]),
            Type::Map(key, value) => self.together(&[1], &[*key, *value]),
            Type::Tuple(types) => self.together(&[], types),
            Type::Struct(fields) => self.together(&[], &types(fields)),
            Type::Enum(variants) => {
                let mut all = Vec::new();
                for (index, (_, payload)) in variants.iter().enumerate() {
                    all.append(&mut self.together(&number(index)?, &payload.parts())?);
                }
                Some(all)
            }
        }
    }

    /// Returns values of several parts, behind some bytes: as many as the part with the most values has.
    fn together(&mut self, head: &[u8], parts: &[At]) -> Option<Vec<Vec<u8>>> {
        let parts: Option<Vec<All>> = parts.iter().map(|at| self.all(*at)).collect();
        let parts = parts?;
        let most = parts.iter().map(|all| all.len()).max().unwrap_or(1);
        let longest = |all: &All| all.iter().map(Vec::len).max();
        // A type without a value has none: an enum without variants.
        let longest: Option<Vec<usize>> = parts.iter().map(longest).collect();
        if longest?.iter().sum::<usize>().saturating_mul(most) > BYTES_MAX {
            return None;
        }
        let value = |index: usize| {
            let parts = parts.iter().map(|all| all[index % all.len()].as_slice());
            [head].into_iter().chain(parts).collect::<Vec<_>>().concat()
        };
        Some((0..most).map(value).collect())
    }

    /// Returns a value that ends; `None` if the type has none.
    fn least(&self, at: At, within: &mut Vec<At>) -> Option<Vec<u8>> {
        if within.contains(&at) {
            return None;
        }
        within.push(at);
        let least = match self.shape.at(at) {
            Type::Unknown => None,
            Type::Leaf(name) => self.leaf(name),
            Type::Option(_) | Type::Seq(_) | Type::Map(..) => Some(vec![0]),
            Type::Tuple(types) => self.least_of(types, within),
            Type::Struct(fields) => self.least_of(&types(fields), within),
            Type::Enum(variants) => {
                variants.iter().enumerate().find_map(|(index, (_, payload))| {
                    let parts = self.least_of(&payload.parts(), within)?;
                    Some([number(index)?, parts].concat())
                })
            }
        };
        within.pop();
        least
    }

    fn least_of(&self, parts: &[At], within: &mut Vec<At>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut last: Option<(At, Vec<u8>)> = None;
        for at in parts {
            // The elements of an array are of one type.
            let least = match last.take() {
                Some((same, least)) if same == *at => least,
                _ => self.least(*at, within)?,
            };
            bytes.extend_from_slice(&least);
            last = Some((*at, least));
            if bytes.len() > BYTES_MAX {
                return None;
            }
        }
        Some(bytes)
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
            // Those of a `Packed`.
            _ => vec![0],
        })
    }
}

/// Returns a length, or the number of a variant.
fn number(number: usize) -> Option<Vec<u8>> {
    postcard::to_stdvec(&(number as u64)).ok()
}
