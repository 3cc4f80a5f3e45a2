//! Two or more time points of a subject, against each other.
//!
//! * Change of a finding: the step of the image embedding along the direction from sentences that
//!   state an improvement to sentences that state a worsening (as in the progression task,
//!   [`crate::eval::tasks::Progression`]). Confidence: calibrated probabilities of the three
//!   courses where a calibration is given ([`super::course`]); without one, the share of sentence
//!   pairs that agree on the direction.
//! * Similarity: cosines of all images, of all reports, and of each image with each report.
//! * Over all time points: where a finding is seen first and where it is worst (`super::series`).
//! * Order: `super::order`.

use std::fmt;

use serde::Serialize;

use super::course::CourseCalibration;
use super::engine::Engine;
use super::order::{self, Believed};
use super::preprocessing::Views;
use super::sentences::{Change, Sentences, dot};
use super::series::{FindingSeries, SeriesCalibration};
use super::text::Text;
use crate::labels::Course;
use crate::{Error, Result};

/// Below this share of agreeing sentence pairs a direction is called unclear.
const AGREEMENT: f64 = 0.75;

/// A study of the subject.
#[derive(Clone, Debug)]
pub struct TimePoint {
    /// What it is called in the result.
    pub name: String,
    /// Days, where known.
    pub day: Option<f64>,
    pub views: Views,
    pub report: Option<Text>,
}

/// The course of a finding between two time points.
#[derive(Clone, Debug, Serialize)]
pub struct FindingChange {
    pub finding: String,
    pub change: Change,
    /// Score of its presence, before and after.
    pub presence: [f64; 2],
    /// Probabilities of improving, stable and worsening; none without a calibration.
    pub courses: Option<[f64; Course::COUNT]>,
    /// The likeliest course; without a calibration the direction where sentences agree on it.
    pub said: Option<Course>,
    /// Of `said`: its probability, or the share of agreeing sentences.
    pub confidence: f64,
}

/// Two consecutive time points, or the first and the last.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub from: usize,
    pub to: usize,
    pub days: Option<f64>,
    pub image_similarity: f64,
    pub report_similarity: Option<f64>,
    pub findings: Vec<FindingChange>,
}

/// A subject's time points, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub time_points: Vec<String>,
    pub days: Vec<Option<f64>>,
    pub calibrated_on: Option<String>,
    pub steps: Vec<Step>,
    /// Each finding over all time points.
    pub series: Vec<FindingSeries>,
    /// Cosines; a row a time point.
    pub image_similarity: Vec<Vec<f64>>,
    /// Of the reports; `None` where one is missing.
    pub report_similarity: Vec<Vec<Option<f64>>>,
    /// Of images (rows) and reports (columns).
    pub image_report_similarity: Vec<Vec<Option<f64>>>,
    /// Numbers of the time points with a report, to which [`Comparison::order_by_reports`] refers.
    pub reported: Vec<usize>,
    pub order_by_reports: Option<Believed>,
    pub order_by_images: Option<Believed>,
}

/// A time point, embedded.
#[derive(Clone, Debug)]
pub struct PointVectors {
    pub name: String,
    /// Days, where known.
    pub day: Option<f64>,
    /// `D`, a unit vector.
    pub image: Vec<f32>,
    pub report: Option<Vec<f32>>,
}

/// Compares time points in the order in which they are given.
///
/// # Errors
/// Fewer than two time points.
pub fn compare(
    engine: &Engine,
    points: &[TimePoint],
    findings: &[Sentences],
    calibration: Option<&CourseCalibration>,
) -> Result<Comparison> {
    let images = engine.images(&points.iter().map(|point| &point.views).collect::<Vec<_>>())?.embeddings;
    let texts: Vec<&Text> = points.iter().filter_map(|point| point.report.as_ref()).collect();
    let reports = engine.texts(&texts)?;
    let mut reports = reports.rows();
    let embedded: Vec<PointVectors> = points
        .iter()
        .zip(images.rows())
        .map(|(point, image)| PointVectors {
            name: point.name.clone(),
            day: point.day,
            image: image.to_vec(),
            report: point.report.as_ref().and_then(|_| reports.next()).map(<[f32]>::to_vec),
        })
        .collect();
    compare_vectors(&embedded, findings, calibration)
}

/// As [`compare`], of what was embedded before.
///
/// # Errors
/// Fewer than two time points.
pub fn compare_vectors(
    points: &[PointVectors],
    findings: &[Sentences],
    calibration: Option<&CourseCalibration>,
) -> Result<Comparison> {
    if points.len() < 2 {
        return Err(Error::Input(format!("a comparison needs two or more time points, not {}", points.len())));
    }
    let reported: Vec<usize> = (0..points.len()).filter(|&n| points[n].report.is_some()).collect();
    let image = |n: usize| points[n].image.as_slice();
    let report = |n: usize| points[n].report.as_deref();
    let all = || 0..points.len();
    let step = |from: usize, to: usize| {
        let of = |sentences: &Sentences| finding(sentences, image(from), image(to), calibration);
        Step {
            from,
            to,
            days: points[from].day.zip(points[to].day).map(|(a, b)| b - a),
            image_similarity: dot(image(from), image(to)),
            report_similarity: report(from).zip(report(to)).map(|(a, b)| dot(a, b)),
            findings: findings.iter().map(of).collect(),
        }
    };
    let mut steps: Vec<Step> = (1..points.len()).map(|n| step(n - 1, n)).collect();
    if points.len() > 2 {
        steps.push(step(0, points.len() - 1));
    }
    let images: Vec<&[f32]> = all().map(image).collect();
    let (known, reports): (Vec<&[f32]>, Vec<&[f32]>) =
        reported.iter().filter_map(|&n| Some((image(n), report(n)?))).unzip();
    let of_series = calibration.and_then(|calibration| calibration.series.as_ref());
    let [by_images, by_reports] = SeriesCalibration::sharpness(of_series);
    let similar = |a: Option<&[f32]>, b: Option<&[f32]>| a.zip(b).map(|(a, b)| dot(a, b));
    Ok(Comparison {
        time_points: points.iter().map(|point| point.name.clone()).collect(),
        days: points.iter().map(|point| point.day).collect(),
        calibrated_on: calibration.map(|calibration| calibration.source.clone()),
        steps,
        series: findings.iter().map(|sentences| FindingSeries::new(sentences, &images, of_series)).collect(),
        image_similarity: all().map(|a| all().map(|b| dot(image(a), image(b))).collect()).collect(),
        report_similarity: all().map(|a| all().map(|b| similar(report(a), report(b))).collect()).collect(),
        image_report_similarity: all().map(|a| all().map(|b| similar(Some(image(a)), report(b))).collect()).collect(),
        order_by_reports: order::of_images_and_reports(&known, &reports, by_reports),
        order_by_images: order::of_images(&images, by_images),
        reported,
    })
}

fn finding(
    sentences: &Sentences,
    previous: &[f32],
    current: &[f32],
    calibration: Option<&CourseCalibration>,
) -> FindingChange {
    let change = sentences.change(previous, current);
    let courses = calibration.and_then(|calibration| calibration.courses(&sentences.finding, change.towards_worse));
    let (said, confidence) = match courses {
        Some(courses) => {
            let best = Course::ALL.into_iter().max_by(|a, b| courses[a.class()].total_cmp(&courses[b.class()]));
            (best, best.map_or(0.0, |best| courses[best.class()]))
        }
        None => {
            let direction = if change.towards_worse > 0.0 { Course::Worsening } else { Course::Improving };
            ((change.agreement >= AGREEMENT).then_some(direction), change.agreement)
        }
    };
    let presence = [sentences.presence(previous), sentences.presence(current)];
    FindingChange { finding: sentences.finding.clone(), change, presence, courses, said, confidence }
}

impl Comparison {
    /// Where each finding is seen first and where it is worst.
    fn write_series(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.time_points.len() < 3 || self.series.is_empty() {
            return Ok(());
        }
        writeln!(f, "over all time points")?;
        let name = self.series.iter().map(|finding| finding.finding.chars().count()).max().unwrap_or(0);
        for finding in &self.series {
            write!(f, "  {:name$}", finding.finding)?;
            if let Some(seen) = &finding.seen_first {
                let at = |n: usize| if n < self.time_points.len() { format!("{}", n + 1) } else { "none".into() };
                let each = seen.iter().enumerate().map(|(n, p)| format!("{} {:.0} %", at(n), 100.0 * p));
                write!(f, "  seen first at {}", each.collect::<Vec<_>>().join(", "))?;
            }
            write!(f, "  worst at {}", finding.worst_at + 1)?;
            match &finding.worst {
                Some(worst) => writeln!(f, " {:.0} %", 100.0 * worst[finding.worst_at])?,
                None => writeln!(f, ", by its presence; not calibrated")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, name) in self.time_points.iter().enumerate() {
            let day = self.days[n].map(|day| format!("  day {day}")).unwrap_or_default();
            let report = if self.reported.contains(&n) { "  with a report" } else { "" };
            writeln!(f, "{}. {name}{day}{report}", n + 1)?;
        }
        for step in &self.steps {
            let days = step.days.map(|days| format!(", {days:+} days")).unwrap_or_default();
            let reports =
                step.report_similarity.map(|similarity| format!(", reports {similarity:.3}")).unwrap_or_default();
            let (from, to) = (step.from + 1, step.to + 1);
            writeln!(f, "{from} → {to}{days}: similarity of images {:.3}{reports}", step.image_similarity)?;
            let name = step.findings.iter().map(|finding| finding.finding.chars().count()).max().unwrap_or(0);
            for finding in &step.findings {
                let [before, after] = finding.presence;
                let course = finding.said.map_or("unclear", Course::name);
                write!(f, "  {:name$}  {course:9}  {:>3.0} %", finding.finding, 100.0 * finding.confidence)?;
                if let Some([improving, stable, worsening]) = finding.courses {
                    write!(f, "  (improving {improving:.2}, stable {stable:.2}, worsening {worsening:.2})")?;
                }
                let change = finding.change.towards_worse;
                writeln!(f, "  change {change:+.3}, presence {before:+.2} → {after:+.2}")?;
            }
        }
        match &self.calibrated_on {
            Some(source) => writeln!(f, "percentages: probabilities, calibrated on {source}")?,
            None => writeln!(f, "percentages: share of sentence pairs that agree on the direction; not calibrated")?,
        }
        self.write_series(f)?;
        writeln!(f, "similarity of images")?;
        for row in &self.image_similarity {
            let cells: Vec<String> = row.iter().map(|cell| format!("{cell:6.3}")).collect();
            writeln!(f, "  {}", cells.join("  "))?;
        }
        let list = |order: &[usize]| order.iter().map(|n| (n + 1).to_string()).collect::<Vec<_>>().join(" ");
        for (what, believed) in [
            ("images at their reports' times", &self.order_by_reports),
            ("images alone, forwards or backwards", &self.order_by_images),
        ] {
            let Some(believed) = believed else { continue };
            let order: Vec<usize> = match what.starts_with("images at") {
                true => believed.order.iter().map(|&n| self.reported[n]).collect(),
                false => believed.order.clone(),
            };
            let Believed { probability, given_probability, given_place, orders, .. } = believed;
            writeln!(
                f,
                "most probable order from {what}: {} ({:.1} %); the given order ranks {given_place} of {orders} \
                 ({:.1} %)",
                list(&order),
                100.0 * probability,
                100.0 * given_probability
            )?;
        }
        Ok(())
    }
}
