//! Owns the parts that one call uploads, from before the first byte until it is told what became of them. It
//! does not own what is pending in all; that is [`uploads`](super::uploads)'s.

use std::sync::Arc;

use parking_lot::Mutex;

use super::view::View;

/// The parts that one call uploads. Dropped before it is told what became of them, they will never
/// be named.
pub(super) struct Uploading {
    view: Arc<View>,
    keys: Mutex<Vec<String>>,
}

impl Uploading {
    pub(super) fn new(view: &Arc<View>) -> Uploading {
        Uploading { view: Arc::clone(view), keys: Mutex::default() }
    }

    /// Takes a part, before it is uploaded.
    pub(super) fn add(&self, key: &str) {
        self.view.uploads.lock().begin(key);
        self.keys.lock().push(key.to_string());
    }

    /// Leaves the parts pending, and returns their keys: somebody else decides.
    pub(super) fn keep(self) -> Vec<String> {
        std::mem::take(&mut *self.keys.lock())
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        let mut uploads = self.view.uploads.lock();
        for key in self.keys.lock().iter() {
            uploads.decided(key, true);
        }
    }
}
