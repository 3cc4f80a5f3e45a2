//! Line and bar charts as SVG.

use maud::{Markup, PreEscaped, html};

/// Colours that stay apart for most eyes (after Okabe and Ito).
pub const COLOURS: [&str; 7] = ["#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#7f7f7f", "#009e73", "#cc79a7"];
const FONT: &str = "font-family:sans-serif;font-size:12px";

/// A line of a chart.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
    pub colour: &'static str,
}

/// One axis.
pub struct Axis {
    pub name: &'static str,
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<(f64, String)>,
    pub logarithmic: bool,
}

impl Axis {
    /// 0 to 1 along the axis.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }

    /// Powers of two, written out.
    pub fn doubling(name: &'static str, low: u64, high: u64) -> Axis {
        let ticks = std::iter::successors(Some(low), |n| Some(n * 2)).take_while(|&n| n <= high);
        let ticks = ticks.map(|n| (n as f64, thousands(n))).collect();
        Axis { name, low: low as f64, high: high as f64, ticks, logarithmic: true }
    }

    /// Percent from 0 to 100.
    pub fn share(name: &'static str) -> Axis {
        let ticks = (0..=5).map(|n| (f64::from(n) * 0.2, format!("{} %", n * 20))).collect();
        Axis { name, low: 0.0, high: 1.04, ticks, logarithmic: false }
    }

    /// From below one value to above another, by 1, 2 and 5 times powers of ten.
    pub fn decades(name: &'static str, low: f64, high: f64, label: impl Fn(f64) -> String) -> Axis {
        let round = |n: i32| [1.0, 2.0, 5.0][n.rem_euclid(3) as usize] * 10f64.powi(n.div_euclid(3));
        let first = (-60..60).rev().find(|&n| round(n) <= low).unwrap_or(-60);
        let last = (-60..60).find(|&n| round(n) >= high).unwrap_or(60);
        let ticks = (first..=last).map(|n| (round(n), label(round(n)))).collect();
        Axis { name, low: round(first), high: round(last), ticks, logarithmic: true }
    }
}

pub fn thousands(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

fn n(value: f64) -> String {
    format!("{value:.1}")
}

/// The position and size of a chart's plotting area.
const LEFT: f64 = 72.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 250.0;

/// Lines over two axes; points outside the axes are left out.
///
/// * `bound`: a line across, with its label.
pub fn lines(title: &str, x: &Axis, y: &Axis, lines: &[Line], bound: Option<(f64, &str)>) -> String {
    let at = |point: &(f64, f64)| (LEFT + WIDTH * x.place(point.0), TOP + HEIGHT * (1.0 - y.place(point.1)));
    let inside = |point: &&(f64, f64)| (-0.001..=1.001).contains(&y.place(point.1));
    svg(
        LEFT + WIDTH + 215.0,
        TOP + HEIGHT + 48.0,
        &html! {
            (frame(title, x, y))
            @if let Some((value, says)) = bound {
                @let height = at(&(x.low, value)).1;
                line x1=(LEFT) x2=(LEFT + WIDTH) y1=(n(height)) y2=(n(height)) stroke="#444" stroke-dasharray="2 3" {}
                text x=(LEFT + 6.0) y=(n(height - 5.0)) fill="#444" { (says) }
            }
            @for (number, line) in lines.iter().enumerate() {
                @let points: Vec<(f64, f64)> = line.points.iter().filter(inside).map(at).collect();
                @let path = points.iter().map(|(x, y)| format!("{},{}", n(*x), n(*y))).collect::<Vec<_>>().join(" ");
                @let dash = if line.dashed { "6 4" } else { "none" };
                polyline points=(path) fill="none" stroke=(line.colour) stroke-width="2" stroke-dasharray=(dash) {}
                @for (x, y) in points {
                    circle cx=(n(x)) cy=(n(y)) r="2.8" fill=(if line.dashed { "white" } else { line.colour }) stroke=(line.colour) {}
                }
                @let height = TOP + 8.0 + 19.0 * number as f64;
                line x1=(LEFT + WIDTH + 14.0) x2=(LEFT + WIDTH + 38.0) y1=(n(height)) y2=(n(height)) stroke=(line.colour) stroke-width="2" stroke-dasharray=(dash) {}
                text x=(LEFT + WIDTH + 44.0) y=(n(height + 4.0)) { (line.name) }
            }
        },
    )
}

/// A column of parts, from the bottom up.
pub struct Column {
    pub name: String,
    pub parts: Vec<f64>,
}

/// Columns of stacked parts.
pub fn stacks(
    title: &str,
    below: &'static str,
    y: &Axis,
    names: &[&str],
    columns: &[Column],
    bound: Option<(f64, &str)>,
) -> String {
    let x = Axis { name: below, low: 0.0, high: columns.len() as f64, ticks: Vec::new(), logarithmic: false };
    let width = WIDTH / columns.len() as f64;
    let height = |value: f64| HEIGHT * y.place(value.min(y.high));
    svg(
        LEFT + WIDTH + 215.0,
        TOP + HEIGHT + 48.0,
        &html! {
            (frame(title, &x, y))
            @for (number, column) in columns.iter().enumerate() {
                @let left = LEFT + width * (number as f64 + 0.16);
                @for (part, &value) in column.parts.iter().enumerate() {
                    @let under: f64 = column.parts[..part].iter().sum();
                    @let (low, high) = (height(under), height(under + value));
                    rect x=(n(left)) width=(n(width * 0.68)) y=(n(TOP + HEIGHT - high)) height=(n(high - low)) fill=(COLOURS[part]) {}
                }
                @if column.parts.iter().sum::<f64>() > y.high {
                    // Cut off above.
                    text x=(n(left + width * 0.34)) y=(n(TOP - 4.0)) text-anchor="middle" { "↑" }
                }
                text x=(n(left + width * 0.34)) y=(n(TOP + HEIGHT + 16.0)) text-anchor="middle" { (column.name) }
            }
            @if let Some((value, says)) = bound {
                @let height = TOP + HEIGHT - height(value);
                line x1=(LEFT) x2=(LEFT + WIDTH) y1=(n(height)) y2=(n(height)) stroke="#444" stroke-dasharray="2 3" {}
                text x=(LEFT + 6.0) y=(n(height - 5.0)) fill="#444" { (says) }
            }
            @for (number, name) in names.iter().enumerate().rev() {
                @let place = TOP + 8.0 + 19.0 * (names.len() - 1 - number) as f64;
                rect x=(LEFT + WIDTH + 14.0) y=(n(place - 6.0)) width="12" height="12" fill=(COLOURS[number]) {}
                text x=(LEFT + WIDTH + 32.0) y=(n(place + 4.0)) { (name) }
            }
        },
    )
}

fn frame(title: &str, x: &Axis, y: &Axis) -> Markup {
    html! {
        text x=(LEFT) y="18" font-weight="bold" { (title) }
        @for (value, says) in &y.ticks {
            @let height = TOP + HEIGHT * (1.0 - y.place(*value));
            line x1=(LEFT) x2=(LEFT + WIDTH) y1=(n(height)) y2=(n(height)) stroke="#e3e3e3" {}
            text x=(LEFT - 7.0) y=(n(height + 4.0)) text-anchor="end" { (says) }
        }
        @for (value, says) in &x.ticks {
            @let across = LEFT + WIDTH * x.place(*value);
            line x1=(n(across)) x2=(n(across)) y1=(TOP + HEIGHT) y2=(TOP + HEIGHT + 4.0) stroke="#888" {}
            text x=(n(across)) y=(TOP + HEIGHT + 17.0) text-anchor="middle" { (says) }
        }
        line x1=(LEFT) x2=(LEFT + WIDTH) y1=(TOP + HEIGHT) y2=(TOP + HEIGHT) stroke="#888" {}
        text x=(LEFT + WIDTH / 2.0) y=(TOP + HEIGHT + 38.0) text-anchor="middle" { (x.name) }
        text transform=(format!("translate(14 {}) rotate(-90)", TOP + HEIGHT / 2.0)) text-anchor="middle" { (y.name) }
    }
}

fn svg(width: f64, height: f64, inside: &Markup) -> String {
    let drawn = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) style=(FONT) {
            rect width="100%" height="100%" fill="white" {}
            (inside)
        }
    };
    let PreEscaped(text) = drawn;
    text + "\n"
}
