//! Five courses of findings between two images, learnt on the pairs of one source and judged on
//! those of each other one, as CheXTemporal does it: does a head that reads change at one hospital
//! read it at another?
//!
//! A head per finding: logistic regression on frozen embeddings, its ridge chosen by a fifth of the
//! source's subjects, by the two readouts of `linear_heads`. The predictions for all findings are
//! counted together. The paper's own heads are not described; ours are the same for every encoder.

use super::Input;
use super::linear_heads::{self, ProbeSplit, Readout};
use crate::Result;
use crate::eval::pairs::ImagePairs;
use crate::eval::result::{Figure, Meter, Plot, Protocol, Task, TaskResult, Unit};
use crate::eval::subgroups::Subgroups;
use crate::labels::words;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::ConfusionMatrix;

/// The courses by class number.
pub const COURSES: [&str; 5] = ["improving", "stable", "worsening", "new", "resolved"];
/// Draws the subjects that choose the ridge.
const SEED: u32 = 42;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemporalTransfer<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// Pairs of several sources.
#[derive(Clone, Debug)]
pub struct TransferData {
    /// Its own `findings` are empty.
    pub pairs: ImagePairs,
    /// The source of each pair.
    pub sources: Vec<String>,
    /// For each finding, the class of each pair; `None` if unknown.
    pub findings: Vec<(String, Vec<Option<usize>>)>,
}

/// Predictions of heads for the findings of pairs.
#[derive(Default)]
struct Said {
    rows: Vec<usize>,
    truth: Vec<usize>,
    said: Vec<usize>,
}

impl Said {
    fn matrix(&self, of_pairs: &[f64]) -> ConfusionMatrix {
        let weights: Vec<f64> = self.rows.iter().map(|&row| of_pairs[row]).collect();
        ConfusionMatrix::new(&self.truth, &self.said, &weights, COURSES.len())
    }
}

impl TemporalTransfer<'_> {
    /// # Errors
    /// No pairs, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, data: &TransferData) -> Result<TaskResult> {
        let pairs = &data.pairs;
        Input::check(&pairs.previous, "previous images")?;
        Input::check_like(&pairs.current, &pairs.previous, "current images")?;
        let method = "logistic regression on frozen embeddings of both images, a head per finding, trained on one source and tested on \
                      another; five courses (improving, stable, worsening, new, resolved), all findings counted together";
        let mut result = TaskResult::new(Task::TemporalTransfer, Protocol::Strict, method);
        let clusters = Clusters::new(&pairs.subjects);
        (result.rows, result.subjects) = (pairs.subjects.len(), clusters.count());
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, pairs.current_rows());
        let mut sources: Vec<&String> = data.sources.iter().collect();
        sources.sort_unstable();
        sources.dedup();
        for readout in [Readout::Concatenation, Readout::Difference] {
            let mut all = Vec::new();
            for from in &sources {
                let mut said: Vec<Said> = sources.iter().map(|_| Said::default()).collect();
                let mut unlearnt = Vec::new();
                for (finding, classes) in &data.findings {
                    if !self.learn(data, from, &sources, classes, readout, &mut said)? {
                        unlearnt.push(words(finding));
                    }
                }
                if readout == Readout::Concatenation && !unlearnt.is_empty() {
                    result.notes.push(format!("{from} does not have two courses of {}", unlearnt.join(", ")));
                }
                for (to, said) in sources.iter().zip(said) {
                    if to != from && !said.rows.is_empty() {
                        all.push((format!("{from} → {to}"), said));
                    }
                }
            }
            for (group, said) in &all {
                result.figures.extend(figures(group, readout, std::slice::from_ref(said), &meter));
                if readout == Readout::Difference {
                    result.plots.push(Plot::Confusion {
                        title: format!("{group}, {}", readout.name()),
                        classes: COURSES.map(str::to_string).to_vec(),
                        counts: said.matrix(&vec![1.0; pairs.subjects.len()]).counts,
                    });
                }
            }
            let said: Vec<Said> = all.into_iter().map(|(_, said)| said).collect();
            if said.len() > 1 {
                result.figures.extend(figures("mean", readout, &said, &meter));
            }
        }
        // In alphabetical order of the pairs of sources; the mean comes last.
        result.figures.sort_by_key(|figure| (figure.group == "mean", figure.group.clone()));
        Ok(result)
    }

    /// Trains the head of a finding on one source and adds its predictions for the pairs of every
    /// source. `false` if nothing can be learnt.
    fn learn(
        &self,
        data: &TransferData,
        from: &str,
        sources: &[&String],
        classes: &[Option<usize>],
        readout: Readout,
        said: &mut [Said],
    ) -> Result<bool> {
        let (rows, truth): (Vec<usize>, Vec<usize>) =
            classes.iter().enumerate().filter_map(|(row, class)| Some((row, (*class)?))).unzip();
        let from_source: Vec<usize> = (0..rows.len()).filter(|&n| data.sources[rows[n]] == from).collect();
        let subjects: Vec<String> = from_source.iter().map(|&n| data.pairs.subjects[rows[n]].clone()).collect();
        let splits = linear_heads::splits(&subjects, SEED);
        let of = |validates: bool| -> Vec<usize> {
            from_source
                .iter()
                .zip(&splits)
                .filter(|(_, split)| (**split == ProbeSplit::Test) == validates)
                .map(|(&n, _)| n)
                .collect()
        };
        let (training, validation) = (of(false), of(true));
        let Some(first) = training.first().map(|&n| truth[n]) else { return Ok(false) };
        if training.iter().all(|&n| truth[n] == first) {
            return Ok(false);
        }
        let features = readout.features(&data.pairs, &rows)?;
        let tested: Vec<usize> = (0..rows.len()).filter(|&n| data.sources[rows[n]] != from).collect();
        let found = linear_heads::said(&features, &truth, COURSES.len(), &training, &validation, &tested);
        for (&n, class) in tested.iter().zip(found) {
            let index = sources.iter().position(|source| **source == data.sources[rows[n]]);
            let Some(decisions) = index.map(|index| &mut said[index]) else { continue };
            decisions.rows.push(rows[n]);
            decisions.truth.push(truth[n]);
            decisions.said.push(class);
        }
        Ok(true)
    }
}

/// Means over pairs of sources.
fn figures(group: &str, readout: Readout, all: &[Said], meter: &Meter<'_>) -> Vec<Figure> {
    let mut used: Vec<usize> = all.iter().flat_map(|said| &said.rows).copied().collect();
    used.sort_unstable();
    used.dedup();
    let of_courses = |said: &Said| {
        let mut classes = said.truth.clone();
        classes.sort_unstable();
        classes.dedup();
        1.0 / classes.len() as f64
    };
    let chance = all.iter().map(of_courses).sum::<f64>() / all.len() as f64;
    type Statistic = fn(&ConfusionMatrix) -> Option<f64>;
    let statistics: [(&str, Option<f64>, Statistic); 2] = [
        ("macro accuracy", Some(chance), ConfusionMatrix::macro_accuracy),
        ("accuracy", None, ConfusionMatrix::accuracy),
    ];
    let figure = |(name, chance, statistic): (&str, Option<f64>, Statistic)| {
        let name = format!("{name}, {}", readout.name());
        let made = meter.figure_of(group, &name, Unit::Share, &used, "no test pairs", &|weights| {
            super::mean_of_all(all.iter().map(|said| statistic(&said.matrix(weights))))
        });
        Figure { chance, ..made }
    };
    statistics.map(figure).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Vectors;

    /// Three sources whose pairs move along an axis of their course; those of the third move the
    /// other way.
    fn data() -> TransferData {
        let (mut previous, mut current, mut sources, mut subjects, mut classes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for n in 0..150_usize {
            let (source, class) = (["a", "b", "c"][n % 3], (n / 3) % 5);
            let mut step = [0.0_f32; 5];
            step[if source == "c" { (class + 1) % 5 } else { class }] = 1.0;
            let noise = [0.1 * (n as f32).sin(), 0.1 * (n as f32).cos(), 0.0, 0.1, 0.0];
            previous.push(noise);
            current.push(std::array::from_fn::<f32, 5, _>(|k| noise[k] + step[k]));
            sources.push(source.to_string());
            subjects.push(format!("{source}{}", n / 6));
            classes.push(Some(class));
        }
        let pairs = ImagePairs {
            previous: Vectors::from_rows(&previous).unwrap(),
            current: Vectors::from_rows(&current).unwrap(),
            studies: (0..150).map(|n| [2 * n, 2 * n + 1]).collect(),
            subjects,
            findings: Vec::new(),
        };
        TransferData { pairs, sources, findings: vec![("edema".into(), classes)] }
    }

    #[test]
    fn a_head_of_one_source_is_judged_on_the_others() {
        let task = TemporalTransfer { bootstrap: Bootstrap { replicates: 10, seed: 0 }, by: &[] };
        let found = task.evaluate(&data()).unwrap();
        for readout in ["concatenation", "difference"] {
            let name = format!("macro accuracy, {readout}");
            assert_eq!(found.value("a → b", &name), Some(1.0), "{readout}");
            assert_eq!(found.value("a → c", &name), Some(0.0), "what means another course elsewhere");
            assert!(found.value("mean", &name).is_some_and(|mean| (mean - 1.0 / 3.0).abs() < 1e-9));
        }
        assert_eq!(found.figures.iter().filter(|figure| figure.group == "a → a").count(), 0);
        assert!(found.figures.iter().all(|figure| figure.chance.is_none_or(|chance| (chance - 0.2).abs() < 1e-12)));
    }

    #[test]
    fn a_source_with_one_course_teaches_nothing() {
        let mut data = data();
        let of_a: Vec<usize> = (0..150).filter(|&n| data.sources[n] == "a").collect();
        of_a.iter().for_each(|&n| data.findings[0].1[n] = Some(1));
        let task = TemporalTransfer { bootstrap: Bootstrap { replicates: 0, seed: 0 }, by: &[] };
        let found = task.evaluate(&data).unwrap();
        assert!(found.figures.iter().all(|figure| !figure.group.starts_with("a →")));
        assert!(found.notes[0].contains("edema"), "{:?}", found.notes);
    }
}
