//! Zero-shot classification of images by the sentences of classes (paper, section 4).

use std::fmt;

use medst_data::gather::{Gathered, LeftOut};
use serde::Serialize;

use super::calibrate::{self, Calibration};
use super::classes::{ClassKind, Prototypes};
use super::stream::{Collected, NoteCounts};
use super::table::write_remarks;

/// What a model says of images.
#[derive(Clone, Debug, Serialize)]
pub struct Classified {
    pub kind: ClassKind,
    pub classes: Vec<String>,
    /// What the probabilities were calibrated on; without it they only order images.
    pub calibrated_on: Option<String>,
    pub studies: Vec<ClassifiedStudy>,
    pub left_out: Vec<LeftOut>,
    /// Pictures by what should be known of how they were read.
    pub notes: NoteCounts,
}

/// What it says of one study's images.
#[derive(Clone, Debug, Serialize)]
pub struct ClassifiedStudy {
    pub study: String,
    /// By class: cosine to the sentences that affirm it; for findings, minus the cosine to those
    /// that deny it.
    pub scores: Vec<f64>,
    /// By class; of exclusive classes they sum to 1.
    pub probabilities: Vec<f64>,
}

/// Probabilities of scores.
pub fn probabilities(kind: ClassKind, calibration: Option<&Calibration>, scores: &[f64]) -> Vec<f64> {
    match calibration {
        Some(calibration) => calibration.probabilities(scores),
        None => calibrate::uncalibrated(kind, scores),
    }
}

/// Classifies what was embedded.
pub fn classify(
    prototypes: &Prototypes,
    calibration: Option<&Calibration>,
    gathered: &Gathered,
    collected: &Collected,
) -> Classified {
    let kind = prototypes.classes.kind;
    let classify = |(&number, row): (&usize, &Option<usize>)| {
        let scores = prototypes.scores(collected.images.row((*row)?));
        let probabilities = probabilities(kind, calibration, &scores);
        Some(ClassifiedStudy { study: gathered.studies[number].id.clone(), scores, probabilities })
    };
    Classified {
        kind,
        classes: prototypes.classes.names().into_iter().map(str::to_string).collect(),
        calibrated_on: calibration.map(|calibration| calibration.source.clone()),
        studies: collected.studies.iter().zip(&collected.image_of).filter_map(classify).collect(),
        left_out: gathered.left_out.iter().chain(&collected.left_out).cloned().collect(),
        notes: collected.notes.clone(),
    }
}

impl fmt::Display for Classified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.studies.iter().map(|study| study.study.chars().count()).max().unwrap_or(0).clamp(5, 60);
        let widths: Vec<usize> = self.classes.iter().map(|class| class.chars().count().max(7)).collect();
        write!(f, "{:name$}", "study")?;
        for (class, width) in self.classes.iter().zip(&widths) {
            write!(f, "  {class:>width$}")?;
        }
        writeln!(f)?;
        for study in &self.studies {
            write!(f, "{:name$}", study.study)?;
            for (p, width) in study.probabilities.iter().zip(&widths) {
                write!(f, "  {:>width$}", format!("{:.1} %", 100.0 * p))?;
            }
            writeln!(f)?;
        }
        match &self.calibrated_on {
            Some(source) => writeln!(f, "probabilities, calibrated on {source}")?,
            None => writeln!(f, "not calibrated: the numbers rank images and are not probabilities")?,
        }
        write_remarks(f, &self.notes, &self.left_out)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calibrated on {}; quality on held-out subjects (5 folds):", self.source)?;
        let name = self.fits.iter().map(|fit| fit.name.chars().count()).max().unwrap_or(0).max(7);
        writeln!(f, "{:name$}  {:>12}  {:>18}  {:>18}", "", "images", "log loss", "calibration error")?;
        for fit in &self.fits {
            let counts: Vec<String> = fit.counts.iter().map(usize::to_string).collect();
            let change = |before: f64, after: f64| format!("{before:.3} → {after:.3}");
            let (loss, error) = (
                change(fit.before.log_loss, fit.after.log_loss),
                change(fit.before.calibration_error, fit.after.calibration_error),
            );
            writeln!(f, "{:name$}  {:>12}  {loss:>18}  {error:>18}", fit.name, counts.join(" + "))?;
        }
        Ok(())
    }
}
