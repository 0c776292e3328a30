//! Goal: what the tests of the example binaries share: running them as a user does, reading what they
//! print, and the fold that says what a feed leaves. Method: processes only; nothing of `src/`.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

/// A guard against hanging, not a measurement: nothing here takes this long.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the path of an example binary, which cargo builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let shown = path.display();
    assert!(path.is_file(), "no {shown}: run `cargo build --examples` with this profile first");
    path
}

/// A process that is killed when the test is done with it.
pub struct Running {
    pub child: Child,
    what: String,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    what: String,
}

pub fn command(name: &str, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(example(name));
    command.args(args).current_dir(dir);
    command
}

/// Starts a process with nothing on its input.
pub fn start(mut command: Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::of(command)
}

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
    /// Starts a command as it is.
    pub fn of(mut command: Command) -> Running {
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        Running { child, what }
    }

    /// Waits for the end, by blocking; panics past the bound.
    pub fn end(mut self, bound: Duration) -> Ran {
        fn drain(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<String> {
            let (sender, receiver) = channel();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
                }
                let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
            });
            receiver
        }
        // The pipes close when the process ends.
        let stdout = drain(self.child.stdout.take());
        let stderr = drain(self.child.stderr.take());
        let what = std::mem::take(&mut self.what);
        let mut read = |pipe: std::sync::mpsc::Receiver<String>| {
            pipe.recv_timeout(bound).unwrap_or_else(|_| {
                let _ = self.child.kill();
                panic!("{what}: still running after {bound:?}");
            })
        };
        let (stderr, stdout) = (read(stderr), read(stdout));
        let code = self.child.wait().expect("a child can be waited for").code();
        Ran { code, stdout, stderr, what }
    }

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

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Checks that it ended with exit 0 and complained of nothing.
    #[track_caller]
    pub fn good(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}: {}", self.what, self.stderr);
        assert!(!self.stderr.contains("error:"), "{}: {}", self.what, self.stderr);
        self
    }

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

    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_string).collect()
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
        all.extend(["-n", "2", "-p", process, "-h", &hosts]);
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
    let Ok(found) = dir.join(shard).join("data/log").read_dir() else { return 0 };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    found.filter_map(|entry| number(entry.ok()?)).max().unwrap_or(0)
}

/// Returns how many entries a shard's log has. No I/O but one list.
pub fn entries(dir: &Path, shard: &str) -> usize {
    let log = dir.join(shard).join("data/log");
    log.read_dir().map_or(0, |files| files.filter_map(Result::ok).count())
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

/// A small generator of numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// Takes the seed from the environment, and says what it is.
    pub fn from_environment(default: u64) -> Random {
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        println!("SEED={seed}");
        Random(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
