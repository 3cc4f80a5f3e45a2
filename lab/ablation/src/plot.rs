//! Plots as SVG files: differences with their intervals.

use maud::{Markup, PreEscaped, html};

/// Colours that stay apart for most eyes (after Okabe and Ito): of differences below 0, above 0,
/// and not sure.
const BELOW: &str = "#d55e00";
const ABOVE: &str = "#009e73";
const UNSURE: &str = "#7f7f7f";
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

/// The colour of a difference: grey if it is not significant, otherwise by its sign.
fn shade(sure: bool, mean: f64) -> &'static str {
    match (sure, mean < 0.0) {
        (false, _) => UNSURE,
        (true, true) => BELOW,
        (true, false) => ABOVE,
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
    }
}
