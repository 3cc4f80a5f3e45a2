//! Progression without training: the course of a finding from the direction in which a pair's
//! embedding moves.
//!
//! The change of the image embedding, `u_current − u_previous`, is projected on the direction from
//! sentences of improvement to sentences of worsening; positive values mean worse. The half of all
//! pairs with the smallest projections is called stable, so that no labels are needed to set a
//! threshold.

use super::{Input, dot, mean_of_all};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::pairs::{ImagePairs, Labelled};
use crate::eval::result::{Curve, Example, Figure, Meter, Plot, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::labels::{Course, words};
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::{ConfusionMatrix, Ranking};

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progression<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// Sentences about a finding.
#[derive(Clone, Debug)]
pub struct Prototypes {
    pub finding: String,
    /// `[p, D]`: sentences of improvement.
    pub improving: Vectors,
    /// `[q, D]` that tell a worsening.
    pub worsening: Vectors,
}

struct Scored<'a> {
    labelled: Labelled<'a>,
    /// Towards worse above zero.
    change: Vec<f64>,
    said: Vec<usize>,
    /// Ranking of the pairs that are not stable, with their places; sorted once for all replicates.
    ranking: Ranking,
    places: Vec<usize>,
}

impl Progression<'_> {
    /// # Errors
    /// No pairs, a finding without sentences, embeddings of different widths, or values that are
    /// not finite.
    pub fn evaluate(&self, pairs: &ImagePairs, prototypes: &[Prototypes]) -> Result<TaskResult> {
        Input::check(&pairs.previous, "previous images")?;
        Input::check_like(&pairs.current, &pairs.previous, "current images")?;
        let method = "change of the image embedding along the direction from sentences of improvement to sentences \
                      of worsening; the smaller half of the changes counts as stable";
        let mut result = TaskResult::new(Task::Progression, Protocol::Strict, method);
        let (previous, current) = (pairs.previous.unit(), pairs.current.unit());
        let clusters = Clusters::new(&pairs.subjects);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, pairs.current_rows());
        (result.rows, result.subjects) = (pairs.subjects.len(), clusters.count());
        let mut all = Vec::new();
        for labelled in pairs.labelled() {
            let Some(prototype) = prototypes.iter().find(|prototype| prototype.finding == labelled.name) else {
                result.notes.push(format!("no sentences are known for {}", words(labelled.name)));
                continue;
            };
            for sentences in [&prototype.improving, &prototype.worsening] {
                Input::check(sentences, "sentences")?;
                Input::check_width(sentences, &pairs.previous, "sentences")?;
            }
            if labelled.rows.is_empty() {
                let reason = "no pair has a label";
                result.figures.push(Figure::undefined(labelled.name, "macro accuracy", Unit::Share, 0, reason));
                continue;
            }
            let [worsening, improving] =
                [&prototype.worsening, &prototype.improving].map(|sentences| sentences.unit().mean_direction());
            let towards = |row: &[f32]| dot(row, &worsening) - dot(row, &improving);
            let change: Vec<f64> =
                labelled.rows.iter().map(|&row| towards(current.row(row)) - towards(previous.row(row))).collect();
            let band = median(&change);
            let course = |&change: &f64| match change {
                change if change.abs() <= band => Course::Stable,
                change if change > 0.0 => Course::Worsening,
                _ => Course::Improving,
            };
            let said = change.iter().map(|change| course(change).class()).collect();
            all.push(Scored::new(labelled, change, said));
        }
        for scored in &all {
            let Labelled { name, rows, .. } = &scored.labelled;
            for (figure, unit, chance, statistic) in STATISTICS {
                let reason = "needs both worsening and improving pairs";
                let made = meter.figure_of(name, figure, unit, rows, reason, &|weights| statistic(scored, weights));
                result.figures.push(Figure { chance: Some(chance), ..made });
            }
        }
        if !all.is_empty() && all.len() < pairs.findings.len() {
            result.notes.push(format!("mean over {} of {} findings", all.len(), pairs.findings.len()));
        }
        for (figure, unit, chance, statistic) in STATISTICS.into_iter().filter(|_| !all.is_empty()) {
            let made =
                meter.figure("mean", figure, unit, pairs.subjects.len(), "undefined for a finding", &|weights| {
                    mean_of_all(all.iter().map(|scored| statistic(scored, weights)))
                });
            result.figures.push(Figure { chance: Some(chance), ..made });
        }
        let ones = vec![1.0; pairs.subjects.len()];
        let curves = all.iter().filter_map(|scored| {
            let points = scored.ranking.curve();
            let auroc = scored.auroc(&ones);
            (!points.is_empty()).then(|| Curve { name: words(scored.labelled.name), auroc, points })
        });
        let curves: Vec<Curve> = curves.collect();
        if !curves.is_empty() {
            result.plots.push(Plot::Roc { title: "worsening against improving".into(), curves });
        }
        for scored in &all {
            let counts = scored.matrix(&ones).counts;
            result.plots.push(Plot::Confusion { title: words(scored.labelled.name), classes: Course::names(), counts });
            result.examples.extend(scored.examples(pairs));
        }
        Ok(result)
    }
}

type Statistic = fn(&Scored<'_>, &[f64]) -> Option<f64>;

const STATISTICS: [(&str, Unit, f64, Statistic); 2] = [
    ("AUROC, worsening against improving", Unit::Number, 0.5, |of, weights| of.auroc(weights)),
    ("macro accuracy", Unit::Share, 1.0 / 3.0, |of, weights| of.matrix(weights).macro_accuracy()),
];

/// The middle of the lengths of changes.
fn median(change: &[f64]) -> f64 {
    let mut lengths: Vec<f64> = change.iter().map(|change| change.abs()).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.get(lengths.len() / 2).copied().unwrap_or(0.0)
}

impl<'a> Scored<'a> {
    fn new(labelled: Labelled<'a>, change: Vec<f64>, said: Vec<usize>) -> Scored<'a> {
        let truth = &labelled.truth;
        let places: Vec<usize> = (0..change.len()).filter(|&n| truth[n] != Course::Stable.class()).collect();
        let scores: Vec<f64> = places.iter().map(|&n| change[n]).collect();
        let worse: Vec<bool> = places.iter().map(|&n| truth[n] == Course::Worsening.class()).collect();
        Scored { ranking: Ranking::new(&scores, &worse), labelled, change, said, places }
    }

    fn matrix(&self, weights: &[f64]) -> ConfusionMatrix {
        ConfusionMatrix::new(&self.labelled.truth, &self.said, &self.labelled.weights(weights), Course::COUNT)
    }

    fn auroc(&self, weights: &[f64]) -> Option<f64> {
        let weights_of_rows: Vec<f64> = self.places.iter().map(|&n| weights[self.labelled.rows[n]]).collect();
        self.ranking.auroc(&weights_of_rows)
    }

    fn examples(&self, pairs: &ImagePairs) -> Vec<Example> {
        let right = |n: usize| match Course::ALL[self.labelled.truth[n]] {
            Course::Worsening => self.change[n],
            Course::Improving => -self.change[n],
            Course::Stable => -self.change[n].abs(),
        };
        let scores: Vec<f64> = (0..self.change.len()).map(right).collect();
        let mut chosen = extremes(&scores);
        chosen.dedup_by_key(|(kind, _)| *kind);
        let name = words(self.labelled.name);
        let example = |(kind, n): (_, usize)| {
            let (actual, said) = (Course::ALL[self.labelled.truth[n]].name(), Course::ALL[self.said[n]].name());
            let caption = format!("{name}: {actual}; predicted {said}, change {:+.3}", self.change[n]);
            Example::new(kind, caption, pairs.studies[self.labelled.rows[n]]).looking_for(&name)
        };
        chosen.into_iter().map(example).collect()
    }
}
