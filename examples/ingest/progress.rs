//! Owns the progress bar on stderr: rows read, and how far behind the source the shard is. It does not own the counts it
//! shows.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use differential_upsert::face::Face;
use differential_upsert::health::SourceLag;
use differential_upsert::source::SourceStats;
use differential_upsert::upsert::StatePlaces;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(100);

/// A bar that draws itself until it is dropped. There is none when stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicBool>,
    drawing: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the bar, which shows these counts, and of the face how far behind it is.
    pub(crate) fn start(stats: SourceStats, face: Face) -> Progress {
        let done = Arc::new(AtomicBool::new(false));
        let drawing = std::io::stderr().is_terminal().then(|| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || draw(&stats, &face, &done))
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

fn draw(stats: &SourceStats, face: &Face, done: &AtomicBool) {
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
        let (behind, cold) = (behind(face.report().lag), cold(face.state_places()));
        bar.set_message(format!("{} rows{behind}{cold}", stats.rows_read()));
        bar.tick();
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
}

/// Says how far behind the source the shard is, as far as that is known.
fn behind(lag: SourceLag) -> String {
    let rows = lag.rows.map(|rows| format!("{rows} rows"));
    let bytes = lag.bytes.map(|bytes| HumanBytes(bytes).to_string());
    let age = lag.age.map(|age| match age.as_secs() {
        0..60 => format!("{:.1} s", age.as_secs_f64()),
        _ => HumanDuration(age).to_string(),
    });
    let known: Vec<String> = [rows, bytes, age].into_iter().flatten().collect();
    if known.is_empty() { String::new() } else { format!(", behind by {}", known.join(", ")) }
}

/// Says how much of the state is not in memory, if some is.
fn cold(places: StatePlaces) -> String {
    let (cold, all) = (places.cold_bytes, places.hot_bytes + places.cold_bytes);
    if cold == 0 {
        return String::new();
    }
    format!(", {} of {} of the state on disk", HumanBytes(cold), HumanBytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said() {
        let age = |seconds| Some(Duration::from_millis(seconds));
        assert_eq!(behind(SourceLag::default()), "");
        let all = SourceLag { rows: Some(7), bytes: Some(3 << 20), age: age(2_500) };
        assert_eq!(behind(all), ", behind by 7 rows, 3.00 MiB, 2.5 s");
        assert_eq!(
            behind(SourceLag { age: age(7_200_000), ..SourceLag::default() }),
            ", behind by 2 hours"
        );
    }

    #[test]
    fn what_is_on_disk_is_said() {
        let mut places = StatePlaces::default();
        (places.hot_rows, places.hot_bytes) = (1, 1 << 20);
        assert_eq!(cold(places), "");
        (places.cold_rows, places.cold_bytes) = (3, 3 << 20);
        assert_eq!(cold(places), ", 3.00 MiB of 4.00 MiB of the state on disk");
    }
}
