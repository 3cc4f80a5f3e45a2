//! Calibrated courses: from the change of an embedding to probabilities of improving, stable and
//! worsening.
//!
//! The change of a finding is that of [`super::compare`]. On pairs of images whose course is known
//! (`pairs.csv` of a corpus, as `medst prepare ms-cxr-t` makes it) a multinomial logistic
//! regression with stable as its base is fitted per finding, and evaluated on subjects that were
//! not used in the fit. The same file holds the calibration of `super::series`.

use std::fmt;
use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::PAIRS;
use medst_data::files::whole;
use medst_data::input;
use medst_data::progress::Silent;
use serde::{Deserialize, Serialize};

use super::calibrate::{self, Fit, Row};
use super::engine::Engine;
use super::logistic;
use super::sentences::Sentences;
use super::series::{LabelledSeries, SeriesCalibration};
use super::stream::{self, EmbeddingOutputs, StudyInput};
use crate::labels::{Course, truth, words};
use crate::{Error, Result};

const FORMAT: &str = "medst-course-calibration";

/// A calibration of courses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CourseCalibration {
    format: String,
    version: u32,
    /// SHA-256 of the weights.
    pub model: String,
    /// What it was fitted on.
    pub source: String,
    /// `scale` and `shifts` are the four parameters; `before` is that of a guess of a third each.
    pub fits: Vec<Fit>,
    /// Findings with too few labelled pairs, and why.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// For three and more time points; `None` if it was fitted without labelled series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesCalibration>,
}

/// Design of a change for improving, stable, worsening.
fn design(scores: &[f64]) -> Vec<Vec<f64>> {
    let x = scores[0];
    vec![vec![x, 1.0, 0.0, 0.0], vec![0.0; 4], vec![0.0, 0.0, x, 1.0]]
}

impl CourseCalibration {
    /// Probabilities of improving, stable, worsening; `None` for a finding that was not calibrated.
    pub fn courses(&self, finding: &str, change: f64) -> Option<[f64; Course::COUNT]> {
        let fit = self.fits.iter().find(|fit| fit.name == finding)?;
        let parameters = [&[fit.scale], fit.shifts.as_slice()].concat();
        logistic::probabilities(&design(&[change]), &parameters).try_into().ok()
    }

    /// Reads a file and checks that it belongs to the model.
    ///
    /// # Errors
    /// Names the file, and what differs.
    pub fn read(path: &Path, engine: &Engine) -> Result<CourseCalibration> {
        let fail = |message: String| Err(Error::Input(format!("{}: {message}", path.display())));
        let bytes = input::read(path, input::TEXT).map_err(Error::io(path))?;
        let read: CourseCalibration = match serde_json::from_slice(&bytes) {
            Ok(read) => read,
            Err(error) => return fail(format!("not a calibration of courses: {error}")),
        };
        if read.format != FORMAT
            || read.version != 1
            || read.fits.iter().any(|fit| fit.shifts.len() != 3)
            || read.series.as_ref().is_some_and(|series| !series.is_whole())
        {
            return fail(format!(
                "its format is `{}` version {}; expected {FORMAT} version 1",
                read.format, read.version
            ));
        }
        if read.model != engine.checksum() {
            return fail("was fitted with another model; fit a new one with --fit-calibration".into());
        }
        Ok(read)
    }

    /// Writes it; the file appears whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::io(path)(error.into()))?;
        Ok(whole::write(path, &text)?)
    }

    /// Fits on the pairs of one of the corpora and on the labelled series of one of them
    /// (`LabelledSeries::of_corpus`), whose images are embedded here. Without labelled series,
    /// series are not calibrated.
    ///
    /// # Errors
    /// Corpora without pairs, or with too few of a course for every finding; a corpus that has
    /// neither pairs nor series.
    pub fn fit(engine: &Engine, corpora: &[Corpus]) -> Result<CourseCalibration> {
        let (mut pairs, mut series) = (None, None);
        for corpus in corpora {
            let of_corpus = Pairs::of_corpus(engine, corpus)?;
            let labelled = LabelledSeries::of_corpus(engine, corpus, &mut truth::Skipped::new())?;
            let source = corpus.path().display().to_string();
            if corpora.len() > 1 && of_corpus.is_none() && labelled.is_empty() {
                return Err(Error::Evaluation(format!("{source}: has neither pairs.csv nor labelled series")));
            }
            pairs = pairs.or(of_corpus);
            if series.is_none() && !labelled.is_empty() {
                series = SeriesCalibration::fit(engine, &labelled, source)?;
            }
        }
        let Some(pairs) = pairs else {
            let names: Vec<String> = corpora.iter().map(|corpus| corpus.path().display().to_string()).collect();
            let message = "has no pairs.csv (create one with medst prepare ms-cxr-t)";
            return Err(Error::Evaluation(format!("{}: {message}", names.join(", "))));
        };
        let (mut fits, mut left_out) = (Vec::new(), Vec::new());
        for (name, changes) in &pairs.findings {
            let row = |(change, course, subject): &'_ (f64, Course, String)| (*change, course.class(), subject.clone());
            let all: Vec<(f64, usize, String)> = changes.iter().map(row).collect();
            let rows: Vec<Row> = all
                .iter()
                .map(|(change, truth, subject)| Row { scores: vec![*change], truth: *truth, subject })
                .collect();
            let names = Course::names();
            let sides: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Err(error) = calibrate::enough(name, &sides, &calibrate::counts(&rows, Course::COUNT)) {
                left_out.push(error.to_string());
                continue;
            }
            let target = |truth: usize| (0..Course::COUNT).map(|n| f64::from(u8::from(n == truth))).collect();
            fits.push(calibrate::fitted(name, &rows, Course::COUNT, &[0.0; 4], design, target)?);
        }
        if fits.is_empty() {
            return Err(Error::Evaluation(format!("{}: {}", pairs.source, left_out.join("; "))));
        }
        let (model, source) = (engine.checksum().to_string(), pairs.source);
        Ok(CourseCalibration { format: FORMAT.into(), version: 1, model, source, fits, left_out, series })
    }
}

/// Changes of findings between the labelled pairs of a corpus.
pub(super) struct Pairs {
    pub source: String,
    /// By finding, of the pairs whose labels state the finding's course.
    pub findings: Vec<(String, Vec<LabelledChange>)>,
}

/// How far a finding moved between two studies, its labelled course, and the subject.
pub(super) type LabelledChange = (f64, Course, String);

impl Pairs {
    /// Embeds the images; `None` for a corpus without `pairs.csv`.
    pub fn of_corpus(engine: &Engine, corpus: &Corpus) -> Result<Option<Pairs>> {
        let source = corpus.path().display().to_string();
        let Some(table) = corpus.table(PAIRS)? else { return Ok(None) };
        let pairs = truth::pairs(corpus, &table, &mut truth::Skipped::new());
        let pairs = pairs.map_err(|missing| Error::Evaluation(format!("{source}: {missing}")))?;
        let studies = pairs.studies.iter().flatten().map(|&row| StudyInput::stored(corpus, &corpus.studies()[row]));
        let outputs = EmbeddingOutputs { images: true, features: false, reports: false };
        let images = stream::collect(engine, &studies.collect::<Vec<_>>(), outputs, &Silent)?.images;
        let mut findings = Vec::new();
        for (column, courses) in &pairs.findings {
            let name = words(column);
            let sentences = Sentences::new(engine, &name)?;
            let change = |(n, course): (usize, &Option<Course>)| {
                let change = sentences.change(images.row(2 * n), images.row(2 * n + 1)).towards_worse;
                Some((change, (*course)?, corpus.studies()[pairs.studies[n][0]].subject.0.clone()))
            };
            findings.push((name, courses.iter().enumerate().filter_map(change).collect()));
        }
        Ok(Some(Pairs { source, findings }))
    }
}

impl fmt::Display for CourseCalibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "courses calibrated on {}; quality on held-out subjects (5 folds):", self.source)?;
        let name = self.fits.iter().map(|fit| fit.name.chars().count()).max().unwrap_or(0).max(7);
        writeln!(
            f,
            "{:name$}  {:>9}  {:>6}  {:>9}  log loss (1.099: a guess)",
            "", "improving", "stable", "worsening"
        )?;
        for fit in &self.fits {
            let [improving, stable, worsening] = [fit.counts[0], fit.counts[1], fit.counts[2]];
            let loss = fit.after.log_loss;
            writeln!(f, "{:name$}  {improving:>9}  {stable:>6}  {worsening:>9}  {loss:.3}", fit.name)?;
        }
        self.left_out.iter().try_for_each(|reason| writeln!(f, "left out: {reason}"))?;
        self.series.as_ref().map_or(Ok(()), |series| write!(f, "{series}"))
    }
}
