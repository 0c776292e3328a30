//! Goal: what a log comes to, by the chapter `guide::format` alone. Method: a rollup, and the entries after it, as JSON.

use serde_json::Value;

use super::log::{Files, Log, below, frame, read as read_log};

/// Where rows are.
#[derive(Clone, Debug)]
pub enum Place {
    Stored(String),
    Inline { seqno: u64, offset: usize },
}

#[derive(Clone, Debug)]
pub struct Part {
    pub place: Place,
    pub bytes: usize,
    pub crc: u64,
    pub updates: u64,
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub seqno: u64,
    pub lower: u64,
    pub upper: u64,
    pub parts: Vec<Part>,
    pub forwarded: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct State {
    pub seqno: u64,
    pub token: String,
    pub since: u64,
    pub upper: u64,
    pub epoch: u64,
    pub sealed_at: Option<u64>,
    pub cursor: Option<String>,
    pub batches: Vec<Batch>,
}

fn whole(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_string()
}

fn list<T>(value: &Value, name: &str, of: impl FnMut(&Value) -> T) -> Vec<T> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} of {value}")).iter().map(of).collect()
}

/// A part, which says where it is; `seqno` is of the entry that it may be in.
fn part(value: &Value, seqno: Option<u64>) -> Part {
    let (stored, inline) = (&value["stored"], &value["inline"]);
    let (place, of) = match stored.is_null() {
        false => (Place::Stored(text(stored, "key")), stored),
        true => {
            let seqno = seqno.unwrap_or_else(|| whole(inline, "seqno"));
            (Place::Inline { seqno, offset: whole(inline, "offset") as usize }, inline)
        }
    };
    let (bytes, crc, updates) = (whole(of, "bytes"), whole(of, "crc"), whole(of, "updates"));
    Part { place, bytes: bytes as usize, crc, updates }
}

impl State {
    fn empty() -> State {
        let (token, batches) = ("0".repeat(32), Vec::new());
        let (seqno, since, upper, epoch, sealed_at, cursor) = (0, 0, 0, 0, None, None);
        State { seqno, token, since, upper, epoch, sealed_at, cursor, batches }
    }

    fn of_rollup(value: &Value) -> State {
        let batch = |batch: &Value| Batch {
            seqno: whole(batch, "seqno"),
            lower: whole(batch, "lower"),
            upper: whole(batch, "upper"),
            parts: list(batch, "parts", |value| part(value, None)),
            forwarded: batch["forwarded"].as_u64(),
        };
        State {
            seqno: whole(value, "seqno"),
            token: text(value, "token"),
            since: whole(value, "since"),
            upper: whole(value, "upper"),
            epoch: whole(value, "epoch"),
            sealed_at: value["sealed_at"].as_u64(),
            cursor: value["cursor"].as_str().map(str::to_string),
            batches: list(value, "batches", batch),
        }
    }

    fn apply(&mut self, entry: &Value) {
        assert_eq!(whole(entry, "seqno"), self.seqno + 1);
        assert_eq!(text(entry, "prev_token"), self.token);
        let seqno = whole(entry, "seqno");
        (self.seqno, self.token) = (seqno, text(entry, "token"));
        self.since = whole(entry, "since");
        match &*text(entry, "kind") {
            "append" => {
                let (lower, upper) = (whole(entry, "lower"), whole(entry, "upper"));
                assert_eq!(lower, self.upper);
                self.upper = upper;
                let parts = list(entry, "parts", |value| part(value, Some(seqno)));
                if !parts.is_empty() {
                    self.batches.push(Batch { seqno, lower, upper, parts, forwarded: None });
                }
                self.epoch = entry["epoch"].as_u64().unwrap_or(self.epoch);
                self.sealed_at = self.sealed_at.or(entry["sealed_at"].as_u64());
                let cursor = entry["cursor"].as_str().map(str::to_string);
                self.cursor = cursor.or(self.cursor.take());
            }
            "compact" => {
                let at = |seqno| self.batches.iter().position(|b| b.seqno == seqno).unwrap();
                let run = at(whole(entry, "first"))..at(whole(entry, "last")) + 1;
                let (lower, upper) =
                    (self.batches[run.start].lower, self.batches[run.end - 1].upper);
                let wrapped = |value: &Value| part(&serde_json::json!({ "stored": value }), None);
                let merged = Batch {
                    seqno: whole(entry, "last"),
                    lower,
                    upper,
                    parts: list(entry, "parts", wrapped),
                    forwarded: Some(whole(entry, "forwarded")),
                };
                self.batches.splice(run, [merged]);
            }
            "lease" | "collect" => {}
            other => panic!("a kind that is not known: {other}"),
        }
    }
}

/// A shard, as it is read.
#[derive(Debug)]
pub struct Shard {
    pub state: State,
    pub log: Log,
    pub from_rollup: bool,
}

/// Reads the log of a shard to its end.
pub fn read(files: &Files, shard: &str) -> Shard {
    let log = read_log(files, shard);
    let newest = below(files, &format!("{shard}/rollup/")).into_iter().max();
    let (mut state, from_rollup) = match newest {
        None => (State::empty(), false),
        Some((name, bytes)) => {
            let (json, raw) = frame(b"DUPSROL\n", bytes);
            let state = State::of_rollup(&json);
            assert_eq!(name, format!("{:020}-{}", state.seqno, state.token));
            assert!(raw.is_empty());
            (state, true)
        }
    };
    assert!(state.seqno >= log.floor, "no rollup at or above the floor");
    while let Some(entry) = log.entries.get(&(state.seqno + 1)) {
        state.apply(&frame(b"DUPSLOG\n", entry).0);
    }
    Shard { state, log, from_rollup }
}
