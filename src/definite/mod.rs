//! Owns the check that a feed is *definite*: that every writer of a shard hands over the same
//! commands at the same times. It drops nothing and appends nothing.
//!
//! Commands below the shard's upper are dropped by the operator, because they are there. That is lossless only if
//! what is there was made from the same feed, and nothing but a comparison can tell: so every append
//! carries the count and the order-free sum of hashes of all commands below its upper, and a writer
//! compares its own with the shard's whenever its input passes an upper. What a patch comes to is for its
//! [fold](crate::Shard::with_fold) to say, so the name of that is in its hash; and in that of a reset of a collection is the
//! name of what says [which keys are of it](crate::Shard::with_collections).
//!
//! # Operators
//!
//! ```text
//!   commands --> Tally --all of them--------> upsert
//!                  '----(time, count, sum)--> Check (worker 0) --frontier--> Mint
//! ```
//!
//! *Tally* hashes each command and passes it on: what the shard has already is dropped by the operator, which
//! knows what it has emitted.
//! *Check* collects the sums of all workers and compares.
//!
//! # Frontiers
//!
//! * commands: as they come in.
//! * checked, `c`: what the feed has below it agrees with the shard, as far as the shard has got.
//!   A feed that differs holds it, and with it every append.
//!
//! # Loop
//!
//! 1. Find out from where on this feed speaks: a feed whose first command is at or past the upper
//!    *continues*, and starts from what is stored. Where it began is marked in its first commit, so
//!    that it can be run again.
//! 2. When the input passes an upper, compare. Until then, more commands than the shard was made
//!    from is already a difference.
//! 3. At the end, a feed that ends below the upper lacks something, unless the shard has gone on without
//!    a command, up to its upper or to where another was marked to continue.
//!
//! # Invariants
//!
//! 1. An append carries our sum at its lower, and the shard's must be equal: judged at the commit
//!    point, so no race slips another feed in between.
//! 2. The sums of an append are taken below `c`, when all workers' commands have been counted.
//!
//! # Limits
//!
//! One sum per distinct time that is not yet in the shard. All workers and processes of a pipeline
//! must continue from the same time.

pub(crate) mod digest;
mod ledger;
mod operator;

pub(crate) use digest::Digest;
pub(crate) use ledger::Terms;
pub(crate) use operator::{Checked, check, tally};
