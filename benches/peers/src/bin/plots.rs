//! Draws the plots that README shows from the figures of a run: rate against peers, rate against rows per
//! time, latency against load. It does not own the figures.
//!
//! ```text
//! cargo run --release --bin plots -- ../results.json ../plots
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (760, 420);
const TITLE: (&str, u32) = ("sans-serif", 18);

/// Colours that can be told apart in any light.
const COLORS: [RGBColor; 10] = [
    RGBColor(0x33, 0x33, 0x33),
    RGBColor(0x88, 0x88, 0x88),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0x66, 0xc2, 0xa5),
    RGBColor(0xe6, 0xab, 0x02),
    RGBColor(0xa6, 0x76, 0x1d),
    RGBColor(0x75, 0x70, 0xb3),
    RGBColor(0xb3, 0xa2, 0xdb),
    RGBColor(0xf4, 0x8f, 0xb1),
    RGBColor(0xd9, 0x1e, 0x4a),
];

fn main() -> Drawn {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [figures, plots] = &arguments[..] else {
        return Err("usage: plots RESULTS.json DIRECTORY".into());
    };
    let figures: Value = serde_json::from_str(&fs::read_to_string(figures)?)?;
    fs::create_dir_all(plots)?;
    let plots = Path::new(plots);
    rates(&figures, &plots.join("rates.svg"))?;
    curve(&figures, &plots.join("curve.svg"))?;
    latency(&figures, &plots.join("latency.svg"))
}

/// Returns the cases of this name, in order.
fn cases<'a>(figures: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = figures["cases"].as_array().into_iter().flatten();
    all.filter(|case| case["name"] == name).collect()
}

/// Returns each contestant's name and its median rows a second.
fn results(case: &Value) -> Vec<(String, f64)> {
    let rate = |round: &Value| Some(round["rows"].as_f64()? / round["seconds"].as_f64()?);
    let of = |result: &Value| {
        let rounds = result["rounds"].as_array()?;
        let rates = rounds.iter().filter_map(rate).collect();
        Some((result["contestant"].as_str()?.to_string(), median(rates)))
    };
    case["results"].as_array().into_iter().flatten().filter_map(of).collect()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// Draws rows a second of every contestant, as bars: `w1` left, `w2` right.
fn rates(figures: &Value, path: &Path) -> Drawn {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    for (part, name, title) in [
        (left, "w1", "W1: uniform, 10,000 rows per time"),
        (right, "w2", "W2: zipf, 1,000 rows per time"),
    ] {
        if let Some(case) = cases(figures, name).first() {
            bars(&part, title, &results(case))?;
        }
    }
    Ok(area.present()?)
}

fn bars(area: &Area<'_>, title: &str, all: &[(String, f64)]) -> Drawn {
    let most = all.iter().map(|(_, rate)| rate / 1e6).fold(0.1, f64::max);
    let count = all.len() as f64;
    let name = |at: &f64| {
        let index = (count - at).floor();
        let middle = (at.fract() - 0.5).abs() < 0.01;
        let named = all.get(index as usize).filter(|_| middle && index >= 0.0);
        named.map_or(String::new(), |(name, _)| name.clone())
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(96)
        .build_cartesian_2d(0.0..most * 1.18, 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(2 * all.len() + 1)
        .y_label_formatter(&name)
        .x_labels(5)
        .x_desc("million rows a second")
        .draw()?;
    for (index, (_, rate)) in all.iter().enumerate() {
        let (low, rate) = (count - 1.0 - index as f64, rate / 1e6);
        let color = COLORS[index % COLORS.len()];
        let bar = Rectangle::new([(0.0, low + 0.15), (rate, low + 0.85)], color.filled());
        let label = Text::new(format!("{rate:.2}"), (rate + most * 0.01, low + 0.68), TITLE);
        chart.draw_series([bar])?;
        chart.draw_series([label])?;
    }
    Ok(())
}

/// Draws rows a second against rows per time, both in powers of ten.
fn curve(figures: &Value, path: &Path) -> Drawn {
    let cases = cases(figures, "curve");
    let Some(first) = cases.first() else { return Ok(()) };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Rate against rows per time", TITLE)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d((1f64..2e5).log_scale(), (100f64..2e7).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("rows per time")
        .y_desc("rows a second")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (index, (name, _)) in results(first).into_iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let points: Vec<(f64, f64)> = cases
            .iter()
            .filter_map(|case| {
                let rate = results(case).into_iter().find(|(other, _)| *other == name)?.1;
                Some((case["rows_per_time"].as_f64()?, rate))
            })
            .collect();
        line(&mut chart, points, color, name)?;
    }
    legend(&mut chart)?;
    Ok(area.present()?)
}

/// Draws the 50th and the 99th percentile against the load.
fn latency(figures: &Value, path: &Path) -> Drawn {
    let Some(loads) = figures["latencies"].as_array().filter(|loads| !loads.is_empty()) else {
        return Ok(());
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency against load, open loop", TITLE)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(0f64..140.0, (0.1f64..1e4).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("load, % of the most that it can do")
        .y_desc("milliseconds")
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    let mut color = COLORS.iter().rev();
    for contestant in ["strict", "ahead"] {
        let of = |whose: &str, quantile: &str| {
            let mine = loads.iter().filter(|load| load["contestant"] == contestant);
            let point = |load: &Value| {
                Some((load["part"].as_f64()? * 100.0, load[whose][quantile].as_f64()? / 1e3))
            };
            mine.filter_map(point).collect::<Vec<_>>()
        };
        for (whose, quantile, name) in [
            ("latency", "p99", format!("{contestant} p99")),
            ("latency", "p50", format!("{contestant} p50")),
            ("append", "p99", format!("append at {contestant}'s rate p99")),
        ] {
            let color = *color.next().expect("more colours than lines");
            line(&mut chart, of(whose, quantile), color, name)?;
        }
    }
    legend(&mut chart)?;
    Ok(area.present()?)
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn line<'a, X, Y>(
    chart: &mut Chart<'a, '_, X, Y>,
    points: Vec<(f64, f64)>,
    color: RGBColor,
    name: String,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
