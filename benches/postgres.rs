//! Measures a table as a source against bare readers of the same, in one run: rows per second of its copy, beside a reader
//! of `COPY .. TO STDOUT` and one of `SELECT .. ORDER BY` its key, and of its stream, beside a reader of the slot's
//! messages. The bare readers are a socket: they decode nothing, and drop what they get. The server is PostgreSQL on
//! loopback, in a directory of its own; it works on the same processors, so the ratios say more than the rates.
//!
//! ```text
//! cargo bench --features postgres-source --bench postgres -- [MEGABYTES] [ROUNDS]
//! ```

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use differential_upsert::connect::postgres::Postgres;
use differential_upsert::source::{
    AttemptConfig, Boundary, Event, Source, SourceStats, StageLimits,
};
use differential_upsert::unstable::attempt::{Attempts, Reason};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

#[allow(dead_code, reason = "the tests ask more of it")]
#[path = "../tests/connectors/postgres/server.rs"]
mod server;

use server::Server;

/// Rows of a transaction of the stream.
const TOGETHER: usize = 100;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let megabytes = numbers.first().copied().unwrap_or(50);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let server = Server::start();
    server.ask("CREATE TABLE t (id bigint PRIMARY KEY, n bigint, doc text); CREATE PUBLICATION p FOR TABLE t");
    println!("{megabytes} MB; rows per second; the stream in transactions of {TOGETHER} rows");
    println!("{:>12} {:>12} {:>12} {:>7}", "", "bare", "source", "ratio");
    for bytes in [1_000, 80] {
        let rows = (megabytes << 20) / bytes;
        // Nothing is in the table, so all of this is stream.
        server.ask("TRUNCATE t");
        let start = start(&runtime, &server);
        server.ask("SELECT pg_create_logical_replication_slot('bare', 'pgoutput')");
        fill(&server, rows, bytes);
        let end = server.ask("SELECT pg_logical_emit_message(true, 'end', '') - '0/0'")[0].clone();
        let end: u64 = end.parse().expect("a place");
        let name = format!("stream {bytes}");
        let read_stream = || runtime.block_on(read(&server, &start, rows));
        compare(&name, rows, rounds, || stream(&server, end), read_stream);
        // The copy's slot begins behind what the table was filled with.
        server.drop_slots();
        let name = format!("copy {bytes}");
        let beginning = Boundary::start("postgres:postgres/public.t");
        let read_copy = || runtime.block_on(read(&server, &beginning, rows));
        compare(&name, rows, rounds, || answer(&server, "COPY t TO STDOUT"), read_copy);
        let name = format!("select {bytes}");
        let select = "SELECT id, n, doc FROM t ORDER BY id";
        compare(&name, rows, rounds, || answer(&server, select), read_copy);
        server.drop_slots();
    }
}

/// Runs two readers by turns, and prints the medians.
fn compare(what: &str, rows: usize, rounds: usize, bare: impl Fn(), source: impl Fn()) {
    let rate = |run: &dyn Fn()| {
        let began = Instant::now();
        run();
        rows as f64 / began.elapsed().as_secs_f64()
    };
    let both: Vec<(f64, f64)> = (0..rounds).map(|_| (rate(&bare), rate(&source))).collect();
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = both.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (bare, source, ratio) =
        (median(&|one| one.0), median(&|one| one.1), median(&|one| one.1 / one.0));
    println!("{what:>12} {bare:>12.0} {source:>12.0} {ratio:>7.2}");
}

fn fill(server: &Server, rows: usize, bytes: usize) {
    // Texts that do not compress, and are not stored apart.
    let doc = format!("substr(repeat(md5(g::text), {}), 1, {bytes})", bytes / 32 + 1);
    server.ask(&format!(
        "DO $$ BEGIN FOR i IN 0..{} LOOP INSERT INTO t SELECT g, g, {doc} FROM generate_series(i * {TOGETHER} + 1, \
         least((i + 1) * {TOGETHER}, {rows})) g; COMMIT; END LOOP; END $$",
        (rows - 1) / TOGETHER,
    ));
    server.ask("VACUUM ANALYZE t");
    server.ask("CHECKPOINT");
}

fn table(server: &Server) -> Postgres {
    Postgres::open(&server.url("public.t"), None).expect("an address")
}

/// Copies the empty table, and returns the place after it.
fn start(runtime: &Runtime, server: &Server) -> Boundary<<Postgres as Source>::Position> {
    let source = table(server);
    let (sender, mut units) = mpsc::channel(8);
    let (_durable, durable) = watch::channel(None);
    let attempts = Attempts {
        shape: 0,
        from: Boundary::start(&source.identity()),
        config: AttemptConfig::default(),
        limits: StageLimits::default(),
        stop_at_current: true,
        seed: 0,
        cancel: CancellationToken::new(),
        units: sender,
        durable,
        stats: SourceStats::default(),
    };
    let ended = runtime.block_on(async {
        let ended = tokio::spawn(attempts.run_postcard(source));
        while units.recv().await.is_some() {}
        ended.await.expect("it ends")
    });
    assert!(matches!(ended.reason, Reason::Complete), "{:?}", ended.reason);
    ended.boundary
}

/// Hands rows over as changes, and drops them.
async fn read(server: &Server, from: &Boundary<<Postgres as Source>::Position>, rows: usize) {
    let mut source = table(server);
    // The slot may be the reader's before it, yet.
    while source.connect(from).await.is_err() {
        tokio::task::yield_now().await;
    }
    let mut received = 0;
    while received < rows {
        let events = source.next().await.expect("events").expect("a connection");
        received += events.iter().filter(|event| matches!(event, Event::Change(..))).count();
    }
    assert_eq!(received, rows);
}

/// A connection to the server, and nothing more.
struct Bare(BufReader<TcpStream>, Vec<u8>);

impl Bare {
    fn open(server: &Server) -> Bare {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a server");
        stream.set_nodelay(true).expect("a socket");
        let mut bare = Bare(BufReader::with_capacity(128 << 10, stream), Vec::new());
        let settings = b"\0\x03\0\0user\0me\0database\0postgres\0replication\0database\0\0";
        bare.send(&[&(settings.len() as u32 + 4).to_be_bytes()[..], settings].concat());
        bare.until(b'Z');
        bare
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("to write");
    }

    fn message(&mut self, kind: u8, bytes: &[u8]) {
        let length = (bytes.len() as u32 + 4).to_be_bytes();
        self.send(&[&[kind], &length[..], bytes].concat());
    }

    fn ask(&mut self, sql: &str) {
        self.message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    }

    /// Reads a message, and returns its kind.
    fn next(&mut self) -> u8 {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).expect("a message");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        self.1.resize(length, 0);
        self.0.read_exact(&mut self.1).expect("a message");
        assert!(head[0] != b'E', "{}", String::from_utf8_lossy(&self.1));
        head[0]
    }

    fn until(&mut self, kind: u8) {
        while self.next() != kind {}
    }

    fn place(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.1[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// Reads an answer, and drops it.
fn answer(server: &Server, sql: &str) {
    let mut bare = Bare::open(server);
    bare.ask(sql);
    bare.until(b'Z');
}

/// Reads the slot's messages up to a place, and drops them.
fn stream(server: &Server, end: u64) {
    let mut bare = Bare::open(server);
    bare.ask(
        "START_REPLICATION SLOT bare LOGICAL 0/0 (proto_version '1', publication_names 'p', messages 'true')",
    );
    bare.until(b'W');
    loop {
        if bare.next() != b'd' {
            continue;
        }
        match bare.1[0] {
            b'w' if bare.place(1) >= end => return,
            b'k' if bare.1[17] == 1 => {
                // Nothing is kept: the next round begins where this one has.
                bare.message(b'd', &[&b"r"[..], &[0; 33]].concat());
            }
            _ => {}
        }
    }
}
