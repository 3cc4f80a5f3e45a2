//! Plots as inline SVG, in the colours of the page.

use maud::{Markup, html};

use crate::eval::result::{Curve, Figure, Plot, Unit};
use crate::stats::metrics::Bin;

/// Colours that stay apart for most eyes (after Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c4b8a", "#7f7f7f"];
/// Side of the plotted square, and the margins to its left and above it.
const SIDE: f64 = 220.0;
const LEFT: f64 = 42.0;
const TOP: f64 = 10.0;

/// A plot with its title.
pub fn draw(plot: &Plot) -> Markup {
    match plot {
        Plot::Roc { title, curves } => html! {
            figure.plot {
                figcaption { "ROC: " (title) }
                (roc(curves))
                (legend(curves))
            }
        },
        Plot::Calibration { title, bins, error } => html! {
            figure.plot {
                figcaption { "Calibration: " (title) }
                (calibration(bins))
                p.legend { "expected calibration error " b { (Unit::Number.text(*error)) } "; a larger dot holds more rows" }
            }
        },
        Plot::Confusion { title, classes, counts } => html! {
            figure.plot {
                figcaption { "Confusion: " (title) }
                (confusion(classes, counts))
            }
        },
    }
}

fn x(value: f64) -> String {
    format!("{:.1}", LEFT + value * SIDE)
}

fn y(value: f64) -> String {
    format!("{:.1}", TOP + (1.0 - value) * SIDE)
}

/// A unit square with ticks, the diagonal, and what is drawn in it.
fn square(across: &str, up: &str, inside: &Markup) -> Markup {
    let (width, height) = (LEFT + SIDE + 12.0, TOP + SIDE + 40.0);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="img" {
            @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.grid x1=(x(tick)) x2=(x(tick)) y1=(y(0.0)) y2=(y(1.0)) {}
                line.grid x1=(x(0.0)) x2=(x(1.0)) y1=(y(tick)) y2=(y(tick)) {}
                text.tick x=(x(tick)) y=(format!("{:.1}", TOP + SIDE + 15.0)) text-anchor="middle" { (tick) }
                text.tick x=(format!("{:.1}", LEFT - 6.0)) y=(y(tick)) dy="4" text-anchor="end" { (tick) }
            }
            line.chance x1=(x(0.0)) y1=(y(0.0)) x2=(x(1.0)) y2=(y(1.0)) {}
            (inside)
            text.axis x=(x(0.5)) y=(format!("{:.1}", TOP + SIDE + 33.0)) text-anchor="middle" { (across) }
            text.axis transform=(format!("translate(10 {}) rotate(-90)", y(0.5))) text-anchor="middle" { (up) }
        }
    }
}

fn roc(curves: &[Curve]) -> Markup {
    let points = |curve: &Curve| {
        let each = curve.points.iter().map(|p| format!("{},{}", x(p.false_positive_rate), y(p.true_positive_rate)));
        each.collect::<Vec<_>>().join(" ")
    };
    let lines = html! {
        @for (number, curve) in curves.iter().enumerate() {
            polyline points=(points(curve)) fill="none" stroke=(colour(number)) stroke-width="2"
                stroke-dasharray=(if number < COLOURS.len() { "none" } else { "5 3" }) {}
        }
    };
    square("false positive rate", "true positive rate", &lines)
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn legend(curves: &[Curve]) -> Markup {
    html! {
        ul.legend {
            @for (number, curve) in curves.iter().enumerate() {
                li {
                    span.swatch style=(format!("background:{}", colour(number))) {}
                    (curve.name)
                    @if let Some(area) = curve.auroc { " " b { (Unit::Number.text(area)) } }
                }
            }
        }
    }
}

fn calibration(bins: &[Bin]) -> Markup {
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1).max(1) as f64;
    let dots = html! {
        @for bin in bins {
            line.gap x1=(x(bin.confidence)) x2=(x(bin.confidence)) y1=(y(bin.confidence)) y2=(y(bin.accuracy)) {}
            circle cx=(x(bin.confidence)) cy=(y(bin.accuracy)) fill=(COLOURS[0]) fill-opacity="0.8"
                r=(format!("{:.1}", 2.0 + 7.0 * (bin.count as f64 / most).sqrt())) {
                title {
                    (bin.count) " rows: confidence " (format!("{:.2}", bin.confidence))
                    ", right " (format!("{:.2}", bin.accuracy))
                }
            }
        }
    };
    square("confidence", "share that is right", &dots)
}

/// Shades are shares of the true class.
fn confusion(classes: &[String], counts: &[Vec<f64>]) -> Markup {
    html! {
        table.confusion {
            tr { th {} th.axis colspan=(classes.len()) { "predicted" } }
            tr { th.axis { "true" } @for class in classes { th { (class) } } }
            @for (class, row) in classes.iter().zip(counts) {
                @let total: f64 = row.iter().sum();
                tr {
                    th { (class) }
                    @for count in row {
                        @let share = if total > 0.0 { count / total } else { 0.0 };
                        td style=(format!("background:rgba(0,114,178,{:.2})", share * 0.6)) {
                            (format!("{count:.0}"))
                            @if total > 0.0 { small { (format!("{:.0} %", 100.0 * share)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A figure on a line from 0 to 1: value, interval, and chance as a tick. Empty for figures on
/// another scale.
pub fn interval(figure: &Figure) -> Markup {
    let Some(value) = figure.value else { return html! {} };
    let (low, high) = figure.interval.unwrap_or((value, value));
    let fits = figure.unit != Unit::Rank && [value, low, high].iter().all(|x| (0.0..=1.0).contains(x));
    // Higher is not better for errors and thresholds, as a line up to 1 would suggest.
    if !fits || figure.name.contains("error") || figure.name.contains("ratio") || figure.name == "threshold" {
        return html! {};
    }
    let at = |value: f64| format!("{:.1}", 4.0 + 112.0 * value);
    html! {
        svg.range viewBox="0 0 120 14" width="120" height="14" role="presentation" {
            line.rail x1=(at(0.0)) x2=(at(1.0)) y1="7" y2="7" {}
            @if let Some(chance) = figure.chance { line.tick x1=(at(chance)) x2=(at(chance)) y1="1" y2="13" {} }
            line.span x1=(at(low)) x2=(at(high)) y1="7" y2="7" {}
            circle cx=(at(value)) cy="7" r="3.2" {}
        }
    }
}
