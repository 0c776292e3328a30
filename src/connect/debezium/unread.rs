//! Owns what is bad about a message. It does not own what is done about it.

use crate::codec::Json;

/// What is bad about a message, what to do, and the key it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connect) struct Unread {
    pub(in crate::connect) what: String,
    pub(in crate::connect) hint: &'static str,
    pub(in crate::connect) key: Option<Json>,
}

impl Unread {
    pub(super) fn new(what: impl Into<String>, hint: &'static str) -> Unread {
        Unread { what: what.into(), hint, key: None }
    }
}
