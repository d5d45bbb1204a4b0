//! The report of a load: one HTML page with its curves as inline SVG, that needs nothing from anywhere.

use super::outcome::{Latency, Outcome};
use crate::output::{Paint, View as _};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 36.0;
/// Colours that differ for those too who see few.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222;\
background:#fff}pre{overflow:auto;background:#f5f5f5;padding:1em}svg{width:100%;height:auto}text{font:12px system-ui,\
sans-serif;fill:#555}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){body{background:\
#181818;color:#ddd}pre{background:#222}text{fill:#aaa}.grid{stroke:#333}}";

/// The whole page.
pub fn page(outcome: &Outcome) -> String {
    let title = format!("gantry bench {}", escape(&outcome.scenario));
    let mut body = format!("<h1>{title}</h1>\n<pre>{}</pre>\n", escape(&outcome.text(Paint(false))));
    if outcome.latencies.iter().any(|latency| latency.count > 0) {
        body += "<h2>Latency by share</h2>\n<p>What each share of calls did not exceed; from the intended time in an open loop. \
                 Both axes are logarithmic.</p>\n";
        body += &by_share(&outcome.latencies);
    }
    for latency in outcome.latencies.iter().filter(|latency| latency.seconds.len() > 1) {
        body += &format!("<h2>{}, second by second</h2>\n", escape(&latency.of));
        body += &by_second(latency);
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}

/// One line of a chart.
struct Line<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

fn by_share(latencies: &[Latency]) -> String {
    // 0.9 lies at 1, 0.99 at 2: each nine takes as much room as the one before.
    let nines = |share: f64, count: u64| -(1.0 - share).max(0.5 / count.max(1) as f64).log10();
    let lines: Vec<_> = latencies
        .iter()
        .filter(|latency| latency.count > 0)
        .map(|latency| Line {
            name: &latency.of,
            points: latency.curve.iter().map(|(share, ms)| (nines(*share, latency.count), *ms)).collect(),
        })
        .collect();
    let labels = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let labels: Vec<_> =
        labels.into_iter().enumerate().map(|(at, label)| (at as f64, label.to_owned())).collect();
    chart(&lines, &labels)
}

fn by_second(latency: &Latency) -> String {
    let line = |name, of: fn(&(f64, u64, f64, f64, f64)) -> f64| {
        let seconds = latency.seconds.iter().filter(|second| second.1 > 0);
        Line { name, points: seconds.map(|second| (second.0, of(second))).collect() }
    };
    let lines = [line("p50", |it| it.2), line("p99", |it| it.3), line("longest", |it| it.4)];
    let last = latency.seconds.last().map_or(0.0, |second| second.0);
    let labels: Vec<_> = (0..=5)
        .map(|step| last * f64::from(step) / 5.0)
        .map(|at| (at, if last < 10.0 { format!("{at:.1} s") } else { format!("{at:.0} s") }))
        .collect();
    chart(&lines, &labels)
}

/// Lines over a logarithmic axis of milliseconds. Labels beyond the last point are left out.
fn chart(lines: &[Line<'_>], labels: &[(f64, String)]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let x_end = points().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max);
    let low = points().map(|point| point.1).fold(f64::MAX, f64::min).clamp(1e-3, 1e6).log10().floor();
    let high =
        points().map(|point| point.1).fold(0.0, f64::max).clamp(1e-3, 1e7).log10().ceil().max(low + 1.0);
    let x = |at: f64| LEFT + at / x_end * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| TOP + (high - ms.max(1e-3).log10()) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);

    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for exponent in low as i32..=high as i32 {
        let ms = 10_f64.powi(exponent);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{ms} ms</text>\n",
            y(ms),
            LEFT - 6.0,
            y(ms) + 4.0
        );
    }
    for (at, label) in labels.iter().filter(|(at, _)| *at <= x_end) {
        svg += &format!(
            "<line class=\"grid\" y1=\"{TOP}\" y2=\"{bottom}\" x1=\"{0:.1}\" x2=\"{0:.1}\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{label}</text>\n",
            x(*at),
            bottom + 18.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<_> =
            line.points.iter().map(|(at, ms)| format!("{:.1},{:.1}", x(*at), y(*ms))).collect();
        svg += &format!(
            "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" style=\"fill:{colour}\">{}</text>\n",
            path.join(" "),
            LEFT + 10.0,
            TOP + 14.0 * (number as f64 + 1.0),
            escape(line.name)
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::tests::outcome;

    #[test]
    fn a_report_stands_alone() {
        let mut outcome = outcome();
        outcome.errors[0].first = "<script>".to_owned();
        let page = page(&outcome);
        for needed in ["<svg", "polyline", "end to end", "99.9 %", "&lt;script&gt;"] {
            assert!(page.contains(needed), "{needed}: {page}");
        }
        for foreign in ["<script", "http:", "https:", "url(", "NaN", "inf"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn nothing_measured_makes_a_page_all_the_same() {
        let mut outcome = outcome();
        outcome.latencies.clear();
        assert!(!page(&outcome).contains("<svg"));
    }
}
