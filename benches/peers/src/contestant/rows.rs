//! Owns the forms in which dataflows take their rows. It does not own the dataflows.

use differential_dataflow::{ExchangeData, Hashable};
use differential_upsert::{Encoded, Packer};

use crate::load::{Record, Words};
use crate::sums::Sums;

/// A row of one time: key, value, order.
pub type Row<R> = (<R as Rows>::Key, <R as Rows>::Value, u64);

/// A form of rows.
pub trait Rows: 'static {
    type Key: ExchangeData + Hashable;
    type Value: ExchangeData;
    /// Makes one time's rows.
    fn rows(records: &[Record]) -> Vec<Row<Self>>;
    /// Adds an update to `sums`.
    fn add(sums: &mut Sums, key: &Self::Key, value: &Self::Value, time: u64, diff: isize);
}

/// Keys and values as bytes in shared buffers.
pub struct Packs;

impl Rows for Packs {
    type Key = Encoded;
    type Value = Encoded;

    fn rows(records: &[Record]) -> Vec<Row<Self>> {
        let mut packer = Packer::default();
        for record in records {
            packer.push_with(|to| to.extend_from_slice(&record.key.to_le_bytes())).expect("room");
            packer.push_with(|to| to.extend_from_slice(&record.bytes())).expect("room");
        }
        let mut packed = packer.finish::<()>();
        let mut next = || packed.next().expect("two for each record");
        records.iter().map(|record| (next(), next(), record.order)).collect()
    }

    fn add(sums: &mut Sums, key: &Encoded, value: &Encoded, time: u64, diff: isize) {
        let key = key.as_bytes().try_into().expect("a key of eight bytes");
        sums.add_bytes(u64::from_le_bytes(key), value.as_bytes(), time, diff);
    }
}

/// Keys as integers, values as bytes in shared buffers: what a program at level 2 would have.
pub struct Stored;

impl Rows for Stored {
    type Key = u64;
    type Value = Encoded;

    fn rows(records: &[Record]) -> Vec<Row<Self>> {
        let mut packer = Packer::default();
        for record in records {
            packer.push_with(|to| to.extend_from_slice(&record.bytes())).expect("room");
        }
        let packed = packer.finish::<()>();
        records.iter().zip(packed).map(|(r, value)| (r.key, value, r.order)).collect()
    }

    fn add(sums: &mut Sums, key: &u64, value: &Encoded, time: u64, diff: isize) {
        sums.add_bytes(*key, value.as_bytes(), time, diff);
    }
}

/// Values in `Vec`s of their own.
pub struct Vecs;

impl Rows for Vecs {
    type Key = u64;
    type Value = Vec<u8>;

    fn rows(records: &[Record]) -> Vec<Row<Self>> {
        records.iter().map(|r| (r.key, r.bytes().to_vec(), r.order)).collect()
    }

    fn add(sums: &mut Sums, key: &u64, value: &Vec<u8>, time: u64, diff: isize) {
        sums.add_bytes(*key, value, time, diff);
    }
}

/// Without any heap: what suits `arrange_from_upsert` best.
pub struct Arrays;

impl Rows for Arrays {
    type Key = u64;
    type Value = Words;

    fn rows(records: &[Record]) -> Vec<Row<Self>> {
        records.iter().map(|r| (r.key, r.words(), r.order)).collect()
    }

    fn add(sums: &mut Sums, key: &u64, value: &Words, time: u64, diff: isize) {
        sums.add_words(*key, value, time, diff);
    }
}
