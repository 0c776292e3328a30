//! Follows a shard that other programs write, and never writes itself: what is there first, then every change, until the
//! shard is sealed. `hello` makes one; run it again while this follows.
//!
//! ```text
//! cargo run --release --example hello -- ./hello-shard
//! cargo run --release --example follower -- ./hello-shard [--once]
//! ```

use differential_upsert::{Error, Pipeline, Shard, timely};

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "./hello-shard".to_string());
    // Nothing is created, leased or deleted: read rights are enough.
    let shard = Shard::<String, u64>::read(&url)?;
    if args.next().as_deref() == Some("--once") {
        let Some(last) = shard.upper().checked_sub(1) else { return Ok(()) };
        for (fruit, count) in shard.io().block_on(shard.snapshot(last))? {
            match count {
                Ok(count) => println!("{fruit} = {count}"),
                Err(error) => println!("{fruit}: {error}"),
            }
        }
        return Ok(());
    }
    timely::execute_directly(move |worker| {
        let (health, _token) = worker.dataflow(|scope| {
            let follow = Pipeline::follow(scope, &shard);
            follow.collection().inspect(|((fruit, count), time, diff)| {
                println!("time {time}: {diff:+} {fruit} = {count}");
            });
            (follow.health, follow.token)
        });
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        health.error().map_or(Ok(()), Err)
    })
}
