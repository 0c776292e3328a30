//! Owns the question whether a store really does create-if-absent. It does not know shards: a store
//! that fails here would let two writers win the same entry.

use bytes::Bytes;
use futures::future::join_all;

use super::{Blob, Create, Root};
use crate::error::{Error, ErrorKind};
use crate::io::Io;

const ROUNDS: u32 = 20;
const RACERS: u32 = 16;

/// What a [`probe`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// How many keys were raced for.
    pub rounds: u32,
    /// How many creates raced for each key.
    pub racers: u32,
    /// In how many rounds more than one create was told that it won. Must be 0.
    pub several_won: u32,
    /// In how many rounds no create was told that it won, or the key held a loser's bytes. Must be
    /// 0.
    pub winner_lost: u32,
}

impl Probed {
    /// Whether the store may hold a shard.
    pub fn is_sound(&self) -> bool {
        self.several_won == 0 && self.winner_lost == 0
    }
}

/// Races creates against each other: two in a row on one key, then 20 rounds of 16 at once. It
/// writes only keys of its own, and deletes them.
///
/// A store that ignores the condition fails surely; one that checks and then writes without holding
/// a lock fails only if the race hits it.
///
/// # Errors
///
/// Those of the store; `Unsupported` or `Refused` for a directory on a file system whose locks do not lock. A store
/// that is not sound otherwise is a value, not an error.
pub async fn probe(root: &Root, io: &Io) -> Result<Probed, Error> {
    root.check_store(io.token()).await?;
    let blob = root.blob();
    let mut probed = Probed { rounds: ROUNDS + 1, racers: RACERS, several_won: 0, winner_lost: 0 };
    let mut keys = Vec::new();
    let outcome = async {
        for round in 0..=ROUNDS {
            let key = format!("probe-{:032x}", io.token());
            keys.push(key.clone());
            let racers = if round == 0 { 1 } else { RACERS };
            let race = (0..racers).map(|racer| {
                let (blob, key) = (std::sync::Arc::clone(&blob), key.clone());
                io.spawn(async move { blob.create(&key, Bytes::from(vec![racer as u8])).await })
            });
            let mut winners = Vec::new();
            for (racer, result) in join_all(race).await.into_iter().enumerate() {
                let result = result.map_err(|e| {
                    Error::new(ErrorKind::Stopped, "the probe was stopped").because(e)
                })?;
                if result? == Create::Created {
                    winners.push(racer as u8);
                }
            }
            // The second create in a row, which must lose against what is surely there.
            if blob.create(&key, Bytes::from_static(&[u8::MAX])).await? == Create::Created {
                winners.push(u8::MAX);
            }
            let held = blob.get(&key).await?.map(|bytes| bytes.to_vec());
            probed.several_won += u32::from(winners.len() > 1);
            probed.winner_lost += u32::from(held.as_deref() != winners.get(..1));
        }
        Ok(probed)
    };
    let outcome = outcome.await;
    for key in keys {
        // A key left behind is ugly, not wrong: no reader takes it for anything.
        let _ = blob.delete(&key).await;
    }
    outcome
}

/// Refuses a store that does not even refuse the second of two creates in a row.
pub(crate) async fn check_create(blob: &dyn Blob, token: u128) -> Result<(), Error> {
    let key = format!("probe-{token:032x}");
    let outcome = async {
        let first = blob.create(&key, Bytes::from_static(b"1")).await?;
        let second = blob.create(&key, Bytes::from_static(b"2")).await?;
        if first == Create::Created && second == Create::Exists {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "the store does not do create-if-absent")
            .at(blob.place(&key))
            .hint("use a store with conditional writes; `shard probe` shows what it does"))
    };
    let outcome = outcome.await;
    let _ = blob.delete(&key).await;
    outcome
}
