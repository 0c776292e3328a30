//! Goal: what a shard has of a PostgreSQL table is the table, whatever happens to either. Method: a PostgreSQL server that
//! the test starts, on loopback, in a directory of its own; clients of its own by `psql`.

mod client;
mod lag;
mod login;
mod lost;
mod runs;
mod server;
mod several;
mod shapes;
mod types;
mod workload;
mod writers;
