//! Owns what the lines of a feed say together of where they come from: one topic whose offsets increase in
//! each partition, or one table. It does not own what a line says. Pure.

use std::collections::BTreeMap;

use super::said::Origin;
use crate::connect::lines::row::Bad;

/// Where the rows so far come from.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The topic or table that the first row named.
    name: Option<String>,
    /// The last offset of each partition.
    offsets: BTreeMap<u64, u64>,
}

impl Origins {
    /// Takes the origin of a line, or says why its rows are bad; then nothing has changed.
    pub(super) fn take(&mut self, origin: &Origin) -> Result<(), Bad> {
        let (name, place) = match origin {
            Origin::Unnamed => return Ok(()),
            Origin::Table(name) => (name, None),
            Origin::Message { topic, partition, offset } => (topic, Some((*partition, *offset))),
        };
        if let Some(known) = self.name.as_ref().filter(|known| *known != name) {
            return Err(two_of(if place.is_some() { "topics" } else { "tables" }, known, name));
        }
        if let Some((partition, offset)) = place {
            let last = self.offsets.get(&partition).filter(|last| offset <= **last);
            if let Some(last) = last {
                let what = format!(
                    "\"offset\" {offset} does not come after {last} in partition {partition}"
                );
                let hint = "hand over each message once, in the order of its partition: append what comes \
                            later alone (kcat -o OFFSET .. >>), or feed kafka://";
                return Err(Bad::new(what, hint));
            }
            self.offsets.insert(partition, offset);
        }
        if self.name.is_none() {
            self.name = Some(name.clone());
        }
        Ok(())
    }

    /// Returns whether the rows so far are of this topic or table.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// Returns whether no line can teach more than the first row has.
    pub(super) fn is_known(&self) -> bool {
        self.name.is_some() && self.offsets.is_empty()
    }
}

/// What is bad about a row that comes from elsewhere than the rows before it.
pub(super) fn two_of(many: &str, known: &str, name: &str) -> Bad {
    let hint = "hand over the rows of one: a key of one is not that of another";
    Bad::new(format!("rows of two {many}, {known} and {name}"), hint)
}
