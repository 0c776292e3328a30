//! Goal: what the tests of looking inside share: a feed that is made up, and what it says of every time. Method: nothing of
//! `src/`; keys and values are written canonically, so that their text is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::process::ingested;

/// What a key has: the name of the member and its text, `value` or `error`.
pub type Shown = (&'static str, String);

/// A collection, by the text of its keys.
pub type Contents = BTreeMap<String, Shown>;

/// A feed with times of its own, and the contents as of each of them.
pub struct Story {
    pub feed: String,
    pub as_of: Vec<Contents>,
}

impl Story {
    /// Makes up rows of some keys at each time, of which some are bad, and some times have none.
    pub fn new(seed: u64, times: u64) -> Story {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut feed, mut as_of, mut live) = (String::new(), Vec::new(), Contents::new());
        for time in 0..times {
            for nth in 0..random.usize(0..6) {
                let key = match random.u64(0..12) {
                    11 => "{\"a\":[1,\"x\"]}".to_string(),
                    number @ 8..=10 => number.to_string(),
                    number => format!("\"k,{number}\\\"\u{e9}\""),
                };
                let line = feed.lines().count() + 1;
                match random.u64(0..8) {
                    // It counts at the time of the good row before it.
                    0 if nth > 0 => {
                        let _ = writeln!(feed, "{{\"key\":{key},\"ts\":{time}}}");
                        let error = format!("missing \"value\" at line {line}");
                        live.insert(key, ("error", Value::from(error).to_string()));
                    }
                    1 | 2 => {
                        let _ = writeln!(feed, "{{\"key\":{key},\"value\":null,\"ts\":{time}}}");
                        live.remove(&key);
                    }
                    _ => {
                        let value = format!("{{\"n\":{},\"t\":\"a\\nb\"}}", random.u64(0..3));
                        let _ = writeln!(feed, "{{\"key\":{key},\"value\":{value},\"ts\":{time}}}");
                        live.insert(key, ("value", value));
                    }
                }
            }
            as_of.push(live.clone());
        }
        let _ = writeln!(feed, "{{\"closed\":{times}}}");
        Story { feed, as_of }
    }

    /// Feeds it to a shard `s` that keeps all of its history.
    pub fn tell(&self, dir: &Path) {
        std::fs::write(dir.join("feed"), &self.feed).expect("room");
        let args = ["feed", "--shard", "s", "--history", "keep", "--on-error", "keep"];
        let summary = ingested(dir, &args);
        assert_eq!(summary["upper"], self.as_of.len() as u64);
    }

    pub fn last(&self) -> &Contents {
        self.as_of.last().expect("a time")
    }
}

/// The keys that two collections differ in, with what each has.
pub fn differences(
    before: &Contents,
    after: &Contents,
) -> Vec<(String, Option<Shown>, Option<Shown>)> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |key: &String| (key.clone(), before.get(key).cloned(), after.get(key).cloned());
    keys.into_iter().map(of).filter(|(_, before, after)| before != after).collect()
}

/// The lines of a snapshot.
pub fn lines(contents: &Contents) -> Vec<String> {
    let line =
        |(key, (name, text)): (&String, &Shown)| format!("{{\"key\":{key},\"{name}\":{text}}}");
    contents.iter().map(line).collect()
}

/// A member `before` or `after`.
pub fn member(name: &str, shown: Option<&Shown>) -> String {
    match shown {
        None => format!("\"{name}\":null"),
        Some(("value", text)) => format!("\"{name}\":{text}"),
        Some((_, text)) => format!("\"{name}_error\":{text}"),
    }
}
