//! A source of your own, in fifty lines: every file of a directory is a partition, every line of it,
//! `KEY NUMBER` or `KEY` alone for a delete, a unit. Run it, append lines, run it again: it goes on
//! where the shard is, whatever was killed in between. A line that cannot be read is its key's error until the key
//! has another one; a directory that is not there ends the run at once.
//!
//! ```text
//! mkdir fruit && echo "apples 3" >> fruit/monday
//! cargo run --release --example hello_source -- fruit ./fruit-shard
//! ```

use std::path::PathBuf;

use differential_upsert::source::Source;
use differential_upsert::source::{Boundary, Change, Event, Events, Failure, Partition, Received};
use differential_upsert::{DataError, Error, ErrorKind, Pipeline, PipelineConfig, Shard, timely};

/// The files of a directory.
struct Directory {
    path: PathBuf,
    /// Where the last connect began, file by file; `None` when all has been read.
    from: Option<Boundary<u64>>,
}

impl Source for Directory {
    type Key = String;
    type Value = u64;
    /// The byte behind the last line.
    type Position = u64;

    fn identity(&self) -> String {
        "a directory of fruit".to_string()
    }

    async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
        self.from = Some(from.clone());
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let Some(from) = self.from.take() else { return Ok(Some(vec![Event::End])) };
        let mut events = Vec::new();
        for file in std::fs::read_dir(&self.path).map_err(unreadable)? {
            let file = file.map_err(unreadable)?;
            let name = Partition::from(file.file_name().to_string_lossy());
            let text = std::fs::read_to_string(file.path()).map_err(unreadable)?;
            let mut at = from.get(&name).copied().unwrap_or(0) as usize;
            while let Some(length) = text[at..].find('\n') {
                let line = &text[at..at + length];
                at += length + 1;
                let change = match line.split_once(' ') {
                    Some((key, value)) => Change::Put(key.to_string(), number(value)),
                    None => Change::Delete(line.to_string()),
                };
                events.push(Event::Change(name.clone(), change));
                // The end of the unit: only from here is it ever resumed.
                events.push(Event::Boundary(Received::at(name.clone(), at as u64)));
            }
        }
        events.push(Event::End);
        Ok(Some(events))
    }
}

fn number(text: &str) -> Result<u64, DataError> {
    text.parse().map_err(|e| DataError(format!("{text:?}: {e}")))
}

/// Whether it is worth another try is ours to say.
fn unreadable(e: std::io::Error) -> Failure {
    let error = |kind| Error::new(kind, format!("cannot read the directory: {e}"));
    match e.kind() {
        std::io::ErrorKind::NotFound => Failure::Definite(error(ErrorKind::Missing)),
        _ => Failure::Transient(error(ErrorKind::Unavailable)),
    }
}

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().unwrap_or_else(|| "fruit".to_string()));
    let shard = Shard::<String, u64>::open(&args.next().unwrap_or("./fruit-shard".to_string()))?;
    let health = timely::execute_directly(move |worker| {
        let (token, health) = worker.dataflow(|scope| {
            let source = || Some(Directory { path, from: None });
            let pipeline = Pipeline::from_source(scope, source, &shard, PipelineConfig::default());
            pipeline.collection().inspect(|(row, _, diff)| println!("{row:?} {diff:+}"));
            pipeline.data_errors().inspect(|((key, e), _, diff)| println!("{key}: {e} {diff:+}"));
            (pipeline.token, pipeline.health)
        });
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        drop(token);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        health
    });
    health.error().map_or(Ok(()), Err)
}
