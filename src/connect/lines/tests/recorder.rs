//! Owns the recording sink and short ways to run a feed into it.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

use tokio::runtime::Runtime;

use crate::codec::Json;
use crate::command::Command;
use crate::connect::lines::OnError;
use crate::connect::lines::config::Config;
use crate::connect::lines::given::{self, Cell};
use crate::error::Error;
use crate::input::blocking::{Row, RowSink};

/// What readers wait by.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_time().build().expect("a thread")
});

/// Runs what reads on a thread that may block, as the library does.
pub(super) fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(|| {
        let _entered = RUNTIME.enter();
        work()
    })
}

/// What a feed handed over, in order: `key=value@time#order`, `key-@time#order` for a delete,
/// `key!error@time#order` for an error, `<time` for a closed time.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    pub(super) fn events(&self) -> Vec<String> {
        self.0.lock().expect("no panic while recording").clone()
    }

    /// Returns the rows alone.
    pub(super) fn rows(&self) -> Vec<String> {
        self.events().into_iter().filter(|event| !event.starts_with('<')).collect()
    }

    /// Returns the greatest closed time.
    pub(super) fn closed(&self) -> u64 {
        let closed = self.events().into_iter().filter_map(|event| event[1..].parse().ok());
        closed.max().unwrap_or(0)
    }
}

impl RowSink for Recorder {
    type Key = Json;
    type Value = Cell;
    type Order = u64;

    fn rows(&mut self, rows: Vec<Row<Self>>) -> Result<(), Error> {
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
                Command::Patch { .. } | Command::Reset { .. } | Command::ResetOf { .. } => {
                    panic!("no feed here makes one")
                }
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

/// A feed of a file, with all else as it is by default.
pub(super) fn config(path: &Path) -> Config {
    Config::new(path.to_str().expect("a temporary path is UTF-8").to_string(), false)
}

/// Reads a feed with given times.
pub(super) fn run(config: &Config, sink: Recorder) -> Result<u64, Error> {
    given::read(config, None, sink, &config.stop)
}

/// Reads a feed of these bytes; an error names the feed as `FEED`.
pub(super) fn read(text: impl AsRef<[u8]>, on_error: OnError) -> (Recorder, Result<u64, String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("room for it");
    let recorder = Recorder::default();
    let config = Config { on_error, ..config(file.path()) };
    let end = run(&config, recorder.clone());
    (recorder, end.map_err(|e| e.to_string().replace(&config.path, "FEED")))
}
