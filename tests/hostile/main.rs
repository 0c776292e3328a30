//! Goal: no workload takes more memory than the stated bounds say, and none panics or comes out wrong.
//!
//! Method: a table of hostile workloads, one after another under a counting allocator. For each: the peak of
//! what was allocated stays below 1.25 times the sum of the bounds, plus the live state; the contents are
//! those of a fold that shares no code with `src/`; the scratch file is in proportion to what is stashed.
//! Bounds are set small, so that the table proves in seconds what large ones would prove in hours.

mod bed;
mod durable;
mod keys;
mod killed;
mod looks;
mod rows;
mod times;

use std::time::Instant;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

pub const MIB: usize = 1 << 20;

/// What a workload may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The sum of the stated bounds.
    pub bounds: usize,
    /// The live state, at its largest.
    pub live: usize,
    /// The scratch file at its largest, and what it may have.
    pub spilled: (u64, u64),
}

/// What a workload runs as a process of its own, which dies.
#[test]
fn a_child_of_a_test() {
    killed::child();
}

/// All in one test: what is allocated is counted for the whole process.
#[test]
fn hostile_workloads_stay_within_the_stated_bounds() {
    let table: [(&str, fn() -> Allowed); 19] = [
        ("a hot key", keys::hot_key),
        ("put and delete of ever new keys", keys::ever_new_keys),
        ("a reset over many keys", keys::reset_over_many),
        ("a reset over rows in a file", keys::reset_over_cold),
        ("unmerged history, newest first", keys::unmerged_history),
        ("values of 1 MB in one time", rows::large_values),
        ("values of 16 MiB in one time", rows::huge_values),
        ("survivors that pin their buffers", rows::pinned_buffers),
        ("200,000 distinct times", times::distinct_times),
        ("one open time for ever", times::open_for_ever),
        ("a spilling backlog that stands", times::standing_backlog),
        ("durable: many rows in one time", durable::small_values),
        ("durable: values of 1 MB", durable::large_values),
        ("durable: values of 16 MiB", durable::huge_values),
        ("durable: restart on unmerged history", durable::restart),
        ("durable: a standby of a paused active", durable::paused_active),
        ("durable: resets, killed in their midst", killed::resets),
        ("looks: a shard larger than memory", looks::larger_than_memory),
        ("looks: a long history of one key", looks::long_history),
    ];
    let only = std::env::var("HOSTILE_CASE").ok();
    println!("{:38} {:>8} {:>9} {:>9} {:>9} {:>9}", "MiB", "peak", "bounds", "live", "file", "s");
    let mut wrong = Vec::new();
    for (name, run) in
        table.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only)))
    {
        let start = Instant::now();
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let Allowed { bounds, live, spilled } = run();
        let peak = ALLOCATED.peak_usage().saturating_sub(before);
        let mib = |bytes: usize| format!("{:.1}", bytes as f64 / MIB as f64);
        let (file, seconds) = (mib(spilled.0 as usize), start.elapsed().as_secs_f64());
        println!(
            "{name:38} {:>8} {:>9} {:>9} {file:>9} {seconds:>9.1}",
            mib(peak),
            mib(bounds),
            mib(live)
        );
        if peak > bounds + bounds / 4 + live {
            wrong.push(format!("{name}: {} MiB at the peak", mib(peak)));
        }
        if spilled.0 > spilled.1 {
            wrong.push(format!(
                "{name}: {file} MiB of scratch, {} allowed",
                mib(spilled.1 as usize)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
