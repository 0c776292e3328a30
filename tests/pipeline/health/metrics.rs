//! Goal: the metrics are Prometheus text, and say what happened. Method: a strict reader of the text,
//! and counts that stand here by hand.

use differential_upsert::Command;
use differential_upsert::pipeline::metrics::{MetricKind, MetricValue, Metrics};
use differential_upsert::store::Operation;

use crate::health::rig::{Rig, Valve};

/// Reads Prometheus text strictly: help, type, then samples of that name.
fn samples(text: &str) -> Vec<(String, f64)> {
    let (mut name, mut samples) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (named, help) = help.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && !samples.iter().any(|(n, _): &(String, _)| n == named));
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type");
            let kind = kind.strip_prefix(named).expect("the same name").trim();
            assert_eq!(kind == "counter", named.ends_with("_total"), "{named} is a {kind}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert!(named.starts_with("differential_upsert_"));
            name = named.to_string();
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample");
        assert_eq!(sample.split('{').next(), Some(&*name), "{line}");
        samples.push((sample.to_string(), value.parse().expect("a number")));
    }
    samples
}

#[test]
fn metrics_say_what_happened() {
    let mut rig = Rig::begun(Valve::hanging(|a| a.operation == Operation::CreateEntry));
    let metrics = rig.metrics.clone();
    let value = |name: &str| {
        let text = metrics.text();
        assert!(text.ends_with('\n'));
        let name = format!("differential_upsert_{name}");
        samples(&text).into_iter().find(|(sample, _)| *sample == name).map(|(_, value)| value)
    };
    // Keys 0 to 4, of which 4 is written twice; then the same again, and one at an open time.
    let input = rig.input.as_mut().unwrap();
    input.send((Command::put(4, 1, 0), 1));
    (0..5).for_each(|key| input.send((Command::put(key, 11, 1), 1)));
    rig.give(1, 0);
    rig.settle();
    rig.give(2, 0);
    let input = rig.input.as_mut().unwrap();
    (0..5).for_each(|key| input.send((Command::put(key, 11, 0), 3)));
    input.send((Command::put(9, 9, 0), 7));
    rig.give(3, 0);
    rig.settle();
    assert_eq!(value("rows_below_total"), Some(0.0));
    assert_eq!(value("rows_above_total"), Some(13.0), "all that came was stashed");
    assert_eq!(value("rows_equal_total"), Some(6.0), "one at time 0");
    assert_eq!(value("rows_superseded_total"), Some(1.0));
    assert_eq!(value("rows_unchanged_total"), Some(5.0));
    assert_eq!((value("stash_rows"), value("stash_oldest_time")), (Some(1.0), Some(7.0)));
    assert!(value("stash_bytes") > Some(0.0) && value("state_bytes") > Some(0.0));
    for part_bytes in ["cache_bytes", "read_bytes", "merge_bytes"] {
        assert!(value(part_bytes) >= Some(0.0), "{part_bytes}");
    }
    assert_eq!(value("state_rows"), Some(5.0));
    for none in ["state_cold_rows", "state_cold_reads_total", "state_image_bytes"] {
        assert_eq!(value(none), Some(0.0), "{none}: all is in memory, and no image was asked for");
    }
    assert_eq!((value("state_image_upper"), value("state_image_age_seconds")), (None, None));
    assert_eq!((value("input_frontier"), value("shard_upper")), (Some(4.0), Some(4.0)));
    assert_eq!((value("feedback_lag"), value("hydrated")), (Some(0.0), Some(1.0)));
    assert_eq!(
        (value("appends_lost_total"), value("role{role=\"writer\"}")),
        (Some(0.0), Some(1.0))
    );
    assert!(value("appends_won_total") >= Some(3.0));
    assert_eq!(value("parts_read_total"), value("parts_found_total"));
    as_values(&metrics);
    rig.valve.set(true);
    rig.give(4, 1);
    rig.settle();
    (0..5).for_each(|_| rig.live());
    let stands = value("upper_stands_seconds").unwrap();
    assert!((4.0..7.0).contains(&stands), "{stands}");
    assert_eq!(value("health_state{state=\"running\"}"), Some(1.0));
    let states = samples(&metrics.text());
    let states = states.iter().filter(|(name, _)| name.contains("health_state"));
    assert_eq!(states.map(|(_, value)| *value).sum::<f64>(), 1.0, "one state at a time");
    rig.valve.set(false);
    rig.end();
}

/// The metrics as values are those of the text, with their labels.
fn as_values(metrics: &Metrics) {
    let text = samples(&metrics.text());
    let mut at = text.iter().map(|(name, value)| (name.split('{').next().unwrap(), *value));
    for metric in metrics.iter() {
        assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"));
        for sample in &metric.samples {
            let (name, of_text) = at.next().expect("as many samples as the text has");
            assert_eq!(name, metric.name);
            // Others may move between the two.
            if let (true, MetricValue::Integer(value)) = (name.contains("_rows_"), &sample.value) {
                assert_eq!(*value as f64, of_text, "{name}");
            }
            let labels = [("shard", "mem:".to_string()), ("pipeline", String::new())];
            assert_eq!(sample.labels[..2], labels, "{}", metric.name);
            assert!(matches!(sample.value, MetricValue::Integer(_) | MetricValue::Float(_)));
        }
    }
    assert_eq!(at.next(), None);
    let stashed = metrics.iter().find(|metric| metric.name.ends_with("rows_above_total")).unwrap();
    assert_eq!(stashed.samples[0].value, MetricValue::Integer(13));
}
