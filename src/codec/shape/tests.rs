//! Goal: a shape says what decides how bytes are read, and nothing else. Method: types side by side
//! with the text that they must have, and pairs of shapes with the place where they differ.
#![allow(dead_code, reason = "types that are only looked at")]

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer, Serialize};

use super::{difference, shape};
use crate::Packed;
use crate::codec::{Codec, Postcard};

fn of<T: serde::de::DeserializeOwned>() -> String {
    shape::<T>().unwrap_or_else(|| "nothing".to_string())
}

#[derive(Serialize, Deserialize)]
struct Row {
    cents: u64,
    count: u64,
}

#[derive(Deserialize)]
struct Wrapped<T> {
    value: T,
}

#[derive(Deserialize)]
struct Cents(#[allow(dead_code)] u32);

#[derive(Deserialize)]
struct Marker;

/// Serde lists the names of a field in the order of the alphabet.
#[derive(Deserialize)]
struct Aliased {
    #[serde(alias = "a", alias = "z")]
    m: u8,
    plain: Option<Cents>,
    #[serde(alias = "b")]
    aa: Box<Option<Aliased>>,
    #[serde(alias = "y", alias = "x")]
    z_last: Inner,
}

#[derive(Deserialize)]
enum Inner {
    Named {
        #[serde(alias = "n")]
        number: u16,
        #[serde(alias = "a")]
        text: String,
    },
    Unit,
}

#[derive(Deserialize)]
enum AliasedVariant {
    A,
    #[serde(alias = "Before")]
    B,
    C,
}

#[derive(Deserialize)]
enum Shapes {
    Nothing,
    One(u8),
    Two(u8, Option<Marker>),
    Named {
        #[serde(rename = "the id")]
        id: Cents,
        parent: Option<Box<Shapes>>,
    },
}

/// The variant that ends comes last, and recursion has no option or sequence around it.
#[derive(Deserialize)]
enum Expression {
    Add(Box<Expression>, Box<Expression>),
    Apply { to: Box<Expression>, mode: Mode },
    Literal(i64),
}

#[derive(Deserialize)]
enum Mode {
    Once,
    Within(Box<Expression>),
}

#[derive(Deserialize)]
struct Node {
    children: Vec<Node>,
    parent: Option<Box<Node>>,
    attributes: BTreeMap<String, Node>,
    weight: f32,
}

/// Takes only what it can read.
struct Date;

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.starts_with("1970-") {
            true => Ok(Date),
            false => Err(serde::de::Error::custom("no date")),
        }
    }
}

/// Takes nothing that anybody would make up.
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        match number {
            4711 => Ok(Picky),
            _ => Err(serde::de::Error::custom("another number")),
        }
    }
}

#[derive(Deserialize)]
struct Dated {
    at: Date,
    n: u8,
}

#[derive(Deserialize)]
struct WithPicky {
    first: i16,
    picky: Picky,
    rest: Row,
}

/// Asks for whatever there is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Untagged {
    #[allow(dead_code)]
    Number(u64),
}

#[test]
fn aliases_of_fields_are_seen_through_and_those_of_variants_leave_no_shape() {
    let inner = "enum{Named{number: u16, text: string}, Unit}";
    let text = format!("struct{{m: u8, plain: option<u32>, aa: option<^2>, z_last: {inner}}}");
    assert_eq!(of::<Aliased>(), text);
    assert_eq!(of::<Vec<Aliased>>(), format!("[{text}]"));
    assert_eq!(shape::<AliasedVariant>(), None);
    assert_eq!(shape::<Wrapped<AliasedVariant>>(), None);
}

#[test]
fn shapes_of_types() {
    let row = "struct{cents: u64, count: u64}";
    let cases = [
        (of::<u64>(), "u64"),
        (of::<(bool, char, f64, i128, u128)>(), "(bool, char, f64, i128, u128)"),
        (of::<String>(), "string"),
        (of::<Box<str>>(), "string"),
        (of::<Vec<u8>>(), "[u8]"),
        (of::<()>(), "unit"),
        (of::<[u16; 8]>(), "[u16; 8]"),
        (of::<[u16; 2]>(), "(u16, u16)"),
        (of::<HashMap<u8, Option<Vec<String>>>>(), "{u8: option<[string]>}"),
        (of::<Result<u8, String>>(), "enum{Ok(u8), Err(string)}"),
        (of::<std::num::NonZeroU32>(), "u32"),
        (of::<std::time::Duration>(), "struct{secs: u64, nanos: u32}"),
        (of::<std::net::Ipv4Addr>(), "[u8; 4]"),
        (of::<Row>(), row),
        (of::<Cents>(), "u32"),
        (of::<Marker>(), "unit"),
        (of::<Packed<Vec<Row>>>(), "packed<\"Vec<Row>\">"),
        // The same type with other parameters contains itself, and that is not recursion.
        (of::<Wrapped<Wrapped<u8>>>(), "struct{value: struct{value: u8}}"),
        (
            of::<Shapes>(),
            "enum{Nothing, One(u8), Two(u8, option<unit>), \
             Named{\"the id\": u32, parent: option<^2>}}",
        ),
        (
            of::<Expression>(),
            "enum{Add(^1, ^1), Apply{to: ^1, mode: enum{Once, Within(^2)}}, Literal(i64)}",
        ),
        (
            of::<Node>(),
            "struct{children: [^2], parent: option<^2>, attributes: {string: ^2}, weight: f32}",
        ),
        (
            of::<Vec<Node>>(),
            "[struct{children: ^2, parent: option<^2>, \
             attributes: {string: ^2}, weight: f32}]",
        ),
        (
            of::<Option<Option<Mode>>>(),
            "option<option<enum{Once, Within(enum{Add(^1, ^1), \
             Apply{to: ^1, mode: ^2}, Literal(i64)})}>>",
        ),
        (of::<Dated>(), "struct{at: string, n: u8}"),
        (of::<WithPicky>(), "struct{first: i16, picky: u16, rest: ?}"),
        // What comes before the choice that is refused is known, and what comes after it.
        (of::<(Option<Picky>, Row)>(), "(option<u16>, struct{cents: u64, count: u64})"),
        (of::<Untagged>(), "nothing"),
        (of::<(u8, Untagged)>(), "(u8, ?)"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    assert_eq!(<Postcard as Codec<Row>>::shape().as_deref(), Some(row));
}

#[test]
fn where_shapes_differ() {
    let cases = [
        ("u64", "u64", None),
        ("u32", "u64", Some(("", "u32", "u64"))),
        ("(u8, [u32])", "(u8, [i32])", Some(("", "u32", "i32"))),
        (
            "struct{cents: u64, count: u64}",
            "struct{count: u64, cents: u64}",
            Some(("", "cents: u64", "count: u64")),
        ),
        ("struct{a: u8}", "struct{a: u8, b: u8}", Some(("", "nothing", "b: u8"))),
        (
            "enum{A, B{x: struct{y: u8}}}",
            "enum{A, B{x: struct{y: u16}}}",
            Some((".B.x.y", "u8", "u16")),
        ),
        ("enum{A, B(u8)}", "enum{B(u8), A}", Some(("", "A", "B(u8)"))),
        ("struct{a: ?, b: u8}", "struct{a: {u8: (u8, u8)}, b: u8}", None),
        ("struct{a: ?, b: u8}", "struct{a: {u8: (u8, u8)}, b: u16}", Some((".b", "u8", "u16"))),
        ("struct{a: packed<\"A<{\">, b: ?}", "struct{a: ?, b: enum{A(u8), B}}", None),
        ("(?, u8)", "(struct{a: u8}, u8)", None),
        ("enum{A(?)}", "enum{A(u8, u16)}", Some((".A", "nothing", "u16"))),
    ];
    for (left, right, expected) in cases {
        let found = difference(left, right);
        let found = found.as_ref().map(|d| (&*d.path, &*d.left, &*d.right));
        assert_eq!(found, expected, "{left} and {right}");
        assert_eq!(difference(right, left).is_some(), expected.is_some(), "{right} and {left}");
    }
}
