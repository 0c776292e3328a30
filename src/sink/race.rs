//! Owns what a lost race does: one pure function from where the shard is to what becomes of ours.
//! It appends nothing and deletes nothing.

/// What becomes of an append of `[lower, upper)` that met another upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The shard is at our upper or past it: all of ours is there, written by another. Drop it.
    All,
    /// The shard is inside our interval: drop the times below it and append the rest from there.
    Below(u64),
    /// The shard is below our lower, where it once was not: it was replaced. Stop.
    Replaced,
}

/// Decides what a lost race does to an append of `[lower, upper)`, given the shard's upper.
///
/// Dropping is lossless because every writer gives a row the same time and computes the same
/// updates from the same prior values: what another wrote for a time is what we would have.
pub(crate) fn after_loss(lower: u64, upper: u64, shard_upper: u64) -> Lost {
    if shard_upper >= upper {
        Lost::All
    } else if shard_upper < lower {
        Lost::Replaced
    } else {
        Lost::Below(shard_upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_race_drops_what_is_below_and_keeps_the_rest() {
        assert_eq!(after_loss(5, 10, 4), Lost::Replaced);
        assert_eq!(after_loss(5, 10, 5), Lost::Below(5));
        assert_eq!(after_loss(5, 10, 9), Lost::Below(9));
        assert_eq!(after_loss(5, 10, 10), Lost::All);
        assert_eq!(after_loss(5, 10, 11), Lost::All);
    }
}
