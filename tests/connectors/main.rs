//! Goal: each connector reads what its server says, exactly. Method: servers of our own that share
//! nothing with the connectors, over real sockets. One folder a connector.

mod planetscale;
#[allow(dead_code, reason = "the processes use all of it")]
#[path = "../common/process.rs"]
mod process;
#[allow(dead_code, reason = "the simulation uses all of it")]
#[path = "../simulation/random.rs"]
mod random;
