//! Order of sequences: whether embeddings of a subject's studies reveal the order in which they
//! were made.
//!
//! Across images and reports, with the temporal losses' distances and temperature (paper, section
//! 3.4): forward mapping is right where the nearest report of the sequence is that of the same
//! study; the time error is how far, in steps, the time that the attention over the other side
//! expects is from the true time. As a control the same is done with the other side in a shuffled
//! order, and each sequence's forward mapping loss is compared with that of the shuffled one. (The
//! cycle back of the reverse mapping does not change when the other side is shuffled, so it cannot
//! be the test.)
//!
//! Within images and within reports: is the nearest other study of the sequence a neighbour in
//! time, and how many steps is it away.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Input, dot};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::result::{Example, Figure, Meter, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::stats::bootstrap::{Bootstrap, Clusters};

/// The temporal losses' temperature.
const TEMPERATURE: f64 = 0.1;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceOrder<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// Sequences of studies in time order.
#[derive(Clone, Debug)]
pub struct SequenceData {
    /// `[n, D]` of all studies.
    pub images: Vectors,
    /// `[m, D]` of those with a report; no rows without.
    pub reports: Vectors,
    /// For each study, its row in `reports`.
    pub report_of: Vec<Option<usize>>,
    /// Rows of the corpus.
    pub rows: Vec<usize>,
    /// Studies of each sequence, at least three.
    pub sequences: Vec<Vec<usize>>,
    pub subjects: Vec<String>,
}

/// The embeddings of one sequence.
type Steps<'a> = Vec<&'a [f32]>;

/// A sequence whose studies all have reports.
struct Reported<'a> {
    /// Its number among all sequences.
    number: usize,
    images: Steps<'a>,
    reports: Steps<'a>,
}

impl SequenceOrder<'_> {
    /// # Errors
    /// No sequences, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, data: &SequenceData) -> Result<TaskResult> {
        Input::check(&data.images, "images")?;
        if !data.reports.is_empty() {
            Input::check(&data.reports, "reports")?;
            Input::check_width(&data.reports, &data.images, "reports")?;
        }
        let method = "nearest step of the same sequence; expected time under attention over the other modality; \
                      the same with one modality in shuffled order";
        let mut result = TaskResult::new(Task::SequenceOrder, Protocol::Strict, method);
        let sequences: Vec<&Vec<usize>> = data.sequences.iter().filter(|steps| steps.len() >= 3).collect();
        let subjects: Vec<&str> = sequences.iter().map(|steps| data.subjects[steps[0]].as_str()).collect();
        let clusters = Clusters::new(&subjects);
        (result.rows, result.subjects) = (sequences.len(), clusters.count());
        if sequences.is_empty() {
            let reason = "no sequence has three studies";
            let figure = Figure::undefined("across", "forward mapping accuracy", Unit::Share, 0, reason);
            result.figures.push(figure);
            return Ok(result);
        }
        // A sequence belongs to the subgroups of its last study.
        let last = |n: usize| data.rows[sequences[n][sequences[n].len() - 1]];
        let (images, reports) = (data.images.unit(), data.reports.unit());
        let image = |steps: &[usize]| -> Steps<'_> { steps.iter().map(|&study| images.row(study)).collect() };
        let report = |steps: &[usize]| -> Option<Steps<'_>> {
            steps.iter().map(|&study| Some(reports.row(data.report_of[study]?))).collect()
        };
        let numbered = sequences.iter().enumerate();
        let reported: Vec<Reported> = numbered
            .filter_map(|(number, steps)| Some(Reported { number, images: image(steps), reports: report(steps)? }))
            .collect();
        if !reported.is_empty() {
            let clusters = Clusters::new(reported.iter().map(|sequence| subjects[sequence.number]));
            let rows = reported.iter().map(|sequence| last(sequence.number));
            let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
            for (group, flip) in [("image to report", false), ("report to image", true)] {
                let cases: Vec<Across> = reported
                    .iter()
                    .map(|Reported { number, images, reports }| {
                        let (source, target) = if flip { (reports, images) } else { (images, reports) };
                        Across::new(source, target, self.bootstrap.seed, *number as u64)
                    })
                    .collect();
                result.figures.extend(Across::figures(group, &cases, &meter));
                if !flip {
                    let scores: Vec<f64> = cases.iter().map(|case| -case.error).collect();
                    result.examples.extend(extremes(&scores).into_iter().map(|(kind, n)| {
                        let case = &cases[n];
                        let caption = format!(
                            "{:.0} of {} reports found, time error {:.2} steps",
                            case.accuracy * case.steps,
                            case.steps,
                            case.error
                        );
                        let steps = sequences[reported[n].number];
                        let rows: Vec<usize> = steps.iter().map(|&study| data.rows[study]).collect();
                        Example::new(kind, caption, rows)
                    }));
                }
            }
        }
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, (0..sequences.len()).map(last));
        let within: Vec<Within> = sequences.iter().map(|steps| Within::new(&image(steps))).collect();
        result.figures.extend(Within::figures("within images", &within, &meter));
        if !reported.is_empty() {
            let clusters = Clusters::new(reported.iter().map(|sequence| subjects[sequence.number]));
            let rows = reported.iter().map(|sequence| last(sequence.number));
            let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
            let within: Vec<Within> = reported.iter().map(|sequence| Within::new(&sequence.reports)).collect();
            result.figures.extend(Within::figures("within reports", &within, &meter));
        }
        if reported.len() < sequences.len() {
            let without_report = sequences.len() - reported.len();
            result.notes.push(format!("{without_report} sequences have no reports and count within images only"));
        }
        Ok(result)
    }
}

/// A weighted mean over sequences.
fn mean<T>(cases: &[T], weights: &[f64], value: impl Fn(&T) -> f64) -> Option<f64> {
    let total: f64 = weights.iter().sum();
    (total > 0.0).then(|| cases.iter().zip(weights).map(|(case, weight)| weight * value(case)).sum::<f64>() / total)
}

/// One sequence, from one side to the other.
struct Across {
    steps: f64,
    accuracy: f64,
    /// In steps.
    error: f64,
    shuffled_accuracy: f64,
    shuffled_error: f64,
    /// Whether the forward mapping loss is lower than with the other side shuffled; a half where
    /// they are equal.
    noticed: f64,
}

impl Across {
    fn new(source: &[&[f32]], target: &[&[f32]], seed: u64, number: u64) -> Across {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        let mut order: Vec<usize> = (0..target.len()).collect();
        while order.is_sorted() {
            order.shuffle(&mut random);
        }
        let shuffled: Vec<&[f32]> = order.iter().map(|&step| target[step]).collect();
        let (mapped, control) = (Mapped::new(source, target), Mapped::new(source, &shuffled));
        let noticed = match mapped.loss.total_cmp(&control.loss) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 0.0,
        };
        Across {
            steps: source.len() as f64,
            accuracy: mapped.accuracy,
            error: mapped.error,
            shuffled_accuracy: control.accuracy,
            shuffled_error: control.error,
            noticed,
        }
    }

    fn figures(group: &str, cases: &[Across], meter: &Meter<'_>) -> Vec<Figure> {
        let rows = cases.len();
        let guess = cases.iter().map(|case| 1.0 / case.steps).sum::<f64>() / rows as f64;
        type Value = fn(&Across) -> f64;
        let table: [(&str, Unit, Option<f64>, Value); 5] = [
            ("forward mapping accuracy", Unit::Share, Some(guess), |case| case.accuracy),
            ("forward mapping accuracy, shuffled", Unit::Share, Some(guess), |case| case.shuffled_accuracy),
            ("mean absolute time error, steps", Unit::Number, None, |case| case.error),
            ("mean absolute time error, shuffled, steps", Unit::Number, None, |case| case.shuffled_error),
            ("right order preferred to a shuffled one", Unit::Share, Some(0.5), |case| case.noticed),
        ];
        let figure = |(name, unit, chance, value): (&str, Unit, Option<f64>, Value)| {
            let made = meter.figure(group, name, unit, rows, "no sequences", &|weights| mean(cases, weights, value));
            Figure { chance, ..made }
        };
        table.into_iter().map(figure).collect()
    }
}

/// Forward mapping of each step, and the time of its nearest candidate.
struct Mapped {
    accuracy: f64,
    loss: f64,
    error: f64,
}

impl Mapped {
    fn new(source: &[&[f32]], target: &[&[f32]]) -> Mapped {
        let steps = source.len();
        let (mut right, mut loss, mut error) = (0.0, 0.0, 0.0);
        for (step, vector) in source.iter().enumerate() {
            // For unit vectors ‖u − v‖² = 2 − 2⟨u, v⟩.
            let logits: Vec<f64> = target.iter().map(|other| (2.0 * dot(vector, other) - 2.0) / TEMPERATURE).collect();
            let attention = softmax(&logits);
            loss -= attention[step].max(f64::MIN_POSITIVE).ln();
            // A tie counts as wrong.
            let ahead =
                logits.iter().enumerate().filter(|&(other, &logit)| other != step && logit >= logits[step]).count();
            right += f64::from(u8::from(ahead == 0));
            let expected: f64 = attention.iter().enumerate().map(|(time, share)| share * time as f64).sum();
            error += (expected - step as f64).abs();
        }
        let count = steps as f64;
        Mapped { accuracy: right / count, loss: loss / count, error: error / count }
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

/// One sequence, within one side.
struct Within {
    /// Share of steps whose nearest other step is next to them in time.
    adjacent: f64,
    /// Steps between a step and its nearest other.
    error: f64,
    /// The same when any other step is as likely.
    adjacent_by_chance: f64,
    error_by_chance: f64,
}

impl Within {
    fn new(rows: &[&[f32]]) -> Within {
        let steps = rows.len();
        let mut sum = Within { adjacent: 0.0, error: 0.0, adjacent_by_chance: 0.0, error_by_chance: 0.0 };
        for step in 0..steps {
            let others = || (0..steps).filter(move |&other| other != step);
            let scores: Vec<f64> = (0..steps).map(|other| dot(rows[step], rows[other])).collect();
            let most = others().map(|other| scores[other]).fold(f64::NEG_INFINITY, f64::max);
            // Equally near ones share the vote: a constant embedding is at chance.
            let nearest: Vec<usize> = others().filter(|&other| scores[other] >= most - 1e-6).collect();
            let next = |other: usize| f64::from(u8::from(other.abs_diff(step) == 1));
            let away = |other: usize| other.abs_diff(step) as f64;
            let mean = |over: &[usize], value: &dyn Fn(usize) -> f64| {
                over.iter().map(|&other| value(other)).sum::<f64>() / over.len() as f64
            };
            let all: Vec<usize> = others().collect();
            sum.adjacent += mean(&nearest, &next);
            sum.error += mean(&nearest, &away);
            sum.adjacent_by_chance += mean(&all, &next);
            sum.error_by_chance += mean(&all, &away);
        }
        let count = steps as f64;
        Within {
            adjacent: sum.adjacent / count,
            error: sum.error / count,
            adjacent_by_chance: sum.adjacent_by_chance / count,
            error_by_chance: sum.error_by_chance / count,
        }
    }

    fn figures(group: &str, cases: &[Within], meter: &Meter<'_>) -> Vec<Figure> {
        let ones = vec![1.0; cases.len()];
        let chance = |value: fn(&Within) -> f64| mean(cases, &ones, value);
        let adjacent = meter.figure(group, "nearest study is next in time", Unit::Share, cases.len(), "", &|weights| {
            mean(cases, weights, |case| case.adjacent)
        });
        let error = meter.figure(group, "steps to the nearest study", Unit::Number, cases.len(), "", &|weights| {
            mean(cases, weights, |case| case.error)
        });
        vec![
            Figure { chance: chance(|case| case.adjacent_by_chance), ..adjacent },
            Figure { chance: chance(|case| case.error_by_chance), ..error },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(images: Vec<[f32; 4]>, reports: Vec<[f32; 4]>, sequences: Vec<Vec<usize>>) -> SequenceData {
        let count = images.len();
        SequenceData {
            images: Vectors::from_rows(images).unwrap(),
            reports: Vectors::from_rows(reports).unwrap(),
            report_of: (0..count).map(Some).collect(),
            rows: (0..count).collect(),
            subjects: (0..count).map(|study| (study / 3).to_string()).collect(),
            sequences,
        }
    }

    #[test]
    fn an_embedding_of_time_is_seen_and_a_constant_is_at_chance() {
        let steps = [[1.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]];
        let rows: Vec<[f32; 4]> = (0..12).map(|n| steps[n % 3]).collect();
        let sequences: Vec<Vec<usize>> = (0..4).map(|n| (3 * n..3 * n + 3).collect()).collect();
        let result = SequenceOrder::default().evaluate(&data(rows.clone(), rows, sequences.clone())).unwrap();
        assert_eq!(result.value("image to report", "forward mapping accuracy"), Some(1.0));
        assert!(result.value("image to report", "forward mapping accuracy, shuffled").unwrap() < 0.5);
        assert_eq!(result.value("report to image", "right order preferred to a shuffled one"), Some(1.0));
        assert_eq!(result.value("within images", "nearest study is next in time"), Some(1.0));
        let flat = vec![[1.0, 0.0, 0.0, 0.0]; 12];
        let result = SequenceOrder::default().evaluate(&data(flat.clone(), flat, sequences)).unwrap();
        assert_eq!(result.value("image to report", "forward mapping accuracy"), Some(0.0));
        assert_eq!(result.value("image to report", "right order preferred to a shuffled one"), Some(0.5));
        let adjacent = result.figures.iter().find(|figure| figure.name == "nearest study is next in time").unwrap();
        assert_eq!(adjacent.value, adjacent.chance);
    }

    #[test]
    fn without_sequences_the_figure_is_undefined_and_says_why() {
        let rows = vec![[1.0, 0.0, 0.0, 0.0]; 2];
        let result = SequenceOrder::default().evaluate(&data(rows.clone(), rows, vec![vec![0, 1]])).unwrap();
        assert!(result.figures[0].text().contains("no sequence has three studies"));
    }
}
