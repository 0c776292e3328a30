//! Owns the page for people, as HTML. It does not own how it is sent.

use crate::health::HealthReport;
use crate::upsert::StatePlaces;

/// Returns the page. What stands in it is escaped.
pub(super) fn html(report: &HealthReport, state: StatePlaces) -> String {
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
    // Also where all are in memory: that is one thing to see.
    let places = [
        row("rows in memory", state.hot_rows),
        row("their bytes", state.hot_bytes),
        row("rows in the file alone", state.cold_rows),
        row("their bytes", state.cold_bytes),
    ];
    let places = places.concat();
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
         <p>{role}</p>\n<table>\n{rows}{lag}{places}</table>\n<p>{why}</p>\n\
         <p><a href=/health>health</a> <a href=/metrics>metrics</a></p>\n</html>\n",
        upper = report.upper,
    )
}

/// An error may quote a row.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::promotion::Promotion;
    use crate::face::Face;

    #[test]
    fn the_page_says_where_the_rows_are() {
        let report = Face::new(Promotion::default()).report();
        let state = StatePlaces { hot_rows: 1, hot_bytes: 20, cold_rows: 300, cold_bytes: 4000 };
        let page = html(&report, state);
        let rows = "<tr><th>rows in memory<td>1\n<tr><th>their bytes<td>20\n\
                    <tr><th>rows in the file alone<td>300\n<tr><th>their bytes<td>4000\n";
        assert!(page.contains(rows), "{page}");
    }
}
