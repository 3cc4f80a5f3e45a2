//! A finding over all time points of a subject: at which it is seen first, and at which it is
//! worst.
//!
//! For a finding, an image gives two numbers ([`Sentences::reading`]): the score of the finding's
//! presence, and how far along the direction from sentences about an improvement to sentences about
//! a worsening the image is. [`SeriesCalibration`] turns the numbers of a series into
//! probabilities:
//!
//! * Seen first: the probability that a time point shows the finding, provided that no earlier one
//!   does, is a logistic regression on its own reading and on those before and after it (a discrete
//!   hazard). Together they are a distribution over the time points and "none".
//! * Worst: a conditional logit; each time point competes with its reading and the mean presence of
//!   its neighbours.
//! * Order: the scores of [`super::order`], multiplied by one number.
//!
//! Each is fitted by maximum likelihood on series whose labels contain the answer
//! ([`LabelledSeries`]).

use std::collections::BTreeMap;
use std::fmt;

use medst_data::corpus::Corpus;
use medst_data::progress::Silent;
use serde::{Deserialize, Serialize};

use super::calibrate::{self, Fit, Row};
use super::engine::Engine;
use super::logistic;
use super::order::{self, MOST};
use super::sentences::{Reading, Sentences};
use super::stream::{self, EmbeddingOutputs, StudyInput};
use super::vectors::Vectors;
use crate::Result;
use crate::labels::truth::{self, FindingLabels, Skipped, skip};
use crate::labels::words;

/// Fewest series of a kind that allow a fit.
const FEWEST: usize = 20;
/// Time points of a series whose orders are compared to calibrate probabilities of orders; longer
/// series use their first time points.
const ORDERED: usize = 5;
/// A label whose name is this prefix and a finding's name states how severe the finding is: any
/// numbers whose order is meaningful.
pub const SEVERITY: &str = "severity ";
const ORDER_BY_IMAGES: &str = "order of images";
const ORDER_BY_REPORTS: &str = "order of images at their reports' times";
/// Numbers of a time point that [`seen_first`] and [`worst`] weigh, in this order.
const SEEN_FIRST: usize = 6;
const WORST: usize = 3;

/// A finding over all time points.
#[derive(Clone, Debug, Serialize)]
pub struct FindingSeries {
    pub finding: String,
    /// Score of its presence at each time point; cosine units.
    pub presence: Vec<f64>,
    /// Probability that it is seen first at each time point, and last that none shows it; none
    /// without a calibration.
    pub seen_first: Option<Vec<f64>>,
    /// Probability that it is worst at each time point, provided that one shows it; none without a
    /// calibration.
    pub worst: Option<Vec<f64>>,
    /// Number of the time point where it is most probably worst; without a calibration, where its
    /// presence has the highest score.
    pub worst_at: usize,
}

/// Calibrations of the answers about series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesCalibration {
    /// What it was fitted on.
    pub source: String,
    /// By finding: `scale` and `shifts` are the weights of `seen_first` and a constant.
    pub seen_first: Vec<Fit>,
    /// By finding: the weights of `worst`.
    pub worst: Vec<Fit>,
    /// `scale` is what the scores of orders are multiplied by.
    pub order_by_images: Option<Fit>,
    pub order_by_reports: Option<Fit>,
    /// What had too few labelled series, and why.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A series of a corpus, embedded, with the truth from its labels.
#[derive(Clone, Debug)]
pub struct LabelledSeries {
    pub subject: String,
    /// `[time points][D]`.
    pub images: Vec<Vec<f32>>,
    /// Of all time points, where all have one.
    pub reports: Option<Vec<Vec<f32>>>,
    /// By finding.
    pub truth: BTreeMap<String, SeriesTruth>,
}

/// The truth about a finding in a series, from its labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesTruth {
    /// The first time point that shows it; the number of time points where none does.
    pub seen_first: Option<usize>,
    /// The single time point with the highest severity, if there is one.
    pub worst: Option<usize>,
}

/// A series with the truth about a finding, and the finding's numbers at each time point.
struct LabelledReadings<'a> {
    series: &'a LabelledSeries,
    truth: SeriesTruth,
    readings: Vec<Reading>,
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Features for the probability that a time point shows a finding that no earlier one shows.
fn seen_first(readings: &[Reading], at: usize) -> Vec<f64> {
    let presence = |reading: &Reading| reading[0];
    let [presence_here, course] = readings[at];
    let before = mean(readings[..at].iter().map(presence)).map_or(0.0, |before| presence_here - before);
    let after = mean(readings[at + 1..].iter().map(presence)).map_or(0.0, |after| after - presence_here);
    // A finding that was not there at first comes sooner or later, not at every time point alike.
    vec![presence_here, course, before, after, f64::from(u8::from(at == 0)), 1.0 / (at + 1) as f64]
}

/// Features for the probability that a finding is worst at a time point.
fn worst(readings: &[Reading], at: usize) -> Vec<f64> {
    let [presence, course] = readings[at];
    let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|n| readings.get(n));
    vec![presence, course, mean(neighbours.map(|reading| reading[0])).unwrap_or(presence)]
}

/// Design of the scores of [`seen_first`] for "not yet" and "seen".
fn seen_design(scores: &[f64]) -> Vec<Vec<f64>> {
    vec![vec![0.0; scores.len() + 1], [scores, &[1.0]].concat()]
}

/// Design of the scores of [`worst`] of all time points.
fn worst_design(scores: &[f64]) -> Vec<Vec<f64>> {
    scores.chunks(WORST).map(<[f64]>::to_vec).collect()
}

/// Design of the scores of all orders.
fn order_design(scores: &[f64]) -> Vec<Vec<f64>> {
    scores.iter().map(|&score| vec![score]).collect()
}

fn parameters(fit: &Fit) -> Vec<f64> {
    [&[fit.scale], fit.shifts.as_slice()].concat()
}

impl SeriesCalibration {
    /// Whether its numbers are as many as this program weighs.
    pub fn is_whole(&self) -> bool {
        let all = |fits: &[Fit], count: usize| fits.iter().all(|fit| fit.shifts.len() == count);
        let orders = [&self.order_by_images, &self.order_by_reports];
        all(&self.seen_first, SEEN_FIRST)
            && all(&self.worst, WORST - 1)
            && orders.into_iter().flatten().all(|fit| fit.shifts.is_empty())
    }

    /// Probabilities that a finding is seen first at each time point, and last that none shows it.
    pub fn seen_first(&self, finding: &str, readings: &[Reading]) -> Option<Vec<f64>> {
        let parameters = parameters(self.seen_first.iter().find(|fit| fit.name == finding)?);
        let mut none_yet = 1.0;
        let mut all: Vec<f64> = (0..readings.len())
            .map(|at| {
                let seen = logistic::probabilities(&seen_design(&seen_first(readings, at)), &parameters)[1];
                let first = none_yet * seen;
                none_yet *= 1.0 - seen;
                first
            })
            .collect();
        all.push(none_yet);
        Some(all)
    }

    /// Probabilities that a finding is worst at each time point, provided that one shows it.
    pub fn worst(&self, finding: &str, readings: &[Reading]) -> Option<Vec<f64>> {
        let parameters = parameters(self.worst.iter().find(|fit| fit.name == finding)?);
        let scores: Vec<f64> = (0..readings.len()).flat_map(|at| worst(readings, at)).collect();
        Some(logistic::probabilities(&worst_design(&scores), &parameters))
    }

    /// Fits what the labelled series allow; `None` if they allow no fit.
    pub fn fit(engine: &Engine, series: &[LabelledSeries], source: String) -> Result<Option<SeriesCalibration>> {
        let mut calibration = SeriesCalibration {
            source,
            seen_first: Vec::new(),
            worst: Vec::new(),
            order_by_images: None,
            order_by_reports: None,
            left_out: Vec::new(),
        };
        if series.is_empty() {
            return Ok(None);
        }
        for (finding, with_truth) in by_finding(series) {
            let sentences = Sentences::new(engine, &finding)?;
            let labelled: Vec<LabelledReadings> = with_truth
                .into_iter()
                .map(|(series, truth)| LabelledReadings { series, truth, readings: sentences.readings(&series.images) })
                .collect();
            calibration.fit_seen_first(&finding, &labelled)?;
            calibration.fit_worst(&finding, &labelled)?;
        }
        calibration.order_by_images =
            calibration.fit_order(ORDER_BY_IMAGES, series, LabelledSeries::orders_by_images)?;
        calibration.order_by_reports =
            calibration.fit_order(ORDER_BY_REPORTS, series, LabelledSeries::orders_by_reports)?;
        Ok(Some(calibration))
    }

    fn fit_seen_first(&mut self, finding: &str, labelled: &[LabelledReadings]) -> Result<()> {
        let rows: Vec<Row> = labelled
            .iter()
            .filter_map(|series| Some((series, series.truth.seen_first?)))
            .flat_map(|(LabelledReadings { series, readings, .. }, first)| {
                let at_risk = 0..readings.len().min(first + 1);
                at_risk.map(move |at| Row {
                    scores: seen_first(readings, at),
                    truth: usize::from(at == first),
                    subject: &series.subject,
                })
            })
            .collect();
        let counts = calibrate::counts(&rows, 2);
        if counts.iter().any(|&count| count < FEWEST) {
            let [not, first] = [counts[0], counts[1]];
            let reason = format!(
                "{finding}, seen first: {first} time points of {} series where it is, {not} where not",
                labelled.len()
            );
            self.left_out.push(format!("{reason}; a calibration needs {FEWEST} of each"));
            return Ok(());
        }
        let target = |truth: usize| if truth == 1 { vec![0.0, 1.0] } else { vec![1.0, 0.0] };
        self.seen_first.push(calibrate::fitted(finding, &rows, 2, &[0.0; SEEN_FIRST + 1], seen_design, target)?);
        Ok(())
    }

    fn fit_worst(&mut self, finding: &str, labelled: &[LabelledReadings]) -> Result<()> {
        let mut rows: Vec<Row> = Vec::new();
        for LabelledReadings { series, truth, readings } in labelled {
            if let Some(truth) = truth.worst {
                let scores = (0..readings.len()).flat_map(|at| worst(readings, at)).collect();
                rows.push(Row { scores, truth, subject: &series.subject });
            }
        }
        if rows.len() < FEWEST {
            let reason =
                format!("{finding}: only {} series show where it is worst; a calibration needs {FEWEST}", rows.len());
            self.left_out.push(reason);
            return Ok(());
        }
        self.worst.push(calibrate::fitted(finding, &rows, MOST, &[0.0; WORST], worst_design, one_of)?);
        Ok(())
    }

    fn fit_order(
        &mut self,
        name: &str,
        series: &[LabelledSeries],
        scores: impl Fn(&LabelledSeries) -> Option<Vec<f64>>,
    ) -> Result<Option<Fit>> {
        let scored = series.iter().filter_map(|series| Some((series, scores(series)?)));
        // The order in which the studies were made is the first of all.
        let rows: Vec<Row> =
            scored.map(|(series, scores)| Row { scores, truth: 0, subject: series.subject.as_str() }).collect();
        if rows.len() < FEWEST {
            self.left_out.push(format!("{name}: {} series; a calibration needs {FEWEST}", rows.len()));
            return Ok(None);
        }
        calibrate::fitted(name, &rows, 1, &[1.0], order_design, one_of).map(Some)
    }

    /// What the scores of orders by images, and by images and reports, are multiplied by.
    pub fn sharpness(calibration: Option<&SeriesCalibration>) -> [f64; 2] {
        let of = |fit: Option<&Fit>| fit.map_or(1.0, |fit| fit.scale);
        [
            of(calibration.and_then(|calibration| calibration.order_by_images.as_ref())),
            of(calibration.and_then(|calibration| calibration.order_by_reports.as_ref())),
        ]
    }
}

impl fmt::Display for SeriesCalibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "series calibrated on {}; log loss on held-out subjects (5 folds), of a guess → calibrated:",
            self.source
        )?;
        let lists = [("seen first", &self.seen_first), ("worst", &self.worst)];
        let named = lists
            .into_iter()
            .flat_map(|(what, fits)| fits.iter().map(move |fit| (format!("{} {what}", fit.name), fit)));
        let orders = [&self.order_by_images, &self.order_by_reports].into_iter().flatten();
        let all: Vec<(String, &Fit)> = named.chain(orders.map(|fit| (fit.name.clone(), fit))).collect();
        let wide = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, fit) in &all {
            let rows: usize = fit.counts.iter().sum();
            writeln!(f, "{name:wide$}  {rows:>6} rows  {:.3} → {:.3}", fit.before.log_loss, fit.after.log_loss)?;
        }
        self.left_out.iter().try_for_each(|reason| writeln!(f, "left out: {reason}"))
    }
}

/// A one-hot target; entries after the last class are ignored.
fn one_of(truth: usize) -> Vec<f64> {
    // Five time points have 120 orders.
    let mut target = vec![0.0; (1..=ORDERED).product()];
    target[truth] = 1.0;
    target
}

/// The series with known truth, by finding.
fn by_finding(series: &[LabelledSeries]) -> BTreeMap<String, Vec<(&LabelledSeries, SeriesTruth)>> {
    let mut all: BTreeMap<String, Vec<(&LabelledSeries, SeriesTruth)>> = BTreeMap::new();
    for series in series {
        for (finding, truth) in &series.truth {
            all.entry(finding.clone()).or_default().push((series, *truth));
        }
    }
    all
}

impl FindingSeries {
    /// * `images`: unit vectors of the time points.
    pub fn new(sentences: &Sentences, images: &[&[f32]], calibration: Option<&SeriesCalibration>) -> FindingSeries {
        let readings: Vec<Reading> = images.iter().map(|image| sentences.reading(image)).collect();
        let presence: Vec<f64> = readings.iter().map(|reading| reading[0]).collect();
        let finding = sentences.finding.clone();
        let seen_first = calibration.and_then(|calibration| calibration.seen_first(&finding, &readings));
        let worst = calibration.and_then(|calibration| calibration.worst(&finding, &readings));
        let worst_at = highest(worst.as_ref().unwrap_or(&presence));
        FindingSeries { finding, presence, seen_first, worst, worst_at }
    }
}

/// The place of the highest value, the first of equal ones.
fn highest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, n| if values[n] > values[best] { n } else { best })
}

impl LabelledSeries {
    /// Embeds the series of a corpus: the studies of each subject in time order, of at least three
    /// and at most [`MOST`] (the first).
    ///
    /// Labels named after findings, with values 1 and 0, state where a finding is seen; labels
    /// named `severity` and the finding's name state where it is worst.
    ///
    /// # Errors
    /// Pictures that cannot be read.
    pub fn of_corpus(engine: &Engine, corpus: &Corpus, skipped: &mut Skipped) -> Result<Vec<LabelledSeries>> {
        let mut by_subject: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, study) in corpus.studies().iter().enumerate().filter(|(_, study)| study.acquired.is_some()) {
            by_subject.entry(study.subject.0.as_str()).or_default().push(row);
        }
        let day = |row: &usize| corpus.studies()[*row].acquired.map_or(0.0, |day| day.0);
        let mut series: Vec<Vec<usize>> = by_subject.into_values().collect();
        for rows in &mut series {
            rows.sort_by(|a, b| day(a).total_cmp(&day(b)));
            rows.truncate(MOST);
        }
        series.retain(|rows| rows.len() >= 3);
        let truths: Vec<BTreeMap<String, SeriesTruth>> =
            series.iter().map(|rows| labelled_truth(corpus, rows, skipped)).collect();
        let chosen: Vec<(&Vec<usize>, BTreeMap<String, SeriesTruth>)> =
            series.iter().zip(truths).filter(|(_, truth)| !truth.is_empty()).collect();
        let inputs = chosen.iter().flat_map(|(rows, _)| *rows);
        let inputs: Vec<StudyInput> = inputs.map(|&row| StudyInput::stored(corpus, &corpus.studies()[row])).collect();
        let outputs = EmbeddingOutputs { images: true, features: false, reports: true };
        let embedded = stream::collect(engine, &inputs, outputs, &Silent)?;
        let vectors = |vectors: &Vectors, row_of: &[Option<usize>]| -> Option<Vec<Vec<f32>>> {
            row_of.iter().map(|row| row.map(|row| vectors.row(row).to_vec())).collect()
        };
        let mut start = 0;
        let series = |(rows, truth): (&Vec<usize>, BTreeMap<String, SeriesTruth>)| {
            // Every study of a corpus has an image, so none was left out.
            let of_series = start..start + rows.len();
            start = of_series.end;
            LabelledSeries {
                subject: corpus.studies()[rows[0]].subject.0.clone(),
                images: vectors(&embedded.images, &embedded.image_of[of_series.clone()]).unwrap_or_default(),
                reports: vectors(&embedded.reports, &embedded.report_of[of_series]),
                truth,
            }
        };
        Ok(chosen.into_iter().map(series).collect())
    }

    /// Scores of the orders of its first images, the true one first.
    pub(super) fn orders_by_images(&self) -> Option<Vec<f64>> {
        order::scores_of_images(&first(&self.images))
    }

    /// Scores of the ways to put its first images at the times of their reports, the true one
    /// first.
    pub(super) fn orders_by_reports(&self) -> Option<Vec<f64>> {
        order::scores_of_images_and_reports(&first(&self.images), &first(self.reports.as_ref()?))
    }
}

fn first(vectors: &[Vec<f32>]) -> Vec<&[f32]> {
    vectors.iter().take(ORDERED).map(Vec::as_slice).collect()
}

/// The truth about the findings of a series, from its labels.
fn labelled_truth(corpus: &Corpus, rows: &[usize], skipped: &mut Skipped) -> BTreeMap<String, SeriesTruth> {
    let mut all = BTreeMap::new();
    for FindingLabels { name, there } in truth::findings(corpus, rows, skipped) {
        let Some(there) = there.into_iter().collect::<Option<Vec<bool>>>() else {
            skip(skipped, format!("{name} is not labelled at every time point of a series"));
            continue;
        };
        let first = there.iter().position(|&there| there);
        let worst = first.and_then(|_| where_worst(&severities(corpus, rows, &name)?));
        all.insert(name, SeriesTruth { seen_first: Some(first.unwrap_or(there.len())), worst });
    }
    all
}

/// The severities of a finding at each time point; `None` unless all are known.
fn severities(corpus: &Corpus, rows: &[usize], finding: &str) -> Option<Vec<f64>> {
    let severity = |row: &usize| {
        let labels = &corpus.studies()[*row].labels;
        let label = labels.iter().find(|(name, _)| words(name).strip_prefix(SEVERITY) == Some(finding))?;
        label.1.trim().parse::<f64>().ok().filter(|value| value.is_finite())
    };
    rows.iter().map(severity).collect()
}

/// The one time point with the highest severity; `None` where several have it.
fn where_worst(severities: &[f64]) -> Option<usize> {
    let best = highest(severities);
    let alone = severities.iter().filter(|&&severity| severity >= severities[best]).count() == 1;
    alone.then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::calibrate::Quality;

    fn fit(name: &str, scale: f64, shifts: &[f64]) -> Fit {
        let quality = Quality::default();
        Fit { name: name.into(), scale, shifts: shifts.to_vec(), counts: Vec::new(), before: quality, after: quality }
    }

    fn calibration() -> SeriesCalibration {
        SeriesCalibration {
            source: "test".into(),
            seen_first: vec![fit("edema", 20.0, &[0.0; SEEN_FIRST])],
            worst: vec![fit("edema", 10.0, &[0.0, 0.0])],
            order_by_images: None,
            order_by_reports: None,
            left_out: Vec::new(),
        }
    }

    #[test]
    fn a_finding_is_seen_first_where_its_score_rises_and_worst_where_it_is_highest() {
        let calibration = calibration();
        assert!(calibration.is_whole());
        let readings = [-0.4, -0.4, 0.4, 0.6, 0.2].map(|presence| [presence, 0.0]);
        let first = calibration.seen_first("edema", &readings).unwrap();
        assert_eq!((first.len(), highest(&first)), (6, 2));
        assert!((first.iter().sum::<f64>() - 1.0).abs() < 1e-12 && first[2] > 0.99, "{first:?}");
        let worst = calibration.worst("edema", &readings).unwrap();
        assert!((worst.iter().sum::<f64>() - 1.0).abs() < 1e-12 && highest(&worst) == 3, "{worst:?}");
        let never = calibration.seen_first("edema", &[[-0.5, 0.0]; 3]).unwrap();
        assert!(highest(&never) == 3 && never[3] > 0.99, "{never:?}");
        assert!(calibration.seen_first("pneumonia", &readings).is_none());
    }

    #[test]
    fn what_is_weighed_knows_the_time_before_and_after() {
        let readings = [[0.1, 0.5], [0.3, 0.6], [0.8, 0.7]];
        let close = |found: &[f64], expected: &[f64]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(&seen_first(&readings, 0), &[0.1, 0.5, 0.0, 0.45, 1.0, 1.0]));
        assert!(close(&seen_first(&readings, 2), &[0.8, 0.7, 0.6, 0.0, 0.0, 1.0 / 3.0]));
        assert!(close(&worst(&readings, 1), &[0.3, 0.6, 0.45]));
        assert!(close(&worst(&readings, 2), &[0.8, 0.7, 0.3]));
    }

    #[test]
    fn several_time_points_of_one_severity_are_not_worst() {
        assert_eq!(where_worst(&[0.0, 2.0, 1.0]), Some(1));
        assert_eq!(where_worst(&[2.0, 2.0, 1.0]), None);
    }
}
