//! Owns the way out of the dataflow: the committed collection, read back and typed again, and how the readers
//! of all workers end. It does not own the reading; that is [`feedback`](crate::feedback).

pub(crate) mod decode;
pub(crate) mod together;
