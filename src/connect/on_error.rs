//! Owns the choice of what happens where a feed has something that cannot be read. It does not own what that
//! is.

/// What happens at a line or a message that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The feed fails, with what, where and what to do. What came before it is handed over; of lines with
    /// given times, the times that it has closed are committed.
    #[default]
    Stop,
    /// It becomes an error value, under its key or, where that cannot be read, under
    /// `{"key_base64": BYTES}`: the bytes of a message's key, or a line's, of one that is too long its first
    /// 1 KiB.
    Keep,
}
