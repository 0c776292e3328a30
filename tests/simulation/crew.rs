//! Owns the workers of a replica: how each is built, and runs when it is told to. A lone worker runs on
//! the simulation's own thread; several, which timely gives a thread each, take turns: one runs while
//! all others wait, so a run is as deterministic as on one thread. It does not own what a worker has.

use std::sync::{Mutex, mpsc};

use differential_upsert::timely;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;

/// What a worker is told to do.
pub type Order<S> = Box<dyn FnOnce(&mut S, &mut Worker) + Send>;

/// The workers of a replica, and what each has: a seat.
pub enum Crew<S> {
    /// One, here.
    Here(Box<(Worker, S)>),
    /// Several, each on a thread that waits for its turn.
    Threads {
        turns: Vec<mpsc::Sender<Option<Order<S>>>>,
        guards: Option<timely::communication::WorkerGuards<()>>,
    },
}

impl<S: 'static> Crew<S> {
    /// Builds the dataflow on `peers` workers.
    pub fn new(peers: usize, build: impl Fn(&mut Worker) -> S + Send + Sync + 'static) -> Crew<S> {
        if peers == 1 {
            let allocator = Allocator::Thread(Thread::default());
            let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
            let seat = build(&mut worker);
            return Crew::Here(Box::new((worker, seat)));
        }
        let (turns, orders): (Vec<_>, Vec<_>) =
            (0..peers).map(|_| mpsc::channel::<Option<Order<S>>>()).unzip();
        let orders = Mutex::new(orders.into_iter().map(Some).collect::<Vec<_>>());
        let (ready, built) = mpsc::channel();
        let ready = Mutex::new(ready);
        let config = timely::Config::process(peers);
        let guards = timely::execute(config, move |worker| {
            let orders = orders.lock().unwrap()[worker.index()].take().unwrap();
            // The first order is to build.
            let Ok(Some(_)) = orders.recv() else { return };
            let mut seat = build(worker);
            ready.lock().unwrap().send(()).unwrap();
            while let Ok(Some(order)) = orders.recv() {
                order(&mut seat, worker);
            }
            // A crash: nothing of the dataflow runs any more, and nothing is said to anyone.
            std::mem::forget(seat);
            std::panic::resume_unwind(Box::new("crashed"));
        });
        for turn in &turns {
            turn.send(Some(Box::new(|_, _| {}))).unwrap();
            built.recv().unwrap();
        }
        Crew::Threads { turns, guards: Some(guards.unwrap()) }
    }

    pub fn peers(&self) -> usize {
        match self {
            Crew::Here(_) => 1,
            Crew::Threads { turns, .. } => turns.len(),
        }
    }

    /// Runs something on a worker and waits for it.
    pub fn on<R: Send + 'static>(
        &mut self,
        worker: usize,
        order: impl FnOnce(&mut S, &mut Worker) -> R + Send + 'static,
    ) -> R {
        match self {
            Crew::Here(here) => order(&mut here.1, &mut here.0),
            Crew::Threads { turns, .. } => {
                let (sender, answer) = mpsc::channel();
                let order: Order<S> = Box::new(move |seat, worker| {
                    sender.send(order(seat, worker)).unwrap();
                });
                turns[worker].send(Some(order)).unwrap_or_else(|_| panic!("worker {worker} died"));
                answer.recv().unwrap_or_else(|_| panic!("worker {worker} panicked"))
            }
        }
    }

    pub fn step(&mut self, worker: usize) {
        self.on(worker, |_, worker| {
            worker.step();
        });
    }

    /// Ends every worker where it stands, as a killed process does: nothing is stepped or released.
    pub fn crash(self) {
        match self {
            // As of a thread that unwinds: the dataflow goes, with what it has open, and nothing runs.
            Crew::Here(here) => {
                let (worker, seat) = *here;
                std::mem::forget(seat);
                drop(worker);
            }
            Crew::Threads { turns, mut guards } => {
                for turn in turns {
                    // An error means that it is gone already.
                    let _ = turn.send(None);
                }
                for outcome in guards.take().unwrap().join() {
                    drop(outcome);
                }
            }
        }
    }
}
