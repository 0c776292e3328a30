//! Goal: each connector reads what its server says, exactly. Method: servers of our own that share
//! nothing with the connectors, over real sockets. One folder a connector.

#[cfg(feature = "kafka")]
mod kafka;
mod planetscale;
#[cfg(feature = "postgres-source")]
mod postgres;
#[path = "../common/random.rs"]
mod random;
#[path = "../common/running.rs"]
mod running;
mod texts;
#[path = "../common/tls.rs"]
mod tls;
