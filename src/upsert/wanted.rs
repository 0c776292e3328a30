//! Owns what the commands of one key come to at a time: a value, none, or the value before that time, patched. It does
//! not own which commands take effect, nor where the prior value is.

use std::collections::VecDeque;

use super::pending::Action;
use super::rows::Kept;
use super::rules::Rules;
use crate::error::Error;

/// What a key is to have.
pub struct Wanted<K, V> {
    /// The key's hash.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// Its value, once it is not [patched](Wanted::is_patched) any more; none where it is gone.
    pub value: Option<V>,
    /// What is yet to change the value, in order.
    patches: VecDeque<V>,
    /// Whether the value is what the first of them changes.
    has_base: bool,
}

impl<K, V> Wanted<K, V> {
    /// Returns what a put or a delete wants.
    pub fn new(hash: u64, key: K, action: Action<V>) -> Self {
        let value = action.into_value();
        Wanted { hash, key, value, patches: VecDeque::new(), has_base: true }
    }

    /// Returns what patches want, in order: of what the time itself has put or deleted, or else of the prior value.
    pub fn patched(hash: u64, key: K, base: Option<Action<V>>, patches: VecDeque<V>) -> Self {
        let has_base = base.is_some();
        Wanted { hash, key, value: base.and_then(Action::into_value), patches, has_base }
    }

    /// Whether the prior value is needed to know the value.
    pub fn needs_prior(&self) -> bool {
        !self.has_base
    }

    /// Says what the prior value is.
    pub fn set_prior(&mut self, prior: Option<V>) {
        (self.value, self.has_base) = (prior, true);
    }

    /// Whether patches are yet to change the value.
    pub fn is_patched(&self) -> bool {
        !self.patches.is_empty()
    }

    /// Lets the next patch change the value, which must be what it changes.
    ///
    /// # Errors
    ///
    /// What the fold reports.
    pub fn patch(&mut self, rules: &Rules<K, V>) -> Result<(), Error> {
        if let Some(patch) = self.patches.pop_front() {
            self.value = Some(rules.patch(&self.key, self.value.as_ref(), &patch)?);
        }
        Ok(())
    }

    /// Returns the bytes of the key, of the value and of its patches.
    pub fn heap_bytes(&self) -> usize
    where
        K: Kept<V>,
    {
        let patches = self.patches.iter().map(|patch| K::heap_bytes(&self.key, Some(patch)));
        K::heap_bytes(&self.key, self.value.as_ref()) + patches.sum::<usize>()
    }
}
