//! Whether the answers of [`super::compare`] about a finding are right on a corpus whose labels
//! state the truth: how often the most probable answer is right, and whether answers with a
//! probability of 80 % are right in 80 of 100 cases.
//!
//! A calibration should be checked on other subjects than those that it was fitted on.

use std::collections::BTreeMap;
use std::fmt;

use medst_data::corpus::Corpus;
use serde::Serialize;

use super::course::{CourseCalibration, Pairs};
use super::engine::Engine;
use super::logistic::softmax;
use super::sentences::Sentences;
use super::series::LabelledSeries;
use crate::labels::truth::Skipped;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics;
use crate::{Error, Result};

/// The group of all findings together.
const ALL: &str = "all findings";

/// A calibration, checked.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    pub corpus: String,
    /// What the calibration was fitted on.
    pub fitted_on: Vec<String>,
    pub answers: Vec<Answers>,
    /// Questions for which the labels give no truth, counted by reason.
    pub skipped: Skipped,
}

/// The answers to a question.
#[derive(Clone, Debug, Serialize)]
pub struct Answers {
    pub question: String,
    pub finding: String,
    pub count: usize,
    pub subjects: usize,
    /// Share of likeliest answers that are right, with its 95 % interval over subjects.
    pub accuracy: f64,
    pub interval: Option<(f64, f64)>,
    /// What always giving the most frequent answer would get, or guessing, whichever is more.
    pub chance: f64,
    /// Mean of Σ (p − truth)² over the possible answers; the second is of equal probabilities.
    pub brier: [f64; 2],
    /// Expected calibration error of the likeliest answer over 15 bins.
    pub calibration_error: f64,
}

/// One answer: probabilities of all possible ones, and which is true.
struct Answer {
    probabilities: Vec<f64>,
    truth: usize,
    subject: String,
}

/// Answers to the questions, by question and finding.
#[derive(Default)]
struct Sheet(Vec<((&'static str, String), Vec<Answer>)>);

impl Sheet {
    fn add(&mut self, question: &'static str, finding: &str, answer: Answer) {
        let key = (question, finding.to_string());
        match self.0.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => entry.1.push(answer),
            None => self.0.push((key, vec![answer])),
        }
    }
}

impl Checked {
    /// Compares the answers of a calibration with the labels of a corpus.
    ///
    /// # Errors
    /// A corpus that has neither labelled pairs nor labelled series of the calibrated findings.
    pub fn new(
        engine: &Engine,
        calibration: &CourseCalibration,
        corpus: &Corpus,
        bootstrap: Bootstrap,
    ) -> Result<Checked> {
        let mut sheet = Sheet::default();
        if let Some(pairs) = Pairs::of_corpus(engine, corpus)? {
            for (finding, changes) in &pairs.findings {
                for (change, course, subject) in changes {
                    let Some(courses) = calibration.courses(finding, *change) else { continue };
                    let (truth, subject) = (course.class(), subject.clone());
                    sheet.add("course", finding, Answer { probabilities: courses.to_vec(), truth, subject });
                }
            }
        }
        let mut skipped = Skipped::new();
        let series = LabelledSeries::of_corpus(engine, corpus, &mut skipped)?;
        if let Some(calibrated) = &calibration.series {
            let mut findings: Vec<&String> = series.iter().flat_map(|series| series.truth.keys()).collect();
            findings.sort_unstable();
            findings.dedup();
            for finding in findings {
                let sentences = Sentences::new(engine, finding)?;
                for labelled in &series {
                    let Some(known) = labelled.truth.get(finding) else { continue };
                    let readings = sentences.readings(&labelled.images);
                    let answer =
                        |probabilities, truth| Answer { probabilities, truth, subject: labelled.subject.clone() };
                    if let (Some(all), Some(first)) = (calibrated.seen_first(finding, &readings), known.seen_first) {
                        // MI-CXR's question: of those that are seen first after the first time
                        // point, at which?
                        if (1..readings.len()).contains(&first) {
                            let later = &all[1..readings.len()];
                            let sum: f64 = later.iter().sum();
                            let of_later = later.iter().map(|p| p / sum).collect();
                            sheet.add("seen first, if later than at the first", finding, answer(of_later, first - 1));
                        }
                        sheet.add(NEVER, finding, answer(all, first));
                    }
                    if let (Some(all), Some(worst)) = (calibrated.worst(finding, &readings), known.worst) {
                        sheet.add("worst", finding, answer(all, worst));
                    }
                }
            }
            let orders = [
                ("order, images alone", &calibrated.order_by_images, LabelledSeries::orders_by_images as fn(&_) -> _),
                ("order, at reports' times", &calibrated.order_by_reports, LabelledSeries::orders_by_reports),
            ];
            for (question, fit, scores) in orders {
                let Some(fit) = fit else { continue };
                for labelled in &series {
                    let Some(scores): Option<Vec<f64>> = scores(labelled) else { continue };
                    let probabilities = softmax(&scores.iter().map(|score| fit.scale * score).collect::<Vec<f64>>());
                    sheet.add(question, "–", Answer { probabilities, truth: 0, subject: labelled.subject.clone() });
                }
            }
        }
        let path = corpus.path().display().to_string();
        if sheet.0.is_empty() {
            let message = "has neither labelled pairs nor labelled series of the calibrated findings";
            return Err(Error::Evaluation(format!("{path}: {message}")));
        }
        let source = calibration.series.as_ref().map(|series| series.source.clone());
        let mut fitted_on: Vec<String> = [calibration.source.clone()].into_iter().chain(source).collect();
        fitted_on.dedup();
        Ok(Checked { corpus: path, fitted_on, answers: sheet.answers(bootstrap), skipped })
    }
}

impl Sheet {
    /// Every finding of a question, then all together.
    fn answers(&self, bootstrap: Bootstrap) -> Vec<Answers> {
        let mut questions: Vec<&str> = self.0.iter().map(|entry| entry.0.0).collect();
        questions.sort_by_key(|question| QUESTIONS.iter().position(|known| known == question));
        questions.dedup();
        let mut all = Vec::new();
        for question in questions {
            let entries: Vec<&((&str, String), Vec<Answer>)> =
                self.0.iter().filter(|entry| entry.0.0 == question).collect();
            all.extend(entries.iter().map(|(of, answers)| {
                let answers: Vec<&Answer> = answers.iter().collect();
                summary(question, &of.1, &answers, bootstrap)
            }));
            if entries.len() > 1 {
                let together: Vec<&Answer> = entries.iter().flat_map(|entry| &entry.1).collect();
                all.push(summary(question, ALL, &together, bootstrap));
            }
        }
        all
    }
}

const NEVER: &str = "seen first, or never";
/// In the order in which they are shown.
const QUESTIONS: [&str; 6] = [
    "course",
    NEVER,
    "seen first, if later than at the first",
    "worst",
    "order, images alone",
    "order, at reports' times",
];

fn summary(question: &str, finding: &str, answers: &[&Answer], bootstrap: Bootstrap) -> Answers {
    let count = answers.len();
    let mean = |of: &dyn Fn(&Answer) -> f64| answers.iter().map(|answer| of(answer)).sum::<f64>() / count as f64;
    // Where another answer is as likely as the true one, the true one was not found.
    let is_right = |answer: &Answer| {
        let truth = answer.probabilities[answer.truth];
        answer.probabilities.iter().enumerate().all(|(n, &other)| n == answer.truth || other < truth)
    };
    let right: Vec<bool> = answers.iter().map(|answer| is_right(answer)).collect();
    let clusters = Clusters::new(answers.iter().map(|answer| answer.subject.as_str()));
    let share = |weights: &[f64]| {
        let total: f64 = weights.iter().sum();
        let held: f64 = weights.iter().zip(&right).map(|(weight, &right)| weight * f64::from(u8::from(right))).sum();
        (total > 0.0).then(|| held / total)
    };
    let estimate = bootstrap.estimate(&clusters, &share);
    // "Never" is the last answer of series of any length.
    let truth_of = |answer: &Answer| match answer.truth {
        last if question == NEVER && last + 1 == answer.probabilities.len() => usize::MAX,
        truth => truth,
    };
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    answers.iter().for_each(|answer| *times.entry(truth_of(answer)).or_default() += 1);
    let frequent = times.into_values().max().unwrap_or(0);
    let guess = mean(&|answer| 1.0 / answer.probabilities.len() as f64);
    // The true order is always the first in the list of orders, so how frequent it is has no
    // meaning.
    let frequent = if question.starts_with("order") { 0.0 } else { frequent as f64 / count as f64 };
    let squares = |answer: &Answer, of: &dyn Fn(usize) -> f64| -> f64 {
        (0..answer.probabilities.len()).map(|n| (of(n) - f64::from(u8::from(n == answer.truth))).powi(2)).sum()
    };
    let (probabilities, truth): (Vec<Vec<f64>>, Vec<usize>) =
        answers.iter().map(|answer| (answer.probabilities.clone(), answer.truth)).unzip();
    Answers {
        question: question.into(),
        finding: finding.into(),
        count,
        subjects: clusters.count(),
        accuracy: estimate.map_or(0.0, |estimate| estimate.value),
        interval: estimate.and_then(|estimate| estimate.interval),
        chance: guess.max(frequent),
        brier: [
            mean(&|answer| squares(answer, &|n| answer.probabilities[n])),
            mean(&|answer| squares(answer, &|_| 1.0 / answer.probabilities.len() as f64)),
        ],
        calibration_error: metrics::Calibration::new(&probabilities, &truth)
            .error(&vec![1.0; count])
            .unwrap_or_default(),
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calibration fitted on {}, checked on {}", self.fitted_on.join(" and "), self.corpus)?;
        let name = self.answers.iter().map(|answers| answers.finding.chars().count()).max().unwrap_or(0);
        let mut last = "";
        for answers in &self.answers {
            if answers.question != last {
                last = &answers.question;
                writeln!(f, "{last}")?;
            }
            let interval = answers
                .interval
                .map_or(String::new(), |(low, high)| format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high));
            writeln!(
                f,
                "  {:name$}  {:>6} of {:>5} subjects  right {:>5.1} %{interval:<16}  chance {:>5.1} %  Brier {:.3} (guess {:.3})  \
                 calibration error {:.3}",
                answers.finding,
                answers.count,
                answers.subjects,
                100.0 * answers.accuracy,
                100.0 * answers.chance,
                answers.brier[0],
                answers.brier[1],
                answers.calibration_error
            )?;
        }
        self.skipped.iter().try_for_each(|(reason, count)| writeln!(f, "skipped {count}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(probabilities: &[f64], truth: usize, subject: &str) -> Answer {
        Answer { probabilities: probabilities.to_vec(), truth, subject: subject.into() }
    }

    #[test]
    fn answers_are_judged_by_their_probabilities() {
        let mut sheet = Sheet::default();
        sheet.add("worst", "edema", answer(&[0.75, 0.25], 0, "a"));
        sheet.add("worst", "edema", answer(&[0.75, 0.25], 1, "b"));
        sheet.add("worst", "pneumonia", answer(&[0.0, 1.0], 1, "a"));
        sheet.add("course", "edema", answer(&[0.2, 0.2, 0.6], 2, "a"));
        let found = sheet.answers(Bootstrap { replicates: 20, seed: 0 });
        let names: Vec<(&str, &str)> =
            found.iter().map(|answers| (answers.question.as_str(), answers.finding.as_str())).collect();
        assert_eq!(names, [("course", "edema"), ("worst", "edema"), ("worst", "pneumonia"), ("worst", ALL)]);
        let edema = &found[1];
        assert_eq!((edema.accuracy, edema.chance, edema.count, edema.subjects), (0.5, 0.5, 2, 2));
        assert!((edema.brier[0] - 0.625).abs() < 1e-12 && (edema.brier[1] - 0.5).abs() < 1e-12, "{edema:?}");
        assert!((edema.calibration_error - 0.25).abs() < 1e-12);
        assert!((found[3].accuracy - 2.0 / 3.0).abs() < 1e-12 && (found[3].chance - 2.0 / 3.0).abs() < 1e-12);
    }
}
