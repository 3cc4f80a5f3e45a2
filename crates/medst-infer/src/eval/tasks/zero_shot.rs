//! Zero-shot classification: whether a finding is present, judged by the similarity of an image to
//! sentences that affirm it and to sentences that deny it.
//!
//! * Strict: AUROC and average precision of the difference of the two similarities, accuracy and F1
//!   where the larger one decides, calibration.
//! * Reference: the figures of the decision alone; its "AUROC" is the area under the curve of a yes
//!   or no.

use super::{Input, dot, mean_of_all};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::result::{Curve, Example, Figure, Meter, Plot, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::labels::words;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::{Calibration, ConfusionMatrix, Ranking};

/// The temperature of the contrastive loss, at which similarities become probabilities.
pub const TEMPERATURE: f64 = 0.07;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZeroShot<'a> {
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// A finding in `n` images.
#[derive(Clone, Debug)]
pub struct BinaryFinding {
    pub name: String,
    /// `[n, D]`.
    pub images: Vectors,
    /// `[p, D]`: sentences that state the finding.
    pub positive: Vectors,
    /// `[q, D]` of sentences that deny it.
    pub negative: Vectors,
    pub truth: Vec<bool>,
    pub subjects: Vec<String>,
    /// Rows of the corpus.
    pub rows: Vec<usize>,
}

/// The scored images of a finding.
struct Scored<'a> {
    of: &'a BinaryFinding,
    /// Similarity to the positive sentences less that to the negative ones.
    difference: Vec<f64>,
    ranking: Ranking,
    /// Ranking by the decision, as a score of 0 or 1.
    decided: Ranking,
    truth: Vec<usize>,
    said: Vec<usize>,
    calibration: Calibration,
    /// Position of its first row among those of all findings.
    start: usize,
}

impl ZeroShot<'_> {
    /// # Errors
    /// No finding, no images or sentences, embeddings of different widths, or values that are not
    /// finite.
    pub fn evaluate(&self, findings: &[BinaryFinding]) -> Result<TaskResult> {
        let method = match self.protocol {
            Protocol::Strict | Protocol::Literature => {
                "cosine to the mean direction of sentences that state a finding, minus that of sentences that deny it"
            }
            Protocol::Reference => {
                "the larger of two cosines decides: to the mean of sentences that state a finding, and of those \
                 that deny it"
            }
        };
        let mut result = TaskResult::new(Task::ZeroShot, self.protocol, method);
        let mut start = 0;
        let mut all = Vec::new();
        for finding in findings {
            Input::check(&finding.images, "images")?;
            Input::check(&finding.positive, "positive sentences")?;
            Input::check(&finding.negative, "negative sentences")?;
            Input::check_width(&finding.positive, &finding.images, "positive sentences")?;
            Input::check_width(&finding.negative, &finding.images, "negative sentences")?;
            Input::check_count(finding.truth.len(), &finding.images, "labels")?;
            all.push(Scored::new(finding, start));
            start += finding.truth.len();
        }
        let clusters = Clusters::new(findings.iter().flat_map(|finding| &finding.subjects));
        let rows = findings.iter().flat_map(|finding| finding.rows.iter().copied());
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
        result.rows = findings.iter().map(|finding| finding.rows.len()).max().unwrap_or(0);
        result.subjects = clusters.count();
        let table: &[Row] = match self.protocol {
            Protocol::Strict | Protocol::Literature => &STRICT,
            Protocol::Reference => &REFERENCE,
        };
        for &(name, unit, chance, statistic) in table {
            for scored in &all {
                let rows: Vec<usize> = (scored.start..scored.start + scored.of.truth.len()).collect();
                let reason = format!("every image {} {}", scored.all_alike(), words(&scored.of.name));
                let figure = meter.figure_of(&scored.of.name, name, unit, &rows, &reason, &|weights| {
                    statistic(scored, scored.weights_of(weights))
                });
                result.figures.push(Figure { chance, ..figure });
            }
            if all.len() > 1 {
                let mean = |weights: &[f64]| {
                    mean_of_all(all.iter().map(|scored| statistic(scored, scored.weights_of(weights))))
                };
                let figure = meter.figure("mean", name, unit, start, "undefined for a finding", &mean);
                result.figures.push(Figure { chance, ..figure });
            }
        }
        // In the order of the findings.
        let order = |figure: &Figure| findings.iter().position(|finding| finding.name == figure.group);
        result.figures.sort_by_key(|figure| order(figure).unwrap_or(findings.len()));
        let curves: Vec<Curve> = all.iter().filter_map(Scored::curve).collect();
        if !curves.is_empty() {
            result.plots.push(Plot::Roc { title: "findings".into(), curves });
        }
        for scored in &all {
            result.plots.extend(scored.plots());
            result.examples.extend(scored.examples(if all.len() > 2 { 1 } else { 2 }));
        }
        Ok(result)
    }
}

type Statistic = fn(&Scored<'_>, &[f64]) -> Option<f64>;
type Row = (&'static str, Unit, Option<f64>, Statistic);

const STRICT: [Row; 6] = [
    ("AUROC", Unit::Number, Some(0.5), |of, weights| of.ranking.auroc(weights)),
    ("average precision", Unit::Number, None, |of, weights| of.ranking.average_precision(weights)),
    ("accuracy", Unit::Share, None, |of, weights| of.matrix(weights).accuracy()),
    ("F1", Unit::Share, None, |of, weights| of.matrix(weights).f1(1)),
    ("calibration error", Unit::Number, None, |of, weights| of.calibration.error(weights)),
    ("AUROC of the decision", Unit::Number, Some(0.5), |of, weights| of.decided.auroc(weights)),
];

const REFERENCE: [Row; 3] = [
    ("AUROC of the decision", Unit::Number, Some(0.5), |of, weights| of.decided.auroc(weights)),
    ("accuracy", Unit::Share, None, |of, weights| of.matrix(weights).accuracy()),
    ("F1", Unit::Share, None, |of, weights| of.matrix(weights).f1(1)),
];

impl<'a> Scored<'a> {
    fn new(of: &'a BinaryFinding, start: usize) -> Scored<'a> {
        let [positive, negative] = [&of.positive, &of.negative].map(|sentences| sentences.unit().mean_direction());
        let images = of.images.unit();
        let difference: Vec<f64> = images.rows().map(|row| dot(row, &positive) - dot(row, &negative)).collect();
        let said: Vec<usize> = difference.iter().map(|&score| usize::from(score > 0.0)).collect();
        let truth: Vec<usize> = of.truth.iter().map(|&there| usize::from(there)).collect();
        let decision: Vec<f64> = said.iter().map(|&said| said as f64).collect();
        let probabilities: Vec<Vec<f64>> = difference
            .iter()
            .map(|score| 1.0 / (1.0 + (-score / TEMPERATURE).exp()))
            .map(|there| vec![1.0 - there, there])
            .collect();
        Scored {
            of,
            ranking: Ranking::new(&difference, &of.truth),
            decided: Ranking::new(&decision, &of.truth),
            calibration: Calibration::new(&probabilities, &truth),
            difference,
            truth,
            said,
            start,
        }
    }

    fn weights_of<'w>(&self, weights: &'w [f64]) -> &'w [f64] {
        &weights[self.start..self.start + self.truth.len()]
    }

    fn matrix(&self, weights: &[f64]) -> ConfusionMatrix {
        ConfusionMatrix::new(&self.truth, &self.said, weights, 2)
    }

    fn all_alike(&self) -> &'static str {
        if self.truth.iter().all(|&there| there == 1) { "shows" } else { "lacks" }
    }

    fn curve(&self) -> Option<Curve> {
        let points = self.ranking.curve();
        let auroc = self.ranking.auroc(&vec![1.0; self.truth.len()]);
        (!points.is_empty()).then(|| Curve { name: words(&self.of.name), auroc, points })
    }

    fn plots(&self) -> Vec<Plot> {
        let (name, ones) = (words(&self.of.name), vec![1.0; self.truth.len()]);
        let bins = self.calibration.bins();
        let calibration =
            self.calibration.error(&ones).map(|error| Plot::Calibration { title: name.clone(), bins, error });
        let classes = vec![format!("no {name}"), name.clone()];
        let confusion = Plot::Confusion { title: name, classes, counts: self.matrix(&ones).counts };
        [Some(confusion), calibration].into_iter().flatten().collect()
    }

    fn examples(&self, each: usize) -> Vec<Example> {
        let signs = self.of.truth.iter().map(|&there| if there { 1.0 } else { -1.0 });
        let right: Vec<f64> = self.difference.iter().zip(signs).map(|(score, sign)| score * sign).collect();
        let mut left = [each; 2];
        let name = words(&self.of.name);
        extremes(&right)
            .into_iter()
            .filter(|(kind, _)| {
                let left = &mut left[*kind as usize];
                let keep = *left > 0;
                *left = left.saturating_sub(1);
                keep
            })
            .map(|(kind, row)| {
                let there = if self.of.truth[row] { name.clone() } else { format!("no {name}") };
                let caption = format!("{there}; score {:+.2} (above 0: {name})", self.difference[row]);
                Example::new(kind, caption, [self.of.rows[row]]).looking_for(&name)
            })
            .collect()
    }
}
