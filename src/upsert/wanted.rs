//! Owns what the commands of one key come to at a time: a value, none, or the value before that time, patched. It does
//! not own which commands take effect, nor where the prior value is.

use std::rc::Rc;

use super::pending::Action;
use super::rows::Kept;
use crate::error::{Error, ErrorKind};

/// Says what a patch makes of a value, or of none: the first is the prior value, the second the patch.
///
/// Every writer must come to the same value: the fold sees nothing else, and keeps nothing. An error stops the
/// operator; what is wrong with one key's value belongs into the value that is returned.
pub type Fold<V> = Rc<dyn Fn(Option<&V>, &V) -> Result<V, Error>>;

/// Returns the fold of an operator that was given none: a patch is an error.
pub fn no_patches<V>() -> Fold<V> {
    Rc::new(|_, _| {
        let what = "a patch, and nothing says how it changes a value";
        let hint = "give the shard a fold, `Shard::with_fold`, or the operator: `upsert_patched`";
        Err(Error::new(ErrorKind::Invalid, what).hint(hint))
    })
}

/// What a key is to have.
pub struct Wanted<K, V> {
    /// The key's hash.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// Its value, once it is not [patched](Wanted::is_patched) any more; none where it is gone.
    pub value: Option<V>,
    /// What changes the prior value, in order.
    patches: Vec<V>,
}

impl<K, V> Wanted<K, V> {
    /// Returns what a put or a delete wants.
    pub fn new(hash: u64, key: K, action: Action<V>) -> Self {
        Wanted { hash, key, value: action.into_value(), patches: Vec::new() }
    }

    /// Returns what patches want, in order: of what the time itself has put or deleted, or else of the prior value.
    ///
    /// # Errors
    ///
    /// What the fold reports.
    pub fn patched(
        hash: u64,
        key: K,
        base: Option<Action<V>>,
        patches: Vec<V>,
        fold: &Fold<V>,
    ) -> Result<Self, Error> {
        let mut wanted = Wanted { hash, key, value: None, patches };
        if let Some(base) = base {
            wanted.patch(base.into_value(), fold)?;
        }
        Ok(wanted)
    }

    /// Whether the prior value is needed to know the value.
    pub fn is_patched(&self) -> bool {
        !self.patches.is_empty()
    }

    /// Makes the patches' value out of what they change.
    ///
    /// # Errors
    ///
    /// What the fold reports.
    pub fn patch(&mut self, base: Option<V>, fold: &Fold<V>) -> Result<(), Error> {
        self.value = base;
        for patch in std::mem::take(&mut self.patches) {
            self.value = Some(fold(self.value.as_ref(), &patch)?);
        }
        Ok(())
    }

    /// Returns the bytes of the key and of the value, or of its patches.
    pub fn heap_bytes(&self) -> usize
    where
        K: Kept<V>,
    {
        let patches = self.patches.iter().map(|patch| K::heap_bytes(&self.key, Some(patch)));
        K::heap_bytes(&self.key, self.value.as_ref()) + patches.sum::<usize>()
    }
}
