//! Owns [`Rules`], what an operator is told of keys and values: what a patch makes of a value, and which collection a
//! key is of. It does not own what the operator makes of that.

use std::fmt::Debug;
use std::rc::Rc;

use crate::error::{Error, ErrorKind};

/// Says what a patch makes of a value, or of none: the first is the prior value, the second the patch.
///
/// Every writer must come to the same value: the fold sees nothing else, and keeps nothing. An error stops the
/// operator; what is wrong with one key's value belongs into the value that is returned.
pub type Fold<V> = Rc<dyn Fn(Option<&V>, &V) -> Result<V, Error>>;

/// A fold that is given the key too, so that its errors say where they are.
pub(crate) type KeyedFold<K, V> = Rc<dyn Fn(&K, Option<&V>, &V) -> Result<V, Error>>;

/// Tells the second which collection a key is of, once.
pub(crate) type TellCollection<K> = Rc<dyn Fn(&K, &mut dyn FnMut(&str)) -> Result<(), Error>>;

/// What an operator is told of keys and values: what a [patch](crate::Command::Patch) makes of a value, and which
/// collection a key is of, for a [reset of one](crate::Command::ResetOf).
///
/// Every writer must be told the same. Without a fold a patch is an error that stops the operator, and without
/// collections such a reset is.
///
/// ```
/// use differential_upsert::upsert::Rules;
/// // Keys are of the collection in front of their first slash.
/// let rules = Rules::<String, u64>::new()
///     .with_collections(|key| key.split_once('/').map_or("", |(collection, _)| collection));
/// # drop(rules);
/// ```
pub struct Rules<K, V> {
    fold: KeyedFold<K, V>,
    collection: Option<TellCollection<K>>,
}

impl<K, V> Default for Rules<K, V> {
    fn default() -> Self {
        Rules::new()
    }
}

impl<K, V> Debug for Rules<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

impl<K, V> Rules<K, V> {
    /// Returns rules that know of neither.
    pub fn new() -> Self {
        Rules { fold: Rc::new(|_, _, _| Err(no_fold())), collection: None }
    }

    /// Says what a patch makes of a value. Its errors get the key's name.
    pub fn with_fold(self, fold: Fold<V>) -> Self
    where
        K: Debug + 'static,
        V: 'static,
    {
        self.with_keyed_fold(Rc::new(move |key: &K, prior: Option<&V>, patch: &V| {
            fold(prior, patch).map_err(|error| error.at(format!("key {key:?}")))
        }))
    }

    /// Says which collection a key is of. It must be the same one for ever.
    pub fn with_collections(self, of: impl Fn(&K) -> &str + 'static) -> Self {
        self.with_collections_told(Rc::new(move |key: &K, told: &mut dyn FnMut(&str)| {
            told(of(key));
            Ok(())
        }))
    }

    pub(crate) fn with_keyed_fold(self, fold: KeyedFold<K, V>) -> Self {
        Rules { fold, ..self }
    }

    pub(crate) fn with_collections_told(self, collection: TellCollection<K>) -> Self {
        Rules { collection: Some(collection), ..self }
    }

    /// Returns what a patch makes of a value.
    ///
    /// # Errors
    ///
    /// What the fold reports, or that there is none.
    pub(super) fn patch(&self, key: &K, prior: Option<&V>, patch: &V) -> Result<V, Error> {
        (self.fold)(key, prior, patch)
    }

    /// Tells which collection a key is of.
    ///
    /// # Errors
    ///
    /// That the key cannot be read, or that it was not said.
    pub(super) fn collection(&self, key: &K, told: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match &self.collection {
            Some(collection) => collection(key, told),
            None => Err(no_collections()),
        }
    }

    /// Checks that a collection can be reset.
    ///
    /// # Errors
    ///
    /// `Invalid` where nothing says which collection a key is of.
    pub(super) fn check_reset_of(&self, collection: &str) -> Result<(), Error> {
        match &self.collection {
            Some(_) => Ok(()),
            None => Err(no_collections().at(format!("collection {collection:?}"))),
        }
    }
}

/// The error of a patch where there is no fold.
pub(crate) fn no_fold() -> Error {
    let what = "a patch, and nothing says how it changes a value";
    let hint = "give the shard a fold, `Shard::with_fold`, or the operator: `upsert_patched`";
    Error::new(ErrorKind::Invalid, what).hint(hint)
}

fn no_collections() -> Error {
    let what = "a collection is reset, and nothing says which keys it has";
    let hint = "tell the shard, `Shard::with_collections`, or the operator: `upsert_with` and \
                `Rules::with_collections`";
    Error::new(ErrorKind::Invalid, what).hint(hint)
}
