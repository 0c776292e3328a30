//! Goal: the HTTP face of `ingest` is the contract's: each route, method, type and status, before,
//! while and after things go wrong. Method: real processes on a feed that is followed, asked over a
//! plain TCP stream, so that what is sent is what stands here.

use std::fs::OpenOptions;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use crate::client::Server;
use crate::process::{PATIENCE, ingest};

/// Follows a feed with one open time.
fn follow(dir: &Path, args: &[&str]) -> Server {
    let feed = "{\"key\":\"a\",\"value\":1,\"ts\":0}\n{\"key\":\"b\",\"value\":2,\"ts\":1}\n";
    std::fs::write(dir.join("feed"), feed).expect("a feed");
    Server::start(dir, &[&["feed", "--shard", "s", "--follow"], args].concat())
}

fn append(dir: &Path, line: &str) {
    let mut feed = OpenOptions::new().append(true).open(dir.join("feed")).expect("the feed");
    feed.write_all(line.as_bytes()).expect("a line");
}

#[test]
fn every_route_answers_as_the_contract_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = follow(dir.path(), &[]);
    let (status, health) = server.until("time 0", |health| health["upper"] == 1);
    assert_eq!(status, 200, "{health}");
    let body = server.get("/health").body;
    let names = ["role", "state", "input", "upper", "output", "behind", "since", "why"];
    let places: Vec<_> = names.map(|name| body.find(&format!("\"{name}\":")).expect(name)).into();
    assert!(places.is_sorted(), "{body}");
    assert_eq!((&health["role"], &health["input"]), (&"writer".into(), &1.into()), "{health}");

    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("\n# TYPE differential_upsert_shard_upper gauge\n"));
    assert!(metrics.body.contains("\ndifferential_upsert_shard_upper 1\n"), "{}", metrics.body);
    assert!(metrics.body.contains("\ndifferential_upsert_appends_won_total 1\n"));

    // It closes time 1, and the next one is 7.
    append(dir.path(), "{\"key\":\"c\",\"value\":3,\"ts\":7}\n");
    server.until("time 1", |health| health["upper"] == 7);

    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    let policy = page.head.lines().find(|line| line.starts_with("content-security-policy:"));
    let policy = policy.expect("a policy");
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next());
    let nonce = nonce.expect("a nonce").to_string();
    for only in ["default-src 'none';", "connect-src 'self';", "frame-ancestors 'none'"] {
        assert!(policy.contains(only), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(
        page.body.matches(&format!("nonce=\"{nonce}\"")).count(),
        2,
        "one style, one script"
    );
    assert!(!server.get("/").head.contains(&nonce), "each answer has its own");

    assert!(!page.body.contains("src=") && !page.body.contains("http://"), "external assets");
    let seen = server.event();
    let pipeline = &seen["pipelines"][0];
    assert_eq!((&pipeline["state"], &pipeline["role"]), (&"running".into(), &"writer".into()));
    assert_eq!((&pipeline["feed"], &pipeline["upper"]["at"]), (&"feed".into(), &"7".into()));
    assert_eq!(pipeline["why"], "rows of time 7 wait for the source to close it", "{seen}");

    for (method, path, status) in [
        ("GET", "/promote", 405),
        ("POST", "/health", 405),
        ("DELETE", "/", 405),
        ("PUT", "/metrics", 405),
        ("POST", "/events", 405),
        ("HEAD", "/health", 200),
        ("GET", "/healthz", 404),
        ("GET", "/promote/", 404),
        ("POST", "/../promote", 404),
        ("GET", "/health?verbose=1", 200),
    ] {
        let answer = server.ask(method, path, "Content-Length: 0\r\n");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.head);
    }
    server.stop();
}

/// As many pages are kept up as may be, and one more when one goes.
#[test]
fn pages_are_kept_up_in_a_bounded_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = follow(dir.path(), &[]);
    server.until("time 0", |health| health["upper"] == 1);
    let mut open: Vec<_> = (0..32).map(|_| server.events()).collect();
    for (head, _) in &open {
        assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
    }
    let (head, _) = server.events();
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after"), "{head}");
    assert_eq!(server.health().0, 200, "everything else is answered");
    // It hears that the page went when it next writes to it.
    open.pop();
    let start = Instant::now();
    while !server.events().0.starts_with("http/1.1 200") {
        assert!(server.running.runs() && start.elapsed() < PATIENCE, "its place is free again");
        std::thread::yield_now();
    }
    server.stop();
}

/// What has failed is still to be seen for as long as it was asked to be, also by a browser that comes then.
#[test]
fn a_failure_lingers_as_long_as_it_is_asked_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let feed = "{\"key\":\"a\",\"value\":1,\"ts\":0}\n{\"key\":\"b\",\"value\":2,\"ts\":1}\nbad\n";
    // One fails in its pipeline, the other before there is one.
    for (name, feed) in [("late", feed), ("soon", "bad\n")] {
        std::fs::write(dir.join(name), feed).expect("a feed");
        let mut server =
            Server::start(dir, &[name, "--shard", &format!("{name}-shard"), "--linger", "3600"]);
        let (status, health) = server.until("it fails", |health| health["state"] == "failed");
        assert_eq!(status, 503, "{health}");
        assert!(health["why"].as_str().expect("why").contains(name), "{health}");
        assert_eq!(server.event()["pipelines"][0]["state"], "failed");
        let mut line = String::new();
        while !line.contains("answers HTTP for 3600 s more") {
            line.clear();
            assert_ne!(server.stderr.read_line(&mut line).expect("a line"), 0);
        }
        assert_eq!(server.get("/").status, 200);
        server.running.signal("INT");
        let mut rest = String::new();
        server.stderr.read_to_string(&mut rest).expect("a pipe");
        assert_eq!(server.running.child.wait().expect("an end").code(), Some(1), "{rest}");
        assert!(rest.lines().last().is_some_and(|line| line.starts_with("error: ")), "{rest}");
    }
}

#[test]
fn promote_wants_json_and_can_be_asked_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = follow(dir.path(), &["--http-host", "orders.example"]);
    for (headers, status) in [
        ("Content-Length: 0\r\n", 415),
        ("Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n", 415),
        ("Content-Type: application/json\r\nContent-Length: 0\r\n", 200),
        ("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 200),
        ("content-type: Application/JSON; charset=utf-8\r\nContent-Length: 0\r\n", 200),
        ("Content-Type: application/json\r\n", 200),
        ("Content-Type: application/json\r\nContent-Length: 999999999999\r\n", 413),
    ] {
        let answer = server.ask("POST", "/promote", headers);
        assert_eq!(answer.status, status, "{headers}: {}", answer.head);
    }
    // Of another site, whether or not its name means this address.
    let json = "Content-Type: application/json\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (host, origin, status) in [
        ("rebound.example", "http://rebound.example", 403),
        (&*server.address, "http://rebound.example", 403),
        (&*server.address, &format!("http://{}", server.address), 200),
        ("orders.example", "https://orders.example", 200),
    ] {
        let head = format!("POST /promote HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n");
        let answer = server.send(&(head + json));
        assert_eq!(answer.status, status, "{host} {origin}: {}", answer.body);
        assert_eq!(answer.body.contains("is refused: it"), status == 403, "{}", answer.body);
    }
    // Nonsense costs its own connection, and nothing else.
    let status = server.send("nonsense\r\n\r\n").status;
    assert_eq!(status, 400);
    let half = TcpStream::connect(&server.address).expect("it listens");
    (&half).write_all(b"GET /hea").expect("half a request");
    assert_eq!(server.get("/health").status, 200);
    server.stop();
}

#[test]
fn a_store_that_is_gone_is_a_failure_that_health_tells() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = follow(dir.path(), &[]);
    server.until("time 0", |health| health["upper"] == 1);
    // Nothing can be created in a directory that is a file, and reading it again fails.
    let log = dir.path().join("s/data/log");
    std::fs::rename(&log, dir.path().join("gone")).expect("the log");
    std::fs::write(&log, "").expect("a file");
    append(dir.path(), "{\"key\":\"c\",\"value\":3,\"ts\":2}\n");
    // It ends soon, so the health may be seen or not; if it is, it is a 503.
    let mut seen = Vec::new();
    while server.running.runs() {
        let Ok(mut stream) = TcpStream::connect(&server.address) else { continue };
        let request = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut text = String::new();
        let asked = stream.write_all(request.as_bytes());
        if asked.and_then(|()| stream.read_to_string(&mut text).map(drop)).is_ok() {
            seen.push(text);
        }
    }
    for text in &seen {
        let failed = text.contains("\"state\":\"failed\"");
        assert_eq!(text.starts_with("HTTP/1.1 503"), failed, "{text}");
    }
    let mut rest = String::new();
    server.stderr.read_to_string(&mut rest).expect("a pipe");
    assert_eq!(server.running.child.wait().expect("an end").code(), Some(1));
    assert!(rest.lines().last().is_some_and(|line| line.starts_with("error: ")), "{rest}");
}

#[test]
fn an_address_in_use_is_an_error_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    std::fs::write(dir.path().join("feed"), "").expect("a feed");
    let ran = ingest(dir.path(), &["feed", "--shard", "s", "--http", &address]);
    let error = ran.error();
    assert!(error.contains("cannot listen") && error.contains(&address), "{error}");
    assert!(!dir.path().join("s").exists());
}

#[test]
fn only_loopback_unless_said_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("feed"), "").expect("a feed");
    let open = ["feed", "--shard", "s", "--http", "0.0.0.0:0"];
    let ran = ingest(dir.path(), &open);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("--http-remote"), "{}", ran.stderr);
    let ran = ingest(dir.path(), &[&open[..], &["--http-remote"]].concat()).good();
    assert!(ran.stderr.starts_with("http://0.0.0.0:"), "{}", ran.stderr);
}

#[test]
fn a_feed_without_a_row_is_idle() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for (args, role) in [(&[][..], "writer"), (&["--standby"], "standby")] {
        std::fs::write(dir.join("feed"), "").expect("a feed");
        let mut server =
            Server::start(dir, &[&["feed", "--shard", role, "--follow"], args].concat());
        let (status, health) = server.until("it looks", |health| health["state"] == "idle");
        assert_eq!((status, &health["role"]), (200, &role.into()), "{health}");
        append(dir, "{\"key\":\"c\",\"value\":3,\"ts\":7}\n{\"closed\":8}\n");
        if role == "standby" {
            server.ask("POST", "/promote", "Content-Type: application/json\r\n");
        }
        server.until("a row comes", |health| health["upper"] == 8);
        server.stop();
    }
}

/// The lines that the watchdog has written, by state.
fn said(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains(" health shard=")).collect()
}

#[test]
fn the_last_state_is_said_before_the_process_goes() {
    for _ in 0..12 {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("feed"), "{\"key\":1,\"value\":1,\"ts\":1}\n").expect("it");
        let mut command = crate::process::command("ingest", dir.path(), &["feed", "--shard", "s"]);
        command.env("RUST_LOG", "info");
        let ran = crate::process::start(command).end(PATIENCE).good();
        let last = said(&ran.stderr).last().copied().unwrap_or_default().to_string();
        assert!(last.contains("state=\"finished\""), "{}", ran.stderr);
        assert!(last.contains("why=\"\""), "{last}");
    }
}

#[test]
fn what_was_told_to_stop_does_not_say_that_its_input_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("feed"), "{\"key\":1,\"value\":1,\"ts\":1}\n").expect("it");
    for (more, role) in [("--follow", "writer"), ("--standby", "standby")] {
        let mut command = crate::process::command("ingest", dir, &["feed", "--shard", "s", more]);
        command.env("RUST_LOG", "info").args(["--http", "127.0.0.1:0"]);
        let mut run = crate::process::start(command);
        let mut stderr = std::io::BufReader::new(run.child.stderr.take().expect("a pipe"));
        let mut text = String::new();
        let idle = |text: &str| said(text).iter().any(|line| !line.contains("state=\"hydrating\""));
        while !idle(&text) {
            assert_ne!(stderr.read_line(&mut text).expect("a line"), 0, "{text}");
        }
        run.signal("TERM");
        stderr.read_to_string(&mut text).expect("a pipe");
        assert_eq!(run.child.wait().expect("an end").code(), Some(0), "{text}");
        let said = said(&text);
        assert!(said.iter().all(|line| line.contains(&format!("role=\"{role}\""))), "{text}");
        let last = said.last().expect("a line");
        let why = "why=\"it was told to stop before the end of its input\"";
        assert!(last.contains("state=\"finished\"") && last.contains(why), "{text}");
    }
}
