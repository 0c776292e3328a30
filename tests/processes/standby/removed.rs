//! Goal: real processes end when their shard's directory is removed, or removed and made anew, and
//! leave the place as it is. Method: a follower of a feed and a standby, with the directory taken away
//! under them; `shard_looks` has a `tail`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::client::Server;
use crate::process::{PATIENCE, ingest, snapshot, start_ingest, upper, verified};

/// Every file below a directory, with what is in it.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let Ok(found) = std::fs::read_dir(directory) else { return all };
    for path in found.map(|entry| entry.expect("a name").path()) {
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), std::fs::read(&path).expect("a file"))),
        }
    }
    all
}

#[test]
fn a_shard_that_is_removed_or_made_anew_ends_whatever_runs_on_it() {
    for anew in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let row = |ts: u64| format!("{{\"key\":{ts},\"value\":1,\"ts\":{ts}}}\n");
        let first: String = (0..5).map(row).collect();
        std::fs::write(dir.join("feed"), first).expect("a feed");
        std::fs::write(dir.join("other"), row(0) + "{\"closed\":1}\n").expect("a feed");
        let mut writer = start_ingest(dir, &["feed", "--shard", "s", "--follow"]);
        writer.until("it has committed", || {
            dir.join("s/INCARNATION").exists() && upper(dir, "s") == 4
        });
        // Its stderr stays open: what cannot complain panics.
        let Server { running: standby, stderr: _stderr, .. } =
            crate::standby::standby(dir, &["--follow"]);
        std::fs::remove_dir_all(dir.join("s")).expect("removed");
        if anew {
            ingest(dir, &["other", "--shard", "s"]).good();
        }
        let left = files(&dir.join("s"));
        // One of them has something to commit.
        let more: String = (0..8).map(row).collect();
        std::fs::write(dir.join("feed"), more).expect("a feed");
        let ran = writer.end(PATIENCE);
        let error = ran.error();
        assert!(error.starts_with("the shard was removed or replaced at "), "{anew}: {error}");
        assert_eq!(standby.end(PATIENCE).code, Some(1), "{anew}: a standby goes on");
        assert_eq!(files(&dir.join("s")), left, "{anew}");
        assert_eq!(dir.join("s").exists(), anew, "a directory came back");
        if anew {
            verified(dir, "s");
            assert_eq!(snapshot(dir, "s"), ["{\"key\":0,\"value\":1}"]);
        }
    }
}
