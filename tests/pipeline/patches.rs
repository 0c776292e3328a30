//! Goal: what a patch comes to is the same in every writer, or nothing is written. Method: one pipeline after another on
//! one shard in memory, through the public interface; one worker, stepped by hand.

use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::Access;
use differential_upsert::store::Root;
use differential_upsert::{
    Command, DataError, Error, ErrorKind, PatchErrors, PipelineConfig, Shard, UpsertInto,
};
use timely::dataflow::operators::Input;

pub type Row = (Command<u64, u64, u64>, u64);

pub fn open(root: &Root) -> Shard<u64, u64> {
    let io = Io::process().unwrap();
    io.block_on(Shard::open_with(root.clone(), io.clone(), crate::short_waits())).unwrap()
}

/// Feeds rows, closed up to the last one's time, and waits until all are in the shard. Returns how it went.
pub fn feed(shard: &Shard<u64, u64>, rows: &[Row], config: PipelineConfig) -> Result<(), Error> {
    let (shard, rows) = (shard.clone(), rows.to_vec());
    timely::execute_directly(move |worker| {
        let (mut input, token, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.health)
        });
        let end = rows.last().map_or(0, |(_, time)| time + 1);
        rows.into_iter().for_each(|row| input.send(row));
        input.advance_to(end);
        while shard.state().upper < end && health.error().is_none() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        input.close();
        while worker.has_dataflows() && (health.error().is_none() || !health.is_settled()) {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        health.error().map_or(Ok(()), Err)
    })
}

fn sum(value: u64, patch: u64) -> Result<u64, DataError> {
    Ok(value + patch)
}

fn product(value: u64, patch: u64) -> Result<u64, DataError> {
    Ok(value * patch)
}

/// As a rolling deploy has it: writers of two versions at one shard.
#[test]
fn a_writer_with_another_fold_has_another_feed() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let put = |time| (Command::put(1, 3, 0), time);
    let patch = |time| (Command::patch(1, 4, 0), time);
    let config = PipelineConfig::default;
    let before = open(&root).with_fold("sum-1", sum);
    feed(&before, &[put(0), patch(1)], config()).unwrap();
    // Both worked out a patch that is not there yet, and all of it.
    let other = open(&root).with_fold("product-1", product);
    let error = feed(&other, &[put(0), patch(1), patch(2)], config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!(open(&root).upper(), 2);
    let same = open(&root).with_fold("sum-1", sum);
    feed(&same, &[put(0), patch(1), patch(2)], config()).unwrap();
    // Without a patch there is nothing in which they differ.
    let root = Root::open("mem:", Access::Write).unwrap();
    feed(&open(&root).with_fold("sum-1", sum), &[put(0)], config()).unwrap();
    let other = open(&root).with_fold("product-1", product);
    feed(&other, &[put(0), put(1)], config()).unwrap();
}

/// Less than nothing is an error.
fn take(stock: u64, some: u64) -> Result<u64, DataError> {
    stock.checked_sub(some).ok_or_else(|| DataError(format!("{stock} are too few")))
}

#[test]
fn a_patch_that_comes_to_an_error_stops_where_it_is_told_to() {
    let put = |key, time| (Command::put(key, 3, 0), time);
    let patch = |key, time| (Command::patch(key, 4, 0), time);
    let config = |patch_errors| PipelineConfig { patch_errors, ..PipelineConfig::default() };
    // Too much, and of nothing; the key beside it is not committed either.
    for (key, says) in [(1, "3 are too few at key 1; "), (9, "a patch of a key that has no value")]
    {
        let root = Root::open("mem:", Access::Write).unwrap();
        let open = || open(&root).with_fold("take-1", take);
        let before = [put(1, 0), put(2, 0)];
        feed(&open(), &before, config(PatchErrors::Stop)).unwrap();
        let rows = [&before[..], &[put(3, 1), patch(key, 1)]].concat();
        let error = feed(&open(), &rows, config(PatchErrors::Stop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&format!("at key {key}; ")), "{error}");
        assert_eq!(open().upper(), 1);
        // Worked out ahead, in one wake-up with the time before it, which is committed all the same.
        let root = Root::open("mem:", Access::Write).unwrap();
        let open = || self::open(&root).with_fold("take-1", take);
        feed(&open(), &rows, config(PatchErrors::Stop)).unwrap_err();
        assert_eq!(open().upper(), 1, "what is before the error is committed");
        feed(&open(), &rows, config(PatchErrors::Keep)).unwrap();
        // What is there already stays, and stops nothing.
        let rows = [&rows[..], &[patch(key, 2)]].concat();
        feed(&open(), &rows, config(PatchErrors::Stop)).unwrap();
        assert_eq!(open().upper(), 3);
    }
}

#[test]
fn a_patch_that_nothing_folds_names_its_key() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let rows = [(Command::patch(7, 4, 0), 0)];
    let error = feed(&open(&root), &rows, PipelineConfig::default()).unwrap_err();
    assert!(error.to_string().contains("how it changes a value at key 7; "), "{error}");
}
