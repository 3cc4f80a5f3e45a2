//! Evaluates a head on a split: the area under the receiver operating characteristic of every
//! finding, or the macro accuracy over the classes of every label.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::data::Items;
use super::step::{head, logits};
use crate::Result;
use crate::distributed::Group;
use crate::distributed::share::Share;
use crate::eval::result::{Figure, Meter, Unit};
use crate::eval::tasks::mean_of_all;
use crate::model::MedSt;
use crate::model::head::{HeadConfig, HeadTask};
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::{ConfusionMatrix, Ranking};
use crate::train::Ending;
use crate::train::dataset::Crop;
use crate::train::log::{Logged, METRICS};

/// One line of a fine-tuning run's `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// An optimiser step.
    Train { step: u64, epoch: u64, lr: f64, loss: f64, grad_norm: f64, studies: u64, studies_per_second: f64 },
    /// The validation split after an epoch: the mean over labels, and each label for which it is
    /// defined.
    Validate { step: u64, epoch: u64, loss: f64, figure: f64, labels: BTreeMap<String, f64> },
}

impl Logged for Entry {
    fn step(&self) -> u64 {
        match self {
            Entry::Train { step, .. } | Entry::Validate { step, .. } => *step,
        }
    }

    fn scalars(&self) -> Vec<(String, f64)> {
        let tagged = |kind: &str, values: &[(&str, f64)]| {
            values.iter().map(|(name, value)| (format!("{kind}/{name}"), *value)).collect::<Vec<_>>()
        };
        match self {
            Entry::Train { lr, loss, grad_norm, studies_per_second, .. } => tagged(
                "train",
                &[("loss", *loss), ("lr", *lr), ("grad_norm", *grad_norm), ("studies_per_second", *studies_per_second)],
            ),
            Entry::Validate { loss, figure, labels, .. } => {
                let mut all = tagged("validate", &[("loss", *loss), ("figure", *figure)]);
                all.extend(labels.iter().map(|(label, value)| (format!("validate/{label}"), *value)));
                all
            }
        }
    }
}

/// The name of a task's figure.
pub fn name(task: HeadTask) -> &'static str {
    if task == HeadTask::Findings { "AUROC" } else { "macro accuracy" }
}

/// Predictions of a model for items with known labels.
pub struct Judged {
    /// The mean loss of known labels, without class weights.
    pub loss: f64,
    /// For each label, its known items, their classes, and the predicted probabilities.
    labels: Vec<Known>,
    items: usize,
}

struct Known {
    items: Vec<usize>,
    truth: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

/// A figure for a weight of each item; `None` where it is undefined.
type Weighted<'a> = dyn Fn(&[f64]) -> Option<f64> + Sync + 'a;

impl Judged {
    /// Asks a model, in batches of `size` that processes share out; all get the same result.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn new(model: &MedSt, items: &Items, size: usize, group: &Group) -> Result<Judged> {
        let _guard = tch::no_grad_guard();
        let (head, side) = (head(model), model.config.image.size);
        let share = Share::new(&vec![1; items.len()], group);
        let numbers_here: Vec<usize> = share.sequences.clone().collect();
        let mut found = vec![Tensor::zeros([0, head.config.outputs() as i64], (head.kind(), model.device()))];
        for numbers in numbers_here.chunks(size) {
            found.push(logits(model, &items.batch(numbers, 0..numbers.len(), Crop::Centre, side)?)?);
        }
        let all = group.gather(&Tensor::cat(&found, 0).contiguous(), &share.counts);
        let all = head.log_probabilities(&all).to_kind(Kind::Double);
        let (classes, each) = (all.size()[2] as usize, head.config.labels.len());
        let values: Vec<f64> = Vec::try_from(all.contiguous().view([-1]))?;
        let (mut loss, mut count) = (0.0, 0);
        let mut known = |label: usize| {
            let mut known = Known { items: Vec::new(), truth: Vec::new(), probabilities: Vec::new() };
            for (item, labels) in items.classes.iter().enumerate() {
                let Some(class) = labels[label] else { continue };
                let start = (item * each + label) * classes;
                let row = &values[start..start + classes];
                loss -= row[class];
                count += 1;
                known.items.push(item);
                known.truth.push(class);
                known.probabilities.push(row.iter().map(|log| log.exp()).collect());
            }
            known
        };
        let labels = (0..each).map(&mut known).collect();
        Ok(Judged { loss: loss / f64::from(count.max(1)), labels, items: items.len() })
    }

    /// A label's figure for a weight of each item.
    fn of_label<'a>(&'a self, head: &HeadConfig, label: usize) -> Box<Weighted<'a>> {
        let Known { items, truth, probabilities } = &self.labels[label];
        let weights = move |of_items: &[f64]| items.iter().map(|&item| of_items[item]).collect::<Vec<f64>>();
        if head.task == HeadTask::Findings {
            let scores: Vec<f64> = probabilities.iter().map(|row| row[1]).collect();
            let positive: Vec<bool> = truth.iter().map(|&class| class == 1).collect();
            let ranking = Ranking::new(&scores, &positive);
            return Box::new(move |of_items| ranking.auroc(&weights(of_items)));
        }
        let highest = |row: &Vec<f64>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        let said: Vec<usize> = probabilities.iter().map(highest).collect();
        let classes = head.classes.len();
        Box::new(move |of_items| ConfusionMatrix::new(truth, &said, &weights(of_items), classes).macro_accuracy())
    }

    /// Each label's figure, where its known items have more than one class.
    fn each(&self, head: &HeadConfig) -> Vec<Option<f64>> {
        let ones = vec![1.0; self.items];
        let of = |label: usize| {
            let truth = &self.labels[label].truth;
            let varied = truth.iter().any(|class| Some(class) != truth.first());
            varied.then(|| self.of_label(head, label)(&ones)).flatten()
        };
        (0..self.labels.len()).map(of).collect()
    }

    /// The mean over the labels that have a figure; `None` where none has.
    pub fn figure(&self, head: &HeadConfig) -> Option<f64> {
        mean_of_all(self.each(head).into_iter().flatten().map(Some))
    }

    /// A line of the log.
    pub fn entry(&self, head: &HeadConfig, figure: f64, step: u64, epoch: u64) -> Entry {
        let each = head.labels.iter().zip(self.each(head));
        let labels = each.filter_map(|(label, figure)| Some((label.clone(), figure?))).collect();
        Entry::Validate { step, epoch, loss: self.loss, figure, labels }
    }

    /// Figures with intervals over subjects: the mean, then each label's. Without items, no
    /// figures.
    pub fn figures(&self, head: &HeadConfig, items: &Items, bootstrap: Bootstrap) -> Vec<Figure> {
        if self.items == 0 {
            return Vec::new();
        }
        let (name, unit) = match head.task {
            HeadTask::Findings => (name(head.task), Unit::Number),
            _ => (name(head.task), Unit::Share),
        };
        let lacking = "the labels have only one class";
        let clusters = Clusters::new(items.subjects());
        let meter = Meter::new(bootstrap, &clusters);
        let defined: Vec<usize> =
            self.each(head).iter().enumerate().filter_map(|(label, figure)| figure.map(|_| label)).collect();
        let by_label: Vec<_> = defined.iter().map(|&label| self.of_label(head, label)).collect();
        let mean = |weights: &[f64]| mean_of_all(by_label.iter().map(|of| of(weights)));
        let mut figures = vec![meter.figure("mean", name, unit, self.items, lacking, &mean)];
        for (label, of) in defined.iter().zip(&by_label).filter(|_| head.labels.len() > 1) {
            let rows = &self.labels[*label].items;
            figures.push(meter.figure_of(&head.labels[*label], name, unit, rows, lacking, of));
        }
        figures
    }
}

/// A fine-tuning run in a few numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub folder: PathBuf,
    pub ending: Ending,
    pub steps: u64,
    pub total_steps: u64,
    /// The step whose weights are used from now on: the best on the validation split, or the last
    /// where that has no labels.
    pub used: u64,
    pub head: HeadConfig,
    /// Studies, or pairs of studies.
    pub trained_on: usize,
    pub validation: Vec<Figure>,
    pub test: Vec<Figure>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match self.ending {
            Ending::Finished => "finished",
            Ending::Converged => "stopped early: the figure on the validation split no longer improves",
            Ending::Stopped => "stopped; continue with --resume",
        };
        writeln!(f, "run {}: {ending}", self.folder.display())?;
        let (steps, total, used, items) = (self.steps, self.total_steps, self.used, self.trained_on);
        writeln!(f, "  {steps} of {total} steps on {items} items; the weights of step {used} are used")?;
        writeln!(f, "  {:<24} {:<28} test", name(self.head.task), "validation")?;
        let groups = self.validation.iter().chain(&self.test).map(|figure| figure.group.as_str());
        let mut shown: Vec<&str> = Vec::new();
        groups.for_each(|group| {
            if !shown.contains(&group) {
                shown.push(group)
            }
        });
        for group in shown {
            let text = |figures: &[Figure]| {
                figures.iter().find(|figure| figure.group == group).map_or_else(|| "–".into(), Figure::text)
            };
            writeln!(f, "  {group:<24} {:<28} {}", text(&self.validation), text(&self.test))?;
        }
        writeln!(f, "  metrics  {}/{METRICS} (and TensorBoard events next to it)", self.folder.display())
    }
}
