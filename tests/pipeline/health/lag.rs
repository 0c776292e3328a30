//! Goal: how far the shard is behind its source shows, in health and in metrics: of what is durable, and as far as the
//! source says. Method: a source that says a number per boundary, over a store that can be made to hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use differential_upsert::health::SourceLag;
use differential_upsert::io::{Clock, SystemClock};
use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::source::{
    Age, Boundary, Durable, Event, Events, Failure, Lag, Received, Source,
};
use differential_upsert::store::Operation;
use differential_upsert::{Error, ErrorKind, Pipeline, PipelineConfig};
use tokio::sync::mpsc;

use crate::health::rig::{Rig, Valve, config, memory};

/// How long ago each change was made, and its bytes.
const AGO: u64 = 90_000;
const BYTES: u64 = 100;

/// What the source is told: how far to go on, or to lose its connection for good.
enum Order {
    To(u64),
    Lose,
}

/// A source whose end is known, and whose place moves when it is told to.
struct Known {
    orders: mpsc::UnboundedReceiver<Order>,
    end: Arc<AtomicU64>,
    is_lost: bool,
    /// What is durable, and when what became so was made.
    durable: u64,
    made: Vec<u64>,
}

impl Source for Known {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "known".into()
    }

    async fn connect(&mut self, _: &Boundary<u64>) -> Result<(), Failure> {
        match self.is_lost {
            true => Err(Error::new(ErrorKind::Unavailable, "nobody answers").into()),
            false => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        match self.orders.recv().await {
            Some(Order::To(place)) => {
                Ok(Some(vec![Event::Boundary(Received::at("".into(), place))]))
            }
            Some(Order::Lose) => {
                self.is_lost = true;
                Ok(None)
            }
            None => std::future::pending().await,
        }
    }

    fn lag(&mut self, durable: &Durable<u64>) -> Lag {
        let durable = durable.get("").copied().unwrap_or(0);
        if durable > self.durable {
            self.durable = durable;
            self.made.push(SystemClock.now_ms() - AGO);
        }
        let rows = self.end.load(Ordering::SeqCst) - durable;
        let age = match rows {
            0 => Age::Current,
            _ => Age::AsOf(SystemClock.now_ms() - AGO),
        };
        // A copy, whose bytes are not known, goes up to 3.
        Lag { rows: Some(rows), bytes: (durable > 3).then_some(rows * BYTES), age }
    }

    fn durable_since(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.made)
    }
}

struct Run {
    rig: Rig,
    orders: mpsc::UnboundedSender<Order>,
    end: Arc<AtomicU64>,
}

impl Run {
    fn new(valve: Valve) -> Run {
        let (orders, told) = mpsc::unbounded_channel();
        let end = Arc::new(AtomicU64::new(10));
        let mut source = Some(Known {
            orders: told,
            end: Arc::clone(&end),
            is_lost: false,
            durable: 0,
            made: Vec::new(),
        });
        let times = SourceConfig {
            times: Times::CoCommitted,
            idle_commit: std::time::Duration::ZERO,
            ..SourceConfig::default()
        };
        let config = PipelineConfig { source: times, ..config() };
        let rig = Rig::build(&memory(), valve, |scope, shard| {
            (None, Pipeline::from_source(scope, || source.take(), shard, config))
        });
        Run { rig, orders, end }
    }

    fn goes_to(&mut self, place: u64) -> SourceLag {
        assert!(self.orders.send(Order::To(place)).is_ok());
        self.lag()
    }

    fn lag(&mut self) -> SourceLag {
        (0..30).for_each(|_| self.rig.live());
        self.rig.report().lag
    }

    /// The sample of a metric, if there is one.
    fn sample(&self, name: &str) -> Option<f64> {
        let text = self.rig.metrics.text();
        assert!(text.contains(&format!("\n# TYPE differential_upsert_{name} gauge\n")), "{text}");
        let name = format!("differential_upsert_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map(|value| value.parse().expect("a number"))
    }

    /// How many changes took at most so many seconds until they were durable, if it is known of any.
    fn took(&self, bound: &str) -> Option<u64> {
        let text = self.rig.metrics.text();
        assert!(text.contains("\n# TYPE differential_upsert_freshness_seconds histogram\n"));
        let name = format!("differential_upsert_freshness_seconds_bucket{{le=\"{bound}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map(|value| value.parse().expect("a number"))
    }

    fn samples(&self) -> [Option<f64>; 3] {
        ["rows", "bytes", "seconds"].map(|of| self.sample(&format!("source_lag_{of}")))
    }
}

fn seconds(lag: SourceLag) -> f64 {
    lag.age.expect("it is known").as_secs_f64()
}

#[test]
fn what_is_not_durable_is_behind() {
    let mut run = Run::new(Valve::hanging(|a| a.operation == Operation::CreateEntry));
    assert_eq!(run.took("+Inf"), None, "nothing is known of any");
    let lag = run.goes_to(2);
    assert_eq!((run.took("60"), run.took("300"), run.took("+Inf")), (Some(0), Some(1), Some(1)));
    assert_eq!((lag.rows, lag.bytes), (Some(8), None), "bytes are not known yet");
    let json = serde_json::to_value(run.rig.report()).unwrap();
    assert_eq!((&json["lag"]["rows"], json["lag"].get("bytes")), (&8.into(), None), "{json}");
    assert!(json["lag"]["seconds"].as_f64().unwrap() >= 90.0, "{json}");
    let [rows, bytes, age] = run.samples();
    assert_eq!((rows, bytes), (Some(8.0), None));
    assert!(age.unwrap() >= 90.0 && seconds(lag) < 3_600.0, "{lag:?}");

    // What was handed over is none the less behind.
    run.rig.valve.set(true);
    assert_eq!((run.goes_to(9).rows, run.took("+Inf")), (Some(8), Some(1)));
    run.rig.valve.set(false);
    let lag = run.lag();
    assert_eq!((lag.rows, lag.bytes, run.took("+Inf")), (Some(1), Some(BYTES), Some(2)));

    let lag = run.goes_to(10);
    assert_eq!((lag.rows, lag.bytes, seconds(lag)), (Some(0), Some(0), 0.0));
    assert_eq!(run.samples(), [Some(0.0); 3]);
    run.end.store(12, Ordering::SeqCst);
    assert_eq!(run.goes_to(11).rows, Some(1));
}

/// A source that is away may have got anything since.
#[test]
fn nobody_knows_how_far_behind_a_source_is_that_is_away() {
    let mut run = Run::new(Valve::none());
    assert_eq!(seconds(run.goes_to(10)), 0.0);
    assert!(run.orders.send(Order::Lose).is_ok());
    let lag = run.lag();
    assert_eq!((lag.rows, lag.age), (Some(0), None), "as it was last said: {lag:?}");
    assert_eq!(run.samples(), [Some(0.0), Some(0.0), None]);
}
