//! Image classification by a linear probe: one linear layer on frozen `[CLS]` features.
//!
//! AdamW, learning rate 5e-4, weight decay 1e-6, batches of 96, at most 50 epochs, ended by 10
//! without a lower validation loss (the paper's section 4.2, after MGCA); with 1, 10 and 100 % of
//! the training rows.
//!
//! * Strict: subjects are drawn, three seeds, intervals over test subjects.
//! * Reference: rows are drawn, as `pandas.DataFrame.sample(frac, random_state=42)` does; one seed.
//! * Literature: as strict, and the probes of `neighbours`, which train nothing.

mod neighbours;
mod tested;

use std::collections::BTreeMap;

use medst_data::permutation::NumpyRandom;
use medst_data::split::Split;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Reduction, Tensor, nn};

use self::tested::Tested;
use super::{Input, Undefined};
use crate::eval::Vectors;
use crate::eval::published;
use crate::eval::result::{Figure, Meter, Protocol, Task, TaskResult, Unit};
use crate::eval::subgroups::Subgroups;
use crate::labels::words;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::{Error, Result};

/// The evaluator, with the paper's settings by default.
#[derive(Clone, Copy, Debug)]
pub struct LinearProbe<'a> {
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
    pub lr: f64,
    pub weight_decay: f64,
    pub batch: usize,
    pub epochs: usize,
    pub patience: usize,
}

impl Default for LinearProbe<'_> {
    fn default() -> Self {
        LinearProbe {
            protocol: Protocol::default(),
            bootstrap: Bootstrap::default(),
            by: &[],
            lr: 5e-4,
            weight_decay: 1e-6,
            batch: 96,
            epochs: 50,
            patience: 10,
        }
    }
}

/// Shares of the training rows.
const SHARES: [f64; 3] = [0.01, 0.1, 1.0];
const SEEDS: [u64; 3] = [0, 1, 2];
/// pandas' `random_state` in the reference.
const REFERENCE_SEED: u32 = 42;

/// The labels to learn.
#[derive(Clone, Debug)]
pub enum ProbeTruth {
    /// One of several classes.
    Classes { names: Vec<String>, of: Vec<usize> },
    /// Each of several findings, present or absent; `None` where that is unknown.
    Findings { names: Vec<String>, of: Vec<Vec<Option<bool>>> },
}

/// `n` images with features.
#[derive(Clone, Debug)]
pub struct ProbeData {
    /// `[n, H]`.
    pub features: Vectors,
    pub truth: ProbeTruth,
    pub splits: Vec<Split>,
    pub subjects: Vec<String>,
    /// Rows of the corpus.
    pub rows: Vec<usize>,
}

/// Probabilities of a trained probe for the test rows, `[m][outputs]`.
type Probabilities = Vec<Vec<f64>>;

impl ProbeTruth {
    fn names(&self) -> &[String] {
        match self {
            ProbeTruth::Classes { names, .. } | ProbeTruth::Findings { names, .. } => names,
        }
    }

    /// Whether these are COVIDx' three classes, of which figures are published.
    fn is_covidx(&self) -> bool {
        let mut names: Vec<String> = self.names().iter().map(|name| words(name)).collect();
        names.sort_unstable();
        matches!(self, ProbeTruth::Classes { .. }) && names == ["covid-19", "normal", "pneumonia"]
    }

    /// The truth of some rows.
    pub fn select(&self, rows: &[usize]) -> ProbeTruth {
        match self {
            ProbeTruth::Classes { names, of } => {
                ProbeTruth::Classes { names: names.clone(), of: rows.iter().map(|&row| of[row]).collect() }
            }
            ProbeTruth::Findings { names, of } => {
                ProbeTruth::Findings { names: names.clone(), of: rows.iter().map(|&row| of[row].clone()).collect() }
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            ProbeTruth::Classes { of, .. } => of.len(),
            ProbeTruth::Findings { of, .. } => of.len(),
        }
    }

    /// Target `[n, outputs]`, and 1 where it is known.
    fn target(&self) -> (Tensor, Tensor) {
        let (rows, outputs) = (self.count(), self.names().len());
        let mut values = vec![0f32; rows * outputs];
        let mut known = vec![1f32; rows * outputs];
        match self {
            ProbeTruth::Classes { of, .. } => {
                of.iter().enumerate().for_each(|(row, &class)| values[row * outputs + class] = 1.0);
            }
            ProbeTruth::Findings { of, .. } => {
                for (index, label) in of.iter().flatten().enumerate() {
                    values[index] = f32::from(u8::from(*label == Some(true)));
                    known[index] = f32::from(u8::from(label.is_some()));
                }
            }
        }
        let tensor = |x: &[f32]| Tensor::from_slice(x).view([rows as i64, outputs as i64]);
        (tensor(&values), tensor(&known))
    }

    /// Why rows cannot teach anything, where that is so.
    fn trouble(&self, rows: &[usize]) -> Option<String> {
        if rows.is_empty() {
            return Some("no training rows".into());
        }
        match self {
            ProbeTruth::Classes { names, of } => {
                let first = of[rows[0]];
                let alone = rows.iter().all(|&row| of[row] == first);
                alone.then(|| format!("all {} training rows are {}", rows.len(), names[first]))
            }
            ProbeTruth::Findings { names, of } => {
                let flat = |finding: usize| {
                    let mut known = rows.iter().filter_map(|&row| of[row][finding]);
                    let first = known.next();
                    known.all(|there| Some(there) == first)
                };
                let all_flat = (0..names.len()).all(flat);
                all_flat.then(|| format!("no finding varies among the {} training rows", rows.len()))
            }
        }
    }
}

impl LinearProbe<'_> {
    /// # Errors
    /// No training or no test rows, labels that do not fit, or features that are not finite.
    pub fn evaluate(&self, data: &ProbeData) -> Result<TaskResult> {
        Input::check(&data.features, "features")?;
        Input::check_count(data.truth.count(), &data.features, "labels")?;
        Input::check_count(data.splits.len(), &data.features, "splits")?;
        let of =
            |split: Split| -> Vec<usize> { (0..data.splits.len()).filter(|&row| data.splits[row] == split).collect() };
        let (mut training, mut validation, test) = (of(Split::Train), of(Split::Validate), of(Split::Test));
        for (rows, name) in [(&training, "training"), (&test, "test")] {
            if rows.is_empty() {
                return Err(Error::Evaluation(format!("a linear probe needs {name} rows, but the corpus has none")));
            }
        }
        let method = match self.protocol {
            Protocol::Strict => {
                "one linear layer on frozen features; fractions of the training subjects, mean of three seeds"
            }
            Protocol::Literature => {
                "one linear layer on frozen features; fractions of the training subjects, mean of three seeds; without training: \
                 the 20 nearest training images by cosine vote, and the nearest mean of a class decides"
            }
            Protocol::Reference => "one linear layer on frozen features; fractions of the training rows, one seed",
        };
        let mut result = TaskResult::new(Task::LinearProbe, self.protocol, method);
        result.rows = test.len();
        let clusters = Clusters::new(test.iter().map(|&row| &data.subjects[row]));
        result.subjects = clusters.count();
        result.notes.push(format!(
            "{} training, {} validation, {} test rows",
            training.len(),
            validation.len(),
            test.len()
        ));
        if validation.is_empty() {
            (training, validation) = hold_out(&training, &data.subjects);
            result.notes.push(format!(
                "no validation split: {} training rows of separate subjects are used for early stopping",
                validation.len()
            ));
        }
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, test.iter().map(|&row| data.rows[row]));
        let tensors = Tensors::new(data);
        let rows = Rows { training: &training, validation: &validation, test: &test };
        for share in SHARES {
            let group = format!("{} %", (share * 100.0).round());
            match self.train_all(data, &tensors, share, &rows)? {
                Ok(probabilities) => {
                    let tested = Tested::new(data, &test, probabilities);
                    result.figures.extend(tested.figures(&group, &meter));
                    if share == 1.0 {
                        result.plots = tested.plots();
                        result.examples = tested.examples(data, &test);
                    }
                }
                Err(Undefined(reason)) => {
                    let name = tested_name(&data.truth);
                    result.figures.push(Figure::undefined(&group, name.0, name.1, test.len(), reason));
                }
            }
        }
        if self.protocol == Protocol::Literature {
            for (group, probabilities) in neighbours::probes(data, &training, &test) {
                result.figures.extend(Tested::new(data, &test, vec![probabilities]).figures(group, &meter));
            }
        }
        if data.truth.is_covidx() {
            for figure in &mut result.figures {
                figure.published = published::values(Task::LinearProbe, &figure.group, &figure.name);
            }
        }
        Ok(result)
    }

    /// Probabilities of the test rows for each seed, or why there are none.
    fn train_all(
        &self,
        data: &ProbeData,
        tensors: &Tensors,
        share: f64,
        rows: &Rows<'_>,
    ) -> Result<Result<Vec<Probabilities>, Undefined>> {
        let seeds: Vec<u64> = match self.protocol {
            Protocol::Strict | Protocol::Literature => SEEDS.to_vec(),
            Protocol::Reference => vec![u64::from(REFERENCE_SEED)],
        };
        let mut all = Vec::new();
        for seed in seeds {
            let training = match self.protocol {
                Protocol::Strict | Protocol::Literature => draw_subjects(rows.training, &data.subjects, share, seed),
                Protocol::Reference => draw_rows(rows.training, share),
            };
            if let Some(reason) = data.truth.trouble(&training) {
                return Ok(Err(Undefined(reason)));
            }
            all.push(self.train(data, tensors, &Rows { training: &training, ..*rows }, seed)?);
        }
        Ok(Ok(all))
    }

    fn train(&self, data: &ProbeData, tensors: &Tensors, rows: &Rows<'_>, seed: u64) -> Result<Probabilities> {
        let Rows { training, validation, test } = *rows;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (inputs, outputs) = (data.features.width(), data.truth.names().len());
        let bound = 1.0 / (inputs as f32).sqrt();
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-bound..bound)).collect() };
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        // Drawn here, because libtorch's generator is shared with everything else in the process.
        let mut weight = root.zeros("weight", &[outputs as i64, inputs as i64]);
        let mut bias = root.zeros("bias", &[outputs as i64]);
        let initial = [(&mut weight, draw(outputs * inputs)), (&mut bias, draw(outputs))];
        for (tensor, values) in initial {
            let shape = tensor.size();
            tch::no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(shape.as_slice())));
        }
        let decay = nn::AdamW { wd: self.weight_decay, ..nn::AdamW::default() };
        let mut optimizer = decay.build(&store, self.lr)?;
        let loss = |rows: &Tensor, weight: &Tensor, bias: &Tensor| {
            let logits = tensors.features.index_select(0, rows).linear(weight, Some(bias));
            let (target, known) = (tensors.target.index_select(0, rows), tensors.known.index_select(0, rows));
            match &data.truth {
                ProbeTruth::Classes { .. } => {
                    logits.cross_entropy_loss(&target.argmax(1, false), None::<Tensor>, Reduction::Mean, -100, 0.0)
                }
                ProbeTruth::Findings { .. } => {
                    let each = logits.binary_cross_entropy_with_logits::<Tensor>(&target, None, None, Reduction::None);
                    (each * &known).sum(None::<Kind>) / known.sum(None::<Kind>).clamp_min(1.0)
                }
            }
        };
        let judge = numbers(if validation.is_empty() { training } else { validation });
        let mut order = training.to_vec();
        let mut best: Option<(f64, Tensor, Tensor)> = None;
        let mut stale = 0;
        for _ in 0..self.epochs {
            order.shuffle(&mut random);
            for batch in order.chunks(self.batch) {
                optimizer.backward_step(&loss(&numbers(batch), &weight, &bias));
            }
            let judged = tch::no_grad(|| loss(&judge, &weight, &bias).double_value(&[]));
            if !judged.is_finite() {
                return Err(Error::Evaluation(
                    "the linear probe's loss is not finite; are the features very large?".into(),
                ));
            }
            if best.as_ref().is_none_or(|best| judged < best.0) {
                best = Some((judged, weight.detach().copy(), bias.detach().copy()));
                stale = 0;
            } else {
                stale += 1;
                if stale >= self.patience {
                    break;
                }
            }
        }
        let (_, weight, bias) = best.ok_or_else(|| Error::Evaluation("no epoch was run".into()))?;
        let logits =
            tensors.features.index_select(0, &numbers(test)).linear(&weight, Some(&bias)).to_kind(Kind::Double);
        let probabilities = match &data.truth {
            ProbeTruth::Classes { .. } => logits.softmax(1, Kind::Double),
            ProbeTruth::Findings { .. } => logits.sigmoid(),
        };
        let values = Vec::<f64>::try_from(probabilities.contiguous().view([-1]))?;
        Ok(values.chunks_exact(outputs).map(<[f64]>::to_vec).collect())
    }
}

/// Rows of the data by their part.
struct Rows<'a> {
    training: &'a [usize],
    /// Empty: the training rows end the training.
    validation: &'a [usize],
    test: &'a [usize],
}

struct Tensors {
    features: Tensor,
    target: Tensor,
    known: Tensor,
}

impl Tensors {
    fn new(data: &ProbeData) -> Tensors {
        let (target, known) = data.truth.target();
        Tensors { features: data.features.tensor(), target, known }
    }
}

fn numbers(rows: &[usize]) -> Tensor {
    Tensor::from_slice(&rows.iter().map(|&row| row as i64).collect::<Vec<i64>>())
}

/// Distinguishes the stream that orders subjects from the other streams of a seed.
const SUBJECT_STREAM: u64 = 0x5eed;

/// Rows of whole subjects, drawn until the share of rows is reached.
pub fn draw_subjects(rows: &[usize], subjects: &[String], share: f64, seed: u64) -> Vec<usize> {
    let mut of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    rows.iter().for_each(|&row| of.entry(&subjects[row]).or_default().push(row));
    let mut groups: Vec<Vec<usize>> = of.into_values().collect();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ SUBJECT_STREAM));
    let wanted = ((rows.len() as f64 * share).round() as usize).max(1);
    let mut drawn = Vec::new();
    for group in groups {
        if drawn.len() >= wanted {
            break;
        }
        drawn.extend(group);
    }
    drawn.sort_unstable();
    drawn
}

/// Draws the same rows as `pandas.DataFrame.sample(frac, random_state=42)`.
fn draw_rows(rows: &[usize], share: f64) -> Vec<usize> {
    if share >= 1.0 {
        return rows.to_vec();
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    NumpyRandom::new(REFERENCE_SEED).shuffle(&mut order);
    order.truncate((rows.len() as f64 * share).round_ties_even() as usize);
    order.into_iter().map(|index| rows[index]).collect()
}

/// A tenth of the subjects for validation.
fn hold_out(training: &[usize], subjects: &[String]) -> (Vec<usize>, Vec<usize>) {
    let held = draw_subjects(training, subjects, 0.1, u64::MAX);
    if held.len() == training.len() {
        return (training.to_vec(), Vec::new());
    }
    (training.iter().copied().filter(|row| held.binary_search(row).is_err()).collect(), held)
}

/// The headline of a kind of truth, for when it is undefined.
fn tested_name(truth: &ProbeTruth) -> (&'static str, Unit) {
    match truth {
        ProbeTruth::Classes { .. } => ("accuracy", Unit::Share),
        ProbeTruth::Findings { .. } => ("AUROC", Unit::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(separable: bool) -> ProbeData {
        let count = 300;
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let of: Vec<usize> = (0..count).map(|row| row % 3).collect();
        let feature = |class: usize, random: &mut ChaCha8Rng| -> Vec<f32> {
            (0..6).map(|n| if separable && n == class { 6.0 } else { 0.0 } + random.random_range(-1.0..1.0)).collect()
        };
        let features = Vectors::from_rows(of.iter().map(|&class| feature(class, &mut random))).unwrap();
        let splits = (0..count).map(|row| [Split::Train, Split::Train, Split::Validate, Split::Test][row / 3 % 4]);
        ProbeData {
            features,
            truth: ProbeTruth::Classes { names: ["a", "b", "c"].map(String::from).to_vec(), of },
            splits: splits.collect(),
            subjects: (0..count).map(|row| (row / 2).to_string()).collect(),
            rows: (0..count).collect(),
        }
    }

    fn quick() -> LinearProbe<'static> {
        LinearProbe { lr: 0.05, bootstrap: Bootstrap { replicates: 100, seed: 0 }, ..LinearProbe::default() }
    }

    #[test]
    fn separable_classes_are_learnt_and_noise_is_not() {
        let result = quick().evaluate(&data(true)).unwrap();
        assert!(result.value("100 %", "accuracy").unwrap() > 0.97, "{result}");
        assert!(result.value("100 %", "AUROC").unwrap() > 0.99, "{result}");
        assert_eq!(result.figures.iter().filter(|figure| figure.name == "accuracy").count(), 3);
        let noise = quick().evaluate(&data(false)).unwrap();
        assert!(noise.value("100 %", "AUROC").unwrap() < 0.65, "{noise}");
        // The same seed, the same figures.
        assert_eq!(noise.value("10 %", "AUROC"), quick().evaluate(&data(false)).unwrap().value("10 %", "AUROC"));
    }

    #[test]
    fn the_literature_adds_probes_that_train_nothing() {
        let probe = LinearProbe { protocol: Protocol::Literature, ..quick() };
        let result = probe.evaluate(&data(true)).unwrap();
        let strict = quick().evaluate(&data(true)).unwrap();
        assert_eq!(result.value("10 %", "accuracy"), strict.value("10 %", "accuracy"));
        for group in ["nearest neighbours", "prototypes"] {
            assert!(result.value(group, "accuracy").unwrap() > 0.97, "{result}");
            assert!(result.value(group, "AUROC").unwrap() > 0.99, "{result}");
            assert_eq!(strict.value(group, "accuracy"), None);
        }
        let noise = probe.evaluate(&data(false)).unwrap();
        assert!(noise.value("prototypes", "AUROC").unwrap() < 0.7, "{noise}");
    }

    #[test]
    fn one_class_and_missing_splits_are_told() {
        let mut one_class = data(true);
        if let ProbeTruth::Classes { of, .. } = &mut one_class.truth {
            one_class.splits.iter().zip(of).filter(|row| *row.0 == Split::Train).for_each(|row| *row.1 = 1);
        }
        let result = quick().evaluate(&one_class).unwrap();
        assert!(result.figures[0].text().contains("training rows are b"), "{result}");
        let mut none = data(true);
        none.splits.iter_mut().for_each(|split| *split = Split::Train);
        assert!(quick().evaluate(&none).unwrap_err().to_string().contains("test rows"));
        let mut unjudged = data(true);
        unjudged.splits.iter_mut().filter(|split| **split == Split::Validate).for_each(|split| *split = Split::Train);
        let result = quick().evaluate(&unjudged).unwrap();
        assert!(result.notes.iter().any(|note| note.contains("no validation split")), "{result}");
    }

    #[test]
    fn findings_that_are_not_told_do_not_count() {
        let classes = data(true);
        let ProbeTruth::Classes { of, .. } = &classes.truth else { unreachable!() };
        let findings: Vec<Vec<Option<bool>>> = of
            .iter()
            .enumerate()
            .map(|(row, &class)| vec![Some(class == 0), (row % 5 != 0).then_some(class == 1)])
            .collect();
        let truth = ProbeTruth::Findings { names: ["a_x", "b"].map(String::from).to_vec(), of: findings };
        let result = quick().evaluate(&ProbeData { truth, ..classes.clone() }).unwrap();
        assert!(result.value("100 %", "AUROC, a x").unwrap() > 0.99, "{result}");
        assert!(result.value("100 %", "AUROC, b").unwrap() > 0.99, "{result}");
    }
}
