//! Owns how much memory a process may have: by a group of the kernel's, where one can be made, with the page cache in it;
//! else by the limit of its data, without. It does not own what the process does with it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit in bytes; its group goes when it is dropped.
pub struct Limit {
    bytes: u64,
    group: Option<PathBuf>,
}

/// What the kernel says of a group.
#[derive(Clone, Copy, Debug)]
struct Reached {
    /// The most memory and page cache in bytes, and the limit of both.
    most: u64,
    limit: u64,
    /// How often more was wanted: page cache had to go then.
    refused: u64,
    major_faults: u64,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.is_bound() { "yes" } else { "NO" };
        let (most, limit) = (self.most >> 20, self.limit >> 20);
        write!(
            f,
            "{is}: {most} of {limit} MB, {} times, {} faults",
            self.refused, self.major_faults
        )
    }
}

impl Reached {
    /// Whether it was the limit that bounded them.
    fn is_bound(&self) -> bool {
        self.refused > 0 && self.most >= self.limit / 100 * 99
    }
}

impl Limit {
    pub fn new(bytes: u64) -> Limit {
        Limit { bytes, group: group(bytes) }
    }

    /// Returns how it is kept, for people.
    pub fn how(&self) -> &'static str {
        match self.group {
            Some(_) => "cgroup: memory and page cache",
            None => "ulimit -d: memory without page cache",
        }
    }

    /// Returns whether it has bound what ran in it, for people.
    pub fn bound(&self) -> String {
        self.reached().map_or("not of page cache".to_string(), |reached| reached.to_string())
    }

    /// Returns what its group has come to, if it has one: of all that ran in it.
    fn reached(&self) -> Option<Reached> {
        let group = self.group.as_ref()?;
        let text = |name| fs::read_to_string(group.join(name)).unwrap_or_default();
        let number = |text: &str| text.trim().parse().unwrap_or(0);
        let stat = text("memory.stat");
        let of = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map_or(0, number)
        };
        Some(Reached {
            most: number(&text("memory.max_usage_in_bytes")),
            limit: number(&text("memory.limit_in_bytes")),
            refused: number(&text("memory.failcnt")),
            major_faults: of("total_pgmajfault"),
        })
    }

    /// Returns a command that runs a program within it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        match &self.group {
            Some(group) => command
                .args(["-c", r#"echo $$ >"$0" && exec "$@""#])
                .arg(group.join("cgroup.procs")),
            None => command
                .args(["-c", r#"ulimit -d "$0" && exec "$@""#])
                .arg((self.bytes / 1024).to_string()),
        };
        command.arg(program);
        command
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // One that is left is of no weight.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Makes a group below our own, of the first version of these.
fn group(bytes: u64) -> Option<PathBuf> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.split_once(":memory:"))?.1;
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("peers-{}-{number}", std::process::id());
    let group = Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/')).join(name);
    fs::create_dir(&group).ok()?;
    if fs::write(group.join("memory.limit_in_bytes"), bytes.to_string()).is_err() {
        let _ = fs::remove_dir(&group);
        return None;
    }
    Some(group)
}
