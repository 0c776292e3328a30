//! Owns the sign of life on stderr of a command that takes long: how much it has read, and how fast; and the line of it that
//! stays. It does not count.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::pace::{Pace, per_second};

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
    let (began, mut pace) = (Instant::now(), Pace::default());
    std::thread::park_timeout(LONG);
    if shared.done.load(Ordering::Relaxed) {
        return;
    }
    let bar = ProgressBar::new_spinner().with_elapsed(LONG);
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    while !shared.done.load(Ordering::Relaxed) {
        let read = shared.read.load(Ordering::Relaxed);
        pace.see(began.elapsed(), read);
        bar.set_message(said(read, pace.per_second()));
        bar.tick();
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
    eprintln!("{}", last(shared.read.load(Ordering::Relaxed), began.elapsed()));
}

/// Says how much was read, and how fast, if that is known.
fn said(read: u64, per_second: Option<f64>) -> String {
    let rate = per_second.map(|rate| format!(", {}/s", HumanCount(rate.round() as u64)));
    format!("{} read{}", HumanCount(read), rate.unwrap_or_default())
}

/// The line that stays.
fn last(read: u64, took: Duration) -> String {
    format!("{} in {:.1} s", said(read, per_second(read, took)), took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_said() {
        assert_eq!(said(1_234_567, None), "1,234,567 read");
        assert_eq!(said(7, Some(1_999.6)), "7 read, 2,000/s");
        assert_eq!(last(6_000, Duration::from_millis(1_500)), "6,000 read, 4,000/s in 1.5 s");
    }
}
