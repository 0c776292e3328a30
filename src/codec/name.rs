//! Owns how a type is called in what a shard stores. It does not own how its values are made up; that is
//! [`shape`](super::shape)'s.

/// Drops the paths from a type's name, so that moving a type between modules changes nothing.
pub(crate) fn short_name(name: &str) -> String {
    let mut short = String::new();
    let mut word = 0;
    for c in name.chars() {
        short.push(c);
        if c == ':' {
            short.truncate(word);
        } else if !c.is_alphanumeric() && c != '_' {
            word = short.len();
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_paths() {
        assert_eq!(short_name("alloc::string::String"), "String");
        assert_eq!(
            short_name("(u64, alloc::vec::Vec<core::option::Option<u8>>)"),
            "(u64, Vec<Option<u8>>)"
        );
        assert_eq!(short_name("&str"), "&str");
    }
}
