//! What an evaluator returns: figures, curves and cases, ready to be written as JSON or drawn.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::published::Published;
use super::subgroups::{Breakdown, Gap, Subgroups};
use crate::stats::bootstrap::{Bootstrap, Clusters, Estimate, Replicates, Statistic};
use crate::stats::metrics::{Bin, Point};
pub use crate::task::{Protocol, Task};

/// How a figure is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Between 0 and 1, printed in percent.
    Share,
    /// An area, coefficient or error, printed with three decimals.
    Number,
    /// A place in a list, printed with one decimal.
    Rank,
}

/// One number of a task.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The subject of the figure: a finding, a direction, or a share of the training data.
    pub group: String,
    pub name: String,
    pub unit: Unit,
    /// `None` if it is undefined; `undefined` then contains the reason.
    pub value: Option<f64>,
    /// 95 %, of a bootstrap over subjects.
    pub interval: Option<(f64, f64)>,
    /// The expected value of guessing, if known.
    pub chance: Option<f64>,
    /// Rows it is computed from.
    pub rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// Values that papers report for it on the real data sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Values for the subgroups of the requested columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Breakdown>,
    /// Its value in every replicate, for paired differences between encoders.
    #[serde(skip)]
    pub replicates: Option<Replicates>,
}

impl Figure {
    /// A figure without an interval.
    pub fn plain(group: &str, name: &str, unit: Unit, value: f64, rows: usize) -> Figure {
        Figure {
            group: group.into(),
            name: name.into(),
            unit,
            value: Some(value),
            interval: None,
            chance: None,
            rows,
            undefined: None,
            published: Vec::new(),
            by: Vec::new(),
            replicates: None,
        }
    }

    /// A figure that the data do not define.
    pub fn undefined(group: &str, name: &str, unit: Unit, rows: usize, reason: impl Into<String>) -> Figure {
        Figure { value: None, undefined: Some(reason.into()), ..Figure::plain(group, name, unit, 0.0, rows) }
    }

    pub fn with_chance(self, chance: f64) -> Figure {
        Figure { chance: Some(chance), ..self }
    }

    /// The value in its unit, with the interval, or the reason why it is undefined.
    pub fn text(&self) -> String {
        let Some(value) = self.value else {
            return format!("undefined: {}", self.undefined.as_deref().unwrap_or("no reason given"));
        };
        self.unit.with_interval(value, self.interval)
    }
}

impl Figure {
    /// Like [`Figure::text`], with the value of guessing.
    pub fn beside_chance(&self) -> String {
        match self.chance.filter(|_| self.value.is_some()) {
            Some(chance) => format!("{}  [chance {}]", self.text(), self.unit.text(chance)),
            None => self.text(),
        }
    }
}

impl Breakdown {
    /// A line for each subgroup and one for the gap.
    pub fn lines(&self, unit: Unit) -> Vec<String> {
        let parts = self.parts.iter().map(|part| {
            let value = part.value.map_or("undefined".into(), |value| unit.with_interval(value, part.interval));
            let small = if part.small { ", a small group" } else { "" };
            format!("{} {}: {value}, {} rows of {} subjects{small}", self.column, part.name, part.rows, part.subjects)
        });
        parts.chain(self.gap.as_ref().map(|gap| format!("largest gap: {}", gap.text(unit)))).collect()
    }
}

impl Gap {
    /// Which subgroups, how far apart, and whether one of them is small.
    pub fn text(&self, unit: Unit) -> String {
        let small = if self.small { ", with a small group" } else { "" };
        format!("{} less {}: {}{small}", self.highest, self.lowest, unit.with_interval(self.value, self.interval))
    }
}

impl Unit {
    /// A value with its interval, where it has one.
    pub fn with_interval(self, value: f64, interval: Option<(f64, f64)>) -> String {
        match interval {
            Some((low, high)) => format!("{} ({} to {})", self.text(value), self.text(low), self.text(high)),
            None => self.text(value),
        }
    }

    pub fn text(self, value: f64) -> String {
        let text = match self {
            Unit::Share => format!("{:.1}", 100.0 * value),
            Unit::Number => format!("{value:.3}"),
            Unit::Rank => format!("{value:.1}"),
        };
        // What rounds to zero has no sign.
        match text.strip_prefix('-') {
            Some(size) if size.bytes().all(|byte| matches!(byte, b'0' | b'.')) => size.to_string(),
            _ => text,
        }
    }
}

/// Draws the intervals of a task's figures, and breaks them down by subgroups.
pub struct Meter<'a> {
    bootstrap: Bootstrap,
    clusters: &'a Clusters,
    /// With the subgroup of each row.
    by: Vec<(&'a Subgroups, Vec<Option<usize>>)>,
}

impl<'a> Meter<'a> {
    pub fn new(bootstrap: Bootstrap, clusters: &'a Clusters) -> Meter<'a> {
        Meter { bootstrap, clusters, by: Vec::new() }
    }

    /// * `rows`: for each row that is weighed, that of the corpus whose subgroup it belongs to.
    pub fn by(self, by: &'a [Subgroups], rows: impl IntoIterator<Item = usize> + Clone) -> Meter<'a> {
        Meter { by: by.iter().map(|by| (by, by.of_rows(rows.clone()))).collect(), ..self }
    }

    /// A figure with its interval: `statistic` of a weight for each row, `None` where it is
    /// undefined, which `otherwise` explains.
    pub fn figure(
        &self,
        group: &str,
        name: &str,
        unit: Unit,
        rows: usize,
        otherwise: &str,
        statistic: Statistic<'_>,
    ) -> Figure {
        let all: Vec<usize> = if self.by.is_empty() { Vec::new() } else { (0..self.clusters.rows()).collect() };
        Figure { rows, ..self.figure_of(group, name, unit, &all, otherwise, statistic) }
    }

    /// Like [`Meter::figure`], for the rows `used` only: `statistic` gives no weight to the others.
    pub fn figure_of(
        &self,
        group: &str,
        name: &str,
        unit: Unit,
        used: &[usize],
        otherwise: &str,
        statistic: Statistic<'_>,
    ) -> Figure {
        let Some(replicates) = self.bootstrap.replicates(self.clusters, statistic) else {
            return Figure::undefined(group, name, unit, used.len(), otherwise);
        };
        let Estimate { value, interval } = replicates.estimate();
        let by =
            self.by.iter().map(|(by, of_row)| by.break_down(self.bootstrap, self.clusters, of_row, used, statistic));
        let plain = Figure::plain(group, name, unit, value, used.len());
        Figure { interval, by: by.collect(), replicates: Some(replicates), ..plain }
    }
}

/// Something to draw.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Plot {
    /// Receiver operating characteristics.
    Roc { title: String, curves: Vec<Curve> },
    /// A reliability diagram.
    Calibration { title: String, bins: Vec<Bin>, error: f64 },
    /// Counts of true (row) and predicted (column) classes.
    Confusion { title: String, classes: Vec<String>, counts: Vec<Vec<f64>> },
}

#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub name: String,
    pub auroc: Option<f64>,
    pub points: Vec<Point>,
}

/// A case worth looking at.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    pub kind: ExampleKind,
    pub caption: String,
    /// Rows of the corpus, in the order in which they are to be shown.
    #[serde(skip)]
    pub rows: Vec<usize>,
    /// Their ids; filled in by callers that have the corpus.
    pub studies: Vec<String>,
    /// The phrase for the heat map.
    pub phrase: Option<String>,
    /// `[left, top, right, bottom]` in fractions of the picture.
    pub boxes: Vec<[f64; 4]>,
}

impl Example {
    pub fn new(kind: ExampleKind, caption: impl Into<String>, rows: impl Into<Vec<usize>>) -> Example {
        let (caption, rows) = (caption.into(), rows.into());
        Example { kind, caption, rows, studies: Vec::new(), phrase: None, boxes: Vec::new() }
    }

    pub fn looking_for(self, phrase: impl Into<String>) -> Example {
        Example { phrase: Some(phrase.into()), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExampleKind {
    Best,
    Worst,
}

/// Cases of each kind that a task shows.
pub const EXAMPLES: usize = 2;

/// The best and the worst cases by a score that should be high; ties keep their order. With few
/// rows a case is shown once.
pub fn extremes(scores: &[f64]) -> Vec<(ExampleKind, usize)> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&row| scores[row].is_finite()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let each = EXAMPLES.min(order.len() / 2);
    let best = order[..each].iter().map(|&row| (ExampleKind::Best, row));
    let worst = order[order.len() - each..].iter().rev().map(|&row| (ExampleKind::Worst, row));
    best.chain(worst).collect()
}

/// The result of a task on a data set.
#[derive(Clone, Debug, Serialize)]
pub struct TaskResult {
    pub task: Task,
    pub protocol: Protocol,
    /// The method, in words.
    pub method: String,
    pub rows: usize,
    pub subjects: usize,
    pub figures: Vec<Figure>,
    pub plots: Vec<Plot>,
    pub examples: Vec<Example>,
    /// Rows that could not be used, counted by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Remarks that readers of the figures should know.
    pub notes: Vec<String>,
}

impl TaskResult {
    pub fn new(task: Task, protocol: Protocol, method: impl Into<String>) -> TaskResult {
        TaskResult {
            task,
            protocol,
            method: method.into(),
            rows: 0,
            subjects: 0,
            figures: Vec::new(),
            plots: Vec::new(),
            examples: Vec::new(),
            skipped: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// The figures that represent a task in an overview.
    pub fn headlines(&self) -> Vec<&Figure> {
        // A probe of classes has an accuracy over all of them, one of findings an area for each.
        let of_classes = self.figures.iter().any(|figure| figure.name == "macro accuracy");
        let probed: &[&str] = if of_classes { &["accuracy"] } else { &["AUROC"] };
        let wanted: &[(&[&str], &[&str])] = match self.task {
            Task::TemporalImage => &[
                (&["mean"], &["macro accuracy", "accuracy, 10 folds", "macro accuracy, concatenation"]),
                (&["mean"], &["accuracy", "macro accuracy, difference"]),
            ],
            Task::TemporalSentence => {
                &[(&["all"], &["AUROC"]), (&["all"], &["accuracy", "accuracy, reference threshold"])]
            }
            Task::ZeroShot => &[(ANY, &["AUROC", "AUROC of the decision"])],
            Task::LinearProbe => &[(&["1 %"], probed), (&["10 %"], probed), (&["100 %"], probed)],
            Task::Retrieval => &[
                (&["image to report", "both directions"], &["recall@5", "accuracy@5 in the batch"]),
                (&["report to image"], &["recall@5"]),
                (&["same subject, another time"], &["recall@1"]),
            ],
            Task::Progression => &[
                (&["mean"], &["AUROC, worsening against improving", "standard"]),
                (&["mean"], &["macro accuracy", "consistency"]),
            ],
            Task::SequenceOrder => &[
                (&["image to report"], &["forward mapping accuracy"]),
                (&["image to report"], &["right order preferred to a shuffled one"]),
                (&["within images"], &["nearest study is next in time"]),
            ],
            Task::TemporalTransfer => {
                &[(ANY, &["macro accuracy, concatenation"]), (ANY, &["macro accuracy, difference"])]
            }
            Task::SeriesQuestions => &[(&["all"], &["accuracy"])],
            Task::Grounding => &[
                (&["all phrases", "words"], &["contrast-to-noise ratio, signed"]),
                (&["all phrases", "words"], &["AUROC of pixels"]),
            ],
        };
        let found = |(groups, names): &(&[&str], &[&str])| {
            let in_group = |figure: &&Figure| groups.is_empty() || groups.contains(&figure.group.as_str());
            // The mean of several figures comes after them.
            let named = |name: &&str| self.figures.iter().rev().filter(in_group).find(|figure| figure.name == *name);
            names.iter().find_map(named)
        };
        wanted.iter().filter_map(found).collect()
    }

    /// A figure's value by group and name.
    pub fn value(&self, group: &str, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.group == group && figure.name == name)?.value
    }
}

/// Whatever the group is.
const ANY: &[&str] = &[];

/// Figures in columns, each after its prefix.
pub(super) fn write_figures(f: &mut fmt::Formatter<'_>, figures: &[(String, &Figure)]) -> fmt::Result {
    let wide =
        |text: fn(&Figure) -> &str| figures.iter().map(|figure| text(figure.1).chars().count()).max().unwrap_or(0);
    let (group, name) = (wide(|figure| &figure.group), wide(|figure| &figure.name));
    for (before, figure) in figures {
        writeln!(f, "  {before}{:group$}  {:name$}  {}", figure.group, figure.name, figure.beside_chance())?;
        for breakdown in &figure.by {
            for line in breakdown.lines(figure.unit) {
                writeln!(f, "  {:indent$}  {line}", "", indent = before.chars().count() + group)?;
            }
        }
    }
    Ok(())
}

impl fmt::Display for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({}; {} rows of {} subjects)",
            self.task.title(),
            self.protocol.name(),
            self.rows,
            self.subjects
        )?;
        let figures: Vec<(String, &Figure)> = self.figures.iter().map(|figure| (String::new(), figure)).collect();
        write_figures(f, &figures)?;
        for (reason, count) in &self.skipped {
            writeln!(f, "  skipped {count}: {reason}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
