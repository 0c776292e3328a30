//! Owns the input: records that every contestant gets, the same from the same seed, cut into times. It
//! does not own the rows that a contestant makes of them.

use std::collections::HashMap;
use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

/// How keys are drawn.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Draw {
    /// Each key is as likely as any other.
    Uniform,
    /// zipf(0.99): few keys have most of the rows.
    Zipf,
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Draw::Uniform => "uniform",
            Draw::Zipf => "zipf",
        })
    }
}

/// The size and shape of an input, as the command line of a child says it.
#[derive(Args, Clone, Debug)]
pub struct Shape {
    /// Distinct keys.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Upserts in all.
    #[arg(long, default_value_t = 2_000_000)]
    pub upserts: u64,
    /// Upserts per time.
    #[arg(long, default_value_t = 10_000)]
    pub rows_per_time: u64,
    #[arg(long, value_enum, default_value_t = Draw::Uniform)]
    pub draw: Draw,
}

impl Shape {
    /// Returns the arguments that make a child draw the same.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--keys={}", self.keys),
            format!("--upserts={}", self.upserts),
            format!("--rows-per-time={}", self.rows_per_time),
            format!("--draw={}", self.draw),
        ]
    }
}

/// A record as a feed would carry it: a key, and the seed of its value's 64 random bytes.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub key: u64,
    pub seed: u64,
    /// Greater than that of every record before it.
    pub order: u64,
}

/// A value as 64 bytes, eight at a time.
pub type Words = [u64; 8];

impl Record {
    pub fn words(&self) -> Words {
        std::array::from_fn(|i| mix(self.seed.wrapping_add(i as u64)))
    }

    pub fn bytes(&self) -> [u8; 64] {
        to_bytes(&self.words())
    }
}

/// Returns the little-endian bytes of a value.
pub fn to_bytes(words: &Words) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Scatters 64 bits (splitmix64).
pub fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws the records of `shape`: 24 bytes each.
pub fn records(shape: &Shape) -> Vec<Record> {
    let zipf = Zipf::new(shape.keys, 0.99);
    let mut random = 42 << 32;
    let record = |order| {
        random += 1;
        let seed = mix(random);
        let key = match shape.draw {
            Draw::Uniform => seed % shape.keys,
            Draw::Zipf => mix(zipf.rank(&mut random)) % shape.keys,
        };
        // Low bits of a seed choose the key: the value must not follow from them.
        Record { key, seed: seed.rotate_left(32), order }
    };
    (1..=shape.upserts).map(record).collect()
}

/// Returns the records that are left of each key, by key: what a restart has to bring back.
pub fn latest(records: &[Record]) -> HashMap<u64, Record> {
    records.iter().map(|record| (record.key, *record)).collect()
}

/// Draws ranks with zipf's weights (Hormann and Derflinger, rejection-inversion).
struct Zipf {
    n: f64,
    exponent: f64,
    h_first: f64,
    h_last: f64,
    cut: f64,
}

impl Zipf {
    fn new(n: u64, exponent: f64) -> Self {
        let mut zipf = Zipf { n: n as f64, exponent, h_first: 0.0, h_last: 0.0, cut: 0.0 };
        zipf.h_first = zipf.h(1.5) - 1.0;
        zipf.h_last = zipf.h(zipf.n + 0.5);
        zipf.cut = 2.0 - zipf.h_inverse(zipf.h(2.5) - 2f64.powf(-exponent));
        zipf
    }

    fn h(&self, x: f64) -> f64 {
        let one = 1.0 - self.exponent;
        (x.powf(one) - 1.0) / one
    }

    fn h_inverse(&self, x: f64) -> f64 {
        let one = 1.0 - self.exponent;
        (1.0 + x * one).powf(1.0 / one)
    }

    fn rank(&self, random: &mut u64) -> u64 {
        loop {
            *random = random.wrapping_add(1);
            let unit = (mix(*random) >> 11) as f64 / (1u64 << 53) as f64;
            let u = self.h_last + unit * (self.h_first - self.h_last);
            let x = self.h_inverse(u);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.cut || u >= self.h(k + 0.5) - k.powf(-self.exponent) {
                return k as u64 - 1;
            }
        }
    }
}
