//! A standby takes over from a writer that dies in the middle of its work. It has read the shard and
//! computed what comes next all along, so the first append after the promotion is a matter of one
//! write.
//!
//! ```text
//! cargo run --release --example cutover -- [URL]
//! ```

use std::time::{Duration, Instant};

use differential_upsert::health::Health;
use differential_upsert::pipeline::Watch;
use differential_upsert::{Command, PipelineConfig, Promotion, Shard, Token, UpsertInto};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::Input;
use timely::worker::Worker;

type Row = (Command<u64, u64, u64>, u64);

/// Keys of the feed, all of them overwritten at each time.
const KEYS: u64 = 1_000;

/// A replica with a timely worker, a handle and a reader of its own: another process in all but
/// name. Here both are stepped in turn, so that what happens is in the order in which it is printed.
struct Replica {
    name: &'static str,
    worker: Worker,
    feed: InputHandle<u64, CapacityContainerBuilder<Vec<Row>>>,
    shard: Shard<u64, u64>,
    health: Health,
    watch: Watch,
    _token: Token,
}

impl Replica {
    fn start(
        name: &'static str,
        url: &str,
        standby: Option<Promotion>,
    ) -> Result<Replica, differential_upsert::Error> {
        let shard = Shard::<u64, u64>::open(url)?;
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let config = PipelineConfig { standby, ..PipelineConfig::default() };
        let (feed, health, watch, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.health, pipeline.watch, pipeline.token)
        });
        Ok(Replica { name, worker, feed, shard, health, watch, _token: token })
    }

    /// Hands over the commands of some times and closes them.
    fn give(&mut self, times: std::ops::Range<u64>) {
        for time in times {
            (0..KEYS).for_each(|key| self.feed.send((Command::put(key, key + time, 0), time)));
            self.feed.advance_to(time + 1);
        }
    }

    fn upper(&self) -> u64 {
        self.shard.state().upper
    }

    fn say(&self, what: &str) {
        let (health, totals) = (self.health.report(), self.watch.totals());
        println!(
            "{:>8}: {what}: input {}, output {}, upper {}, {} appends won",
            self.name, health.input, health.output, health.upper, totals.wins
        );
    }
}

/// Steps replicas in turn until something holds.
fn run(replicas: &mut [&mut Replica], until: impl Fn(&[&mut Replica]) -> bool) {
    while !until(replicas) {
        for replica in replicas.iter_mut() {
            replica.worker.step();
            assert!(replica.health.error().is_none(), "{:?}", replica.health.error());
        }
        std::thread::yield_now();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = match std::env::args().nth(1) {
        Some(url) => url,
        None => directory.path().display().to_string(),
    };
    println!("One writer and one standby on the shard at {url}.\n");
    let promotion = Promotion::default();
    let mut old = Replica::start("writer", &url, None)?;
    let mut new = Replica::start("standby", &url, Some(promotion.clone()))?;
    let start = new.shard.upper();

    // Both get the same feed. One writes, the other follows.
    old.give(start..start + 3);
    new.give(start..start + 6);
    // The standby works out what comes next without waiting for the writer.
    run(&mut [&mut old, &mut new], |replicas| {
        replicas[1].upper() >= start + 3 && replicas[1].health.report().output > start + 3
    });
    old.say("wrote three times");
    new.say("read them back, and has three more that the writer has not seen");

    // The writer dies: nothing of it runs any more. Nobody writes, and the standby says so by not
    // moving; it does not take over by itself.
    std::mem::forget(old);
    println!("\n  writer: dead\n");
    for _ in 0..1_000 {
        new.worker.step();
    }
    assert_eq!(new.upper(), start + 3);
    new.say("still writes nothing");

    let promoted = Instant::now();
    promotion.promote();
    run(&mut [&mut new], |replicas| replicas[0].watch.totals().wins > 0);
    let took = promoted.elapsed();
    new.name = "promoted";
    new.say("is a writer now");
    run(&mut [&mut new], |replicas| replicas[0].upper() >= start + 6);
    println!("{:>8}  from the promotion to its first own append: {took:.2?}", "");

    // The old one comes back, far behind, as a writer like any other: it drops what is there.
    let mut old = Replica::start("back", &url, None)?;
    old.give(start..start + 7);
    run(&mut [&mut old, &mut new], |replicas| replicas[0].upper() >= start + 7);
    let settle = Instant::now();
    run(&mut [&mut old, &mut new], |replicas| {
        replicas[1].upper() >= start + 7 || settle.elapsed() > Duration::from_secs(10)
    });
    old.say("runs the feed from its start");

    let upper = old.upper();
    let contents = old.shard.io().block_on(old.shard.handle().snapshot(upper - 1))?;
    assert_eq!(contents.len() as u64, KEYS);
    assert!(contents.iter().all(|(_, _, count)| *count == 1));
    println!("\nThe shard at time {} holds {KEYS} keys: none lost, none doubled.", upper - 1);
    Ok(())
}
