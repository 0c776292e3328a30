//! Goal: whatever a VTGate or a PlanetScale gateway says, in whatever pieces, and however it stops
//! saying it, the shard ends with the server's table, and the server is never given a cursor that is
//! not one of its own boundaries.
//! Method: a server of our own over real HTTP/2 that shares nothing with the connector: a model of a
//! sharded table with its logs, messages typed anew from the public definitions, every ending that a
//! stream can have. One seed is one run: `PLANETSCALE_SEED=n` runs it alone, `PLANETSCALE_SEEDS=n`
//! runs so many. The sockets are real: a seed replays what happens, and not always when.

mod client;
mod command;
mod endings;
mod gateway;
mod keys;
mod ledger;
mod leg;
mod lost;
mod model;
mod proto;
mod reach;
mod refusals;
mod rows;
mod runs;
mod script;
mod server;
mod shard;
mod statements;
mod texts;
mod types;
mod vtgate;
mod witness;
mod world;
