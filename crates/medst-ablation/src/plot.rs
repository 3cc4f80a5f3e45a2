//! Plots as SVG files: differences with their intervals, and figures over training sizes.

use maud::{Markup, PreEscaped, html};

/// Colours that stay apart for most eyes (after Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c4b8a", "#7f7f7f"];
const FONT: &str = "font-family:sans-serif;font-size:11px";

/// A difference to draw.
pub struct Bar {
    pub name: String,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Significant after correction.
    pub sure: bool,
}

/// Differences of arms on one outcome, one below the other, around a line at 0.
pub fn differences(title: &str, axis: &str, bars: &[Bar]) -> String {
    let (left, width, line) = (190.0, 300.0, 17.0);
    let reach = bars.iter().flat_map(|bar| [bar.low.abs(), bar.high.abs()]).fold(1e-9, f64::max) * 1.08;
    let x = |value: f64| left + width * (value / reach + 1.0) / 2.0;
    let top = 26.0;
    let bottom = top + line * bars.len() as f64;
    let y = |place: usize| top + line * (place as f64 + 0.5);
    let tick = nice(reach / 2.0);
    let ticks: Vec<f64> =
        [-2.0, -1.0, 0.0, 1.0, 2.0].iter().map(|n| n * tick).filter(|tick| tick.abs() <= reach).collect();
    svg(
        left + width + 14.0,
        bottom + 36.0,
        &html! {
            text x=(left) y="15" font-weight="bold" { (title) }
            @for &tick in &ticks {
                line x1=(n(x(tick))) x2=(n(x(tick))) y1=(top) y2=(n(bottom)) stroke=(if tick == 0.0 { "#444" } else { "#ddd" }) {}
                text x=(n(x(tick))) y=(n(bottom + 13.0)) text-anchor="middle" { (label(tick)) }
            }
            text x=(n(x(0.0))) y=(n(bottom + 28.0)) text-anchor="middle" { (axis) }
            @for (place, bar) in bars.iter().enumerate() {
                @let colour = shade(bar.sure, bar.mean);
                text x=(left - 8.0) y=(n(y(place))) dy="4" text-anchor="end" { (bar.name) }
                line x1=(n(x(bar.low))) x2=(n(x(bar.high))) y1=(n(y(place))) y2=(n(y(place))) stroke=(colour) stroke-width="2" {}
                circle cx=(n(x(bar.mean))) cy=(n(y(place))) r="3.5" fill=(colour) {}
            }
        },
    )
}

/// A small chart over the number of training subjects.
pub struct Panel {
    pub name: String,
    pub points: Vec<Point>,
}

/// A figure at a size, with its interval.
pub struct Point {
    pub size: f64,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Point {
    fn colour(&self) -> &'static str {
        shade(self.low > 0.0 || self.high < 0.0, self.mean)
    }
}

/// Of a difference: grey where it is not sure, else by its sign.
fn shade(sure: bool, mean: f64) -> &'static str {
    match (sure, mean < 0.0) {
        (false, _) => COLOURS[7],
        (true, true) => COLOURS[1],
        (true, false) => COLOURS[2],
    }
}

/// What the control scores, and what each arm adds to it or takes away, over the number of training subjects, which is drawn by its logarithm.
/// Differences share one scale; coloured where their interval leaves out 0.
pub fn curves(title: &str, control: &Panel, chance: Option<f64>, arms: &[Panel]) -> String {
    let (width, height, columns) = (150.0, 96.0, 4);
    let (across, down) = (width + 54.0, height + 46.0);
    let sizes = || std::iter::once(control).chain(arms).flat_map(|panel| &panel.points).map(|point| point.size);
    let span = (sizes().fold(f64::MAX, f64::min), sizes().fold(f64::MIN, f64::max));
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
        let margin = 0.06 * (high - low).max(1e-9);
        (low - margin, high + margin)
    };
    let ends = |panel: &Panel| panel.points.iter().flat_map(|point| [point.low, point.high]).collect::<Vec<_>>();
    let absolute = range(&mut ends(control).into_iter().chain(chance));
    let relative = range(&mut arms.iter().flat_map(ends).chain([0.0]));
    let rows = (arms.len() + 1).div_ceil(columns);
    let place = |number: usize| {
        let (row, column) = (number / columns, number % columns);
        (46.0 + across * column as f64, 44.0 + down * row as f64)
    };
    let first = Frame { at: place(0), width, height, span, range: absolute };
    svg(
        across * columns.min(arms.len() + 1) as f64 + 8.0,
        down * rows as f64 + 40.0,
        &html! {
            text x="8" y="15" font-weight="bold" { (title) }
            (first.draw(control, chance, |_| COLOURS[0]))
            @for (number, arm) in arms.iter().enumerate() {
                @let frame = Frame { at: place(number + 1), width, height, span, range: relative };
                (frame.draw(arm, Some(0.0), Point::colour))
            }
        },
    )
}

/// Where a panel is, and what its axes reach.
struct Frame {
    at: (f64, f64),
    width: f64,
    height: f64,
    span: (f64, f64),
    range: (f64, f64),
}

impl Frame {
    fn draw(&self, panel: &Panel, across: Option<f64>, colour: impl Fn(&Point) -> &'static str) -> Markup {
        let ((left, top), (least, most), (low, high)) = (self.at, self.span, self.range);
        let x = |size: f64| left + 12.0 + (self.width - 24.0) * (size / least).ln() / (most / least).ln().max(1e-9);
        let y = |value: f64| top + self.height * (high - value) / (high - low);
        let step = nice((high - low) / 3.0);
        let first = (low / step).ceil() as i64;
        let ticks: Vec<f64> = (first..).map(|n| n as f64 * step).take_while(|&tick| tick <= high).collect();
        let path: Vec<String> =
            panel.points.iter().map(|point| format!("{},{}", n(x(point.size)), n(y(point.mean)))).collect();
        html! {
            text x=(n(left)) y=(n(top - 7.0)) { (panel.name) }
            @for &tick in &ticks {
                line x1=(n(left)) x2=(n(left + self.width)) y1=(n(y(tick))) y2=(n(y(tick))) stroke="#e4e4e4" {}
                text x=(n(left - 4.0)) y=(n(y(tick))) dy="4" text-anchor="end" { (label(tick)) }
            }
            @if let Some(value) = across {
                line x1=(n(left)) x2=(n(left + self.width)) y1=(n(y(value))) y2=(n(y(value))) stroke="#666" stroke-dasharray="4 3" {}
            }
            polyline points=(path.join(" ")) fill="none" stroke="#bbb" {}
            @for point in &panel.points {
                @let at = n(x(point.size));
                line x1=(at) x2=(at) y1=(n(y(point.low))) y2=(n(y(point.high))) stroke=(colour(point)) stroke-width="1.5" {}
                circle cx=(at) cy=(n(y(point.mean))) r="3" fill=(colour(point)) {}
                text x=(at) y=(n(top + self.height + 13.0)) text-anchor="middle" { (point.size) }
            }
        }
    }
}

fn svg(width: f64, height: f64, inside: &Markup) -> String {
    let drawn = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) style=(FONT) {
            rect width="100%" height="100%" fill="white" {}
            (inside)
        }
    };
    // Elements without content as XML has them.
    let PreEscaped(text) = drawn;
    text + "\n"
}

fn n(value: f64) -> String {
    format!("{value:.1}")
}

/// 1, 2 or 5 times a power of ten, at most as large.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-12).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|n| n * power).find(|&n| n <= value * 1.0001).unwrap_or(power)
}

fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!([0.07, 0.2, 0.9, 13.0].map(nice), [0.05, 0.2, 0.5, 10.0]);
        assert_eq!(label(-0.0), "0");
        assert_eq!(label(0.25), "0.25");
    }

    #[test]
    fn plots_are_whole_and_escape_names() {
        let bar = Bar { name: "<no> & \"x\"".into(), mean: -0.1, low: -0.2, high: 0.0, sure: true };
        let drawn = differences("Δ", "worse | better", &[bar]);
        assert!(drawn.contains("&lt;no&gt; &amp;") && drawn.trim_end().ends_with("</svg>") && !drawn.contains("NaN"));
        let panel = |name: &str, mean: f64| Panel {
            name: name.into(),
            points: vec![Point { size: 100.0, mean, low: mean, high: mean }],
        };
        let drawn = curves("one point", &panel("full", 0.5), Some(0.5), &[panel("arm", 0.0)]);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
}
