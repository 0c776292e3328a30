//! Owns pipelines of the test's own, shown by one face, on a thread that steps them until this is dropped. It does not
//! own what is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use differential_upsert::face::{self, Face, Server};
use differential_upsert::io::Io;
use differential_upsert::{Command, PipelineConfig, Promotion, Shard, UpsertInto};
use timely::dataflow::operators::Input;

/// Pipelines that run, and where their page is.
pub struct Pipelines {
    pub address: String,
    server: Option<Server>,
    done: Arc<AtomicBool>,
    stepping: Option<JoinHandle<()>>,
}

/// What all of them are.
#[derive(Clone, Copy)]
pub struct Kind {
    pub standby: bool,
    pub stall_after: Duration,
    /// The first of three times that are closed; a row waits for the next one to be.
    pub first: u64,
}

impl Pipelines {
    /// Runs a pipeline per name, each on a shard in memory of its own.
    pub fn run(names: &[&'static str], kind: Kind) -> Pipelines {
        let promotion = Promotion::default();
        let face = Face::new(promotion.clone());
        let io = Io::process().expect("a runtime");
        let serving = face::serve("127.0.0.1:0".parse().expect("an address"), face.clone());
        let server = io.block_on(serving).expect("a free port");
        let address = server.address().to_string();
        let done = Arc::new(AtomicBool::new(false));
        let (names, told) = (names.to_vec(), Arc::clone(&done));
        let standby = kind.standby.then_some(promotion);
        let stepping = std::thread::spawn(move || step(names, kind, face, standby, told));
        Pipelines { address, server: Some(server), done, stepping: Some(stepping) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.stepping.take().map(JoinHandle::join);
        if let Some(server) = self.server.take() {
            server.stop();
        }
        if !std::thread::panicking() {
            ended.expect("once").expect("the pipelines end well");
        }
    }
}

fn step(
    names: Vec<&'static str>,
    kind: Kind,
    face: Face,
    standby: Option<Promotion>,
    done: Arc<AtomicBool>,
) {
    let shards: Vec<_> =
        names.iter().map(|_| Shard::<String, u64>::open("mem:").expect("a shard")).collect();
    timely::execute_directly(move |worker| {
        let mut running: Vec<_> = (names.iter().zip(&shards))
            .map(|(name, shard)| {
                worker.dataflow(|scope| {
                    let (mut input, commands) = scope.new_input();
                    let config = PipelineConfig {
                        name: name.to_string(),
                        standby: standby.clone(),
                        stall_after: kind.stall_after,
                        ..PipelineConfig::default()
                    };
                    let pipeline = commands.upsert_into(shard, config);
                    face.show(pipeline.health, pipeline.metrics);
                    input.advance_to(kind.first);
                    for time in kind.first..kind.first + 4 {
                        input.advance_to(time);
                        for key in 0..50 {
                            input.send((Command::put(format!("key {key}"), time, 0), time));
                        }
                    }
                    input.flush();
                    (input, pipeline.token)
                })
            })
            .collect();
        // What is left to say comes by a wake-up.
        while !done.load(Ordering::Relaxed) {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        running.clear();
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
    });
}
