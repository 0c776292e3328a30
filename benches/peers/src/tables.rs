//! Owns how a report reads: the tables of RESULTS.md. It does not own the figures.

use std::fmt::Write;

use clap::ValueEnum;

use crate::clock::Figures;
use crate::contestant::Contestant;
use crate::idle::Idle;
use crate::ingest::How;
use crate::race::Race;
use crate::reload::{Reload, Reloaded};
use crate::report::{Case, Feed, Report, Restart, median};
use crate::warm::{Start, Warm};

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
    report.restarts.iter().for_each(|restart| self::restart(out, restart));
    latencies(out, report);
    report.feeds.iter().for_each(|feed| self::feed(out, feed));
    out.push_str(&warm(&report.warms));
    races(out, &report.races);
    idle(out, &report.idle);
    text
}

fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Case> {
    report.cases.iter().find(|case| case.name == name)
}

fn heading(out: &mut String, report: &Report) {
    let Report { machine, commit, commands, keys, rounds, .. } = report;
    let commands: Vec<String> =
        commands.iter().map(|command| format!("`cargo run --release -- {command}`")).collect();
    let commands = commands.join(", then ");
    write(
        out,
        format_args!(
            "# Results\n\n\
         Written by `benches/peers`; its figures are in `results.json` too. {keys} keys, values of 64 bytes,\n\
         medians of {rounds} interleaved rounds, each contestant a process of its own. Compare the ratios: the\n\
         machine is shared. All outputs are equal, by a hash over their updates.\n\n\
         * Machine: {machine}\n\
         * Commit: {commit}\n\
         * Command: {commands}, in `benches/peers`\n"
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
        let mb = |get: fn(&Figures) -> u64| result.median(|f| get(f) as f64) / 1e6;
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

fn restart(out: &mut String, restart: &Restart) {
    write(
        out,
        format_args!(
            "\n## Restart with {} keys\n\n\
             | | seconds | of the HashMap's log | CPU seconds | peak MB |\n|---|---|---|---|---|\n",
            thousands(restart.keys as f64)
        ),
    );
    let seconds = |all: &[Reloaded]| median(all.iter().map(|one| one.seconds).collect());
    let log = restart.results.iter().find(|(reload, _)| *reload == Reload::HashmapLog);
    for (reload, all) in &restart.results {
        write(
            out,
            format_args!(
                "| {} | {:.2} | {:.2}x | {:.2} | {:.0} |\n",
                name(reload),
                seconds(all),
                seconds(all) / log.map_or(f64::NAN, |(_, all)| seconds(all)),
                median(all.iter().map(|one| one.cpu_seconds).collect()),
                median(all.iter().map(|one| one.peak as f64 / 1e6).collect()),
            ),
        );
    }
}

fn latencies(out: &mut String, report: &Report) {
    if report.latencies.is_empty() {
        return;
    }
    out.push_str(
        "\n## Latency\n\n\
         Open loop: times are due at a fixed rate, and each one's latency counts from when it was due until\n\
         it is committed and read back. *Load* is of the most that it can do. Beside it one bare append and\n\
         fdatasync for each time, at the same rate. Milliseconds.\n\n\
         | | load | rows/s | p50 | p99 | p99.9 | append p50 | append p99 | p99 of append's |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for load in &report.latencies {
        let ms = |us: u64| us as f64 / 1e3;
        let (ours, bare) = (&load.latency, &load.append);
        write(
            out,
            format_args!(
                "| {} | {:.0} % | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1}x |\n",
                load.contestant.name(),
                load.part * 100.0,
                thousands(load.rate),
                ms(ours.p50),
                ms(ours.p99),
                ms(ours.p999),
                ms(bare.p50),
                ms(bare.p99),
                ours.p99 as f64 / bare.p99 as f64,
            ),
        );
    }
}

fn feed(out: &mut String, feed: &Feed) {
    write(
        out,
        format_args!(
            "\n## {} JSON lines\n\n\
             *parse*: `serde_json`, to a `Value`, and nothing else. *minted*, *given*: `ingest`, without and with\n\
             a time of its own for each line.\n\n\
             | | seconds | M lines/s | of parse | CPU us/line | peak MB |\n|---|---|---|---|---|---|\n",
            thousands(feed.lines as f64)
        ),
    );
    let of = |all: &[Figures], get: fn(&Figures) -> f64| median(all.iter().map(get).collect());
    let seconds = |all: &[Figures]| of(all, |one| one.seconds);
    let parse = feed.results.iter().find(|(how, _)| *how == How::Parse);
    for (how, all) in feed.results.iter().filter(|(_, all)| !all.is_empty()) {
        write(
            out,
            format_args!(
                "| {} | {:.3} | {:.3} | {:.2}x | {:.2} | {:.0} |\n",
                name(how),
                seconds(all),
                feed.lines as f64 / seconds(all) / 1e6,
                parse.map_or(f64::NAN, |(_, all)| seconds(all)) / seconds(all),
                of(all, |one| one.cpu_seconds) * 1e6 / feed.lines as f64,
                of(all, |one| one.peak as f64) / 1e6,
            ),
        );
    }
}

/// Returns the table of starts on an image.
pub fn warm(warms: &[Warm]) -> String {
    let mut text = String::new();
    let out = &mut text;
    if warms.is_empty() {
        return text;
    }
    out.push_str(
        "\n## Start on an image of the state\n\n\
         From the start of a writer's process until its first append, of ten rows, is in the shard. The image is that of\n\
         the clean stop before; that with none is of a directory that is empty. All files are in the page cache.\n\n\
         | keys | started on | s: median, least, most | of which reading the shard | peak MB | clean stop after it, s | \
         its image, MB | it said |\n|---|---|---|---|---|---|---|---|\n",
    );
    for Warm { keys, starts } in warms {
        for (what, all) in starts {
            let of = |get: fn(&Start) -> f64| median(all.iter().map(get).collect());
            let seconds = || all.iter().map(|start| start.seconds);
            let said = all.first().map_or("", |start| &start.said);
            write(
                out,
                format_args!(
                    "| {} | {what} | {:.3}, {:.3}, {:.3} | {:.3} | {:.0} | {:.3} | {:.0} | {said} |\n",
                    thousands(*keys as f64),
                    of(|start| start.seconds),
                    seconds().fold(f64::INFINITY, f64::min),
                    seconds().fold(0.0, f64::max),
                    of(|start| start.read_seconds),
                    of(|start| start.peak as f64) / 1e6,
                    of(|start| start.stop_seconds),
                    of(|start| start.image as f64) / 1e6,
                ),
            );
        }
    }
    text
}

/// Two writers beside one.
fn races(out: &mut String, races: &[Race]) {
    if races.is_empty() {
        return;
    }
    out.push_str(
        "\n## Two writers that race\n\n\
         Two processes with one feed and one shard, beside one alone. The machine has as many cores as there are writers.\n\n\
         | | rows per time | alone, M rows/s | the first of two | the other | CPU us/row alone | of both |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Race { contestant, rows_per_time, alone, both } in races {
        let rate = |figures: &Figures| figures.rows as f64 / figures.seconds / 1e6;
        let cpu = |figures: &Figures| figures.cpu_seconds * 1e6 / figures.rows as f64;
        write(
            out,
            format_args!(
                "| {} | {} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} |\n",
                contestant.name(),
                thousands(*rows_per_time as f64),
                median(alone.iter().map(rate).collect()),
                median(both.iter().map(|(first, _)| rate(first)).collect()),
                median(both.iter().map(|(_, other)| rate(other)).collect()),
                median(alone.iter().map(cpu).collect()),
                median(both.iter().map(|(first, other)| cpu(first) + cpu(other)).collect()),
            ),
        );
    }
}

/// Pipelines that have nothing to do.
fn idle(out: &mut String, all: &[Idle]) {
    if all.is_empty() {
        return;
    }
    out.push_str(
        "\n## Nothing to do\n\n\
         A process whose feed is open and silent, on a local directory.\n\n\
         | | of one core | context switches a second |\n|---|---|---|\n",
    );
    for Idle { role, percent, switches } in all {
        write(out, format_args!("| {} | {percent:.2} % | {switches:.1} |\n", name(role)));
    }
}

fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("none is skipped").get_name().to_string()
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
