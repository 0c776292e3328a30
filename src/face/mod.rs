//! Owns the HTTP face of a pipeline: `/health`, `/metrics`, a live page at `/`, and `POST /promote`. It does
//! not own what they show, nor what promoting does.
//!
//! ```text
//! GET  /          a page for people, in one piece, which is kept up by
//! GET  /events    server-sent events: a JSON document at once, then one a second; for 32 pages at a time, else 503
//! GET  /health    the HealthReport as JSON; 200, or 503 for stalled, fenced and failed
//! GET  /metrics   the Metrics as Prometheus text
//! POST /promote   promotes the standby; 200 at once, any number of times; 415 without
//!                 Content-Type: application/json, and 403 for what comes from another site
//! ```
//!
//! It runs on an I/O runtime, beside the workers: a request reads cells and never waits for a worker.
//! Several pipelines of one process are on one page, and in one text of metrics, told apart by their labels. `/health` is
//! then that of the first one in trouble, or else of the first. What `/events` says is the page's own, and may change.
//!
//! It asks for no login: what reaches the address can read all of it, and can promote. Listen on a loopback
//! address, or behind something that asks. Pages of other sites cannot promote by a browser that reaches it: `Host` has to be
//! an address, `localhost`, or a [name that was told](Face::answer_to), and `Origin`, if there is one, the same or such a name.
//!
//! # Examples
//!
//! ```
//! use differential_upsert::face::{self, Face};
//! use differential_upsert::{Command, PipelineConfig, Promotion, Shard, UpsertInto};
//! use std::io::{Read, Write};
//! use timely::dataflow::operators::Input;
//!
//! let face = Face::new(Promotion::default());
//! let shard = Shard::<String, u64>::open("mem:")?;
//! let server = shard.io().block_on(face::serve("127.0.0.1:0".parse().unwrap(), face.clone()))?;
//! let address = server.address();
//! timely::execute_directly(move |worker| {
//!     let (feed, token) = worker.dataflow(|scope| {
//!         let (input, commands) = scope.new_input::<Vec<(Command<String, u64, u64>, u64)>>();
//!         let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
//!         face.show(pipeline.health, pipeline.metrics);
//!         (input, pipeline.token)
//!     });
//!     worker.step();
//!     let mut stream = std::net::TcpStream::connect(address).unwrap();
//!     stream.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer).unwrap();
//!     assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
//!     assert!(answer.contains("\"role\":\"writer\""), "{answer}");
//!     drop((feed, token));
//! });
//! server.stop();
//! # Ok::<(), differential_upsert::Error>(())
//! ```

mod track;

mod shown;

mod document;

mod page;

mod events;

mod site;

mod routes;

pub use routes::{Server, serve};
pub use shown::Face;
