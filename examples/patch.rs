//! Values that change by patches: a feed says what is added, not what there is then. The sum is made where the prior value
//! is, exactly once, through any crash and rerun. A patch of a key that has no value is that key's error.
//!
//! ```text
//! cargo run --release --example patch -- [URL]
//! ```

use differential_upsert::timely::{self, dataflow::operators::Input};
use differential_upsert::{Command, DataError, Error, PipelineConfig, Shard, UpsertInto};

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "file:./stock-patched".to_string());
    // The fold is part of the feed, and so is its name.
    let shard = Shard::<String, i64>::open(&url)?.with_fold("stock-1", |stock, more| {
        match stock.checked_add(more) {
            Some(sum) if sum >= 0 => Ok(sum),
            _ => Err(DataError(format!("{stock} and {more} more are no stock"))),
        }
    });
    let start = shard.upper();
    timely::execute_directly(move |worker| {
        let (mut feed, (health, _token)) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            pipeline.collection().inspect(|((fruit, stock), time, diff)| {
                println!("time {time}: {diff:+} {fruit} = {stock}");
            });
            pipeline.data_errors().inspect(|((fruit, error), time, diff)| {
                println!("time {time}: {diff:+} {fruit}: {error}");
            });
            (input, (pipeline.health, pipeline.token))
        });
        let fruit = |name: &str| name.to_string();
        if start == 0 {
            feed.send((Command::put(fruit("apples"), 3, 0), 0));
        }
        // Two of one order add up; the order says which comes first where that matters.
        feed.send((Command::patch(fruit("apples"), 4, 1), start));
        feed.send((Command::patch(fruit("apples"), 4, 1), start));
        feed.send((Command::patch(fruit("pears"), 1, 1), start));
        feed.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        health.error().map_or(Ok(()), Err)
    })
}
