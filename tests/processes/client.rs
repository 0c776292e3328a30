//! A client of the HTTP face of `ingest`: a process that serves, and requests over a plain TCP stream,
//! so that what is sent is what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::process::{PATIENCE, Running, start_ingest};

/// A process that answers, and where.
pub struct Server {
    pub running: Running,
    pub stderr: BufReader<std::process::ChildStderr>,
    pub address: String,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    /// Starts an `ingest` that serves, on a port of the system's choice.
    pub fn start(dir: &Path, args: &[&str]) -> Server {
        Server::of(start_ingest(dir, &[args, &["--http", "127.0.0.1:0"]].concat()))
    }

    /// Takes a process that serves: it says where.
    pub fn of(mut running: Running) -> Server {
        let mut stderr = BufReader::new(running.child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("http://").and_then(|line| line.strip_suffix("/\n"));
        let address = address.unwrap_or_else(|| panic!("{line}")).to_string();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
        Server { running, stderr, address }
    }

    /// Sends a request as it is and reads to the end of the answer.
    pub fn send(&self, request: &str) -> Answer {
        send(&self.address, request)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let address = &self.address;
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
        ))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub fn health(&self) -> (u16, Value) {
        let answer = self.get("/health");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
    }

    /// Asks for `/events`, and returns the head of the answer and the rest of the stream.
    pub fn events(&self) -> (String, BufReader<TcpStream>) {
        events(&self.address)
    }

    /// Returns the first document of `/events`.
    pub fn event(&self) -> Value {
        event(&self.address)
    }

    /// Asks until the health is as wanted; panics if the process ends first.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> (u16, Value) {
        loop {
            let (status, health) = self.health();
            if wanted(&health) {
                return (status, health);
            }
            assert!(self.running.runs(), "ended before {what}: {health}");
            std::thread::yield_now();
        }
    }

    /// Stops it, which is a clean end.
    pub fn stop(self) {
        self.running.signal("INT");
        self.end();
    }

    /// Waits for its clean end, and returns what it said on stdout.
    pub fn end(mut self) -> String {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("a pipe");
        let mut said = String::new();
        let mut stdout = self.running.child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut said).expect("text");
        assert_eq!(self.running.child.wait().expect("an end").code(), Some(0), "{rest}");
        said
    }
}

/// Asks an address for `/events`, and returns the head of the answer and the rest of the stream.
pub fn events(address: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    (head.to_ascii_lowercase(), stream)
}

/// Returns the first document of `/events` of an address.
pub fn event(address: &str) -> Value {
    let (_, mut stream) = events(address);
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "the stream ended");
    }
    serde_json::from_str(line.trim_start_matches("data:")).expect("JSON")
}

/// Sends a request as it is to an address, and reads to the end of the answer.
pub fn send(address: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_string() }
}
