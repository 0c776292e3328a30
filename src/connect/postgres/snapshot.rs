//! Owns which transactions a snapshot sees. Pure; it does not own what is read in it.

/// What `pg_current_snapshot` says: which transactions had ended when it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All below it have ended.
    pub(super) min: u64,
    /// All from it on have not begun.
    pub(super) max: u64,
    /// Those between that are under way.
    running: Vec<u64>,
}

impl Snapshot {
    /// Reads `MIN:MAX:ID,ID,..`.
    pub(super) fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (min, max) = (number()?, number()?);
        let running = parts.next()?.split(',').filter(|id| !id.is_empty());
        let running: Option<Vec<u64>> = running.map(|id| id.parse().ok()).collect();
        Some(Snapshot { min, max, running: running? })
    }

    /// Whether it sees what a transaction has done that has committed.
    pub(super) fn sees(&self, transaction: u64) -> bool {
        transaction < self.min || transaction < self.max && !self.running.contains(&transaction)
    }

    /// Returns a transaction's whole number from the half that the log has: the one nearest to the snapshot.
    pub(super) fn whole(&self, half: u32) -> u64 {
        let near = (self.max & !0xFFFF_FFFF) | u64::from(half);
        let far = near.abs_diff(self.max) > 1 << 31;
        match near < self.max {
            true if far => near + (1 << 32),
            false if far => near.checked_sub(1 << 32).unwrap_or(near),
            _ => near,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_ended_is_seen() {
        let snapshot = Snapshot::parse("100:110:100,105").unwrap();
        let seen: Vec<u64> = (98..112).filter(|id| snapshot.sees(*id)).collect();
        assert_eq!(seen, [98, 99, 101, 102, 103, 104, 106, 107, 108, 109]);
        assert_eq!(Snapshot::parse("7:7:"), Some(Snapshot { min: 7, max: 7, running: vec![] }));
        for text in ["", "7", "7:7", "7:x:", "7:9:8,x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_also_where_they_wrap() {
        let at = |max| Snapshot { min: 0, max, running: Vec::new() };
        assert_eq!(at(5).whole(3), 3);
        assert_eq!(at((1 << 32) + 5).whole(3), (1 << 32) + 3);
        assert_eq!(at((1 << 32) + 5).whole(u32::MAX), u64::from(u32::MAX));
        assert_eq!(at(u64::from(u32::MAX)).whole(3), (1 << 32) + 3);
        assert_eq!(at(5).whole(u32::MAX), u64::from(u32::MAX), "none is before the first");
    }
}
