//! Owns the page for people, as HTML. It does not own how it is sent.

use crate::health::HealthReport;

/// Returns the page. What stands in it is escaped.
pub(super) fn html(report: &HealthReport) -> String {
    let row = |name: &str, value: u64| format!("<tr><th>{name}<td>{value}\n");
    let rows: String = [
        row("input", report.input),
        row("upper", report.upper),
        row("output", report.output),
        row("behind", report.behind),
        row("since", report.since),
    ]
    .concat();
    let lag = [
        ("rows behind the source", report.lag.rows),
        ("bytes behind the source", report.lag.bytes),
        ("seconds behind the source", report.lag.age.map(|age| age.as_secs())),
    ];
    let lag: String = lag.iter().filter_map(|(name, value)| Some(row(name, (*value)?))).collect();
    let (role, state) = (report.role.name(), report.state.name());
    let trouble = if report.state.is_trouble() { " class=trouble" } else { "" };
    let why = escaped(report.why.as_deref().unwrap_or_default());
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta http-equiv=refresh \
         content=1>\n<title>{state} {upper} - differential-upsert</title>\n<style>\n\
         body {{ font: 16px system-ui, sans-serif; margin: 2em; max-width: 50em }}\n\
         th {{ text-align: left; padding-right: 2em }}\n\
         td {{ text-align: right; font-variant-numeric: tabular-nums }}\n\
         .trouble {{ color: #b00020 }}\n</style>\n<h1{trouble}>{state}</h1>\n\
         <p>{role}</p>\n<table>\n{rows}{lag}</table>\n<p>{why}</p>\n\
         <p><a href=/health>health</a> <a href=/metrics>metrics</a></p>\n</html>\n",
        upper = report.upper,
    )
}

/// An error may quote a row.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
