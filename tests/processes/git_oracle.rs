//! Goal: a shard fed from a git repository's history is, at every commit, what git says the tree was:
//! with one worker, with two, and as a cluster. Method: a repository of 1,200 first-parent commits
//! from `git fast-import`, with every kind of change and odd paths; the oracle is `git ls-tree`.

use std::collections::BTreeSet;

use crate::git::{Tree, put, repository, snapshot, tree};
use crate::process::{PATIENCE, end_cluster, ingested, random, shard, start_cluster, verified};
use serde_json::Value;

const COMMITS: u64 = 1_210;

#[test]
fn a_shard_is_at_every_commit_what_git_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir(dir.join("repo")).expect("a directory");
    let repo = dir.join("repo");
    let commits = repository(&repo, COMMITS, random(20_261));
    let last = commits.len() - 1;
    assert_eq!(commits.len() as u64, COMMITS);

    let summary = ingested(dir, &["git:repo", "--shard", "one", "--history", "keep"]);
    assert_eq!(summary["upper"], COMMITS);
    ingested(dir, &["git:repo", "--shard", "two", "--history", "keep", "-w", "2"]);
    let args = ["git:repo", "--shard", "cluster", "--history", "keep"];
    let [first, second] = end_cluster(start_cluster(dir, &args), PATIENCE);
    let of_cluster = first.good().summary();
    assert_eq!(second.good().stdout, "");
    let counts = ["read", "inserted", "updated", "deleted", "superseded", "unchanged", "upper"];
    for count in counts {
        assert_eq!(summary[count], of_cluster[count], "{count}");
    }
    for url in ["one", "two", "cluster"] {
        verified(dir, url);
    }

    // The whole history of all three is the same, row by row.
    let until = last.to_string();
    let tail = |url| shard(dir, &["tail", url, "--from", "0", "--until", &until]).good().stdout;
    let history = tail("one");
    assert!(history == tail("two"), "two workers make the same history as one");
    assert!(history == tail("cluster"), "a cluster makes the same history as one process");

    // Folded up to a commit it is that commit's tree, and so is the snapshot.
    let mut folded = Tree::new();
    let mut rows =
        history.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).peekable();
    for (number, commit) in commits.iter().enumerate() {
        while let Some(row) = rows.next_if(|row| row["time"].as_u64() == Some(number as u64)) {
            match row["diff"].as_i64() {
                Some(1) => put(&mut folded, &row),
                Some(-1) => {
                    let old = folded.remove(row["key"].as_str().expect("text"));
                    let (mode, blob) = old.expect("only what is there is retracted");
                    assert_eq!(
                        (&row["value"]["mode"], &row["value"]["blob"]),
                        (&mode.into(), &blob.into())
                    );
                }
                _ => panic!("{row}"),
            }
        }
        if number % 37 == 0 || number == last {
            let oracle = tree(&repo, commit);
            assert_eq!(folded, oracle, "tail up to commit {number}");
            assert_eq!(snapshot(dir, "one", number), oracle, "commit {number}");
        }
        if number % 331 == 0 || number == last {
            let oracle = tree(&repo, commit);
            assert_eq!(snapshot(dir, "two", number), oracle, "commit {number}, two workers");
            assert_eq!(snapshot(dir, "cluster", number), oracle, "commit {number}, cluster");
        }
    }
    assert!(rows.next().is_none(), "nothing after the last commit");

    // Every kind of entry was there to be got wrong.
    let modes: BTreeSet<&str> = ["100644", "100755", "120000", "160000"].into();
    for mode in modes {
        assert!(history.contains(&format!("\"mode\":\"{mode}\"")), "no {mode} in the history");
    }
    assert!(history.contains("latin-\u{FC}") && history.contains("line\\nbreak"));
}
