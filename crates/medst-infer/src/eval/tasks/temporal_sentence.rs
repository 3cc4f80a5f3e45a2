//! Temporal sentence similarity: do two sentences describe the same course, or contradict each
//! other (MS-CXR-T)?
//!
//! The score is the cosine of both sentences' embeddings.
//!
//! * Strict: AUROC, and accuracy with the threshold that is best on the training folds; sentences
//!   that share their first sentence stay in one fold and are drawn together for intervals.
//! * Reference: AUROC, and accuracy of all pairs with the threshold of that fold, of 10, which has
//!   the best accuracy on its *test* part; thresholds 0, 0.01, … 1.

use super::{Input, dot};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::folds;
use crate::eval::published;
use crate::eval::result::{Curve, Example, Figure, Meter, Plot, Protocol, Task, TaskResult, Unit, extremes};
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::{ConfusionMatrix, Ranking};

const FOLDS: usize = 10;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemporalSentence {
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
}

/// `n` pairs of sentences.
#[derive(Clone, Debug)]
pub struct SentencePairs {
    /// `[n, D]`.
    pub first: Vectors,
    /// `[n, D]`.
    pub second: Vectors,
    /// Both sentences of each pair.
    pub texts: Vec<[String; 2]>,
    /// Whether both say the same; otherwise they contradict each other.
    pub paraphrase: Vec<bool>,
    /// The part of the benchmark, such as RadGraph or swaps.
    pub subsets: Vec<String>,
}

impl TemporalSentence {
    /// # Errors
    /// No pairs, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, pairs: &SentencePairs) -> Result<TaskResult> {
        Input::check(&pairs.first, "first sentences")?;
        Input::check_like(&pairs.second, &pairs.first, "second sentences")?;
        Input::check_count(pairs.paraphrase.len(), &pairs.first, "labels of sentences")?;
        let method = match self.protocol {
            Protocol::Strict | Protocol::Literature => "cosine of both embeddings; thresholds from training folds only",
            Protocol::Reference => "cosine of both embeddings; the threshold of the fold with the best test accuracy",
        };
        let mut result = TaskResult::new(Task::TemporalSentence, self.protocol, method);
        let (first, second) = (pairs.first.unit(), pairs.second.unit());
        let scores: Vec<f64> = first.rows().zip(second.rows()).map(|(a, b)| dot(a, b)).collect();
        let clusters = Clusters::new(pairs.texts.iter().map(|pair| &pair[0]));
        result.rows = scores.len();
        result.subjects = clusters.count();
        let mut subsets: Vec<&str> = pairs.subsets.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        subsets.sort_unstable();
        subsets.dedup();
        let mut curves = Vec::new();
        let parts = [None].into_iter().chain(subsets.into_iter().map(Some));
        for subset in parts {
            let rows: Vec<usize> =
                (0..scores.len()).filter(|&row| subset.is_none_or(|subset| pairs.subsets[row] == subset)).collect();
            let subset = SentenceSubset {
                name: subset.unwrap_or("all"),
                scores: rows.iter().map(|&row| scores[row]).collect(),
                positive: rows.iter().map(|&row| pairs.paraphrase[row]).collect(),
                sentences: rows.iter().map(|&row| pairs.texts[row][0].as_str()).collect(),
            };
            result.figures.extend(self.figures(&subset));
            let ranking = Ranking::new(&subset.scores, &subset.positive);
            let points = ranking.curve();
            if !points.is_empty() {
                let auroc = ranking.auroc(&vec![1.0; rows.len()]);
                curves.push(Curve { name: subset.name.into(), auroc, points });
            }
        }
        if !curves.is_empty() {
            result.plots.push(Plot::Roc { title: "paraphrase or contradiction".into(), curves });
        }
        let right: Vec<f64> =
            scores.iter().zip(&pairs.paraphrase).map(|(score, same)| if *same { *score } else { -score }).collect();
        result.examples = extremes(&right)
            .into_iter()
            .map(|(kind, row)| {
                let kindred = if pairs.paraphrase[row] { "paraphrase" } else { "contradiction" };
                let [one, other] = &pairs.texts[row];
                Example::new(kind, format!("{kindred}, cosine {:.2}: “{one}” “{other}”", scores[row]), [])
            })
            .collect();
        result.notes.push("subjects are counted as distinct first sentences".into());
        Ok(result)
    }

    fn figures(&self, subset: &SentenceSubset<'_>) -> Vec<Figure> {
        let clusters = Clusters::new(&subset.sentences);
        let meter = Meter::new(self.bootstrap, &clusters);
        let (rows, ranking) = (subset.scores.len(), Ranking::new(&subset.scores, &subset.positive));
        let one_class = "all pairs are paraphrases, or all are contradictions";
        let auroc = meter
            .figure(subset.name, "AUROC", Unit::Number, rows, one_class, &|weights| ranking.auroc(weights))
            .with_chance(0.5);
        let mut figures = vec![auroc];
        match self.protocol {
            Protocol::Strict | Protocol::Literature => {
                let (name, unit) = ("accuracy", Unit::Share);
                figures.push(match subset.decide() {
                    Ok(said) => {
                        let (truth, said): (Vec<usize>, Vec<usize>) =
                            subset.positive.iter().zip(&said).map(|(&t, &s)| (usize::from(t), usize::from(s))).unzip();
                        let accuracy = |w: &[f64]| ConfusionMatrix::new(&truth, &said, w, 2).accuracy();
                        let share = subset.positive.iter().filter(|&&same| same).count() as f64 / rows as f64;
                        meter
                            .figure(subset.name, name, unit, rows, one_class, &accuracy)
                            .with_chance(share.max(1.0 - share))
                    }
                    Err(error) => Figure::undefined(subset.name, name, unit, rows, error.to_string()),
                });
            }
            Protocol::Reference => {
                let name = (subset.name, "accuracy, reference threshold", Unit::Share);
                match reference_threshold(&subset.scores, &subset.positive) {
                    Ok((threshold, accuracy)) => {
                        figures.push(Figure::plain(name.0, name.1, name.2, accuracy, rows));
                        figures.push(Figure::plain(name.0, "threshold", Unit::Number, threshold, rows));
                    }
                    Err(error) => figures.push(Figure::undefined(name.0, name.1, name.2, rows, error.to_string())),
                }
            }
        }
        for figure in &mut figures {
            figure.published = published::values(Task::TemporalSentence, &figure.group, &figure.name);
        }
        figures
    }
}

struct SentenceSubset<'a> {
    name: &'a str,
    scores: Vec<f64>,
    positive: Vec<bool>,
    sentences: Vec<&'a str>,
}

impl SentenceSubset<'_> {
    /// Whether each pair is called a paraphrase, by the threshold of the folds it is not in.
    fn decide(&self) -> Result<Vec<bool>> {
        let classes: Vec<usize> = self.positive.iter().map(|&same| usize::from(same)).collect();
        let distinct = Clusters::new(&self.sentences).count();
        let fold_of = folds::grouped(&classes, &self.sentences, FOLDS.min(distinct).max(2))?;
        let mut said = vec![false; self.scores.len()];
        for fold in 0..=fold_of.iter().copied().max().unwrap_or(0) {
            let (test, training): (Vec<usize>, Vec<usize>) = (0..said.len()).partition(|&row| fold_of[row] == fold);
            let threshold = best_threshold(&self.scores, &self.positive, &training, &between(&self.scores, &training));
            test.into_iter().for_each(|row| said[row] = self.scores[row] > threshold);
        }
        Ok(said)
    }
}

/// A threshold below, between and above the scores of some rows.
fn between(scores: &[f64], rows: &[usize]) -> Vec<f64> {
    let mut sorted: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    let middle = sorted.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    [f64::NEG_INFINITY].into_iter().chain(middle).chain([f64::INFINITY]).collect()
}

fn best_threshold(scores: &[f64], positive: &[bool], rows: &[usize], candidates: &[f64]) -> f64 {
    let (scores, positive): (Vec<f64>, Vec<bool>) = rows.iter().map(|&row| (scores[row], positive[row])).unzip();
    Ranking::new(&scores, &positive).best_threshold(candidates).unwrap_or(0.0)
}

/// The reference's threshold and the accuracy of all rows with it: of the best thresholds of the
/// training parts of 10 stratified folds, the one whose fold has the best test accuracy.
///
/// # Errors
/// Fewer rows of both classes than folds.
pub fn reference_threshold(scores: &[f64], positive: &[bool]) -> Result<(f64, f64)> {
    let grid: Vec<f64> = (0..=100).map(|step| f64::from(step) * 0.01).collect();
    let classes: Vec<usize> = positive.iter().map(|&same| usize::from(same)).collect();
    let fold_of = folds::stratified(&classes, FOLDS, None)?;
    let accuracy = |rows: &[usize], threshold: f64| {
        rows.iter().filter(|&&row| (scores[row] > threshold) == positive[row]).count() as f64 / rows.len() as f64
    };
    let mut best: Option<(f64, f64)> = None;
    for fold in 0..FOLDS {
        let (test, training): (Vec<usize>, Vec<usize>) = (0..scores.len()).partition(|&row| fold_of[row] == fold);
        let threshold = best_threshold(scores, positive, &training, &grid);
        let tested = accuracy(&test, threshold);
        if best.is_none_or(|(most, _)| tested > most) {
            best = Some((tested, threshold));
        }
    }
    let threshold = best.map_or(0.0, |(_, threshold)| threshold);
    let all: Vec<usize> = (0..scores.len()).collect();
    Ok((threshold, accuracy(&all, threshold)))
}
