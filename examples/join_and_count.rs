//! Composes the committed collection with another one: orders, each of which may change hands, are joined with the
//! customers' cities and counted by city. What an upsert replaces is taken out of the counts, with no code for it here.
//!
//! ```text
//! cargo run --release --example join_and_count -- [URL]
//! ```

use differential_upsert::differential_dataflow::input::Input as _;
use differential_upsert::timely::{self, dataflow::operators::Input as _};
use differential_upsert::{Command, Error, PipelineConfig, Shard, UpsertInto};

/// Which customer each order is of: as they come, time by time. The second takes over one of the first's.
const ORDERS: [&[(u64, &str)]; 3] =
    [&[(1, "ada"), (2, "ada"), (3, "bo")], &[(4, "cy"), (2, "bo")], &[(1, "cy")]];

const CITIES: [(&str, &str); 3] = [("ada", "Bern"), ("bo", "Oslo"), ("cy", "Bern")];

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "file:./orders-shard".to_string());
    let shard = Shard::<u64, String>::open(&url)?;
    let start = shard.upper();
    timely::execute_directly(move |worker| {
        let (mut feed, (health, _token)) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            let cities = CITIES.map(|(customer, city)| (customer.to_string(), city.to_string()));
            let (_, cities) = scope.new_collection_from(cities);
            let orders = pipeline.collection().map(|(order, customer)| (customer, order));
            let counts = orders.join_map(cities, |_, _, city| city.clone()).count();
            counts.inspect(|((city, orders), time, diff)| {
                println!("time {time}: {diff:+} {city}: {orders} orders");
            });
            (input, (pipeline.health, pipeline.token))
        });
        for (time, orders) in (start..).zip(ORDERS) {
            for (order, customer) in orders {
                feed.send((Command::put(*order, customer.to_string(), 0), time));
            }
            feed.advance_to(time + 1);
        }
        feed.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(None);
        }
        health.error().map_or(Ok(()), Err)
    })
}
