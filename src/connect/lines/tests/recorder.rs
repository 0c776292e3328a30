//! Owns the recording sink and short ways to run a feed into it.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use differential_upsert::{Command, Error};

use crate::emit::{Counts, Sink, Update};
use crate::reader::{JsonLines, OnError};
use crate::stop::Stop;

/// What a feed handed over, in order: `key=value@time#order`, `key-@time#order` for a delete,
/// `key!error@time#order` for an error, `<time` for a closed time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    pub(crate) fn events(&self) -> Vec<String> {
        self.0.lock().expect("no panic while recording").clone()
    }

    /// Returns the rows alone.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.events().into_iter().filter(|event| !event.starts_with('<')).collect()
    }

    /// Returns the greatest closed time.
    pub(crate) fn closed(&self) -> u64 {
        let closed = self.events().into_iter().filter_map(|event| event[1..].parse().ok());
        closed.max().unwrap_or(0)
    }
}

impl Sink for Recorder {
    fn rows(&mut self, rows: Vec<Update>) -> Result<(), Error> {
        let closed = Recorder::closed(self);
        for (command, time) in rows {
            assert!(time >= closed, "a row at {time}, which was closed by {closed}");
            let event = match command {
                Command::Put { key, value: Ok(value), order } => {
                    format!("{}={}@{time}#{order}", key.as_str(), value.as_str())
                }
                Command::Put { key, value: Err(what), order } => {
                    format!("{}!{what}@{time}#{order}", key.as_str())
                }
                Command::Delete { key, order } => format!("{}-@{time}#{order}", key.as_str()),
                Command::Reset { .. } => panic!("no feed here makes a reset"),
            };
            self.0.lock().expect("no panic while recording").push(event);
        }
        Ok(())
    }

    fn closed(&mut self, time: u64) -> Result<(), Error> {
        let closed = Recorder::closed(self);
        assert!(time > closed, "closed {time} after {closed}");
        self.0.lock().expect("no panic while recording").push(format!("<{time}"));
        Ok(())
    }
}

/// A feed as the command line would make it.
pub(crate) fn json_lines(path: &Path) -> JsonLines {
    JsonLines {
        path: path.to_str().expect("a temporary path is UTF-8").to_string(),
        looked: None,
        follow: false,
        on_error: OnError::Stop,
        throttle: None,
        counts: Arc::new(Counts::default()),
        stop: Stop::default(),
    }
}

/// Reads a feed of these bytes; an error names the feed as `FEED`.
pub(crate) fn read(text: impl AsRef<[u8]>, on_error: OnError) -> (Recorder, Result<u64, String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("room for it");
    let recorder = Recorder::default();
    let feed = JsonLines { on_error, ..json_lines(file.path()) };
    let path = feed.path.clone();
    let end = feed.read(recorder.clone());
    (recorder, end.map_err(|e| e.to_string().replace(&path, "FEED")))
}
