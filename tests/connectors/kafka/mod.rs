//! Goal: whatever becomes of a topic of Kafka and of its brokers, the shard is the fold of the log, or the client
//! says that the position is lost. Method: fake brokers over real sockets, librdkafka on both sides of them; what
//! every broker can do is done at any, if `KAFKA_BROKERS=HOST:PORT[,HOST:PORT]` names them.

mod client;
mod cluster;
mod faults;
mod lag;
mod lost;
mod mock;
mod reading;
mod replicas;
mod secured;
mod stopping;
mod topic;
