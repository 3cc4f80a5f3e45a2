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
                @let colour = if !bar.sure { COLOURS[7] } else if bar.mean < 0.0 { COLOURS[1] } else { COLOURS[2] };
                text x=(left - 8.0) y=(n(y(place))) dy="4" text-anchor="end" { (bar.name) }
                line x1=(n(x(bar.low))) x2=(n(x(bar.high))) y1=(n(y(place))) y2=(n(y(place))) stroke=(colour) stroke-width="2" {}
                circle cx=(n(x(bar.mean))) cy=(n(y(place))) r="3.5" fill=(colour) {}
            }
        },
    )
}

/// One line of a curve: points `(size, mean, half interval)`.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64, f64)>,
}

/// Figures over the number of training subjects, which is drawn by its logarithm.
pub fn curves(title: &str, lines: &[Line], chance: Option<f64>) -> String {
    let (left, top, width, height) = (46.0, 26.0, 250.0, 180.0);
    let points = || lines.iter().flat_map(|line| &line.points);
    let sizes = || points().map(|point| point.0.ln());
    let (least, most) = (sizes().fold(f64::MAX, f64::min), sizes().fold(f64::MIN, f64::max));
    let values = || points().flat_map(|point| [point.1 - point.2, point.1 + point.2]).chain(chance);
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let margin = 0.06 * (high - low).max(1e-9);
    let (low, high) = (low - margin, high + margin);
    let x = |size: f64| left + 12.0 + (width - 24.0) * (size.ln() - least) / (most - least).max(1e-9);
    let y = |value: f64| top + height * (high - value) / (high - low);
    let step = nice((high - low) / 4.0);
    let first = (low / step).ceil() as i64;
    let ticks: Vec<f64> = (first..).map(|n| n as f64 * step).take_while(|&tick| tick <= high).collect();
    let mut places: Vec<f64> = points().map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    svg(
        left + width + 175.0,
        top + height + 40.0,
        &html! {
            text x=(left) y="15" font-weight="bold" { (title) }
            @for &tick in &ticks {
                line x1=(left) x2=(left + width) y1=(n(y(tick))) y2=(n(y(tick))) stroke="#ddd" {}
                text x=(left - 5.0) y=(n(y(tick))) dy="4" text-anchor="end" { (label(tick)) }
            }
            @for &size in &places {
                text x=(n(x(size))) y=(top + height + 15.0) text-anchor="middle" { (size) }
            }
            text x=(left + width / 2.0) y=(top + height + 32.0) text-anchor="middle" { "training subjects" }
            @if let Some(chance) = chance {
                line x1=(left) x2=(left + width) y1=(n(y(chance))) y2=(n(y(chance))) stroke="#888" stroke-dasharray="4 3" {}
            }
            @for (number, line) in lines.iter().enumerate() {
                @let colour = COLOURS[number % COLOURS.len()];
                // Side by side, so that intervals do not cover each other.
                @let shift = 2.5 * (number as f64 - (lines.len() as f64 - 1.0) / 2.0);
                @let path = line.points.iter().map(|p| format!("{},{}", n(x(p.0) + shift), n(y(p.1)))).collect::<Vec<_>>().join(" ");
                polyline points=(path) fill="none" stroke=(colour) stroke-width="1.5" {}
                @for &(size, mean, half) in &line.points {
                    @let at = n(x(size) + shift);
                    line x1=(at) x2=(at) y1=(n(y(mean - half))) y2=(n(y(mean + half))) stroke=(colour) stroke-opacity="0.6" {}
                    circle cx=(at) cy=(n(y(mean))) r="2.6" fill=(colour) {}
                }
                rect x=(left + width + 12.0) y=(top + 16.0 * number as f64) width="10" height="10" fill=(colour) {}
                text x=(left + width + 27.0) y=(top + 16.0 * number as f64 + 9.0) { (line.name) }
            }
        },
    )
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
        let line = Line { name: "full".into(), points: vec![(100.0, 0.5, 0.0)] };
        let drawn = curves("one point", &[line], Some(0.5));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
}
