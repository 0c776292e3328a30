//! Owns why a value of another shape is not read: what serde and the types say, sorted by what it is of. It does not own what is
//! done about it.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// Why a value was not read.
#[derive(Debug)]
pub(super) struct Refused {
    why: Why,
    what: String,
    /// The fields and variants that lead there, innermost first.
    path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The type does not take values of this shape.
    Shape,
    /// It does not take this value.
    Value,
    /// The bytes are damaged: no value of the shape has them.
    Bytes,
}

impl Refused {
    pub(super) fn new(why: Why, what: impl fmt::Display) -> Refused {
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

    /// Adds the field or variant that it happened in.
    pub(super) fn inside(mut self, name: &str) -> Refused {
        self.path.push(name.to_string());
        self
    }
}

/// The error of a type that takes no value of a shape.
pub(super) fn misfit(what: impl fmt::Display) -> Refused {
    Refused::new(Why::Shape, what)
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
        misfit(format_args!("it is {found}, not {expected}"))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Refused {
        misfit(format_args!("no field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Refused {
        misfit(format_args!("two values for the field `{field}`"))
    }

    fn missing_field(field: &'static str) -> Refused {
        misfit(format_args!("no value for the field `{field}`"))
    }
}
