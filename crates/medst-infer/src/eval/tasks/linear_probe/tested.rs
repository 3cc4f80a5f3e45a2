//! What trained probes are worth on the test rows.

use super::{Probabilities, ProbeData, ProbeTruth};
use crate::eval::result::{Curve, Example, Figure, Meter, Plot, Unit, extremes};
use crate::eval::tasks::mean_of_all;
use crate::labels::words;
use crate::stats::metrics::{Calibration, ConfusionMatrix, Ranking};

/// Test rows with the predictions of the probes of all seeds.
pub(super) struct Tested<'a> {
    names: &'a [String],
    /// For exclusive classes: the true class of each row.
    classes: Option<Vec<usize>>,
    runs: Vec<Run>,
}

/// A probe of one seed.
struct Run {
    probabilities: Probabilities,
    said: Vec<usize>,
    /// For each output, its ranking and the test rows in it.
    rankings: Vec<(Ranking, Vec<usize>)>,
    /// For findings: truth and decision for those rows.
    decisions: Vec<(Vec<usize>, Vec<usize>)>,
    calibration: Calibration,
}

impl<'a> Tested<'a> {
    pub(super) fn new(data: &'a ProbeData, test: &[usize], probabilities: Vec<Probabilities>) -> Tested<'a> {
        let names = data.truth.names();
        let classes = match &data.truth {
            ProbeTruth::Classes { of, .. } => Some(test.iter().map(|&row| of[row]).collect::<Vec<usize>>()),
            ProbeTruth::Findings { .. } => None,
        };
        let runs = probabilities.into_iter().map(|probabilities| {
            let known = |output: usize| -> (Vec<usize>, Vec<bool>) {
                let label = |index: usize| match &data.truth {
                    ProbeTruth::Classes { of, .. } => Some(of[test[index]] == output),
                    ProbeTruth::Findings { of, .. } => of[test[index]][output],
                };
                (0..test.len()).filter_map(|index| Some((index, label(index)?))).unzip()
            };
            let (mut rankings, mut decisions) = (Vec::new(), Vec::new());
            let (mut stated, mut truth) = (Vec::new(), Vec::new());
            for (output, _) in names.iter().enumerate() {
                let (indexes, positive) = known(output);
                let scores: Vec<f64> = indexes.iter().map(|&index| probabilities[index][output]).collect();
                stated.extend(scores.iter().map(|&there| vec![1.0 - there, there]));
                truth.extend(positive.iter().map(|&there| usize::from(there)));
                decisions.push((
                    positive.iter().map(|&there| usize::from(there)).collect(),
                    scores.iter().map(|&score| usize::from(score > 0.5)).collect(),
                ));
                rankings.push((Ranking::new(&scores, &positive), indexes));
            }
            let calibration = match &classes {
                Some(classes) => Calibration::new(&probabilities, classes),
                None => Calibration::new(&stated, &truth),
            };
            let said = probabilities.iter().map(|row| highest(row)).collect();
            Run { probabilities, said, rankings, decisions, calibration }
        });
        let runs = runs.collect();
        Tested { names, classes, runs }
    }

    /// The mean over seeds; `None` where it is undefined for one.
    fn mean(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        mean_of_all(self.runs.iter().map(of))
    }

    pub(super) fn figures(&self, group: &str, meter: &Meter<'_>) -> Vec<Figure> {
        let rows = self.runs.first().map_or(0, |run| run.probabilities.len());
        let outputs = self.names.len();
        let lacking = "the test rows do not contain both positive and negative examples of a class";
        let mut figures = Vec::new();
        if let Some(classes) = &self.classes {
            let matrix = |run: &Run, weights: &[f64]| ConfusionMatrix::new(classes, &run.said, weights, outputs);
            type Of = fn(&ConfusionMatrix) -> Option<f64>;
            let table: [(&str, Of); 3] = [
                ("accuracy", ConfusionMatrix::accuracy),
                ("macro accuracy", ConfusionMatrix::macro_accuracy),
                ("macro F1", ConfusionMatrix::macro_f1),
            ];
            for (name, of) in table {
                figures.push(meter.figure(group, name, Unit::Share, rows, lacking, &|weights| {
                    self.mean(|run| of(&matrix(run, weights)))
                }));
            }
            let most =
                (0..outputs).map(|class| classes.iter().filter(|&&other| other == class).count()).max().unwrap_or(0);
            figures[0].chance = Some(most as f64 / rows.max(1) as f64);
            figures[1].chance = Some(1.0 / outputs as f64);
        }
        // Outputs that both occur and do not among the test rows.
        let ones = vec![1.0; rows];
        let defined: Vec<usize> =
            (0..outputs).filter(|&output| self.runs.iter().all(|run| run.auroc(output, &ones).is_some())).collect();
        let over = |weights: &[f64], value: fn(&Run, usize, &[f64]) -> Option<f64>| {
            self.mean(|run| mean_of_all(defined.iter().map(|&output| value(run, output, weights))))
        };
        let auroc = meter.figure(group, "AUROC", Unit::Number, rows, lacking, &|weights| over(weights, Run::auroc));
        figures.push(auroc.with_chance(0.5));
        let precision = ("average precision", Unit::Number);
        figures.push(
            meter.figure(group, precision.0, precision.1, rows, lacking, &|weights| {
                over(weights, Run::average_precision)
            }),
        );
        if self.classes.is_none() {
            let accuracy = meter.figure(group, "accuracy", Unit::Share, rows, lacking, &|weights| {
                over(weights, |run, output, weights| run.matrix(output, weights).accuracy())
            });
            let f1 = meter.figure(group, "F1", Unit::Share, rows, lacking, &|weights| {
                over(weights, |run, output, weights| run.matrix(output, weights).f1(1))
            });
            figures.extend([accuracy, f1]);
        }
        if outputs > 1 {
            for output in 0..outputs {
                let name = format!("AUROC, {}", words(&self.names[output]));
                figures.push(
                    meter
                        .figure(group, &name, Unit::Number, rows, lacking, &|weights| {
                            self.mean(|run| run.auroc(output, weights))
                        })
                        .with_chance(0.5),
                );
            }
        }
        if self.classes.is_some() {
            figures.push(meter.figure(group, "calibration error", Unit::Number, rows, lacking, &|weights| {
                self.mean(|run| run.calibration.error(weights))
            }));
        }
        figures
    }

    /// The plots of the first seed.
    pub(super) fn plots(&self) -> Vec<Plot> {
        let Some(run) = self.runs.first() else { return Vec::new() };
        let ones = vec![1.0; run.probabilities.len()];
        let curves = (0..self.names.len()).filter_map(|output| {
            let points = run.rankings[output].0.curve();
            let auroc = run.auroc(output, &ones);
            (!points.is_empty()).then(|| Curve { name: words(&self.names[output]), auroc, points })
        });
        let mut plots = vec![Plot::Roc { title: "100 % of the training rows".into(), curves: curves.collect() }];
        let bins = run.calibration.bins();
        let count: usize = bins.iter().map(|bin| bin.count).sum();
        if let Some(error) = run.calibration.error(&vec![1.0; count]) {
            plots.push(Plot::Calibration { title: "100 % of the training rows".into(), bins, error });
        }
        if let Some(classes) = &self.classes {
            let counts = ConfusionMatrix::new(classes, &run.said, &ones, self.names.len()).counts;
            plots.push(Plot::Confusion {
                title: "100 % of the training rows".into(),
                classes: self.names.to_vec(),
                counts,
            });
        }
        plots
    }

    pub(super) fn examples(&self, data: &ProbeData, test: &[usize]) -> Vec<Example> {
        let Some(run) = self.runs.first() else { return Vec::new() };
        let (scores, captions): (Vec<f64>, Vec<String>) = (0..test.len())
            .map(|index| match &self.classes {
                Some(classes) => {
                    let (class, said) = (&self.names[classes[index]], &self.names[run.said[index]]);
                    let probability = run.probabilities[index][classes[index]];
                    (
                        probability,
                        format!("{class}; predicted {said}, probability of {class} {:.0} %", 100.0 * probability),
                    )
                }
                None => {
                    let ProbeTruth::Findings { of, .. } = &data.truth else { return (f64::NAN, String::new()) };
                    let outputs = of[test[index]].iter().zip(&run.probabilities[index]).enumerate();
                    let right =
                        outputs.filter_map(|(output, (there, &p))| Some((output, if (*there)? { p } else { 1.0 - p })));
                    let worst = right.min_by(|a, b| a.1.total_cmp(&b.1));
                    worst.map_or((f64::NAN, String::new()), |(output, probability)| {
                        let there = of[test[index]][output] == Some(true);
                        let name = words(&self.names[output]);
                        let name = if there { name } else { format!("no {name}") };
                        (probability, format!("{name}: probability {:.0} %", 100.0 * probability))
                    })
                }
            })
            .unzip();
        let example = |(kind, index): (_, usize)| Example::new(kind, &captions[index], [data.rows[test[index]]]);
        extremes(&scores).into_iter().map(example).collect()
    }
}

fn highest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

impl Run {
    fn weights_of(&self, output: usize, weights: &[f64]) -> Vec<f64> {
        self.rankings[output].1.iter().map(|&index| weights[index]).collect()
    }

    fn auroc(&self, output: usize, weights: &[f64]) -> Option<f64> {
        self.rankings[output].0.auroc(&self.weights_of(output, weights))
    }

    fn average_precision(&self, output: usize, weights: &[f64]) -> Option<f64> {
        self.rankings[output].0.average_precision(&self.weights_of(output, weights))
    }

    fn matrix(&self, output: usize, weights: &[f64]) -> ConfusionMatrix {
        let (truth, said) = &self.decisions[output];
        ConfusionMatrix::new(truth, said, &self.weights_of(output, weights), 2)
    }
}
