//! Goal: the example programs keep the contract of the outside face, whatever they are fed and whenever
//! they are killed. Method: real processes on real files, as a user runs them. One behaviour a file.

mod bad_input;
mod client;
mod cluster;
mod command_line;
mod debezium;
mod definite;
mod examples;
mod feeds;
mod four_writers;
mod git;
mod git_oracle;
mod http;
mod kill;
mod larger_than_memory;
mod lease_lost;
mod lock;
mod minted;
#[cfg(feature = "postgres-source")]
mod postgres;
mod process;
#[path = "../common/running.rs"]
mod running;
mod said;
#[allow(dead_code, reason = "the connectors' tests ask more of it")]
#[cfg(feature = "postgres-source")]
#[path = "../connectors/postgres/server.rs"]
mod server;
mod soak;
mod standby;
mod warm_restart;
mod written_before;
