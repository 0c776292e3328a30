//! Owns the strings and lengths that a type is tried with, where nothing says which it takes. It does not try them.

/// Strings that a type may take which reads something out of them, tried in turn.
pub(super) const STRINGS: [&str; 10] = [
    "1",
    "",
    "a",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "127.0.0.1",
    "http://localhost/",
    "00000000-0000-0000-0000-000000000000",
    "UTC",
];
/// Lengths of bytes, likewise.
pub(super) const LENGTHS: [usize; 10] = [0, 1, 4, 8, 12, 16, 20, 24, 32, 64];
