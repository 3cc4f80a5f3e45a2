//! Progression by phrases, without training: the course whose phrase, in “The progression of
//! {finding} is {phrase}.”, is most similar to a pair (BioViL-T, TempA-VLP, TILA); each course has
//! several phrases and the most similar one counts.
//!
//! Those models encode both images at once. Encoders of one image are read in two ways: the change
//! `u_current − u_previous` against the phrases, and the current image alone, as its report would
//! be. An exchanged pair must get the reversed course, which gives the four columns of TILA (CVPR
//! 2026): standard, reversed, combined (both orders in one test set) and consistency.

use super::{Input, dot, mean_of_all};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::pairs::{ImagePairs, Labelled};
use crate::eval::published;
use crate::eval::result::{Figure, Meter, Plot, Protocol, Task, TaskResult, Unit};
use crate::eval::subgroups::Subgroups;
use crate::labels::{Course, words};
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::ConfusionMatrix;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhraseProgression<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// The sentences about a finding.
#[derive(Clone, Debug)]
pub struct Phrases {
    pub finding: String,
    /// `[p, D]` for each course, by class number.
    pub of: [Vectors; Course::COUNT],
}

/// Answers of the phrases for the pairs of a finding, in both orders.
struct Said<'a> {
    labelled: &'a Labelled<'a>,
    forward: Vec<usize>,
    backward: Vec<usize>,
}

type Statistic = fn(&Said<'_>, &[f64]) -> Option<f64>;

const STATISTICS: [(&str, Option<f64>, Statistic); 5] = [
    ("standard", THIRD, |of, weights| of.matrix(weights, true, false).macro_accuracy()),
    ("reversed", THIRD, |of, weights| of.matrix(weights, false, true).macro_accuracy()),
    ("combined", THIRD, |of, weights| of.matrix(weights, true, true).macro_accuracy()),
    ("consistency", None, |of, weights| of.share(weights, |forward, backward, _| backward == reversed(forward))),
    ("right in both orders", None, |of, weights| {
        of.share(weights, |forward, backward, truth| forward == truth && backward == reversed(truth))
    }),
];
const THIRD: Option<f64> = Some(1.0 / 3.0);

fn reversed(class: usize) -> usize {
    Course::ALL[class].reversed().class()
}

impl PhraseProgression<'_> {
    /// # Errors
    /// No pairs, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, pairs: &ImagePairs, phrases: &[Phrases]) -> Result<TaskResult> {
        Input::check(&pairs.previous, "previous images")?;
        Input::check_like(&pairs.current, &pairs.previous, "current images")?;
        let method = "the most similar phrase of “The progression of {finding} is {phrase}.” decides; cosine of the change of the image \
                      embedding (or of the current image alone), maximum over the phrases of a course; standard, reversed and combined are \
                      macro accuracies";
        let mut result = TaskResult::new(Task::Progression, Protocol::Literature, method);
        let clusters = Clusters::new(&pairs.subjects);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, pairs.current_rows());
        (result.rows, result.subjects) = (pairs.subjects.len(), clusters.count());
        let (previous, current) = (pairs.previous.unit(), pairs.current.unit());
        let labelled: Vec<Labelled<'_>> = pairs.labelled().collect();
        let (mut by_change, mut by_current) = (Vec::new(), Vec::new());
        for labelled in &labelled {
            let Some(phrases_of_finding) = phrases.iter().find(|phrases| phrases.finding == labelled.name) else {
                result.notes.push(format!("no phrases are known for {}", words(labelled.name)));
                continue;
            };
            for sentences in &phrases_of_finding.of {
                Input::check(sentences, "phrases")?;
                Input::check_width(sentences, &pairs.previous, "phrases")?;
            }
            if labelled.rows.is_empty() {
                let reason = "no pair has a course";
                result.figures.push(Figure::undefined(labelled.name, "standard", Unit::Share, 0, reason));
                continue;
            }
            let units = phrases_of_finding.of.each_ref().map(Vectors::unit);
            let change = |row: usize, sign: f32| -> Vec<f32> {
                current.row(row).iter().zip(previous.row(row)).map(|(c, p)| sign * (c - p)).collect()
            };
            let say = |vector: &dyn Fn(usize) -> Vec<f32>| -> Vec<usize> {
                labelled.rows.iter().map(|&row| nearest(&vector(row), &units)).collect()
            };
            let (forward, backward) = (say(&|row| change(row, 1.0)), say(&|row| change(row, -1.0)));
            by_change.push(Said { labelled, forward, backward });
            let (forward, backward) = (say(&|row| current.row(row).to_vec()), say(&|row| previous.row(row).to_vec()));
            by_current.push(Said { labelled, forward, backward });
        }
        for said in &by_change {
            result.figures.extend(figures(said.labelled.name, std::slice::from_ref(said), &meter));
            let ones = vec![1.0; pairs.subjects.len()];
            let counts = said.matrix(&ones, true, false).counts;
            result.plots.push(Plot::Confusion { title: words(said.labelled.name), classes: Course::names(), counts });
        }
        if !by_change.is_empty() {
            if by_change.len() < pairs.findings.len() {
                result.notes.push(format!("mean: of {} of {} findings", by_change.len(), pairs.findings.len()));
            }
            result.figures.extend(figures("mean", &by_change, &meter));
            result.figures.extend(figures("mean, current image alone", &by_current, &meter));
        }
        for figure in &mut result.figures {
            figure.published = published::values(Task::Progression, &figure.group, &figure.name);
        }
        Ok(result)
    }
}

/// The course with the most similar phrase; stable where no other one is ahead of it, as for a pair
/// without any change.
fn nearest(vector: &[f32], phrases: &[Vectors; Course::COUNT]) -> usize {
    let score =
        |class: usize| phrases[class].rows().map(|phrase| dot(vector, phrase)).fold(f64::NEG_INFINITY, f64::max);
    let stable = Course::Stable.class();
    let start = (stable, score(stable));
    (0..Course::COUNT)
        .map(|class| (class, score(class)))
        .fold(start, |best, next| if next.1 > best.1 { next } else { best })
        .0
}

impl Said<'_> {
    /// Confusion matrix of the pairs in the given order, of exchanged pairs with reversed courses,
    /// or of both.
    fn matrix(&self, of_pairs: &[f64], forward: bool, backward: bool) -> ConfusionMatrix {
        let weights = self.labelled.weights(of_pairs);
        let (mut truth, mut said, mut weights_of_rows): (Vec<usize>, Vec<usize>, Vec<f64>) = Default::default();
        if forward {
            truth.extend(&self.labelled.truth);
            said.extend(&self.forward);
            weights_of_rows.extend(&weights);
        }
        if backward {
            truth.extend(self.labelled.truth.iter().map(|&class| reversed(class)));
            said.extend(&self.backward);
            weights_of_rows.extend(&weights);
        }
        ConfusionMatrix::new(&truth, &said, &weights_of_rows, Course::COUNT)
    }

    /// The weighted share of pairs for which `holds` is true, given the answer, the answer for the
    /// exchanged pair, and the truth.
    fn share(&self, of_pairs: &[f64], holds: fn(usize, usize, usize) -> bool) -> Option<f64> {
        let weights = self.labelled.weights(of_pairs);
        let total: f64 = weights.iter().sum();
        let held = |n: &usize| holds(self.forward[*n], self.backward[*n], self.labelled.truth[*n]);
        // A sum of nothing is −0.
        let sum = (0..weights.len()).filter(held).fold(0.0, |sum, n| sum + weights[n]);
        (total > 0.0).then(|| sum / total)
    }
}

/// The mean over findings.
fn figures(group: &str, findings: &[Said<'_>], meter: &Meter<'_>) -> Vec<Figure> {
    let mut used: Vec<usize> = findings.iter().flat_map(|said| &said.labelled.rows).copied().collect();
    used.sort_unstable();
    used.dedup();
    let figure = |(name, chance, statistic): (&str, Option<f64>, Statistic)| {
        let made = meter.figure_of(group, name, Unit::Share, &used, "undefined for a finding", &|weights| {
            mean_of_all(findings.iter().map(|said| statistic(said, weights)))
        });
        Figure { chance, ..made }
    };
    STATISTICS.into_iter().map(figure).collect()
}
