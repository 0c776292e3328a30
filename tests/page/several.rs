//! Several pipelines of one process share one text of metrics, told apart by their labels; and what the dashboard and the
//! alerts ask for is there. Method: a strict reader of the text, and one of the names in expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Answer, event, send};
use crate::pipelines::{Kind, Pipelines};
use crate::running::PATIENCE;

const MINUTE: Duration = Duration::from_secs(60);
const KIND: Kind = Kind { standby: false, stall_after: MINUTE, first: 3, hangs: false };

/// A metric as the text has it: its kind, and its samples by their labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads Prometheus text strictly, which is empty before there is a pipeline: each family once, in one piece, with help and
/// type before its samples; no sample twice.
fn families(text: &str) -> BTreeMap<String, Family> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut lines = text.lines();
    let mut now = String::new();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !families.contains_key(name), "{line}: twice");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type");
            let kind = kind.strip_prefix(name).expect("the same name").trim();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            families
                .insert(name.to_string(), Family { kind: kind.to_string(), ..Family::default() });
            now = name.to_string();
            continue;
        }
        let (head, value) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = match head.split_once('{') {
            Some((name, rest)) => (name, labels(rest)),
            None => (head, BTreeMap::new()),
        };
        let family = families.get_mut(&now).expect("a family");
        let suffix = name.strip_prefix(&*now).expect("a sample of the family before it");
        match &*family.kind {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        let sample = (name.to_string(), labels, value.parse().expect("a number"));
        let same = |one: &&(String, _, f64)| (&one.0, &one.1) == (&sample.0, &sample.1);
        assert!(family.samples.iter().find(same).is_none(), "{line}: twice");
        family.samples.push(sample);
    }
    families
}

/// Reads `name="value",..}`.
fn labels(mut rest: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while rest != "}" {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("a quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.to_string(), value).is_none(), "{name} twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    found
}

fn get(address: &str, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Asks until the metrics are as wanted.
fn until(
    pipelines: &Pipelines,
    wanted: impl Fn(&BTreeMap<String, Family>) -> bool,
) -> BTreeMap<String, Family> {
    let start = Instant::now();
    loop {
        let families = families(&get(&pipelines.address, "/metrics").body);
        if wanted(&families) {
            return families;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "the metrics do not come to be as wanted: {families:?}"
        );
        std::thread::yield_now();
    }
}

/// Whether all shards have come as far as they are to.
fn done(families: &BTreeMap<String, Family>, of: usize) -> bool {
    let uppers = families.get("differential_upsert_shard_upper");
    uppers.is_some_and(|family| family.samples.iter().filter(|(.., at)| *at == 6.0).count() == of)
}

#[test]
fn one_without_a_name_has_no_labels_but_in_its_info() {
    let pipelines = Pipelines::run(&[""], KIND);
    let families = until(&pipelines, |families| done(families, 1));
    for (name, family) in &families {
        let told = |labels: &BTreeMap<String, String>| labels.contains_key("shard");
        let all = family.samples.iter().all(|(_, labels, _)| told(labels));
        assert_eq!(all && !family.samples.is_empty(), name == "differential_upsert_info", "{name}");
    }
    let info = &families["differential_upsert_info"].samples[0].1;
    assert_eq!((&*info["shard"], &*info["pipeline"]), ("mem:", ""));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
}

/// The names and the states that a text asks for.
fn asked(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = |at: usize, is_part: fn(char) -> bool| {
        text[at..].split(|c| !is_part(c)).next().unwrap_or_default().to_string()
    };
    let names = text.match_indices("differential_upsert_").map(|(at, _)| words(at, is_name));
    // state="one", or state=~"one|two", the quotes of JSON escaped.
    let states = text.match_indices("state=").map(|(at, before)| {
        let rest = &text[at + before.len()..];
        at + before.len() + rest.len() - rest.trim_start_matches(['~', '\\', '"']).len()
    });
    let states = states.flat_map(|at| {
        let all = words(at, |c| c.is_ascii_lowercase() || c == '|');
        all.split('|').map(str::to_string).collect::<Vec<_>>()
    });
    (names.collect(), states.collect())
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let pipelines = Pipelines::run(&["orders"], KIND);
    let families = until(&pipelines, |families| done(families, 1));
    let states = &families["differential_upsert_health_state"].samples;
    let states: BTreeSet<_> = states.iter().map(|(_, labels, _)| labels["state"].clone()).collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for file in ["grafana.json", "alerts.yml"] {
        let text = std::fs::read_to_string(docs.join(file)).expect(file);
        let (names, said) = asked(&text);
        assert!(names.len() > 5 && !said.is_empty(), "{file}: {names:?} {said:?}");
        assert!(said.is_subset(&states), "{file}: {said:?} of {states:?}");
        for name in names {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = |name: &str, kind: fn(&str) -> bool| {
                families.get(name).is_some_and(|family| kind(&family.kind))
            };
            let is_part = base.is_some_and(|base| is_there(base, |kind| kind == "histogram"));
            assert!(is_part || is_there(&name, |kind| kind != "histogram"), "{file}: {name}");
        }
    }
    let dashboard = std::fs::read_to_string(docs.join("grafana.json")).expect("it");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        let is_asked =
            |target: &serde_json::Value| target["expr"].as_str().is_some_and(|e| !e.is_empty());
        assert!(!targets.is_empty() && targets.iter().all(is_asked), "{}", panel["title"]);
    }
}

#[test]
fn several_are_told_apart() {
    let names = ["orders", "the \"other\"\\\n"];
    let pipelines = Pipelines::run(&names, KIND);
    let families = until(&pipelines, |families| done(families, 2));
    for (name, family) in &families {
        let told: BTreeSet<_> =
            family.samples.iter().map(|(_, labels, _)| labels["pipeline"].as_str()).collect();
        assert!(told.is_empty() || told == names.into(), "{name}: {told:?}");
        assert!(family.samples.iter().all(|(_, labels, _)| labels["shard"] == "mem:"), "{name}");
    }
    let equal = &families["differential_upsert_rows_equal_total"];
    let equal: Vec<_> = equal.samples.iter().map(|(.., value)| *value).collect();
    assert_eq!((equal, families.len() > 50), (vec![150.0, 150.0], true));
    let states = families["differential_upsert_health_state"].samples.iter();
    assert_eq!(states.map(|(.., value)| value).sum::<f64>(), 2.0, "a state each");
    let seen = event(&pipelines.address);
    let feeds: Vec<_> =
        seen["pipelines"].as_array().expect("some").iter().map(|one| &one["feed"]).collect();
    assert_eq!(feeds, names.map(|name| format!("the feed of {name}")).iter().collect::<Vec<_>>());
    // The one health is as good as the worse of them: both run.
    assert_eq!(get(&pipelines.address, "/health").status, 200);
}
