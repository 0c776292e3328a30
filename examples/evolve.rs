//! Two versions of a program at one shard, whose orders have other fields: the later one reads what the earlier one has
//! put, and no copy is made. Run it with `1`, then with `2`, then with `1` again: that one is refused, by the name of the
//! field that it lacks, before it reads or writes a row.
//!
//! ```text
//! cargo run --release --example evolve -- URL 1
//! cargo run --release --example evolve -- URL 2
//! ```

use differential_upsert::codec::Evolving;
use differential_upsert::differential_dataflow::ExchangeData;
use differential_upsert::timely::{self, dataflow::operators::Input};
use differential_upsert::{Command, Error, ErrorKind, PipelineConfig, Shard, UpsertInto};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod version_1 {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub struct Order {
        pub cents: u32,
        pub note: String,
    }
}

/// A field has another name and a wider number, one is new, and `note` is gone.
mod version_2 {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub struct Order {
        #[serde(alias = "cents")]
        pub amount: u64,
        #[serde(default = "euros")]
        pub currency: String,
    }

    fn euros() -> String {
        "EUR".to_string()
    }
}

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "file:./orders-evolving".to_string());
    match args.next().as_deref() {
        Some("1") => {
            run(&url, |time| version_1::Order { cents: 100 + time as u32, note: "n".into() })
        }
        Some("2") | None => run(&url, |time| version_2::Order {
            amount: (1 << 40) + time,
            currency: "CHF".to_string(),
        }),
        Some(other) => {
            let what = format!("there is no version {other}");
            Err(Error::new(ErrorKind::Invalid, what).at("VERSION").hint("say 1 or 2"))
        }
    }
}

/// Puts one order more, and prints all that are there.
fn run<V>(url: &str, order: impl FnOnce(u64) -> V + Send + Sync + 'static) -> Result<(), Error>
where
    V: ExchangeData + Ord + Serialize + DeserializeOwned,
{
    let shard = Shard::<u64, V, Evolving>::open(url)?;
    let (time, written) = (shard.upper(), shard.clone());
    timely::execute_directly(move |worker| {
        let (mut feed, (health, _token)) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&written, PipelineConfig::default());
            (input, (pipeline.health, pipeline.token))
        });
        feed.send((Command::put(time, order(time), 0), time));
        feed.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        health.error().map_or(Ok(()), Err)
    })?;
    let mut orders = shard.io().block_on(shard.snapshot(time))?;
    orders.sort();
    for (key, order) in orders {
        match order {
            Ok(order) => println!("order {key}: {order:?}"),
            Err(error) => println!("order {key}: {error}"),
        }
    }
    Ok(())
}
