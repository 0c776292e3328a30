//! Goal: a source is resumed exactly, told only what is durable, stopped at once, and never ends by an
//! error: the behaviours B1 to B41, one named test each at least.
//! Method: scripted sources, whose scripts are cut into responses at random; feeds with a log of
//! their own, that crash, are cancelled, purged and failed over at random points; whole pipelines over a
//! store in memory, step by step. The oracle is the fold of the script or of the log. Time is paused.
//! `BEHAVIOUR_SEED=n` runs one seed alone, `BEHAVIOUR_SEEDS=n` so many, from `BEHAVIOUR_SEED` on.
//!
//! A test is named for its behaviour: `b04_...` is B4's. What is said of the messages of Vitess and
//! PlanetScale (B4 to B8, B13, B14, B40, B41) is here as the rule that any source must follow, and
//! for the connector beside it, in `src/connect/planetscale/{phase,unit}_tests.rs`; over a wire it is in
//! `tests/connectors/planetscale/`.
//!
//! | | What | Where |
//! |---|---|---|
//! | B1, B2 | a transaction is one unit or none, in whatever responses | `boundaries` |
//! | B3 | transactions without rows move the cursor | `boundaries` |
//! | B4, B5 | the start and the end of a copy | `boundaries` |
//! | B6, B7, B8 | a position in a transaction; no position; groups that are split | `boundaries` |
//! | B9 | every failure leaves the last boundary; a cursor always has a value, says the type [`Ended`] | `boundaries` |
//! | B10 | an error in a response keeps its cursor out | `boundaries` |
//! | B11 | cursors do not change: their types offer no way to | `boundaries` |
//! | B12 | cursors never go back | `boundaries`, `runs`, `durability` |
//! | B13, B14 | errors beside rows; rows that cannot be made out | `boundaries` |
//! | B15, B16, B17 | ends of streams, of feeds, of copies | `ends` |
//! | B18, B19, B20, B22 | told to stop, wherever it waits | `cancel` |
//! | B21, B23 to B28 | retries, deadlines, budgets, delays, where to stop | `retries` |
//! | B29, B30, B33, B35, B36 | crashes, lost answers, two writers, stops, zombies | `durability` |
//! | B31, B34 | acks; an output that fails | `acks`, `durability` |
//! | B32 | resumed from anywhere, it comes to the same | `snapshots`, `runs` |
//! | B37, B38, B39 | copies that are interrupted, and made anew; keys never seen | `snapshots`, `runs`, `offsets` |
//! | B40 | delete and put in one transaction | `boundaries`, `snapshots` |
//! | B41 | partitions that others take the place of | `snapshots`, `acks` |
//!
//! [`Ended`]: differential_upsert::unstable::attempt::Ended

mod acks;
mod boundaries;
mod cancel;
mod durability;
mod ends;
mod feed;
mod offsets;
mod oracle;
mod place;
mod retries;
mod rig;
mod runs;
mod script;
mod snapshots;
mod world;
