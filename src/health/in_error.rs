//! Owns what one worker has read back of keys whose value is an error: how many there are, and a few of them by name. It does
//! not own what an error is, nor the list of all of them: that is read out of the shard.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

/// Characters of a key that are shown.
const SHOWN_MAX: usize = 64;
/// Keys that are known by name. As the errors of all of these have ended, it takes another one.
const KNOWN_MAX: usize = 8;

/// Returns a key's text, by its bytes.
pub(crate) type NameKey = fn(&[u8]) -> Option<String>;

/// The keys of one worker whose value is an error.
#[derive(Debug, Default)]
pub(crate) struct InError {
    count: AtomicI64,
    name: OnceLock<NameKey>,
    /// Those that came first, as long as they are in error.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    key: Vec<u8>,
    text: String,
    /// How many errors it has: as one takes the place of another, two for a moment.
    count: isize,
}

impl InError {
    /// Says how a key is named.
    pub(crate) fn name_by(&self, name: NameKey) {
        self.name.get_or_init(|| name);
    }

    /// Says how many more there are; may be negative.
    pub(crate) fn add(&self, more: i64) {
        self.count.fetch_add(more, Relaxed);
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> i64 {
        self.count.load(Relaxed)
    }

    /// Takes an error of a key that has come, or gone.
    pub(crate) fn see(&self, key: &[u8], diff: isize) {
        let mut known = self.known.lock();
        if let Some(of) = known.iter_mut().find(|of| of.key == key) {
            of.count += diff;
            known.retain(|of| of.count > 0);
        } else if diff > 0 && known.len() < KNOWN_MAX {
            let text = self.name.get().and_then(|name| name(key));
            let of = text.map(|text| Known { key: key.to_vec(), text: cut(text), count: diff });
            known.extend(of);
        }
    }

    /// Returns one of them, if any is known: the first that was read and is in error.
    pub(crate) fn known(&self) -> Option<String> {
        self.known.lock().first().map(|of| of.text.clone())
    }
}

/// Cuts a text that is too long to be shown.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_MAX) {
        text.truncate(end);
        text.push_str("..");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> InError {
        let keys = InError::default();
        keys.name_by(|bytes| String::from_utf8(bytes.to_vec()).ok());
        keys
    }

    #[test]
    fn the_first_is_known_until_its_error_ends() {
        let keys = named();
        keys.see(b"a", 1);
        keys.see(b"b", 1);
        assert_eq!(keys.known().as_deref(), Some("a"));
        // Another error takes the place of one; where that was gone before, the key comes last.
        for (diffs, known) in [([1, -1], "a"), ([-1, 1], "b")] {
            diffs.into_iter().for_each(|diff| keys.see(b"a", diff));
            assert_eq!(keys.known().as_deref(), Some(known), "{diffs:?}");
        }
        keys.see(b"b", -1);
        assert_eq!(keys.known().as_deref(), Some("a"));
        keys.see(b"a", -1);
        assert_eq!(keys.known(), None);
    }

    #[test]
    fn few_are_known() {
        let keys = named();
        let key = |n: usize| n.to_string();
        (0..3 * KNOWN_MAX).for_each(|n| keys.see(key(n).as_bytes(), 1));
        (0..KNOWN_MAX).for_each(|n| keys.see(key(n).as_bytes(), -1));
        assert_eq!(keys.known(), None);
        keys.see(b"more", 1);
        assert_eq!(keys.known().as_deref(), Some("more"));
    }

    #[test]
    fn a_key_without_a_name_is_not_known_and_a_long_one_is_cut() {
        let keys = named();
        keys.see(b"\xff", 1);
        assert_eq!(keys.known(), None);
        keys.see("\u{e9}".repeat(70).as_bytes(), 1);
        assert_eq!(keys.known(), Some("\u{e9}".repeat(64) + ".."));
        let unnamed = InError::default();
        unnamed.see(b"a", 1);
        assert_eq!(unnamed.known(), None);
    }
}
