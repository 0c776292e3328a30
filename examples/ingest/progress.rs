//! Owns the progress bar on stderr: rows read, how fast, how long it takes, and how far behind the source the shard is; and the
//! line that stays when it ends. It does not own the counts it shows.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use differential_upsert::face::Face;
use differential_upsert::health::SourceLag;
use differential_upsert::source::SourceStats;
use differential_upsert::upsert::StatePlaces;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use crate::pace::{Pace, per_second};

const REDRAW: Duration = Duration::from_millis(100);

/// What the place in a feed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// Bytes.
    Bytes,
    /// Commits, messages: what is said by the rows already.
    Units,
}

/// A bar that draws itself until it is dropped. There is none when stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicBool>,
    drawing: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the bar, which shows these counts, and of the face how far behind it is.
    pub(crate) fn start(stats: SourceStats, places: Places, face: Face) -> Progress {
        let done = Arc::new(AtomicBool::new(false));
        let drawing = std::io::stderr().is_terminal().then(|| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || draw(&stats, places, &face, &done))
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

fn draw(stats: &SourceStats, places: Places, face: &Face, done: &AtomicBool) {
    let style = |template| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    let known = style("{elapsed} {percent:>3} % [{wide_bar}] {msg}");
    let unknown = style("{elapsed} {spinner} {msg}");
    let (bar, began) = (ProgressBar::new(0), Instant::now());
    let (mut rows, mut place) = (Pace::default(), Pace::default());
    while !done.load(Ordering::Relaxed) {
        let (at, length) = (began.elapsed(), stats.length());
        rows.see(at, stats.rows_read());
        place.see(at, stats.position());
        bar.set_style(if length > 0 { known.clone() } else { unknown.clone() });
        bar.set_length(length.max(1));
        bar.set_position(stats.position());
        let said = [
            read(stats.rows_read(), rows.per_second()),
            left(time_left(stats.position(), length, place.per_second())),
            bytes(places, stats.position(), length),
            behind(face.report().lag),
            cold(face.state_places()),
        ];
        bar.set_message(said.concat());
        bar.tick();
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
    eprintln!("{}", last(stats, places, began.elapsed()));
}

/// The line that stays.
fn last(stats: &SourceStats, places: Places, took: Duration) -> String {
    let done = read(stats.rows_read(), per_second(stats.rows_read(), took));
    format!("{done}{} in {:.1} s", bytes(places, stats.position(), 0), took.as_secs_f64())
}

/// Says how many rows were read, and how fast, if that is known.
fn read(rows: u64, per_second: Option<f64>) -> String {
    let rate = per_second.map(|rate| format!(", {} rows/s", HumanCount(rate.round() as u64)));
    format!("{} rows{}", HumanCount(rows), rate.unwrap_or_default())
}

/// Returns how long it takes to the end of a feed, at a rate; `None` where it is there, or stands, or its length is not known.
fn time_left(position: u64, length: u64, per_second: Option<f64>) -> Option<Duration> {
    let left = length.checked_sub(position).filter(|left| *left > 0)?;
    Duration::try_from_secs_f64(left as f64 / per_second?).ok()
}

/// Says how long it takes, if that is known.
fn left(left: Option<Duration>) -> String {
    left.map(|left| format!(", {} left", span(left))).unwrap_or_default()
}

/// Says how many bytes were read, of a feed whose places they are, and of how many if that is known.
fn bytes(places: Places, position: u64, length: u64) -> String {
    match (places, length) {
        (Places::Units, _) => String::new(),
        (Places::Bytes, 0) => format!(", {}", HumanBytes(position)),
        (Places::Bytes, _) => format!(", {} of {}", HumanBytes(position), HumanBytes(length)),
    }
}

/// Says how long something takes or took.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => HumanDuration(time).to_string(),
    }
}

/// Says how far behind the source the shard is, as far as that is known.
fn behind(lag: SourceLag) -> String {
    let rows = lag.rows.map(|rows| format!("{rows} rows"));
    let bytes = lag.bytes.map(|bytes| HumanBytes(bytes).to_string());
    let age = lag.age.map(span);
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
    fn what_was_read_is_said() {
        assert_eq!(read(1_234_567, None), "1,234,567 rows");
        assert_eq!(read(7, Some(1_999.6)), "7 rows, 2,000 rows/s");
        assert_eq!(bytes(Places::Bytes, 3 << 20, 0), ", 3.00 MiB");
        assert_eq!(bytes(Places::Bytes, 3 << 20, 5 << 20), ", 3.00 MiB of 5.00 MiB");
        assert_eq!(bytes(Places::Units, 3, 5), "");
        assert_eq!(time_left(1_000, 4_000, Some(1_000.0)), Some(Duration::from_secs(3)));
        for (position, length, rate) in
            [(5, 0, Some(1.0)), (5, 5, Some(1.0)), (5, 9, Some(0.0)), (5, 9, None)]
        {
            assert_eq!(time_left(position, length, rate), None, "{position} {length} {rate:?}");
        }
        assert_eq!(left(None), "");
        assert_eq!(left(Some(Duration::from_millis(2_500))), ", 2.5 s left");
        assert_eq!(left(Some(Duration::from_secs(600))), ", 10 minutes left");
    }

    #[test]
    fn the_last_line_is_of_the_whole_run() {
        let stats = SourceStats::default();
        stats.set_rows_read(6_000);
        stats.set_position(3 << 20, Some(3 << 20));
        let said = |places| last(&stats, places, Duration::from_millis(1_500));
        assert_eq!(said(Places::Bytes), "6,000 rows, 4,000 rows/s, 3.00 MiB in 1.5 s");
        assert_eq!(said(Places::Units), "6,000 rows, 4,000 rows/s in 1.5 s");
    }

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
