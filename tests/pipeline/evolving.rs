//! Goal: values change shape without a copy, with programs of both versions at one shard, and what cannot be read is refused
//! by name. Method: types in modules of their own stand for two versions of a program; each opens the shard, feeds it, and
//! reads it whole. One worker, stepped by hand.

use std::time::Duration;

use differential_upsert::codec::{Codec, Evolving, Postcard};
use differential_upsert::differential_dataflow::ExchangeData;
use differential_upsert::io::Io;
use differential_upsert::shard::Access;
use differential_upsert::store::Root;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, Pipeline, PipelineConfig, Shard, UpsertInto,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::capture::{Capture, Extract};

macro_rules! version {
    ($module:ident, $($(#[$attribute:meta])* $field:ident: $type:ty),*) => {
        mod $module {
            #[derive(
                Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
            )]
            pub struct Order {
                $($(#[$attribute])* pub $field: $type),*
            }
        }
    };
}

version!(first, cents: u32, note: String);
// A field is added, and the rest stays: either version reads the other's.
version!(added, cents: u32, note: String, #[serde(default)] tax: Option<u64>);
// One is renamed and wider, one is dropped.
version!(renamed, #[serde(alias = "cents")] amount: u64, #[serde(default)] tax: Option<u64>);
// What is added has no default.
version!(strict, cents: u32, note: String, tax: u64);
version!(wide, cents: u64, note: String, #[serde(default)] tax: Option<u64>);

type Put<V> = (u64, Option<V>, u64);

fn root() -> Root {
    Root::open("mem:", Access::Write).expect("memory")
}

fn open<V, C>(root: &Root) -> Result<Shard<u64, V, C>, Error>
where
    V: Serialize + DeserializeOwned + 'static,
    C: Codec<u64> + Codec<V>,
{
    let io = Io::process().expect("threads");
    io.block_on(Shard::open_with(root.clone(), io.clone(), crate::short_waits()))
}

fn reader<V, C: Codec<u64> + Codec<V>>(root: &Root) -> Result<Shard<u64, V, C>, Error> {
    let io = Io::process().expect("threads");
    io.block_on(Shard::read_with(root.clone(), io.clone(), crate::short_waits()))
}

/// Feeds puts and deletes, in the order of their times, and waits until all are in the shard. Returns what the pipeline's
/// own collection was, updates and times.
fn feed<V, C>(
    shard: &Shard<u64, V, C>,
    rows: &[Put<V>],
) -> Result<Vec<((u64, V), u64, isize)>, Error>
where
    V: ExchangeData + Sync,
    C: Codec<u64> + Codec<V>,
{
    let (shard, rows) = (shard.clone(), rows.to_vec());
    let seen = timely::execute_directly(move |worker| {
        let (mut input, token, health, seen) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            let seen = pipeline.collection().inner.capture();
            (input, pipeline.token, pipeline.health, seen)
        });
        let end = rows.last().map_or(0, |(.., time)| time + 1);
        for (key, value, time) in rows {
            let command = match value {
                Some(value) => Command::put(key, value, 0),
                None => Command::delete(key, 0),
            };
            input.send((command, time));
        }
        input.close();
        while worker.has_dataflows() && (health.error().is_none() || !health.is_settled()) {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        assert!(health.error().is_some() || shard.state().upper >= end);
        health.error().map_or(Ok(seen), Err)
    })?;
    let mut seen: Vec<_> = seen.extract().into_iter().flat_map(|(_, rows)| rows).collect();
    differential_dataflow::consolidation::consolidate_updates(&mut seen);
    Ok(seen)
}

/// Returns the whole collection, by key.
fn all<V: Ord, C: Codec<u64> + Codec<V>>(shard: &Shard<u64, V, C>) -> Vec<(u64, V)> {
    let io = shard.io().clone();
    let as_of = io.block_on(shard.handle().refresh()).expect("a shard").upper - 1;
    let rows = io.block_on(shard.snapshot(as_of)).expect("it is read");
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(key, value): (u64, Result<V, DataError>)| (key, value.expect("a value")))
        .collect();
    rows.sort();
    rows
}

fn first(cents: u32) -> first::Order {
    first::Order { cents, note: "n".into() }
}

fn added(cents: u32, tax: Option<u64>) -> added::Order {
    added::Order { cents, note: "n".into(), tax }
}

fn renamed(amount: u64, tax: Option<u64>) -> renamed::Order {
    renamed::Order { amount, tax }
}

#[test]
fn a_field_is_added_and_either_version_reads_the_other_s() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0), (2, Some(first(20)), 0), (3, Some(first(30)), 0)])
        .expect("it is fed");
    let new = open::<added::Order, Evolving>(&root).expect("it evolves");
    assert_eq!(new.handle().shapes().len(), 2);
    assert_eq!(all(&new), [(1, added(10, None)), (2, added(20, None)), (3, added(30, None))]);
    // What the old version has put is taken back as it was stored.
    let seen = feed(&new, &[(1, Some(added(11, Some(1))), 1), (2, None, 1)]).expect("it is fed");
    let change = |key, order, diff| ((key, order), 1, diff);
    for expected in [
        change(1, added(10, None), -1),
        change(1, added(11, Some(1)), 1),
        change(2, added(20, None), -1),
    ] {
        assert!(seen.contains(&expected), "{expected:?} is not of {seen:?}");
    }
    let now = [(1, added(11, Some(1))), (3, added(30, None))];
    assert_eq!(all(&new), now);
    // The old one is still there: it reads what the new one has put, and puts.
    assert_eq!(all(&old), [(1, first(11)), (3, first(30))]);
    feed(&old, &[(1, Some(first(12)), 2)]).expect("it is fed");
    assert_eq!(all(&new), [(1, added(12, None)), (3, added(30, None))]);
    // And so are both from now on, with no third shape.
    let again = open::<first::Order, Evolving>(&root).expect("it is the first");
    assert_eq!(again.handle().shapes().len(), 2);
    let io = new.io().clone();
    let raw = io.block_on(new.handle().snapshot(2)).expect("it is read");
    assert!(raw.iter().all(|(_, _, diff)| *diff == 1), "{raw:?}");
}

#[test]
fn a_field_is_renamed_and_another_dropped() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0), (2, Some(first(20)), 0)]).expect("it is fed");
    let new = open::<renamed::Order, Evolving>(&root).expect("it evolves");
    feed(&new, &[(1, Some(renamed(1 << 40, Some(7))), 1)]).expect("it is fed");
    assert_eq!(all(&new), [(1, renamed(1 << 40, Some(7))), (2, renamed(20, None))]);
    // The old version does not know the new name: refused when it is opened again, by name.
    let error = open::<first::Order, Evolving>(&root).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(
        text.starts_with("the shard's values have another shape at the top: `amount: u64`"),
        "{text}"
    );
    assert!(text.contains("no value for the field `cents`"), "{text}");
    assert!(text.contains("#[serde(alias"), "{text}");
    // One that is open still reads what it can, and says which key it cannot.
    let io = old.io().clone();
    io.block_on(old.handle().refresh()).expect("a shard");
    let rows = io.block_on(old.snapshot(1)).expect_err("key 1 is of another shape");
    assert_eq!(rows.kind(), ErrorKind::Unsupported, "{rows}");
    let error = feed(&old, &[(2, None, 2)]).expect_err("key 1 is of another shape");
    assert_eq!((error.kind(), error.place()), (ErrorKind::Unsupported, Some("key 1")), "{error}");
}

#[test]
fn what_has_no_default_is_refused_when_the_shard_is_opened() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0)]).expect("it is fed");
    for error in [
        open::<strict::Order, Evolving>(&root).expect_err("it is refused"),
        reader::<strict::Order, Evolving>(&root).expect_err("it is refused"),
    ] {
        let text = error.to_string();
        assert!(text.contains("no value for the field `tax` at mem:FORMAT; "), "{text}");
    }
    // Without `Evolving` any other shape is, and nothing is written.
    for error in [
        open::<added::Order, Postcard>(&root).expect_err("it is refused"),
        reader::<added::Order, Postcard>(&root).expect_err("it is refused"),
    ] {
        let text = error.to_string();
        assert!(text.contains("this codec reads one shape alone at mem:FORMAT; "), "{text}");
        assert!(text.contains("codec::Evolving"), "{text}");
    }
    assert_eq!(old.handle().shapes().len(), 1);
    // A reader writes no shape.
    let read = reader::<added::Order, Evolving>(&root).expect("it is read");
    assert_eq!(all(&read), [(1, added(10, None))]);
    assert_eq!(read.handle().shapes().len(), 1);
}

#[test]
fn a_shape_is_added_to_a_shard_without_a_time_and_not_to_a_sealed_one() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    // The first entry of all.
    let new = open::<added::Order, Evolving>(&root).expect("it evolves");
    assert_eq!((new.state().seqno, new.handle().shapes().len()), (1, 2));
    feed(&new, &[(1, Some(added(1, Some(2))), 0)]).expect("it is fed");
    let io = old.io().clone();
    io.block_on(new.seal(1)).expect("it is sealed");
    let read = open::<renamed::Order, Evolving>(&root).expect("it is read");
    assert_eq!(all(&read), [(1, renamed(1, Some(2)))]);
    assert_eq!(read.handle().shapes().len(), 2, "nothing can be written of a third");
}

fn wide(cents: u64) -> wide::Order {
    wide::Order { cents, note: "n".into(), tax: None }
}

#[test]
fn three_versions_have_three_shapes() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0)]).expect("it is fed");
    let one = open::<added::Order, Evolving>(&root).expect("it evolves");
    let other = open::<wide::Order, Evolving>(&root).expect("it evolves");
    feed(&one, &[(2, Some(added(20, None)), 1)]).expect("it is fed");
    // It goes on where it has read up to.
    assert_eq!(all(&other), [(1, wide(10)), (2, wide(20))]);
    feed(&other, &[(3, Some(wide(30)), 2)]).expect("it is fed");
    one.io().clone().block_on(one.handle().refresh()).expect("a shard");
    let names: Vec<_> = one.handle().shapes().into_iter().filter_map(|shape| shape.shape).collect();
    assert_eq!(names.len(), 3);
    assert!(names[1] != names[2] && names[0] != names[2], "{names:?}");
    assert_eq!(all(&other), [(1, wide(10)), (2, wide(20)), (3, wide(30))]);
}

/// Two versions that write at once have two feeds, as the guide says.
#[test]
fn a_version_stops_at_rows_of_the_feed_that_another_has_committed() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    let new = open::<added::Order, Evolving>(&root).expect("it evolves");
    feed(&old, &[(1, Some(first(10)), 0), (1, Some(first(11)), 1)]).expect("it is fed");
    let same = [(1, Some(added(10, None)), 0), (1, Some(added(11, None)), 1)];
    let again = [&same[..], &[(1, Some(added(12, None)), 2)]].concat();
    let error = feed(&new, &again).expect_err("its commands have other bytes");
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!(all(&new), [(1, added(11, None))], "nothing of it is there");
}

#[test]
fn a_patch_is_folded_into_a_value_of_another_shape() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0)]).expect("it is fed");
    let shard = open::<added::Order, Evolving>(&root).expect("it evolves");
    let shard = shard.with_fold("add-1", |order, more| {
        Ok(added::Order { cents: order.cents + more.cents, tax: more.tax, ..order })
    });
    let patched = shard.clone();
    timely::execute_directly(move |worker| {
        let (mut input, token, health) = worker.dataflow(|scope| {
            let (input, commands) =
                scope.new_input::<Vec<(Command<u64, added::Order, u64>, u64)>>();
            let pipeline = commands.upsert_into(&patched, PipelineConfig::default());
            (input, pipeline.token, pipeline.health)
        });
        input.send((Command::patch(1, added(5, Some(3)), 0), 1));
        input.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        assert_eq!(health.error().map(|e| e.to_string()), None);
    });
    assert_eq!(all(&shard), [(1, added(15, Some(3)))]);
}

/// One field has had two names: what the second version put is read by the third, aliases and all.
#[test]
fn a_field_is_renamed_again_and_again() {
    version!(again, #[serde(alias = "amount", alias = "cents")] minor: u64, #[serde(default)] tax: Option<u64>);
    version!(both, #[serde(default)] amount: u64, #[serde(default)] cents: u64);
    version!(last, #[serde(alias = "cents")] amount: u64);
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0)]).expect("it is fed");
    let second = open::<renamed::Order, Evolving>(&root).expect("it evolves");
    feed(&second, &[(2, Some(renamed(20, Some(1))), 1)]).expect("it is fed");
    let third = open::<again::Order, Evolving>(&root).expect("it evolves");
    let minor = |minor, tax| again::Order { minor, tax };
    feed(&third, &[(3, Some(minor(30, None)), 2)]).expect("it is fed");
    assert_eq!(all(&third), [(1, minor(10, None)), (2, minor(20, Some(1))), (3, minor(30, None))]);
    let shapes = third.handle().shapes().into_iter().filter_map(|shape| shape.shape);
    let expected = [
        "struct{cents: u32, note: string}",
        "struct{amount: u64, tax: option<u64>}",
        "struct{minor: u64, tax: option<u64>}",
    ];
    assert_eq!(shapes.collect::<Vec<_>>(), expected);
    // Two fields of the one are one of the other.
    let root = self::root();
    open::<both::Order, Evolving>(&root).expect("a shard");
    let error = open::<last::Order, Evolving>(&root).expect_err("which of the two?");
    assert!(error.to_string().contains("two values for the field `amount`"), "{error}");
}

/// A follower that was there before reads on, in a dataflow.
#[test]
fn a_follower_of_the_old_version_reads_what_the_new_one_puts() {
    let root = root();
    let old = open::<first::Order, Evolving>(&root).expect("a shard");
    feed(&old, &[(1, Some(first(10)), 0)]).expect("it is fed");
    let reads = reader::<first::Order, Evolving>(&root).expect("it is read");
    let new = open::<added::Order, Evolving>(&root).expect("it evolves");
    let seen = timely::execute_directly(move |worker| {
        let (token, health, rows) = worker.dataflow(|scope| {
            let follow = Pipeline::follow(scope, &reads);
            let rows = follow.collection().inner.capture();
            (follow.token, follow.health, rows)
        });
        std::thread::scope(|threads| {
            let fed = threads.spawn(|| {
                feed(&new, &[(2, Some(added(20, Some(1))), 1)]).expect("it is fed");
                new.io().clone().block_on(new.seal(2)).expect("it is sealed");
            });
            while worker.has_dataflows() && health.error().is_none() {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            fed.join().expect("no panic");
        });
        drop(token);
        assert_eq!(health.error().map(|e| e.to_string()), None);
        rows
    });
    let mut rows: Vec<_> = seen.extract().into_iter().flat_map(|(_, rows)| rows).collect();
    differential_dataflow::consolidation::consolidate_updates(&mut rows);
    assert_eq!(rows, [((1, first(10)), 0, 1), ((2, first(20)), 1, 1)]);
}
