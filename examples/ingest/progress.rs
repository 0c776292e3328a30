//! Owns the progress bar on stderr. It does not own the counts it shows.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use differential_upsert::source::SourceStats;
use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(100);

/// A bar that draws itself until it is dropped. There is none when stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicBool>,
    drawing: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the bar, and returns it with the counts it shows.
    pub(crate) fn start(stats: SourceStats) -> Progress {
        let done = Arc::new(AtomicBool::new(false));
        let drawing = std::io::stderr().is_terminal().then(|| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || draw(&stats, &done))
        });
        Progress { done, drawing }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(drawing) = self.drawing.take() {
            drawing.thread().unpark();
            let _ = drawing.join();
        }
    }
}

fn draw(stats: &SourceStats, done: &AtomicBool) {
    let style = |template| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    let known = style("{elapsed_precise} [{wide_bar}] {percent:>3} % {msg}");
    let unknown = style("{elapsed_precise} {spinner} {msg}");
    let bar = ProgressBar::new(0);
    while !done.load(Ordering::Relaxed) {
        let length = stats.length();
        bar.set_style(if length > 0 { known.clone() } else { unknown.clone() });
        bar.set_length(length.max(1));
        bar.set_position(stats.position());
        bar.set_message(format!("{} rows", stats.rows_read()));
        bar.tick();
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
}
