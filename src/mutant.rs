//! Owns the switch of the mutants: faults that stand in the code at their place, so that a test can
//! show that it would notice them. It does not own which test that is: `tests/mutants.txt` lists them.
//!
//! One mutant at most is on in a process, and only with the feature `mutants`, which is for this
//! crate's own tests. Without it [`on`] is a constant, and the compiler leaves nothing of any of them.

use std::sync::OnceLock;

/// The variable of the environment that names the mutant.
const VARIABLE: &str = "DIFFERENTIAL_UPSERT_MUTANT";

/// Whether the mutant of this name is on.
#[inline(always)]
pub(crate) fn on(name: &str) -> bool {
    cfg!(feature = "mutants") && chosen() == Some(name)
}

fn chosen() -> Option<&'static str> {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref()
}
