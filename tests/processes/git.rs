//! Goal: what the tests that feed a shard from git share: a repository with every kind of change, and
//! what git says its trees are. Method: `git fast-import` and `git ls-tree`; nothing of `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use fastrand::Rng;
use serde_json::Value;

use crate::process::shard;

/// Paths in each other's way, so that files become directories and back, and names that quoting,
/// sorting or decoding could trip over. No two of them read the same in Latin-1 and UTF-8.
const PATHS: [&[u8]; 26] = [
    b"a",
    b"a/b",
    b"a/b/c",
    b"a/b/c/d",
    b"a.b",
    b"a0",
    b"a-b",
    b"ab",
    b"dir/one",
    b"dir/two",
    b"dir",
    b"dir/deep/er",
    b"tab\there",
    b"line\nbreak",
    b"quote\"d",
    b"back\\slash",
    b"'single'",
    b" space ",
    b"\xC3\xBCn\xC3\xAFcode/\xE2\x9C\x93",
    b"\xF0\x9F\xA6\x80",
    b"latin-\xFC",
    b"\xFF\xFE/raw\x80",
    b"control\x01\x7F",
    b"-dash",
    b"{\"key\":1}",
    b"null",
];

/// A tree as a map from key to mode and object.
pub type Tree = BTreeMap<String, (String, String)>;

pub fn git(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

pub fn git_output(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = git(dir, args).output().expect("git runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Writes the stream that makes the repository.
struct Stream {
    out: Vec<u8>,
    random: Rng,
    mark: u64,
    live: BTreeSet<usize>,
}

impl Stream {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn data(&mut self, data: &str) {
        self.text(&format!("data {}\n{data}\n", data.len()));
    }

    fn quoted(&mut self, path: &[u8]) {
        self.out.push(b'"');
        for byte in path {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *byte]),
                b' '..=b'~' => self.out.push(*byte),
                _ => self.out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            }
        }
        self.out.push(b'"');
    }

    /// Starts a commit and returns its mark.
    fn commit(&mut self, branch: &str, from: Option<u64>, merge: Option<u64>) -> u64 {
        self.mark += 1;
        let (mark, time) = (self.mark, 1_000_000 + self.mark);
        self.text(&format!("commit refs/heads/{branch}\nmark :{mark}\n"));
        self.text(&format!("committer A <a@example.com> {time} +0000\n"));
        self.data(&format!("commit {mark}"));
        for (word, parent) in [("from", from), ("merge", merge)] {
            if let Some(parent) = parent {
                self.text(&format!("{word} :{parent}\n"));
            }
        }
        mark
    }

    /// What is at a path, under it and above it goes when it is written.
    fn clear(&mut self, index: usize) {
        let under =
            |a: &[u8], b: &[u8]| a.strip_prefix(b).is_some_and(|rest| rest.starts_with(b"/"));
        let path = PATHS[index];
        self.live.retain(|other| !under(PATHS[*other], path) && !under(path, PATHS[*other]));
        self.live.remove(&index);
    }

    fn change(&mut self) {
        let index = self.random.usize(..PATHS.len());
        let live: Vec<usize> = self.live.iter().copied().collect();
        let some = live.get(self.random.usize(..live.len().max(1))).copied();
        let content = format!("content {}", self.random.u64(..40));
        match (self.random.u64(..12), some) {
            (0..=1, Some(gone)) => {
                self.live.remove(&gone);
                self.text("D ");
                self.quoted(PATHS[gone]);
            }
            (2, Some(from))
                if from != index
                    && !PATHS[index].starts_with(PATHS[from])
                    && !PATHS[from].starts_with(PATHS[index]) =>
            {
                self.clear(index);
                self.live.remove(&from);
                self.live.insert(index);
                self.text("R ");
                self.quoted(PATHS[from]);
                self.text(" ");
                self.quoted(PATHS[index]);
            }
            (3, _) => {
                let object = format!("{:040x}", 1 + self.random.u64(..1 << 60));
                self.clear(index);
                self.live.insert(index);
                self.text(&format!("M 160000 {object} "));
                self.quoted(PATHS[index]);
            }
            (kind, _) => {
                let mode = ["100644", "100755", "120000"][kind as usize % 3];
                self.clear(index);
                self.live.insert(index);
                self.text(&format!("M {mode} inline "));
                self.quoted(PATHS[index]);
                self.text("\n");
                // Ends its own line; one more would end the commit.
                return self.data(&content);
            }
        }
        self.text("\n");
    }

    fn changes(&mut self) {
        for _ in 0..self.random.u64(..4) {
            self.change();
        }
    }
}

/// Makes the repository, and returns its first-parent commits, oldest first.
pub fn repository(dir: &Path, commits: u64, random: Rng) -> Vec<String> {
    let mut stream = Stream { out: Vec::new(), random, mark: 0, live: BTreeSet::new() };
    let mut main = None;
    for _ in 0..commits {
        let mut side = None;
        if main.is_some() && stream.random.u64(..8) == 0 {
            let live = stream.live.clone();
            for _ in 0..=stream.random.u64(..3) {
                side = Some(stream.commit("side", side.or(main), None));
                stream.changes();
            }
            // A merge may take nothing of its second parent, or write it anew.
            stream.live = live;
        }
        main = Some(stream.commit("main", main, side));
        stream.changes();
    }
    git_output(dir, &["init", "-q", "-b", "main", "."]);
    std::fs::write(dir.join("stream"), &stream.out).expect("a file");
    let input = std::fs::File::open(dir.join("stream")).expect("a file");
    let mut import = git(dir, &["fast-import", "--quiet"]);
    let imported = import.stdin(input).stderr(Stdio::inherit()).status().expect("git runs");
    assert!(imported.success());
    let list = git_output(dir, &["rev-list", "--first-parent", "--reverse", "main"]);
    String::from_utf8(list).expect("hex").lines().map(str::to_string).collect()
}

/// What the contract says of a path that is not UTF-8: read as Latin-1.
fn text(path: &[u8]) -> String {
    let latin = || path.iter().copied().map(char::from).collect();
    std::str::from_utf8(path).map_or_else(|_| latin(), str::to_string)
}

pub fn tree(dir: &Path, commit: &str) -> Tree {
    let listed = git_output(dir, &["ls-tree", "-r", "-z", "--full-tree", commit]);
    let entries = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let tab = entry.iter().position(|byte| *byte == b'\t').expect("a tab");
            let words = text(&entry[..tab]);
            let words: Vec<&str> = words.split(' ').collect();
            (text(&entry[tab + 1..]), (words[0].to_string(), words[2].to_string()))
        })
        .collect()
}

pub fn put(tree: &mut Tree, line: &Value) {
    let text = |value: &Value| value.as_str().expect("text").to_string();
    let value = &line["value"];
    let members: Vec<&String> = value.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["blob", "mode"]);
    let old = tree.insert(text(&line["key"]), (text(&value["mode"]), text(&value["blob"])));
    assert_eq!(old, None, "one value per key: {line}");
}

pub fn snapshot(dir: &Path, url: &str, as_of: usize) -> Tree {
    let ran = shard(dir, &["snapshot", url, "--as-of", &as_of.to_string()]).good();
    let mut tree = Tree::new();
    let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.for_each(|line| put(&mut tree, &line));
    tree
}
