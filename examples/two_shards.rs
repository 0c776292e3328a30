//! Two shards in one dataflow: stock and prices come from two feeds, each of which commits for itself, and what they are
//! worth together is joined from what is committed. The join is as far as both are.
//!
//! ```text
//! cargo run --release --example two_shards -- [STOCK_URL] [PRICES_URL]
//! ```

use differential_upsert::timely::{self, dataflow::InputHandleVec, dataflow::operators::Input};
use differential_upsert::{Command, Error, PipelineConfig, Shard, UpsertInto};

type Feed = InputHandleVec<u64, (Command<String, u64, u64>, u64)>;

const STOCK: [&[(&str, u64)]; 3] =
    [&[("apples", 10), ("pears", 4)], &[("apples", 7)], &[("pears", 5)]];
const PRICES: [&[(&str, u64)]; 3] = [&[("apples", 2), ("pears", 3)], &[], &[("apples", 4)]];

/// Hands over a feed from a time on.
fn give(feed: &mut Feed, start: u64, rows: [&[(&str, u64)]; 3]) {
    for (time, rows) in (start..).zip(rows) {
        for (fruit, number) in rows {
            feed.send((Command::put(fruit.to_string(), *number, 0), time));
        }
        feed.advance_to(time + 1);
    }
}

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut url = |or: &str| args.next().unwrap_or_else(|| or.to_string());
    let stock = Shard::<String, u64>::open(&url("file:./stock-shard"))?;
    let prices = Shard::<String, u64>::open(&url("file:./prices-shard"))?;
    timely::execute_directly(move |worker| {
        let (mut feeds, healths, _tokens) = worker.dataflow(|scope| {
            let (stock_feed, stock_commands) = scope.new_input();
            let (prices_feed, prices_commands) = scope.new_input();
            let in_stock = stock_commands.upsert_into(&stock, PipelineConfig::default());
            let priced = prices_commands.upsert_into(&prices, PipelineConfig::default());
            let worth =
                in_stock.collection().join_map(priced.collection(), |fruit, count, price| {
                    (fruit.clone(), count * price)
                });
            worth.inspect(|((fruit, worth), time, diff)| {
                println!("time {time}: {diff:+} {fruit} are worth {worth}");
            });
            let healths = [in_stock.health, priced.health];
            ([stock_feed, prices_feed], healths, [in_stock.token, priced.token])
        });
        give(&mut feeds[0], stock.upper(), STOCK);
        give(&mut feeds[1], prices.upper(), PRICES);
        drop(feeds);
        let error = || healths.iter().find_map(|health| health.error());
        while worker.has_dataflows() && error().is_none() {
            worker.step_or_park(None);
        }
        error().map_or(Ok(()), Err)
    })
}
