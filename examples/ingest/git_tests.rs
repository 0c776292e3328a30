//! Goal: the rows up to `ts` N add up to `git ls-tree -r` of commit N, whatever the history and the
//! user's configuration. Method: repositories made here with everything that git can do to a path,
//! folded and compared at every commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use differential_upsert::Error;
use differential_upsert::codec::Json;
use differential_upsert::input::blocking::{Row, RowSink};
use differential_upsert::source::SourceStats;
use tokio_util::sync::CancellationToken;

use crate::git::{Cell, GitHistory};

/// What a history handed over: each row as `key=value@time#order`, or `key-@time#order` for a delete, and
/// the greatest closed time.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<(Vec<String>, u64)>>);

impl Recorder {
    fn rows(&self) -> Vec<String> {
        self.0.lock().expect("no panic while recording").0.clone()
    }

    fn closed(&self) -> u64 {
        self.0.lock().expect("no panic while recording").1
    }
}

impl RowSink for Recorder {
    type Key = Json;
    type Value = Cell;
    type Order = u64;

    fn rows(&mut self, rows: Vec<Row<Self>>) -> Result<(), Error> {
        use differential_upsert::Command;
        let (events, closed) = &mut *self.0.lock().expect("no panic while recording");
        for (command, time) in rows {
            assert!(time >= *closed, "a row at {time}, which was closed by {closed}");
            events.push(match command {
                Command::Put { key, value: Ok(value), order } => {
                    format!("{key}={value}@{time}#{order}")
                }
                Command::Delete { key, order } => format!("{key}-@{time}#{order}"),
                other => panic!("no history makes {other:?}"),
            });
        }
        Ok(())
    }

    fn closed(&mut self, time: u64) -> Result<(), Error> {
        let (_, closed) = &mut *self.0.lock().expect("no panic while recording");
        assert!(time > *closed, "closed {time} after {closed}");
        *closed = time;
        Ok(())
    }
}

fn git(path: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgSign=false"])
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn commit(path: &Path, what: &str) {
    git(path, &["add", "-A"]);
    git(path, &["commit", "-q", "--allow-empty", "-m", what]);
}

fn read(path: &Path) -> (Recorder, Result<u64, String>) {
    let seen = Recorder::default();
    let history = GitHistory {
        path: path.to_str().expect("UTF-8").to_string(),
        throttle: None,
        stats: SourceStats::default(),
        stop: CancellationToken::new(),
    };
    let end = history.read(seen.clone(), &CancellationToken::new()).map_err(|e| e.to_string());
    (seen, end)
}

/// Folds the recorded rows and compares with `ls-tree` at every commit.
fn check(path: &Path) -> u64 {
    let (seen, end) = read(path);
    let end = end.expect("a good repository");
    assert_eq!(seen.closed(), end);
    let list = git(path, &["rev-list", "--first-parent", "--reverse", "HEAD"]);
    let commits = String::from_utf8(list).expect("ids");
    let commits: Vec<&str> = commits.lines().collect();
    assert_eq!(end, commits.len() as u64);
    let mut rows = seen.rows().into_iter().peekable();
    let mut live: BTreeMap<String, String> = BTreeMap::new();
    for (number, commit) in commits.into_iter().enumerate() {
        let at = format!("@{number}#");
        while let Some(row) = rows.next_if(|row| row.contains(&at)) {
            let row = &row[..row.rfind(&at).expect("found above")];
            match row.strip_suffix('-') {
                Some(key) => assert!(live.remove(key).is_some(), "{key} was not there"),
                None => {
                    let split = row.rfind("={\"blob\"").expect("a put");
                    live.insert(row[..split].to_string(), row[split + 1..].to_string());
                }
            }
        }
        assert_eq!(live, ls_tree(path, commit), "commit {number}");
    }
    assert_eq!(rows.next(), None);
    end
}

fn ls_tree(path: &Path, commit: &str) -> BTreeMap<String, String> {
    let tree = git(path, &["ls-tree", "-r", "-z", "--full-tree", commit]);
    let entries = tree.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t').expect("a tab");
        let (head, name) = (String::from_utf8_lossy(&entry[..tab]), &entry[tab + 1..]);
        let name = match std::str::from_utf8(name) {
            Ok(name) => name.to_string(),
            Err(_) => name.iter().map(|byte| char::from(*byte)).collect(),
        };
        let mut fields = head.split(' ');
        let (mode, blob) = (fields.next().expect("a mode"), fields.nth(1).expect("an id"));
        let name = serde_json::to_string(&name).expect("text");
        (name, format!("{{\"blob\":\"{blob}\",\"mode\":\"{mode}\"}}"))
    };
    entries.map(entry).collect()
}

#[cfg(unix)]
fn everything(path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt, symlink};
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("room");
    git(path, &["init", "-q"]);
    write("a", "1");
    write("with space", "2");
    write("qu\"ote\\ and\ttab\nline", "3");
    write("\u{e9}\u{1f600}", "4");
    std::fs::write(path.join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "5").expect("room");
    commit(path, "root");
    commit(path, "empty");
    std::fs::set_permissions(path.join("a"), PermissionsExt::from_mode(0o755)).expect("mode");
    commit(path, "mode");
    std::fs::remove_file(path.join("a")).expect("there");
    symlink("with space", path.join("a")).expect("a link");
    commit(path, "type");
    std::fs::remove_file(path.join("a")).expect("there");
    std::fs::create_dir(path.join("a")).expect("a directory");
    write("a/a", "1");
    commit(path, "file becomes directory");
    std::fs::remove_dir_all(path.join("a")).expect("there");
    write("a", "1");
    commit(path, "directory becomes file");
    std::fs::rename(path.join("with space"), path.join("renamed")).expect("there");
    commit(path, "rename");
    git(path, &["checkout", "-q", "-b", "side"]);
    write("side", "s");
    commit(path, "side 1");
    write("side", "t");
    commit(path, "side 2");
    git(path, &["checkout", "-q", "-"]);
    write("main", "m");
    commit(path, "main");
    git(path, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let head = git(path, &["rev-parse", "HEAD"]);
    let head = String::from_utf8(head).expect("an id");
    let link = format!("160000,{},module", head.trim());
    git(path, &["update-index", "--add", "--cacheinfo", &link]);
    git(path, &["commit", "-q", "-m", "gitlink"]);
    git(path, &["rm", "-q", "-r", "--cached", "."]);
    git(path, &["commit", "-q", "-m", "nothing left"]);
    write("last", "one");
    commit(path, "again");
}

#[cfg(unix)]
#[test]
fn every_commit_adds_up_to_its_tree() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    everything(directory.path());
    assert_eq!(check(directory.path()), 12);
}

#[cfg(unix)]
#[test]
fn configuration_replacements_and_grafts_change_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    everything(path);
    let (before, _) = read(path);
    for (name, value) in [
        ("diff.renames", "copies"),
        ("diff.ignoreSubmodules", "all"),
        ("diff.relative", "true"),
        ("diff.noprefix", "true"),
        ("diff.external", "false"),
        ("diff.orderFile", "/nonexistent"),
        ("core.quotePath", "true"),
        ("core.abbrev", "5"),
        ("log.showSignature", "true"),
        ("log.diffMerges", "on"),
        ("color.ui", "always"),
        ("core.pager", "false"),
        ("format.pretty", "oneline"),
    ] {
        git(path, &["config", name, value]);
    }
    git(path, &["replace", "HEAD~3", "HEAD~5"]);
    let head = String::from_utf8(git(path, &["rev-parse", "HEAD"])).expect("an id");
    std::fs::create_dir_all(path.join(".git/info")).expect("room");
    std::fs::write(path.join(".git/info/grafts"), head).expect("room");
    let (after, end) = read(path);
    assert_eq!(end, Ok(12));
    assert_eq!(after.rows(), before.rows());
    // A bare repository and a directory inside a repository are that repository too.
    std::fs::create_dir_all(path.join("empty")).expect("room");
    assert_eq!(read(&path.join("empty")).0.rows(), before.rows());
    assert_eq!(read(&path.join(".git")).0.rows(), before.rows());
}

#[test]
fn what_is_no_complete_repository_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["plain", "fresh", "full"] {
        std::fs::create_dir(path(name)).expect("room");
    }
    git(&path("fresh"), &["init", "-q"]);
    git(&path("full"), &["init", "-q"]);
    for number in ["1", "2", "3"] {
        commit(&path("full"), number);
    }
    let from = format!("file://{}", path("full").display());
    git(directory.path(), &["clone", "-q", "--depth", "1", &from, "shallow"]);
    for (name, what) in [
        ("plain", "not a git repository: "),
        ("none", "not a git repository: "),
        ("fresh", "HEAD names no commit at git:"),
        ("shallow", "a shallow clone: its history is cut off at git:"),
    ] {
        let (seen, end) = read(&path(name));
        let error = end.expect_err(name);
        assert!(error.starts_with(what) && error.contains("; "), "{error}");
        assert!(seen.rows().is_empty() && seen.closed() == 0);
    }
    assert_eq!(check(&path("full")), 3);
}

#[test]
fn a_missing_object_is_an_error_and_not_an_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    git(path, &["init", "-q"]);
    for number in ["1", "2", "3"] {
        std::fs::write(path.join("file"), number).expect("room");
        commit(path, number);
    }
    let tree = git(path, &["rev-parse", "HEAD~1^{tree}"]);
    let tree = String::from_utf8(tree).expect("an id");
    let (folder, file) = tree.trim().split_at(2);
    std::fs::remove_file(path.join(".git/objects").join(folder).join(file)).expect("loose");
    let (seen, end) = read(path);
    let error = end.expect_err("damage");
    assert!(error.contains("git diff-tree failed"), "{error}");
    assert!(seen.closed() <= 1, "{:?}", seen.rows());
}

#[test]
fn a_key_is_the_path_as_a_json_string() {
    assert_eq!(Json::string("a\"\u{e9}\n").as_str(), "\"a\\\"\u{e9}\\n\"");
}
