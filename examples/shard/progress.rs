//! Owns the sign of life on stderr of a command that takes long: how much it has read. It does not
//! count.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// What ends sooner says nothing.
const LONG: Duration = Duration::from_secs(1);

const REDRAW: Duration = Duration::from_millis(100);

/// Rows or entries that were read, shown until it is dropped. Nothing is shown when stderr is not a terminal, or when
/// what was read goes to one itself.
#[derive(Debug)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
    drawing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    read: AtomicU64,
    done: AtomicBool,
}

impl Progress {
    /// Begins with none.
    pub(crate) fn start() -> Progress {
        let shared = Arc::new(Shared::default());
        let is_shown = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let drawing = is_shown.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || draw(&shared))
        });
        Progress { shared, drawing }
    }

    /// Counts rows, or entries.
    pub(crate) fn add(&self, more: usize) {
        self.shared.read.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(drawing) = self.drawing.take() {
            drawing.thread().unpark();
            let _ = drawing.join();
        }
    }
}

fn draw(shared: &Shared) {
    std::thread::park_timeout(LONG);
    if shared.done.load(Ordering::Relaxed) {
        return;
    }
    let bar = ProgressBar::new_spinner().with_elapsed(LONG);
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    while !shared.done.load(Ordering::Relaxed) {
        bar.set_message(format!("{} read", HumanCount(shared.read.load(Ordering::Relaxed))));
        bar.tick();
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
}
