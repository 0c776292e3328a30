//! Owns pipelines of the test's own, shown by one face, on a thread that steps them until this is dropped. It does not
//! own what is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use differential_upsert::face::{self, Face, Server};
use differential_upsert::io::Io;
use differential_upsert::shard::HandleConfig;
use differential_upsert::source::SourceStats;
use differential_upsert::store::{Access, Fault, Faults, Operation, Root};
use differential_upsert::{Command, PipelineConfig, Promotion, Shard, UpsertInto};
use timely::dataflow::operators::Input;

/// Pipelines that run, and where their page is.
pub struct Pipelines {
    pub address: String,
    server: Option<Server>,
    done: Arc<AtomicBool>,
    store: Arc<Faults>,
    stepping: Option<JoinHandle<()>>,
}

/// What all of them are.
#[derive(Clone, Copy)]
pub struct Kind {
    pub standby: bool,
    pub stall_after: Duration,
    /// The first of three times that are closed; a row waits for the next one to be.
    pub first: u64,
    /// No commit has an answer.
    pub hangs: bool,
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
        let (names, told, over) = (names.to_vec(), Arc::clone(&done), Arc::clone(&done));
        let store = Faults::new(move |action| {
            let hangs = kind.hangs && !over.load(Ordering::SeqCst);
            let commits = action.operation == Operation::CreateEntry;
            if hangs && commits { Fault::Hang } else { Fault::None }
        });
        let faults = Arc::clone(&store);
        let standby = kind.standby.then_some(promotion);
        let stepping = std::thread::spawn(move || step(names, kind, face, standby, faults, told));
        Pipelines { address, server: Some(server), done, store, stepping: Some(stepping) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        self.store.let_go();
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
    store: Arc<Faults>,
    done: Arc<AtomicBool>,
) {
    let io = Io::process().expect("a runtime");
    let open = |_| {
        let root = Root::open("mem:", Access::Write).expect("a store");
        let root = root.with_faults(Arc::clone(&store));
        let opened = Shard::<String, u64>::open_with(root, io.clone(), HandleConfig::default());
        io.block_on(opened).expect("a shard")
    };
    let shards: Vec<_> = names.iter().map(open).collect();
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
                    face.show_feed(name, format!("the feed of {name}"), SourceStats::default());
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
        while !done.load(Ordering::SeqCst) {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        running.clear();
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
    });
}
