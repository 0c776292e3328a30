//! The first thing to read: a feed of commands becomes a durable collection. Run it twice; the
//! second run continues where the first one stopped.
//!
//! ```text
//! cargo run --release --example hello -- [URL] [timely's -w -n -p -h]
//! ```

use differential_upsert::timely::{self, dataflow::operators::Input};
use differential_upsert::{Command, Error, ErrorKind, PipelineConfig, Shard, UpsertInto};

fn main() -> Result<(), Error> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let has_url = args.first().is_some_and(|arg| !arg.starts_with('-'));
    let url = if has_url { args.remove(0) } else { "file:./hello-shard".to_string() };

    // One shard for the process; its upper is where this run continues.
    let shard = Shard::<String, u64>::open(&url)?;
    let start = shard.upper();
    println!("the shard holds the times below {start}");

    let workers = timely::execute_from_args(args.into_iter(), move |worker| {
        let (mut feed, (health, _token)) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            // The committed collection, read back: compose it like any other.
            pipeline.collection().inspect(|((fruit, count), time, diff)| {
                println!("time {time}: {diff:+} {fruit} = {count}");
            });
            (input, (pipeline.health, pipeline.token))
        });
        if worker.index() == 0 {
            for time in start..start + 3 {
                feed.send((Command::put("apples".to_string(), time * 10, 0), time));
                feed.send((Command::put("pears".to_string(), 7, 0), time)); // changes once
                feed.advance_to(time + 1);
            }
        }
        feed.close();
        // The end waits for its commit; then the dataflow is done.
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        health.error().map_or(Ok(()), Err)
    });
    let stopped = |what| Error::new(ErrorKind::Stopped, what);
    // What a worker has met is the program's error.
    workers.map_err(stopped)?.join().into_iter().try_for_each(|worker| worker.map_err(stopped)?)
}
