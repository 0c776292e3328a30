//! Owns where a message says that it stands in a snapshot. It does not own what a snapshot does.

/// Where a message stands in a snapshot: its `source.snapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::connect) enum Mark {
    /// In none.
    #[default]
    Outside,
    First,
    Within,
    Last,
}

impl Mark {
    /// Reads the text of the member.
    pub(super) fn of(snapshot: Option<&str>) -> Mark {
        match snapshot {
            Some(r#""first""# | r#""first_in_data_collection""#) => Mark::First,
            Some(r#""true""# | "true") => Mark::Within,
            Some(r#""last""# | r#""last_in_data_collection""#) => Mark::Last,
            _ => Mark::Outside,
        }
    }
}
