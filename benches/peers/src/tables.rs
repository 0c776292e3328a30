//! Owns how a report reads: the tables of RESULTS.md. It does not own the figures.

use std::fmt::Write;

use crate::contestant::Contestant;
use crate::report::{Case, Report};

/// Returns the whole document.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    let out = &mut text;
    heading(out, report);
    for (name, title) in [
        ("w1", "W1: uniform, 10,000 rows per time"),
        ("w2", "W2: zipf(0.99), 1,000 rows per time"),
        ("workers", "W1 with two workers"),
    ] {
        for case in report.cases.iter().filter(|case| case.name == name) {
            rates(out, title, case);
        }
    }
    curve(out, report);
    if let (Some(one), Some(two)) = (find(report, "w1"), find(report, "workers")) {
        workers(out, one, two);
    }
    text
}

fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Case> {
    report.cases.iter().find(|case| case.name == name)
}

fn heading(out: &mut String, report: &Report) {
    let Report { machine, commit, command, keys, rounds, .. } = report;
    write(
        out,
        format_args!(
            "# Results\n\n\
         Written by `benches/peers`; its figures are in `results.json` too. {keys} keys, values of 64 bytes,\n\
         medians of {rounds} interleaved rounds, each contestant a process of its own. Compare the ratios: the\n\
         machine is shared. All outputs are equal, by a hash over their updates.\n\n\
         * Machine: {machine}\n\
         * Commit: {commit}\n\
         * Command: `cargo run --release -- {command}`, in `benches/peers`\n"
        ),
    );
}

fn rates(out: &mut String, title: &str, case: &Case) {
    write(
        out,
        format_args!(
            "\n## {title}\n\n\
         | | M rows/s | of HashMap | of HashMap + log | of arrange | CPU us/row | peak MB | disk MB at the end, at most | written MB |\n\
         |---|---|---|---|---|---|---|---|---|\n"
        ),
    );
    for result in &case.results {
        let against = |peer| match case.of(peer) {
            Some(other) => format!("{:.2}x", result.rate() / other.rate()),
            None => String::new(),
        };
        let mb = |get: fn(&crate::clock::Figures) -> u64| result.median(|f| get(f) as f64) / 1e6;
        let disk = match result.contestant.is_durable() {
            true => format!("{:.0}, {:.0}", mb(|f| f.disk), mb(|f| f.disk_peak)),
            false => String::new(),
        };
        write(
            out,
            format_args!(
                "| {} | {:.2} | {} | {} | {} | {:.2} | {:.0} | {} | {:.0} |\n",
                result.contestant.name(),
                result.rate() / 1e6,
                against(Contestant::Hashmap),
                against(Contestant::HashmapLog),
                against(Contestant::Arrange),
                result.cpu(),
                mb(|f| f.peak),
                disk,
                mb(|f| f.written),
            ),
        );
    }
}

fn curve(out: &mut String, report: &Report) {
    let cases: Vec<&Case> = report.cases.iter().filter(|case| case.name == "curve").collect();
    let Some(first) = cases.first() else { return };
    out.push_str("\n## Rows per time\n\nRows a second, uniform.\n\n| |");
    cases.iter().for_each(|case| write(out, format_args!(" {} |", case.rows_per_time)));
    out.push_str("\n|---|");
    cases.iter().for_each(|_| out.push_str("---|"));
    for result in &first.results {
        write(out, format_args!("\n| {} |", result.contestant.name()));
        for case in &cases {
            let rate = case.of(result.contestant).map_or(0.0, |result| result.rate());
            write(out, format_args!(" {} |", thousands(rate)));
        }
    }
    out.push('\n');
}

fn workers(out: &mut String, one: &Case, two: &Case) {
    out.push_str("\n## Two workers against one\n\n| | by wall time |\n|---|---|\n");
    for result in &two.results {
        if let Some(alone) = one.of(result.contestant) {
            let ratio = result.rate() / alone.rate();
            write(out, format_args!("| {} | {ratio:.2}x |\n", result.contestant.name()));
        }
    }
}

/// Returns a count with commas.
fn thousands(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all");
}
