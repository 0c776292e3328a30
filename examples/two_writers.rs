//! Two writers run the same feed into one shard and race for every append. Whichever wins, both go on;
//! one of them pauses, falls behind, and catches up by dropping what the other has written.
//!
//! ```text
//! cargo run --release --example two_writers -- [URL]
//! ```

use std::sync::{Arc, Barrier};
use std::time::Duration;

use differential_upsert::codec::{Codec, Postcard};
use differential_upsert::{Command, Error, PipelineConfig, Shard, Totals, UpsertInto};
use timely::dataflow::operators::Input;

/// Times in the feed; writer B sleeps through those of `NAP`.
const TIMES: u64 = 10;
const NAP: std::ops::Range<u64> = 3..6;

/// A definite feed: the commands of a time are the same for every writer.
fn commands(time: u64) -> Vec<Command<String, u64, u64>> {
    let set = |key: &str, value| Command::put(key.to_string(), value, 0);
    let mut commands = vec![set("clock", time), set("half", time / 2)];
    if time % 3 == 2 {
        commands.push(Command::delete("half".to_string(), 1));
    }
    commands
}

/// One writer: a process of its own in all but name. It shares nothing with the other but the shard.
fn writer(name: &'static str, url: &str, rounds: Arc<Barrier>) -> Result<(), Error> {
    let shard = Shard::<String, u64>::open(url)?;
    let start = shard.upper();
    timely::execute_directly(move |worker| {
        let (mut feed, pipeline) = worker.dataflow(|scope| {
            let (input, stream) = scope.new_input();
            let pipeline = stream.upsert_into(&shard, PipelineConfig::default());
            (input, (pipeline.token, pipeline.health, pipeline.watch, pipeline.stats))
        });
        let (token, health, watch, stats) = pipeline;
        let mut told = Totals::default();
        for time in start..start + TIMES {
            rounds.wait();
            commands(time).into_iter().for_each(|command| feed.send((command, time)));
            feed.advance_to(time + 1);
            if name == "B" && NAP.contains(&(time - start)) {
                println!("  {name} sleeps; the commands of time {time} wait in its input");
                continue;
            }
            // It sees the commit, whichever writer made it.
            while shard.state().upper <= time && health.error().is_none() {
                worker.step_or_park(Some(Duration::from_millis(10)));
            }
            // And settles its own, if it tried.
            worker.step();
            let now = watch.totals();
            let did = match (now.wins > told.wins, now.losses > told.losses, stats.below() > 0) {
                (true, _, _) => "WON the append: its rows are in the shard",
                (_, true, _) => "lost the race: dropped its own, which are the same rows",
                (_, _, true) => "found it in the shard: dropped its commands as below the upper",
                _ => "saw the other's commit before it had tried",
            };
            println!("  {name} at time {time}: {did}; the upper is {}", shard.state().upper);
            told = now;
        }
        feed.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        let t = watch.totals();
        let written = t.inserted + t.updated + t.deleted;
        println!(
            "  {name} is done: {} appends won, {} lost; {written} rows written, {} lost, {} below, {} \
             superseded, {} unchanged",
            t.wins, t.losses, t.lost, t.below, t.superseded, t.unchanged
        );
        drop(token);
        health.error().map_or(Ok(()), Err)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = match std::env::args().nth(1) {
        Some(url) => url,
        None => directory.path().display().to_string(),
    };
    println!(
        "Two writers, one shard at {url}. Each append says: \"the upper is u, make it u + n\"."
    );
    println!("The store lets one of them through; the other reads who it was, and goes on.\n");
    let rounds = Arc::new(Barrier::new(2));
    let (theirs, b) = (Arc::clone(&rounds), url.clone());
    let other = std::thread::spawn(move || writer("B", &b, theirs));
    writer("A", &url, rounds)?;
    other.join().map_err(|_| "writer B panicked")??;

    let shard = Shard::<String, u64>::open(&url)?;
    let upper = shard.upper();
    let contents = shard.io().block_on(shard.handle().snapshot(upper - 1))?;
    println!("\nThe shard at time {} holds {} keys, each once:", upper - 1, contents.len());
    for ((key, value), _, count) in contents {
        let key: String = Postcard::decode(key.as_bytes())?;
        // The first byte says that it is a value and no error.
        let value: u64 = Postcard::decode(&value.as_bytes()[1..])?;
        println!("  {key} = {value}");
        assert_eq!(count, 1);
    }
    Ok(())
}
