//! Temporal image classification: is a finding improving, stable or worsening between two images?
//!
//! A linear SVM (C = 1, one against one) on the embeddings of both images side by side (paper,
//! section 4.2; MS-CXR-T).
//!
//! * Strict: subject-grouped stratified folds, macro accuracy as the benchmark defines it, with
//!   intervals; and what happens when the pair is turned round, or when an image is compared with
//!   itself.
//! * Reference: plain accuracy, the mean over 5 and 10 stratified folds in the order of the rows
//!   and shuffled with the seeds 42, 100 and 666. One subject's pairs are in training and test at
//!   once.
//! * Literature: `linear_heads`.

use super::{Input, Undefined, linear_heads, mean_of_all};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::folds;
use crate::eval::pairs::{ImagePairs, Labelled};
use crate::eval::published;
use crate::eval::result::{Curve, Example, Figure, Meter, Plot, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::eval::svm::{Decision, Kernel, cross_validate};
use crate::labels::{Course, words};
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::{ConfusionMatrix, Ranking};

/// Folds of the strict protocol.
const FOLDS: usize = 10;
/// The reference's.
const REFERENCE_FOLDS: [usize; 2] = [5, 10];
const REFERENCE_SEEDS: [u32; 3] = [42, 100, 666];

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemporalImage<'a> {
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// Decisions of the classifiers about the pairs of a finding.
struct Decided<'a> {
    labelled: Labelled<'a>,
    forward: Vec<Decision>,
    /// Decisions about the pairs with their images exchanged.
    backward: Vec<Decision>,
    /// Decisions about the current image paired with itself.
    alone: Vec<Decision>,
    /// For each course, the ranking against the others; sorted once for all replicates.
    rankings: [Ranking; Course::COUNT],
}

impl TemporalImage<'_> {
    /// # Errors
    /// No pairs, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, pairs: &ImagePairs) -> Result<TaskResult> {
        Input::check(&pairs.previous, "previous images")?;
        Input::check_like(&pairs.current, &pairs.previous, "current images")?;
        match self.protocol {
            Protocol::Strict => self.strict(pairs),
            Protocol::Reference => self.reference(pairs),
            Protocol::Literature => Ok(finish(linear_heads::evaluate(self, pairs)?, pairs)),
        }
    }

    fn reference(&self, pairs: &ImagePairs) -> Result<TaskResult> {
        let method = "linear SVM (C = 1) on the concatenated embeddings; plain accuracy, mean over stratified \
                      folds that ignore subjects";
        let mut result = TaskResult::new(Task::TemporalImage, self.protocol, method);
        let mut means: Vec<(String, Vec<f64>)> = Vec::new();
        for labelled in pairs.labelled().filter(|labelled| !labelled.rows.is_empty()) {
            let kernel = Kernel::linear(&concatenated_pairs(pairs, &labelled.rows, false))?;
            let count = labelled.rows.len();
            for folds in REFERENCE_FOLDS {
                for seed in [None].into_iter().chain(REFERENCE_SEEDS.map(Some)) {
                    let shuffled = seed.map_or(String::new(), |seed| format!(", shuffled with {seed}"));
                    let name = format!("accuracy, {folds} folds{shuffled}");
                    let scores = match (labelled.trouble(), folds::stratified(&labelled.truth, folds, seed)) {
                        (Some(reason), _) => Err(reason),
                        (None, Err(error)) => Err(error.to_string()),
                        (None, Ok(of)) => Ok(fold_accuracies(&kernel, &labelled.truth, &of)?),
                    };
                    let index = means.iter().position(|mean| mean.0 == name).unwrap_or_else(|| {
                        means.push((name.clone(), Vec::new()));
                        means.len() - 1
                    });
                    result.figures.push(match scores {
                        Ok(scores) => {
                            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                            means[index].1.push(mean);
                            Figure::plain(labelled.name, &name, Unit::Share, mean, count)
                        }
                        Err(reason) => Figure::undefined(labelled.name, &name, Unit::Share, count, reason),
                    });
                }
            }
        }
        let count = pairs.labelled().filter(|labelled| !labelled.rows.is_empty()).count();
        for (name, values) in means.iter().filter(|mean| !mean.1.is_empty()) {
            if values.len() < count {
                result.notes.push(format!("mean {name}: over {} of {count} findings", values.len()));
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            result.figures.push(Figure::plain("mean", name, Unit::Share, mean, pairs.subjects.len()));
        }
        Ok(finish(result, pairs))
    }

    fn strict(&self, pairs: &ImagePairs) -> Result<TaskResult> {
        let method = "linear SVM (C = 1, one against one) on the concatenated embeddings, subject-grouped \
                      stratified folds; reversed: the same classifiers on swapped pairs; unchanged: on an image \
                      paired with itself";
        let mut result = TaskResult::new(Task::TemporalImage, self.protocol, method);
        let clusters = Clusters::new(&pairs.subjects);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, pairs.current_rows());
        let mut all = Vec::new();
        for labelled in pairs.labelled() {
            let (name, count) = (labelled.name, labelled.rows.len());
            match self.decide(pairs, labelled)? {
                Ok((decided, note)) => {
                    result.notes.extend(note);
                    all.push(decided);
                }
                Err(Undefined(reason)) => {
                    result.figures.push(Figure::undefined(name, "macro accuracy", Unit::Share, count, reason));
                }
            }
        }
        for decided in &all {
            result.figures.extend(figures(decided, &meter));
        }
        if !all.is_empty() {
            if all.len() < pairs.findings.len() {
                let (some, count) = (all.len(), pairs.findings.len());
                result.notes.push(format!("mean over {some} of {count} findings"));
            }
            result.figures.extend(mean_figures(&all, &meter, pairs.subjects.len()));
        }
        for decided in &all {
            result.plots.extend(plots(decided));
            result.examples.extend(examples(decided, pairs));
        }
        Ok(finish(result, pairs))
    }

    /// Decisions for all pairs of a finding, or why there are none.
    fn decide<'a>(
        &self,
        pairs: &ImagePairs,
        labelled: Labelled<'a>,
    ) -> Result<Result<(Decided<'a>, Option<String>), Undefined>> {
        let (name, count) = (labelled.name, labelled.rows.len());
        let subjects: Vec<&str> = labelled.rows.iter().map(|&row| pairs.subjects[row].as_str()).collect();
        let different = Clusters::new(&subjects).count();
        let refuse = |reason: String| Ok(Err(Undefined(reason)));
        if count == 0 {
            return refuse("no pair has a label".into());
        }
        if let Some(reason) = labelled.trouble() {
            return refuse(reason);
        }
        if different < 2 {
            return refuse("all pairs belong to one subject, which leaves none to train on".into());
        }
        // Fewer subjects, or fewer pairs of the largest class, fill fewer folds.
        let largest =
            (0..Course::COUNT).map(|class| labelled.truth.iter().filter(|&&truth| truth == class).count()).max();
        let folds = FOLDS.min(different).min(largest.unwrap_or(0));
        let of = match folds::grouped(&labelled.truth, &subjects, folds.max(2)) {
            Ok(of) => of,
            Err(error) => return refuse(error.to_string()),
        };
        let features = concatenated_pairs(pairs, &labelled.rows, false);
        let kernel = Kernel::linear(&features)?;
        let current = pairs.current.select(&labelled.rows);
        let swapped = Kernel::against(&features, &concatenated_pairs(pairs, &labelled.rows, true));
        let same = Kernel::against(&features, &Vectors::concatenate(&current, &current)?);
        let mut decisions = cross_validate(&kernel, &[&swapped, &same], &labelled.truth, &of, Course::COUNT)?;
        let [alone, backward, forward] = [(); 3].map(|()| decisions.pop().unwrap_or_default());
        let mut notes = Vec::new();
        if folds < FOLDS {
            notes.push(format!("{folds} folds instead of {FOLDS}"));
        }
        let lacking = lacking_classes(&labelled.truth, &of);
        if lacking > 0 {
            notes.push(format!("the training rows of {lacking} folds do not have every course"));
        }
        let note = (!notes.is_empty()).then(|| format!("{name}: {}", notes.join("; ")));
        let rankings = Course::ALL.map(|course| {
            let scores: Vec<f64> = forward.iter().map(|decision| decision.scores[course.class()].max(-1e9)).collect();
            let positive: Vec<bool> = labelled.truth.iter().map(|&class| class == course.class()).collect();
            Ranking::new(&scores, &positive)
        });
        Ok(Ok((Decided { labelled, forward, backward, alone, rankings }, note)))
    }
}

/// `[m, 2D]`: the current image's vector followed by the previous one's, as in the reference, or
/// exchanged.
fn concatenated_pairs(pairs: &ImagePairs, rows: &[usize], exchanged: bool) -> Vectors {
    let (previous, current) = (pairs.previous.select(rows), pairs.current.select(rows));
    let (first, second) = if exchanged { (&previous, &current) } else { (&current, &previous) };
    Vectors::concatenate(first, second).expect("both were checked to have the same width and length")
}

/// Folds whose training rows lack a class that occurs.
fn lacking_classes(truth: &[usize], fold_of: &[usize]) -> usize {
    let folds = fold_of.iter().max().map_or(0, |most| most + 1);
    let lacks = |&fold: &usize| {
        truth.iter().any(|class| !truth.iter().zip(fold_of).any(|(other, of)| *of != fold && other == class))
    };
    (0..folds).filter(lacks).count()
}

/// The accuracy of each fold.
pub fn fold_accuracies(kernel: &Kernel, truth: &[usize], fold_of: &[usize]) -> Result<Vec<f64>> {
    let classes = truth.iter().max().map_or(0, |most| most + 1);
    let decisions = cross_validate(kernel, &[], truth, fold_of, classes)?.remove(0);
    let folds = fold_of.iter().max().map_or(0, |most| most + 1);
    let accuracy = |fold: usize| {
        let rows = || (0..truth.len()).filter(|&row| fold_of[row] == fold);
        rows().filter(|&row| decisions[row].class == truth[row]).count() as f64 / rows().count() as f64
    };
    Ok((0..folds).map(accuracy).collect())
}

fn classes(decisions: &[Decision]) -> Vec<usize> {
    decisions.iter().map(|decision| decision.class).collect()
}

impl Decided<'_> {
    fn matrix(&self, of_pairs: &[f64]) -> ConfusionMatrix {
        let weights = self.labelled.weights(of_pairs);
        ConfusionMatrix::new(&self.labelled.truth, &classes(&self.forward), &weights, Course::COUNT)
    }

    /// The weighted share of rows for which a condition is true.
    fn share(&self, of_pairs: &[f64], holds: impl Fn(usize) -> bool) -> Option<f64> {
        let weights = self.labelled.weights(of_pairs);
        let total: f64 = weights.iter().sum();
        let held: f64 = weights.iter().enumerate().filter(|(row, _)| holds(*row)).map(|(_, weight)| weight).sum();
        (total > 0.0).then(|| held / total)
    }

    /// How often the exchanged pair gets the reversed course.
    fn reversal(&self, of_pairs: &[f64]) -> Option<f64> {
        let reversed = |class: usize| Course::ALL[class].reversed().class();
        self.share(of_pairs, |row| self.backward[row].class == reversed(self.forward[row].class))
    }

    /// How often an image paired with itself is called stable.
    fn unchanged(&self, of_pairs: &[f64]) -> Option<f64> {
        self.share(of_pairs, |row| self.alone[row].class == Course::Stable.class())
    }

    /// Macro accuracy of exchanged pairs against reversed courses.
    fn reversed_accuracy(&self, of_pairs: &[f64]) -> Option<f64> {
        let truth: Vec<usize> =
            self.labelled.truth.iter().map(|&class| Course::ALL[class].reversed().class()).collect();
        let weights = self.labelled.weights(of_pairs);
        ConfusionMatrix::new(&truth, &classes(&self.backward), &weights, Course::COUNT).macro_accuracy()
    }

    /// Area under the curve of a course against the others.
    fn auroc(&self, of_pairs: &[f64], course: Course) -> Option<f64> {
        self.rankings[course.class()].auroc(&self.labelled.weights(of_pairs))
    }

    /// The mean over the courses that occur.
    fn mean_auroc(&self, of_pairs: &[f64]) -> Option<f64> {
        let areas: Vec<f64> = Course::ALL.into_iter().filter_map(|course| self.auroc(of_pairs, course)).collect();
        (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
    }
}

type Statistic = fn(&Decided<'_>, &[f64]) -> Option<f64>;

/// Name, unit, what guessing gives, and the statistic.
const STATISTICS: [(&str, Unit, Option<f64>, Statistic); 7] = [
    ("macro accuracy", Unit::Share, Some(1.0 / 3.0), |of, weights| of.matrix(weights).macro_accuracy()),
    ("accuracy", Unit::Share, None, |of, weights| of.matrix(weights).accuracy()),
    ("macro F1", Unit::Share, None, |of, weights| of.matrix(weights).macro_f1()),
    ("AUROC, mean of courses", Unit::Number, Some(0.5), |of, weights| of.mean_auroc(weights)),
    ("reversal consistency", Unit::Share, None, |of, weights| of.reversal(weights)),
    ("macro accuracy, reversed", Unit::Share, Some(1.0 / 3.0), |of, weights| of.reversed_accuracy(weights)),
    ("unchanged called stable", Unit::Share, None, |of, weights| of.unchanged(weights)),
];

fn figures(decided: &Decided<'_>, meter: &Meter<'_>) -> Vec<Figure> {
    let Labelled { name, rows, .. } = &decided.labelled;
    let of = |&(figure, unit, chance, statistic): &(&str, Unit, Option<f64>, Statistic)| {
        let made = meter.figure_of(name, figure, unit, rows, "no pairs", &|weights| statistic(decided, weights));
        Figure { chance, ..made }
    };
    STATISTICS.iter().map(of).collect()
}

fn mean_figures(all: &[Decided<'_>], meter: &Meter<'_>, rows: usize) -> Vec<Figure> {
    let of = |&(figure, unit, chance, statistic): &(&str, Unit, Option<f64>, Statistic)| {
        let made = meter.figure("mean", figure, unit, rows, "undefined for a finding", &|weights| {
            mean_of_all(all.iter().map(|decided| statistic(decided, weights)))
        });
        Figure { chance, ..made }
    };
    STATISTICS.iter().map(of).collect()
}

fn plots(decided: &Decided<'_>) -> Vec<Plot> {
    let ones = vec![1.0; decided.labelled.rows.iter().max().map_or(0, |most| most + 1)];
    let name = words(decided.labelled.name);
    let curve = |course: Course| {
        let points = decided.rankings[course.class()].curve();
        let auroc = decided.auroc(&ones, course);
        (!points.is_empty()).then(|| Curve { name: course.name().into(), auroc, points })
    };
    vec![
        Plot::Confusion { title: name.clone(), classes: Course::names(), counts: decided.matrix(&ones).counts },
        Plot::Roc { title: name, curves: Course::ALL.into_iter().filter_map(curve).collect() },
    ]
}

/// The most and the least convincing pairs of a finding: by how far the true course is ahead of the
/// best other one.
fn examples(decided: &Decided<'_>, pairs: &ImagePairs) -> Vec<Example> {
    let truth = &decided.labelled.truth;
    let lead = |row: usize| {
        let scores = &decided.forward[row].scores;
        let others = (0..Course::COUNT).filter(|&class| class != truth[row]).map(|class| scores[class]);
        scores[truth[row]] - others.fold(f64::NEG_INFINITY, f64::max)
    };
    let scores: Vec<f64> = (0..truth.len()).map(lead).collect();
    // One of each kind a finding: five findings would fill pages.
    let mut chosen = extremes(&scores);
    chosen.dedup_by_key(|(kind, _)| *kind);
    let finding = words(decided.labelled.name);
    let example = |(kind, row): (_, usize)| {
        let (actual, predicted) = (Course::ALL[truth[row]].name(), Course::ALL[decided.forward[row].class].name());
        let caption = format!("{finding}: {actual}; predicted {predicted}");
        Example::new(kind, caption, pairs.studies[decided.labelled.rows[row]]).looking_for(finding.clone())
    };
    chosen.into_iter().map(example).collect()
}

fn finish(mut result: TaskResult, pairs: &ImagePairs) -> TaskResult {
    result.rows = pairs.subjects.len();
    result.subjects = Clusters::new(&pairs.subjects).count();
    for figure in &mut result.figures {
        figure.published = published::values(Task::TemporalImage, &figure.group, &figure.name);
    }
    result
}
