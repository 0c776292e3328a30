//! Goal: whatever becomes of a topic of Kafka and of its brokers, the shard is the fold of the log, or the client
//! says that the position is lost. Method: fake brokers over real sockets, librdkafka on both sides of them.

mod client;
mod cluster;
mod faults;
mod lost;
mod mock;
mod reading;
mod stopping;
