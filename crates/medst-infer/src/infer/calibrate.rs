//! Calibration: from scores to probabilities that were seen to hold.
//!
//! Cosines of contrastive models order images; as probabilities they are off. On images with
//! labels, `p = σ(a·score + b)` is fitted for each finding (Platt, 1999, with his smoothed
//! targets), and for exclusive classes `softmax(a·cosine + b_c)`. How far the probabilities are
//! off, before and after, is measured on subjects that a fit did not see (five folds), and kept in
//! the file.
//!
//! A calibration holds for the weights and the sentences that it was made with, and is refused with
//! others.

use std::collections::BTreeMap;
use std::path::Path;

use medst_data::files::whole;
use medst_data::gather::{FoundStudy, Gathered};
use medst_data::input;
use serde::{Deserialize, Serialize};

use super::classes::{ClassKind, Classes, Prototypes};
use super::engine::Engine;
use super::logistic::{self, Observation, softmax};
use super::stream::Collected;
use crate::labels::{prompts, truth, words};
use crate::loss::config::GlobalTemperature;
use crate::stats::metrics;
use crate::{Error, Result};

const FORMAT: &str = "medst-calibration";
/// Fewer labelled images of a side say too little.
const FEWEST: usize = 5;
const FOLDS: usize = 5;
/// Keeps fits of separable data finite.
const RIDGE: f64 = 1e-3;

/// A calibration of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    format: String,
    version: u32,
    /// SHA-256 of the weights.
    pub model: String,
    /// [`Classes::checksum`].
    pub classes: String,
    pub kind: ClassKind,
    /// What it was fitted on.
    pub source: String,
    pub fits: Vec<Fit>,
}

/// The calibration of a finding, or of all exclusive classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    pub name: String,
    /// `a`.
    pub scale: f64,
    /// `b`, or `b_c` of each class.
    pub shifts: Vec<f64>,
    /// Images that show each class; for a finding those that lack it, then those that show it.
    pub counts: Vec<usize>,
    /// On subjects that were not fitted.
    pub before: Quality,
    pub after: Quality,
}

/// How good probabilities are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean of −ln of the probability of what was true.
    pub log_loss: f64,
    /// Expected calibration error over 15 bins (Guo et al., ICML 2017).
    pub calibration_error: f64,
}

/// Probabilities of classes from their scores, without calibration: at the contrastive loss'
/// temperature.
pub fn uncalibrated(kind: ClassKind, scores: &[f64]) -> Vec<f64> {
    let temperature = GlobalTemperature::START;
    match kind {
        ClassKind::Findings => scores.iter().map(|score| sigmoid(score / temperature)).collect(),
        ClassKind::Exclusive => softmax(&scores.iter().map(|score| score / temperature).collect::<Vec<f64>>()),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Calibration {
    /// Probabilities of classes from their scores.
    pub fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        match self.kind {
            ClassKind::Findings => {
                let probability = |(score, fit): (&f64, &Fit)| sigmoid(fit.scale * score + fit.shifts[0]);
                scores.iter().zip(&self.fits).map(probability).collect()
            }
            ClassKind::Exclusive => {
                let fit = &self.fits[0];
                softmax(&scores.iter().zip(&fit.shifts).map(|(s, b)| fit.scale * s + b).collect::<Vec<f64>>())
            }
        }
    }

    /// Reads a file and checks that it belongs to the model and the sentences.
    ///
    /// # Errors
    /// Names the file, and what differs.
    pub fn read(path: &Path, engine: &Engine, classes: &Classes) -> Result<Calibration> {
        let read = Calibration::open(path, engine)?;
        if !read.belongs_to(classes) {
            let message = "was fitted for other classes or sentences; fit a new one with --fit-calibration";
            return Err(Error::Input(format!("{}: {message}", path.display())));
        }
        Ok(read)
    }

    /// Reads a file and checks that it belongs to the model.
    ///
    /// # Errors
    /// Names the file, and what differs.
    pub fn open(path: &Path, engine: &Engine) -> Result<Calibration> {
        let fail = |message: String| Err(Error::Input(format!("{}: {message}", path.display())));
        let bytes = input::read(path, input::TEXT).map_err(Error::io(path))?;
        let read: Calibration = match serde_json::from_slice(&bytes) {
            Ok(read) => read,
            Err(error) => return fail(format!("not a calibration: {error}")),
        };
        if read.format != FORMAT || read.version != 1 {
            return fail(format!(
                "its format is `{}` version {}; this program reads version 1",
                read.format, read.version
            ));
        }
        if read.model != engine.checksum() {
            return fail("was fitted with another model; fit a new one with --fit-calibration".into());
        }
        Ok(read)
    }

    /// Whether it was made with these classes and sentences.
    pub fn belongs_to(&self, classes: &Classes) -> bool {
        let fits = match self.kind {
            ClassKind::Findings => {
                self.fits.len() == classes.classes.len() && self.fits.iter().all(|fit| fit.shifts.len() == 1)
            }
            ClassKind::Exclusive => self.fits.len() == 1 && self.fits[0].shifts.len() == classes.classes.len(),
        };
        self.kind == classes.kind && self.classes == classes.checksum() && fits
    }

    /// Writes it; the file appears whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::io(path)(error.into()))?;
        Ok(whole::write(path, &text)?)
    }

    /// Fits a calibration on studies whose labels state the classes.
    ///
    /// * `label`: for exclusive classes, the column whose values are their names.
    ///
    /// # Errors
    /// A class that no label states, or that too few images show or lack; the message names it.
    pub fn fit(
        engine: &Engine,
        prototypes: &Prototypes,
        gathered: &Gathered,
        collected: &Collected,
        label: Option<&str>,
        source: String,
    ) -> Result<Calibration> {
        let classes = &prototypes.classes;
        let seen = collected.studies.iter().zip(&collected.image_of);
        let scored: Vec<ScoredStudy> = seen
            .filter_map(|(&n, row)| {
                let scores = prototypes.scores(collected.images.row((*row)?));
                Some(ScoredStudy { study: &gathered.studies[n], scores })
            })
            .collect();
        let fits = match classes.kind {
            ClassKind::Findings => {
                let each = classes.classes.iter().enumerate();
                each.map(|(n, class)| finding(&class.name, n, &scored)).collect::<Result<Vec<Fit>>>()?
            }
            ClassKind::Exclusive => vec![exclusive(classes, label, &scored)?],
        };
        Ok(Calibration {
            format: FORMAT.into(),
            version: 1,
            model: engine.checksum().to_string(),
            classes: classes.checksum(),
            kind: classes.kind,
            source,
            fits,
        })
    }
}

/// A labelled image, or pair of images.
pub(super) struct Row<'a> {
    pub scores: Vec<f64>,
    /// Number of the class that is true.
    pub truth: usize,
    pub subject: &'a str,
}

/// A study with its score for each class.
struct ScoredStudy<'a> {
    study: &'a FoundStudy,
    scores: Vec<f64>,
}

/// The label of a finding in a study, whatever its column's spelling.
fn finding_label(study: &FoundStudy, name: &str) -> Option<bool> {
    let wanted = words(name);
    let meaning = |column: &str| prompts::finding(column).unwrap_or_else(|| words(column));
    let cell = study.labels.iter().find(|(column, _)| meaning(column) == wanted)?;
    truth::binary(cell.1).ok().flatten()
}

/// * `class`: the number of the finding among the classes.
fn finding(name: &str, class: usize, scored: &[ScoredStudy]) -> Result<Fit> {
    let mut rows: Vec<Row> = Vec::new();
    for ScoredStudy { study, scores } in scored {
        if let Some(present) = finding_label(study, name) {
            rows.push(Row { scores: vec![scores[class]], truth: usize::from(present), subject: subject(study) });
        }
    }
    let counts = counts(&rows, 2);
    enough(name, &["absent", "present"], &counts)?;
    let design = |scores: &[f64]| vec![vec![0.0, 0.0], vec![scores[0], 1.0]];
    // Platt's targets.
    let high = (counts[1] as f64 + 1.0) / (counts[1] as f64 + 2.0);
    let low = 1.0 / (counts[0] as f64 + 2.0);
    let target = |truth: usize| if truth == 1 { vec![1.0 - high, high] } else { vec![1.0 - low, low] };
    let start = [1.0 / GlobalTemperature::START, 0.0];
    fitted(name, &rows, 2, &start, design, target)
}

fn exclusive(classes: &Classes, label: Option<&str>, scored: &[ScoredStudy]) -> Result<Fit> {
    let label = label
        .ok_or_else(|| Error::Input("--label is required: the column that contains the class of each study".into()))?;
    let names: Vec<String> = classes.names().iter().map(|name| words(name)).collect();
    let mut rows: Vec<Row> = Vec::new();
    for ScoredStudy { study, scores } in scored {
        let value = study.labels.get(label).map(|value| words(value));
        if let Some(truth) = names.iter().position(|name| Some(name) == value.as_ref()) {
            rows.push(Row { scores: scores.clone(), truth, subject: subject(study) });
        }
    }
    let count = names.len();
    let shown: Vec<&str> = classes.names();
    enough(label, &shown, &counts(&rows, count))?;
    let design = |scores: &[f64]| {
        let probability = |(class, score): (usize, &f64)| {
            let mut row = vec![0.0; count + 1];
            (row[0], row[class + 1]) = (*score, 1.0);
            row
        };
        scores.iter().enumerate().map(probability).collect()
    };
    let target = |truth: usize| (0..count).map(|class| f64::from(u8::from(class == truth))).collect();
    let mut start = vec![0.0; count + 1];
    start[0] = 1.0 / GlobalTemperature::START;
    fitted(label, &rows, count, &start, design, target)
}

fn subject(study: &FoundStudy) -> &str {
    study.subject.as_deref().unwrap_or(&study.id)
}

/// How many rows each class has.
pub(super) fn counts(rows: &[Row], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    rows.iter().for_each(|row| counts[row.truth] += 1);
    counts
}

/// Refuses labels that say too little.
pub(super) fn enough(name: &str, sides: &[&str], counts: &[usize]) -> Result<()> {
    match sides.iter().zip(counts).find(|(_, count)| **count < FEWEST) {
        None => Ok(()),
        Some((side, count)) => Err(Error::Evaluation(format!(
            "{name}: only {count} rows are labelled `{side}`; a calibration needs at least {FEWEST} of each kind"
        ))),
    }
}

/// Fits all rows; measures on subjects that a fit did not see.
pub(super) fn fitted(
    name: &str,
    rows: &[Row],
    classes: usize,
    start: &[f64],
    design: impl Fn(&[f64]) -> Vec<Vec<f64>>,
    target: impl Fn(usize) -> Vec<f64>,
) -> Result<Fit> {
    let observation = |row: &Row| Observation { design: design(&row.scores), target: target(row.truth) };
    let fit = |chosen: &dyn Fn(&Row) -> bool| -> Vec<f64> {
        let observations: Vec<Observation> = rows.iter().filter(|row| chosen(row)).map(observation).collect();
        logistic::fit(&observations, start, RIDGE)
    };
    let mut folds: BTreeMap<&str, usize> = rows.iter().map(|row| (row.subject, 0)).collect();
    folds.values_mut().enumerate().for_each(|(n, fold)| *fold = n % FOLDS);
    let by_fold: Vec<Vec<f64>> = (0..FOLDS).map(|fold| fit(&|row: &Row| folds[row.subject] != fold)).collect();
    let quality = |parameters: &dyn Fn(&Row) -> Vec<f64>| {
        let probabilities: Vec<Vec<f64>> =
            rows.iter().map(|row| logistic::probabilities(&design(&row.scores), &parameters(row))).collect();
        let truth: Vec<usize> = rows.iter().map(|row| row.truth).collect();
        let loss = probabilities.iter().zip(&truth).map(|(p, &t)| -p[t].max(1e-12).ln()).sum::<f64>();
        let calibration = metrics::Calibration::new(&probabilities, &truth);
        Quality {
            log_loss: loss / rows.len() as f64,
            calibration_error: calibration.error(&vec![1.0; rows.len()]).unwrap_or_default(),
        }
    };
    let parameters = fit(&|_: &Row| true);
    Ok(Fit {
        name: name.to_string(),
        scale: parameters[0],
        shifts: parameters[1..].to_vec(),
        counts: counts(rows, classes),
        before: quality(&|_: &Row| start.to_vec()),
        after: quality(&|row: &Row| by_fold[folds[row.subject]].clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(n: usize, score: f64, there: bool) -> (FoundStudy, Vec<f64>) {
        let mut labels = BTreeMap::new();
        labels.insert("Pleural Effusion".to_string(), u8::from(there).to_string());
        labels.insert("class".to_string(), if there { "wet" } else { "dry" }.to_string());
        let mut study = FoundStudy::new(n.to_string());
        study.labels = labels;
        (study, vec![score, -score])
    }

    /// Scores that say too much: the odds are those of a tenth of them.
    fn studies() -> Vec<(FoundStudy, Vec<f64>)> {
        (0..400)
            .map(|n| {
                let score = (n % 20) as f64 / 10.0 - 0.95;
                let p = sigmoid(2.0 * score + 0.5);
                // Deterministic draws in the proportion p.
                study(n, score, ((n / 20) as f64 + 0.5) / 20.0 < p)
            })
            .collect()
    }

    fn scored(studies: &[(FoundStudy, Vec<f64>)]) -> Vec<ScoredStudy<'_>> {
        studies.iter().map(|(study, scores)| ScoredStudy { study, scores: scores.clone() }).collect()
    }

    #[test]
    fn a_calibration_finds_the_odds_and_betters_unseen_subjects() {
        let all = studies();
        let scored = scored(&all);
        let fit = finding("pleural effusion", 0, &scored).unwrap();
        assert!((fit.scale - 2.0).abs() < 0.2 && (fit.shifts[0] - 0.5).abs() < 0.2, "{fit:?}");
        assert!(fit.after.log_loss < fit.before.log_loss && fit.after.calibration_error < fit.before.calibration_error);
        let names = ["dry".to_string(), "wet".to_string()];
        let classes = Classes::from_names(ClassKind::Exclusive, &names).unwrap();
        let swapped: Vec<ScoredStudy> = scored
            .iter()
            .map(|ScoredStudy { study, scores }| ScoredStudy { study, scores: vec![scores[1], scores[0]] })
            .collect();
        let fit = exclusive(&classes, Some("class"), &swapped).unwrap();
        let p = softmax(&[-0.5 * fit.scale + fit.shifts[0], 0.5 * fit.scale + fit.shifts[1]])[1];
        assert!((p - sigmoid(2.0 * 0.5 + 0.5)).abs() < 0.05, "{p} {fit:?}");
    }

    #[test]
    fn too_few_labels_are_an_error_that_names_the_side() {
        let all: Vec<_> = (0..20).map(|n| study(n, 0.1, n < 3)).collect();
        let scored = scored(&all);
        let error = finding("pleural effusion", 0, &scored).unwrap_err().to_string();
        assert!(error.contains("`present`") && error.contains('3'), "{error}");
        assert!(finding("edema", 0, &scored).is_err());
        let classes = Classes::from_names(ClassKind::Exclusive, &["dry".into(), "wet".into()]).unwrap();
        assert!(exclusive(&classes, None, &scored).unwrap_err().to_string().contains("--label"));
    }
}
