//! Owns snapshots: the collection as of one time, added up from parts. Where parts come from is
//! [`rows`](super::rows)'s.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::engine::arrange::too_many;
use super::engine::part::Update;
use super::engine::state::State;
use super::rows::{CONCURRENT, Rows};
use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};

/// How often a snapshot starts again because a collector took a part of it.
const ATTEMPTS_MAX: u32 = 3;

/// See [`Handle::snapshot`](super::Handle::snapshot).
pub(super) async fn snapshot(rows: &Rows, as_of: u64) -> Result<Vec<Update>, Error> {
    let mut state = rows.view.state();
    if as_of >= state.upper {
        state = rows.view.refresh().await?;
    }
    let mut attempt = 1;
    loop {
        let (since, upper) = (state.since, state.upper);
        if as_of < since || as_of >= upper {
            let what = format!("no snapshot as of {as_of}: since is {since}, upper is {upper}");
            return Err(Error::new(ErrorKind::Invalid, what)
                .at(rows.view.url())
                .hint("ask for a time from since to below upper"));
        }
        match fold(rows, &state, as_of).await {
            Err(e) if e.kind() == ErrorKind::Missing && attempt < ATTEMPTS_MAX => {
                attempt += 1;
                state = rows.view.refresh().await?;
            }
            result => return result,
        }
    }
}

async fn fold(rows: &Rows, state: &State, as_of: u64) -> Result<Vec<Update>, Error> {
    let batches = state.batches.iter().filter(|batch| batch.lower <= as_of);
    let parts: Vec<_> = batches
        .flat_map(|batch| batch.parts.iter().map(|part| (part.clone(), batch.lower, batch.upper)))
        .collect();
    let window = rows.window();
    let fetches = futures::stream::iter(parts)
        .then(|(part, lower, upper)| {
            let room = window.enter(part.bytes());
            async move { (room.await, part, lower, upper) }
        })
        .map(|(room, part, lower, upper)| async move {
            // From as_of + 1 on no row is needed; as_of < upper, so this does not overflow.
            let fetched = rows.fetch(&part, lower, upper.min(as_of + 1)).await?;
            Ok::<_, Error>((fetched, room))
        });
    let mut fetched = std::pin::pin!(fetches.buffer_unordered(CONCURRENT));
    let mut counts: BTreeMap<(Encoded, Encoded), isize> = BTreeMap::new();
    // A row that stays would keep its whole part in memory.
    let own = |row: &Encoded| Encoded::from_bytes(row.as_bytes().to_vec());
    while let Some((updates, _room)) = fetched.try_next().await? {
        for (data, _, diff) in updates {
            if let Some(count) = counts.get_mut(&data) {
                *count = count.checked_add(diff).ok_or_else(too_many)?;
                if *count == 0 {
                    counts.remove(&data);
                }
            } else if diff != 0 {
                counts.insert((own(&data.0), own(&data.1)), diff);
            }
        }
    }
    Ok(counts.into_iter().map(|(data, count)| (data, as_of, count)).collect())
}
