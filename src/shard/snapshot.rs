//! Owns snapshots that are in memory as a whole, sorted by key. How rows come is [`stream`](super::stream)'s.

use super::engine::part::Update;
use super::rows::Rows;
use super::stream::SnapshotStream;
use crate::error::Error;

/// See [`Handle::snapshot`](super::Handle::snapshot).
pub(super) async fn snapshot(rows: &Rows, as_of: u64) -> Result<Vec<Update>, Error> {
    let mut stream = SnapshotStream::begin(rows, as_of, None).await?;
    let mut all = Vec::new();
    while let Some(mut piece) = stream.next().await? {
        all.append(&mut piece);
    }
    all.sort_unstable();
    Ok(all)
}
