//! Goal: a value of another shape is read field by field, or refused before one is. Method: pairs of types side by side,
//! values encoded as the one and read as the other, and the words of each refusal.
#![allow(dead_code, reason = "types that are only read")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Evolving;
use crate::Packed;
use crate::codec::shape::{Shape, samples, shape};
use crate::codec::{Codec, Postcard};
use crate::error::ErrorKind;

fn shape_of<T: DeserializeOwned>() -> Shape {
    Shape::new(shape::<T>().expect("a shape"))
}

/// Encodes a value as one type and reads it as another.
fn read<A: Serialize + DeserializeOwned, B: Serialize + DeserializeOwned>(value: &A) -> B {
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).expect("a value");
    let from = shape_of::<A>();
    <Evolving as Codec<B>>::upgrades(&from).expect("it can be read");
    Evolving::upgrade(&from, &bytes).expect("it is read")
}

/// Returns why one type cannot be read as another.
fn refused<A: DeserializeOwned, B: Serialize + DeserializeOwned>() -> String {
    let error = <Evolving as Codec<B>>::upgrades(&shape_of::<A>()).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    error.what().to_string()
}

mod old {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Order {
        pub cents: u32,
        pub note: String,
        pub lines: Vec<Line>,
        pub state: State,
        pub by: BTreeMap<u8, (i16, char)>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Line {
        pub sku: String,
        pub count: u16,
        #[serde(rename = "the \"depth\"")]
        pub depth: [u8; 4],
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum State {
        Open,
        Sent { by: String, parts: Option<Box<State>> },
        Back(String, u8),
        Lost(f32),
    }
}

mod new {
    use super::*;

    /// Another order of fields, a name, a width, an option and a default that are new, a field that is gone.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Order {
        #[serde(default = "ours")]
        pub currency: String,
        pub state: State,
        pub lines: Vec<Line>,
        #[serde(alias = "cents")]
        pub amount: u64,
        pub tax: Option<u64>,
        pub by: BTreeMap<u16, (i32, String)>,
    }

    fn ours() -> String {
        "EUR".to_string()
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Line {
        pub count: Option<u32>,
        #[serde(alias = "the \"depth\"")]
        pub depth: Vec<u8>,
        pub sku: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum State {
        Lost(f64),
        Held,
        Back(String, u32),
        Sent { parts: Option<Box<State>>, by: String },
        Open,
    }
}

fn order() -> (old::Order, new::Order) {
    let nested = |inner| old::State::Sent { by: "us".into(), parts: Some(Box::new(inner)) };
    let old = old::Order {
        cents: 300,
        note: "it is dropped".into(),
        lines: vec![old::Line { sku: "a".into(), count: 7, depth: [1, 2, 3, 4] }],
        state: nested(nested(old::State::Back("x".into(), 200))),
        by: [(1, (-300, '\u{e9}'))].into(),
    };
    let nested = |inner| new::State::Sent { by: "us".into(), parts: Some(Box::new(inner)) };
    let new = new::Order {
        currency: "EUR".into(),
        state: nested(nested(new::State::Back("x".into(), 200))),
        lines: vec![new::Line { count: Some(7), depth: vec![1, 2, 3, 4], sku: "a".into() }],
        amount: 300,
        tax: None,
        by: [(1, (-300, "\u{e9}".into()))].into(),
    };
    (old, new)
}

#[test]
fn fields_are_read_by_their_names() {
    let (old, new) = order();
    assert_eq!(read::<_, new::Order>(&old), new);
    for (state, same) in [
        (old::State::Open, new::State::Open),
        (old::State::Lost(1.5), new::State::Lost(1.5)),
        (
            old::State::Sent { by: "b".into(), parts: None },
            new::State::Sent { by: "b".into(), parts: None },
        ),
    ] {
        assert_eq!(read::<_, new::State>(&state), same);
    }
}

/// What a type passes over is read past, whatever it is.
#[test]
fn a_field_of_any_shape_is_dropped() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Last {
        last: u64,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Before<T> {
        dropped: T,
        last: u64,
    }
    fn dropped<T: Serialize + DeserializeOwned>(dropped: T) {
        assert_eq!(read::<_, Last>(&Before { dropped, last: 7 }), Last { last: 7 });
    }
    let (order, _) = order();
    for state in [
        old::State::Open,
        old::State::Sent { by: "b".into(), parts: Some(Box::new(old::State::Lost(0.5))) },
        old::State::Back("c".into(), 3),
        old::State::Lost(1.5),
    ] {
        dropped((state.clone(), vec![state]));
    }
    dropped((order.clone(), Some(order), None::<old::Order>));
    dropped((Packed::pack(&(3u8, "x".to_string())).expect("it is packed"), ()));
    dropped(BTreeMap::from([("k".to_string(), i128::MIN)]));
}

#[test]
fn every_leaf_comes_back_as_itself() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Leaves {
        a: (bool, u8, u16, u32, u64, u128),
        b: (i8, i16, i32, i64, i128),
        c: (f32, f64, char, String, ()),
        d: Option<u64>,
        e: (Option<u64>, Packed<(u8, String)>),
    }
    let mut bytes = Vec::new();
    let leaves = Leaves {
        a: (true, u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
        b: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
        c: (-0.5, f64::MAX, '\u{10ffff}', "text".into(), ()),
        d: Some(3),
        e: (None, Packed::pack(&(3, "x".to_string())).expect("it is packed")),
    };
    Postcard::encode(&leaves, &mut bytes).expect("a value");
    let read: Leaves = Evolving::upgrade(&shape_of::<Leaves>(), &bytes).expect("it is read");
    assert_eq!(read, leaves);
    // Each end that is missing, and one more byte.
    for end in 0..bytes.len() {
        let read = <Evolving as Codec<Leaves>>::upgrade(&shape_of::<Leaves>(), &bytes[..end]);
        assert_eq!(read.expect_err("it is cut").kind(), ErrorKind::Corrupt, "{end}");
    }
    bytes.push(0);
    let read = <Evolving as Codec<Leaves>>::upgrade(&shape_of::<Leaves>(), &bytes);
    assert_eq!(read.expect_err("it is longer").kind(), ErrorKind::Corrupt);
}

#[test]
fn what_does_not_fit_is_refused_before_a_value_is_read() {
    #[derive(Debug, Serialize, Deserialize)]
    struct One<T> {
        of: Vec<T>,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Two<T> {
        of: Vec<T>,
        more: T,
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum A {
        X(u8),
        Y,
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum OnlyX {
        X(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum Unit {
        X,
        Y,
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        of: Vec<u8>,
    }
    let (narrow, sign) = (refused::<One<u64>, One<u32>>(), refused::<One<u64>, One<i64>>());
    for (said, expected) in [
        (narrow, "a u64 does not fit into a u32 in \".of\""),
        (sign, "a u64 does not fit into a i64 in \".of\""),
        (refused::<One<f64>, One<f32>>(), "a f64 does not fit into a f32 in \".of\""),
        (refused::<One<String>, One<char>>(), "a string does not fit into a char in \".of\""),
        (refused::<One<u8>, Two<u8>>(), "no value for the field `more`"),
        (refused::<One<One<u8>>, One<Two<u8>>>(), "no value for the field `more` in \".of\""),
        (refused::<One<A>, One<OnlyX>>(), "no variant `Y` in \".of.Y\""),
        (refused::<A, Unit>(), "what is in it is made up in another way in \".X\""),
        (refused::<Two<u8>, Strict>(), "no field `more`"),
        (refused::<One<Option<u8>>, One<u8>>(), "it is Option value, not u8 in \".of\""),
        (refused::<(u8, u8), (u8, u8, u8)>(), "2 values are not 3"),
        (refused::<u8, (u8, u8)>(), "it is not 2 values in a row"),
        (refused::<(u8, u8), One<u8>>(), "it has no fields with names"),
        (refused::<u8, A>(), "it has no variants"),
        (
            refused::<Packed<u8>, Packed<u16>>(),
            "a packed<\"u8\"> does not fit into a packed<\"u16\">",
        ),
    ] {
        assert_eq!(said, format!("a value of another shape: {expected}"));
    }
    let unknown = <Evolving as Codec<u8>>::upgrades(&Shape::new("rows of version 3"));
    let unknown = unknown.expect_err("nothing is known").to_string();
    assert!(unknown.starts_with("a value of another shape: part of its shape is not"), "{unknown}");
}

#[test]
fn what_a_type_refuses_in_a_value_shows_when_it_is_read() {
    /// Takes no string that is made up.
    #[derive(Debug, PartialEq, Serialize)]
    struct Even(String);
    impl<'de> Deserialize<'de> for Even {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Even, D::Error> {
            let text = String::deserialize(from)?;
            match text.starts_with("even ") {
                true => Ok(Even(text)),
                false => Err(serde::de::Error::custom("it is not even")),
            }
        }
    }
    let from = shape_of::<(String, u8)>();
    <Evolving as Codec<(Even, u16)>>::upgrades(&from).expect("some may be");
    let read = |text: &str| {
        let mut bytes = Vec::new();
        Postcard::encode(&(text.to_string(), 1u8), &mut bytes).expect("a value");
        <Evolving as Codec<(Even, u16)>>::upgrade(&from, &bytes)
    };
    assert_eq!(read("even 2").expect("it is taken"), (Even("even 2".into()), 1));
    let error = read("odd 1").expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.what(), "a value of another shape: it is not even");
}

/// Every made-up value is one to postcard, and together they have each variant.
#[test]
fn samples_are_values_of_their_shape() {
    fn all<T: Serialize + DeserializeOwned + Debug>() -> Vec<T> {
        let samples = samples(&shape_of::<T>(), 0).expect("all is known");
        samples.iter().map(|bytes| Postcard::decode(bytes).expect("a value")).collect()
    }
    assert_eq!(all::<old::State>().len(), 5, "four variants, one of them with an option");
    assert_eq!(all::<old::Order>().len(), 5);
    #[derive(Debug, Serialize, Deserialize)]
    enum Expression {
        Add(Box<Expression>, Box<Expression>),
        Literal(i64),
    }
    assert_eq!(all::<Expression>().len(), 2);
    #[derive(Debug, Serialize, Deserialize)]
    struct Tree {
        below: Vec<Tree>,
    }
    assert_eq!(all::<Tree>().len(), 1);
}
