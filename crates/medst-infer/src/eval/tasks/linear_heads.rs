//! Temporal image classification by linear heads, as HERGen and ALTA report it on MS-CXR-T: 70, 10
//! and 20 % of the subjects for training, validation and test, a linear head on frozen features,
//! macro accuracy, mean and deviation over the seeds 42, 123, 456 and 789.
//!
//! Two readouts: both embeddings side by side, and their difference with its absolute value,
//! `(c − p, |c − p|)`, a strong cheap baseline. The papers do not state how subjects are drawn or
//! the head is trained. Here subjects in the order of their names are shuffled as NumPy does with
//! the seed, and the head is a logistic regression whose ridge the validation subjects choose.

use rayon::prelude::*;

use medst_data::permutation::NumpyRandom;

use super::{TemporalImage, Undefined, mean_of_all};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::logistic::{Logistic, Products};
use crate::eval::pairs::{ImagePairs, Labelled};
use crate::eval::result::{Figure, Meter, Plot, Protocol, Task, TaskResult, Unit};
use crate::labels::{Course, words};
use crate::stats::bootstrap::Clusters;
use crate::stats::metrics::ConfusionMatrix;

const SEEDS: [u32; 4] = [42, 123, 456, 789];
/// Inverse strengths of the ridge that validation chooses from, on features of deviation 1.
const STRENGTHS: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// How the two embeddings of a pair become features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readout {
    Concatenation,
    Difference,
}

/// The split of a pair, by its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeSplit {
    Training,
    Validation,
    Test,
}

/// Predictions of the head of one seed for its test pairs.
struct Tested {
    /// Rows of the pairs.
    rows: Vec<usize>,
    truth: Vec<usize>,
    said: Vec<usize>,
}

/// The heads of a finding, one for each seed.
struct Heads<'a> {
    finding: &'a str,
    seeds: Vec<Tested>,
}

type Statistic = fn(&ConfusionMatrix) -> Option<f64>;

const STATISTICS: [(&str, Option<f64>, Statistic); 2] = [
    ("macro accuracy", Some(1.0 / 3.0), ConfusionMatrix::macro_accuracy),
    ("accuracy", None, ConfusionMatrix::accuracy),
];

/// Figures of both readouts; the pairs were checked.
pub(super) fn evaluate(task: &TemporalImage<'_>, pairs: &ImagePairs) -> Result<TaskResult> {
    let method = "logistic regression on frozen embeddings of both images, side by side (concatenation) or as their difference and its \
                  absolute value (difference); 70, 10 and 20 % of the subjects, ridge by the validation subjects, mean of the seeds \
                  42, 123, 456 and 789";
    let mut result = TaskResult::new(Task::TemporalImage, Protocol::Literature, method);
    let clusters = Clusters::new(&pairs.subjects);
    let meter = Meter::new(task.bootstrap, &clusters).by(task.by, pairs.current_rows());
    let splits = SEEDS.map(|seed| splits(&pairs.subjects, seed));
    for readout in [Readout::Concatenation, Readout::Difference] {
        let mut all = Vec::new();
        for labelled in pairs.labelled() {
            match heads(pairs, &labelled, readout, &splits)? {
                Ok(heads) => {
                    let name = labelled.name;
                    result.figures.extend(figures(name, readout, std::slice::from_ref(&heads), &meter));
                    result.plots.push(heads.confusion(readout));
                    all.push(heads);
                }
                Err(Undefined(reason)) => {
                    let name = format!("macro accuracy, {}", readout.name());
                    let count = labelled.rows.len();
                    result.figures.push(Figure::undefined(labelled.name, &name, Unit::Share, count, reason));
                }
            }
        }
        if all.len() < pairs.findings.len() {
            result.notes.push(format!(
                "mean, {}: of {} of {} findings",
                readout.name(),
                all.len(),
                pairs.findings.len()
            ));
        }
        if !all.is_empty() {
            result.figures.extend(figures("mean", readout, &all, &meter));
        }
    }
    // In the order of the findings; the mean comes last.
    let index_of = |figure: &Figure| pairs.findings.iter().position(|finding| finding.0 == figure.group);
    result.figures.sort_by_key(|figure| index_of(figure).unwrap_or(pairs.findings.len()));
    Ok(result)
}

impl Readout {
    pub(super) fn name(self) -> &'static str {
        match self {
            Readout::Concatenation => "concatenation",
            Readout::Difference => "difference",
        }
    }

    /// `[m, 2D]` of some pairs.
    pub(super) fn features(self, pairs: &ImagePairs, rows: &[usize]) -> Result<Vectors> {
        let (previous, current) = (pairs.previous.select(rows), pairs.current.select(rows));
        match self {
            Readout::Concatenation => Vectors::concatenate(&previous, &current),
            Readout::Difference => {
                let values = current.values().iter().zip(previous.values()).map(|(c, p)| c - p);
                let change = Vectors::new(values.collect(), current.width())?;
                let size = Vectors::new(change.values().iter().map(|x| x.abs()).collect(), current.width())?;
                Vectors::concatenate(&change, &size)
            }
        }
    }
}

/// 70, 10 and 20 % of the subjects.
pub(super) fn splits(subjects: &[String], seed: u32) -> Vec<ProbeSplit> {
    let mut order: Vec<&String> = subjects.iter().collect();
    order.sort_unstable();
    order.dedup();
    NumpyRandom::new(seed).shuffle(&mut order);
    let share = |percent: usize| (order.len() * percent + 50) / 100;
    let (training, validation) = (share(70), share(80));
    let split_of: std::collections::HashMap<&String, ProbeSplit> = order
        .iter()
        .enumerate()
        .map(|(index, &subject)| match index {
            index if index < training => (subject, ProbeSplit::Training),
            index if index < validation => (subject, ProbeSplit::Validation),
            _ => (subject, ProbeSplit::Test),
        })
        .collect();
    subjects.iter().map(|subject| split_of[subject]).collect()
}

/// The heads of a finding, or why there are none.
fn heads<'a>(
    pairs: &ImagePairs,
    labelled: &Labelled<'a>,
    readout: Readout,
    splits: &[Vec<ProbeSplit>],
) -> Result<Result<Heads<'a>, Undefined>> {
    if labelled.rows.is_empty() {
        return Ok(Err(Undefined("no pair has a course".into())));
    }
    if let Some(reason) = labelled.trouble() {
        return Ok(Err(Undefined(reason)));
    }
    let features = readout.features(pairs, &labelled.rows)?;
    let seeds: Result<Vec<Tested>, Undefined> = SEEDS
        .into_par_iter()
        .zip(splits)
        .map(|(seed, splits)| {
            let of = |split: ProbeSplit| -> Vec<usize> {
                (0..labelled.rows.len()).filter(|&n| splits[labelled.rows[n]] == split).collect()
            };
            let (training, validation, test) =
                (of(ProbeSplit::Training), of(ProbeSplit::Validation), of(ProbeSplit::Test));
            if test.is_empty() {
                return Err(Undefined(format!("no test pair with the seed {seed}")));
            }
            let first = training.first().map(|&n| labelled.truth[n]);
            if training.iter().all(|&n| Some(labelled.truth[n]) == first) {
                return Err(Undefined(format!("with the seed {seed} the training pairs do not have two courses")));
            }
            let said = said(&features, &labelled.truth, Course::COUNT, &training, &validation, &test);
            let truth = test.iter().map(|&n| labelled.truth[n]).collect();
            Ok(Tested { rows: test.iter().map(|&n| labelled.rows[n]).collect(), truth, said })
        })
        .collect();
    Ok(seeds.map(|seeds| Heads { finding: labelled.name, seeds }))
}

/// The classes of test pairs by the head that does best on the validation pairs; of equally good
/// ones the most regular.
///
/// * `truth`: the class, below `count`, of each row of the features; the others are numbers of
///   rows.
pub(super) fn said(
    features: &Vectors,
    truth: &[usize],
    count: usize,
    training: &[usize],
    validation: &[usize],
    test: &[usize],
) -> Vec<usize> {
    let products = Products::standardised(features, training);
    let classes =
        |head: &Logistic, rows: &[usize]| -> Vec<usize> { rows.iter().map(|&n| head.class(&products, n)).collect() };
    let judged: Vec<usize> = validation.iter().map(|&n| truth[n]).collect();
    let ones = vec![1.0; validation.len()];
    let (mut last, mut best): (Option<Logistic>, Option<(f64, Vec<usize>)>) = (None, None);
    for strength in STRENGTHS {
        let head = Logistic::fit(&products, training, truth, count, strength, last.as_ref());
        let matrix = ConfusionMatrix::new(&judged, &classes(&head, validation), &ones, count);
        let merit = matrix.macro_accuracy().unwrap_or(0.0);
        if best.as_ref().is_none_or(|(most, _)| merit > *most) {
            best = Some((merit, classes(&head, test)));
        }
        last = Some(head);
    }
    best.map_or_else(Vec::new, |(_, said)| said)
}

impl Tested {
    fn matrix(&self, of_pairs: &[f64]) -> ConfusionMatrix {
        let weights: Vec<f64> = self.rows.iter().map(|&row| of_pairs[row]).collect();
        ConfusionMatrix::new(&self.truth, &self.said, &weights, Course::COUNT)
    }
}

impl Heads<'_> {
    /// Counts of all seeds.
    fn confusion(&self, readout: Readout) -> Plot {
        let of =
            |values: fn(&Tested) -> &[usize]| -> Vec<usize> { self.seeds.iter().flat_map(&values).copied().collect() };
        let (truth, said) = (of(|tested| &tested.truth), of(|tested| &tested.said));
        let counts = ConfusionMatrix::new(&truth, &said, &vec![1.0; truth.len()], Course::COUNT).counts;
        let title = format!("{}, {}, all seeds", words(self.finding), readout.name());
        Plot::Confusion { title, classes: Course::names(), counts }
    }
}

/// Means over findings, then over seeds, and the deviation over seeds.
fn figures(group: &str, readout: Readout, findings: &[Heads<'_>], meter: &Meter<'_>) -> Vec<Figure> {
    let mut used: Vec<usize> =
        findings.iter().flat_map(|heads| &heads.seeds).flat_map(|tested| &tested.rows).copied().collect();
    used.sort_unstable();
    used.dedup();
    let of_seed = |seed: usize, weights: &[f64], statistic: Statistic| {
        mean_of_all(findings.iter().map(|heads| statistic(&heads.seeds[seed].matrix(weights))))
    };
    let mut figures = Vec::new();
    for (name, chance, statistic) in STATISTICS {
        let name = format!("{name}, {}", readout.name());
        let made = meter.figure_of(group, &name, Unit::Share, &used, "no test pairs", &|weights| {
            mean_of_all((0..SEEDS.len()).map(|seed| of_seed(seed, weights, statistic)))
        });
        figures.push(Figure { chance, ..made });
    }
    let ones = vec![1.0; used.last().map_or(0, |last| last + 1)];
    let each: Vec<f64> =
        (0..SEEDS.len()).filter_map(|seed| of_seed(seed, &ones, ConfusionMatrix::macro_accuracy)).collect();
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    let deviation = (each.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (each.len() as f64 - 1.0)).sqrt();
    let name = format!("deviation of macro accuracy over seeds, {}", readout.name());
    figures.push(match deviation.is_finite() {
        true => Figure::plain(group, &name, Unit::Share, deviation, used.len()),
        false => Figure::undefined(group, &name, Unit::Share, used.len(), "fewer than two seeds have test pairs"),
    });
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_parted_whole_in_the_shares_that_the_papers_state() {
        let subjects: Vec<String> = (0..300).map(|row| format!("s{}", row % 100)).collect();
        for seed in SEEDS {
            let splits = splits(&subjects, seed);
            let count = |split: ProbeSplit| splits.iter().filter(|&&other| other == split).count();
            assert_eq!([ProbeSplit::Training, ProbeSplit::Validation, ProbeSplit::Test].map(count), [210, 30, 60]);
            assert!((0..100).all(|row| splits[row] == splits[row + 100] && splits[row] == splits[row + 200]));
        }
        assert_ne!(splits(&subjects, 42), splits(&subjects, 123));
    }
}
