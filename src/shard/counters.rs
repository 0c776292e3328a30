//! Owns what a handle counts. It does not show it to anybody.

use crate::counter::Counter;

macro_rules! counters {
    ($(#[$doc:meta])* $plain:ident, $atomic:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $plain {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl std::ops::AddAssign for $plain {
            fn add_assign(&mut self, more: Self) {
                $(self.$field += more.$field;)*
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct $atomic {
            $(pub(super) $field: Counter,)*
        }

        impl $atomic {
            /// Adds one to all counters at once, each by what `more` says.
            #[allow(dead_code, reason = "not every table is added to as a whole")]
            pub(super) fn add(&self, more: &$plain) {
                $(self.$field.add(more.$field);)*
            }

            pub(super) fn read(&self) -> $plain {
                $plain { $($field: self.$field.get(),)* }
            }
        }
    };
}

counters! {
    /// What a handle has done since it was opened; clones share it.
    Counters, CountersCell {
        /// Bytes of parts and entries written, whatever became of them.
        bytes_written,
        /// Bytes of parts and entries read from the store.
        bytes_read,
        /// Appends that are in the shard.
        appends_won,
        /// Appends that lost their race, or were fenced.
        appends_lost,
        /// Appends whose outcome nobody could tell.
        appends_unknown,
    }
}

counters! {
    /// What compactions and collections have done.
    MaintenanceStats, MaintenanceCell {
        /// Runs of batches merged into one.
        compactions,
        /// Merges that came too late, because somebody else had merged the same.
        compactions_lost,
        /// Bytes of parts that merges have read.
        bytes_read,
        /// Bytes of parts that merges have written.
        bytes_written,
        /// Log entries deleted.
        entries_deleted,
        /// Parts deleted, orphans too.
        parts_deleted,
        /// Parts deleted that no entry had ever named.
        orphans_deleted,
        /// Rollups deleted.
        rollups_deleted,
        /// Leases ended because they had expired.
        leases_expired,
    }
}
