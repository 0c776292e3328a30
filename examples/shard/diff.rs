//! Owns `diff`: the rows that differ between two times. Both collections are read side by side, in the order that they
//! are stored in; what differs is sorted as it is printed. It does not own how rows look.

use std::cmp::Ordering;
use std::io::Write;
use std::vec::IntoIter;

use differential_upsert::Error;
use differential_upsert::shard::Access;
use differential_upsert::shard::{Handle, HandleConfig, HandleOptions, SnapshotStream, Update};
use differential_upsert::store::Root;

use crate::changes::Pairing;
use crate::open::{DATA, Look, limits, print};
use crate::sorted::{Bounds, Sorter};

/// Rows that are sorted at a time.
const FEW: usize = 1_024;

/// Prints what differs between two times, whichever is the earlier.
pub(crate) async fn diff(
    look: &Look<'_>,
    (before, after): (u64, u64),
    out: &mut impl Write,
) -> Result<(), Error> {
    let root = Root::open(look.url, Access::Read)?;
    // Two are read side by side.
    let limits = limits();
    let config = HandleConfig { read_bytes_max: limits.read_bytes_max / 2, ..limits };
    let options = HandleOptions::read(DATA).with_config(config);
    let shard = Handle::open(root, look.io.clone(), options).await?;
    let mut before = Side::new(shard.stream(before).await?);
    let mut after = Side::new(shard.stream(after).await?);
    let form = look.form(&shard)?;
    let (mut sorter, mut few) = (Sorter::new(&form, Bounds::default()), Vec::new());
    loop {
        before.fill(look).await?;
        after.fill(look).await?;
        let order = match (before.head(), after.head()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(((a, _), ..)), Some(((b, _), ..))) => {
                (a.stable_hash(), a).cmp(&(b.stable_hash(), b))
            }
        };
        // At one time, so that they are sorted by key alone.
        let gone = if order.is_le() { before.take() } else { None };
        let new = if order.is_ge() { after.take() } else { None };
        match (gone, new) {
            (Some((gone, ..)), Some((new, ..))) if gone == new => {}
            (gone, new) => {
                few.extend(gone.map(|(row, _, diff)| (row, 0, -diff)));
                few.extend(new.map(|(row, _, diff)| (row, 0, diff)));
            }
        }
        if few.len() >= FEW {
            sorter.add(std::mem::take(&mut few))?;
        }
    }
    sorter.add(few)?;
    let mut each = |changed: &_| print(out, &form.difference(changed).map_err(|e| e.at(look.url))?);
    let mut pairing = Pairing::default();
    for row in sorter.finish()? {
        pairing.take(&row?, &mut each)?;
    }
    pairing.finish(&mut each)
}

/// One of the two collections, as far as it is read.
struct Side {
    rows: SnapshotStream,
    piece: std::iter::Peekable<IntoIter<Update>>,
}

impl Side {
    fn new(rows: SnapshotStream) -> Side {
        Side { rows, piece: Vec::new().into_iter().peekable() }
    }

    /// Sees to it that the next row is there, if there is one.
    async fn fill(&mut self, look: &Look<'_>) -> Result<(), Error> {
        while self.piece.peek().is_none() {
            let Some(piece) = self.rows.next().await? else { break };
            look.progress.add(piece.len());
            self.piece = piece.into_iter().peekable();
        }
        Ok(())
    }

    fn head(&mut self) -> Option<&Update> {
        self.piece.peek()
    }

    fn take(&mut self) -> Option<Update> {
        self.piece.next()
    }
}
