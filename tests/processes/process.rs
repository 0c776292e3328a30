//! Goal: what the tests of the example binaries share: running them as a user does, and the fold that says
//! what a feed leaves. Method: processes only; nothing of `src/`. A process itself is [`running`]'s.
//!
//! [`running`]: crate::running

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

pub use crate::running::{PATIENCE, Ran, Running, command, example, start};

/// Starts `ingest` in a directory.
pub fn start_ingest(dir: &Path, args: &[&str]) -> Running {
    start(command("ingest", dir, args))
}

/// Runs `ingest` to its end.
pub fn ingest(dir: &Path, args: &[&str]) -> Ran {
    start_ingest(dir, args).end(PATIENCE)
}

/// Runs `ingest` to its end, which must be a good one.
pub fn ingested(dir: &Path, args: &[&str]) -> Value {
    ingest(dir, args).good().summary()
}

/// Runs `shard` to its end.
pub fn shard(dir: &Path, args: &[&str]) -> Ran {
    start(command("shard", dir, args)).end(PATIENCE)
}

/// Returns the lines of `shard snapshot`, which must end well.
pub fn snapshot(dir: &Path, url: &str) -> Vec<String> {
    shard(dir, &["snapshot", url]).good().lines()
}

/// Returns what `shard status` says.
pub fn status(dir: &Path, url: &str) -> Value {
    serde_json::from_str(&shard(dir, &["status", url]).good().stdout).expect("one JSON object")
}

/// Returns the shard's upper.
pub fn upper(dir: &Path, url: &str) -> u64 {
    status(dir, url)["upper"].as_u64().expect("a shard that is not sealed")
}

/// Checks that every file of a shard is whole.
pub fn verified(dir: &Path, url: &str) {
    shard(dir, &["verify", url]).good();
}

impl Running {
    /// Sends a signal by name, such as `INT`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").arg("-c").arg(&kill).status().expect("a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Looks again and again until a condition holds; panics if the process ends first.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        while !holds() {
            if !self.runs() {
                let mut text = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    let _ = stderr.read_to_string(&mut text);
                }
                panic!("{}: ended before {what}: {text}", self.what);
            }
            std::thread::yield_now();
        }
    }
}

impl Ran {
    /// Checks that it failed as the contract says and returns its last words: exit 1, and one line
    /// `error: WHAT at WHERE; DO` that is the last on stderr.
    #[track_caller]
    pub fn error(&self) -> &str {
        let Ran { stderr, what, .. } = self;
        assert_eq!(self.code, Some(1), "{what}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        let count = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(count, 1, "{what}: one error line: {stderr}");
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        let rest = last.strip_prefix("error: ").unwrap_or_else(|| panic!("{what}: {stderr}"));
        let (thing, action) = rest.rsplit_once("; ").unwrap_or_else(|| panic!("{what}: {stderr}"));
        assert!(thing.contains(" at ") && !action.is_empty(), "{what}: {stderr}");
        rest
    }

    /// Returns the summary: the last line on stdout.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let last = self.stdout.lines().last();
        let last = last.unwrap_or_else(|| panic!("{}: no summary: {}", self.what, self.stderr));
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{}: {last}: {e}", self.what))
    }
}

/// Runs `ingest` as two processes that find each other on loopback, and returns them.
pub fn start_cluster(dir: &Path, args: &[&str]) -> [Running; 2] {
    // Held together, so that the two differ; free again before they are used.
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports = ports.map(|port| port.local_addr().expect("an address").port());
    let hosts = format!("hosts-{}", ports[0]);
    let text = format!("127.0.0.1:{}\n127.0.0.1:{}\n", ports[0], ports[1]);
    std::fs::write(dir.join(&hosts), text).expect("a host file");
    ["0", "1"].map(|process| {
        let mut all = args.to_vec();
        all.extend(["-n", "2", "-p", process, "-H", &hosts]);
        start_ingest(dir, &all)
    })
}

/// Waits for both processes of a cluster.
pub fn end_cluster(cluster: [Running; 2], bound: Duration) -> [Ran; 2] {
    let [first, second] = cluster;
    let second = std::thread::spawn(move || second.end(bound));
    [first.end(bound), second.join().expect("it ended in time")]
}

/// The number of the shard's last log entry; 0 if there is none. Collection does not change it.
pub fn last_entry(dir: &Path, shard: &str) -> usize {
    numbers(dir, shard).max().unwrap_or(0)
}

/// Returns how many entries a shard's log has.
pub fn entries(dir: &Path, shard: &str) -> usize {
    numbers(dir, shard).count()
}

/// The numbers of the records in the segments of a shard's log, which begin at multiples of eight. An entry whose
/// own bytes look like a record is nobody's here.
fn numbers(dir: &Path, shard: &str) -> impl Iterator<Item = usize> {
    let names = dir.join(shard).join("data/log").read_dir().into_iter().flatten().flatten();
    let segments =
        names.map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "seg"));
    let bytes: Vec<u8> = segments.filter_map(|path| std::fs::read(path).ok()).flatten().collect();
    let records: Vec<_> = bytes.chunks(8).collect();
    let numbers = records.windows(2).filter(|two| two[0].starts_with(b"rec1"));
    let numbers =
        numbers.filter_map(|two| Some(u64::from_le_bytes(two[1].try_into().ok()?) as usize));
    numbers.collect::<std::collections::BTreeSet<_>>().into_iter()
}

/// What the rows of a feed leave: the last row of each key, in the order of the snapshot. Only for
/// feeds whose keys and values are written canonically and whose rows stand in order.
pub fn fold<'a>(rows: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut live = BTreeMap::new();
    for row in rows {
        let row: Value = serde_json::from_str(row).expect("a good row");
        let key = row["key"].to_string();
        match &row["value"] {
            Value::Null => drop(live.remove(&key)),
            value => drop(live.insert(key, value.to_string())),
        }
    }
    let line = |(key, value)| format!("{{\"key\":{key},\"value\":{value}}}");
    live.into_iter().map(line).collect()
}

/// A generator, whose seed the environment may give, and says what it is.
pub fn random(default: u64) -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
