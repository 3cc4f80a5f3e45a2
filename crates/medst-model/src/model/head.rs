//! The head of a fine-tuned model: one linear map of image features to the labels of one task. Not
//! part of the paper; `medst finetune` trains it together with the image encoder (`finetune`).
//!
//! * Findings: from image features `[B, H]`, a logit for each binary label.
//! * Exclusive: from image features `[B, H]`, a logit for each class of one label, of which one is
//!   true.
//! * Change: from the features of the current image, the previous image and their difference
//!   `[N, 3H]`, a logit for each class of each label.
//!
//! Letters: `B` studies, `N` pairs of studies, `H` encoder width, `L` labels, `C` classes, `O`
//! outputs.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layers::Linear;
use super::parameters::{Init, Scope};

/// The kind of answer that a head gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadTask {
    /// Labels that are present or absent independently of each other.
    #[default]
    Findings,
    /// One of several classes of one label.
    Exclusive,
    /// How each label has changed since the previous study.
    Change,
}

/// A head's task, labels and classes; a part of the model's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    pub task: HeadTask,
    /// Label columns, with their names written as words.
    pub labels: Vec<String>,
    /// Classes of every label; empty for findings.
    #[serde(default)]
    pub classes: Vec<String>,
}

impl HeadConfig {
    /// Outputs of a label.
    fn each(&self) -> usize {
        self.classes.len().max(1)
    }

    /// Outputs, `O`.
    pub fn outputs(&self) -> usize {
        self.labels.len() * self.each()
    }

    /// Encoder states that it reads, in units of `H`.
    fn states(&self) -> i64 {
        if self.task == HeadTask::Change { 3 } else { 1 }
    }

    /// Names of the outputs.
    pub fn names(&self) -> Vec<String> {
        let of = |label: &String| match self.task {
            HeadTask::Findings => vec![label.clone()],
            HeadTask::Exclusive => self.classes.clone(),
            HeadTask::Change => self.classes.iter().map(|class| format!("{label}, {class}")).collect(),
        };
        self.labels.iter().flat_map(of).collect()
    }

    /// Refuses heads that cannot be built.
    pub fn validate(&self) -> crate::Result<()> {
        let fits = match self.task {
            HeadTask::Findings => self.classes.is_empty(),
            HeadTask::Exclusive => self.labels.len() == 1 && self.classes.len() > 1,
            HeadTask::Change => self.classes.len() > 1,
        };
        match fits && !self.labels.is_empty() && self.outputs() <= 1 << 16 {
            true => Ok(()),
            false => Err(crate::Error::Config(format!(
                "model.head: {} labels with {} classes do not make a head of the task {:?}; medst finetune makes heads",
                self.labels.len(),
                self.classes.len(),
                self.task
            ))),
        }
    }
}

/// The linear map and what its outputs mean.
#[derive(Debug)]
pub struct Head {
    pub config: HeadConfig,
    linear: Linear,
}

impl Head {
    pub fn new(scope: &Scope, config: &HeadConfig, width: i64) -> Head {
        let (scope, inputs, outputs) = (scope.at("task_head"), config.states() * width, config.outputs() as i64);
        // Zero, as in ViT's fine-tuning: what a run comes to depends on its start by the order of
        // the studies alone.
        let weight = scope.parameter("weight", &[outputs, inputs], Init::Zeros);
        let linear = Linear { weight, bias: scope.parameter("bias", &[outputs], Init::Zeros) };
        Head { config: config.clone(), linear }
    }

    /// The precision of its logits.
    pub fn kind(&self) -> Kind {
        self.linear.weight.kind()
    }

    /// Logits `[n, O]` of features `[n, H]`; for a change of pairs, previous and current one after
    /// the other, `[2n, H]`.
    pub fn forward(&self, features: &Tensor) -> Tensor {
        let features = features.to_kind(self.linear.weight.kind());
        if self.config.task != HeadTask::Change {
            return self.linear.forward(&features);
        }
        let pairs = features.view([-1, 2, features.size()[1]]);
        let (previous, current) = (pairs.select(1, 0), pairs.select(1, 1));
        self.linear.forward(&Tensor::cat(&[&current, &previous, &(&current - &previous)], 1))
    }

    /// Log-probabilities `[n, L, C]` of classes from logits; for findings, of "absent" and
    /// "present".
    pub fn log_probabilities(&self, logits: &Tensor) -> Tensor {
        let (labels, classes) = (self.config.labels.len() as i64, self.config.classes.len() as i64);
        match self.config.task {
            HeadTask::Findings => Tensor::stack(&[(-logits).log_sigmoid(), logits.log_sigmoid()], 2),
            _ => logits.view([-1, labels, classes]).log_softmax(2, None::<Kind>),
        }
    }

    /// Probabilities `[n, O]` of features as in [`Head::forward`], in the order of
    /// [`HeadConfig::names`].
    pub fn probabilities(&self, features: &Tensor) -> Tensor {
        let all = self.log_probabilities(&self.forward(features)).exp();
        match self.config.task {
            HeadTask::Findings => all.select(2, 1),
            _ => all.flatten(1, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn head(task: HeadTask, labels: &[&str], classes: &[&str]) -> Head {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let config = HeadConfig { task, labels: words(labels), classes: words(classes) };
        config.validate().unwrap();
        let root = Scope::root(0.5, Some(3), Kind::Float, Device::Cpu);
        let head = Head::new(&root, &config, 4);
        let weight = &head.linear.weight;
        let wave = (Tensor::arange(weight.numel() as i64, (Kind::Float, Device::Cpu)) * 1.3).sin().view_as(weight);
        tch::no_grad(|| weight.shallow_clone().copy_(&wave));
        head
    }

    fn values(x: &Tensor) -> Vec<f64> {
        Vec::try_from(x.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
    }

    #[test]
    fn findings_are_each_for_themselves_and_classes_sum_to_one() {
        let features = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]) / 10.0;
        let findings = head(HeadTask::Findings, &["edema", "pneumonia"], &[]);
        let probabilities = findings.probabilities(&features);
        assert_eq!(probabilities.size(), [3, 2]);
        assert!(probabilities.allclose(&findings.forward(&features).sigmoid(), 1e-6, 1e-6, false));
        let exclusive = head(HeadTask::Exclusive, &["class"], &["a", "b", "c"]);
        let sums = exclusive.probabilities(&features).sum_dim_intlist(&[1i64][..], false, None::<Kind>);
        assert!(values(&sums).iter().all(|sum| (sum - 1.0).abs() < 1e-6));
        assert_eq!(exclusive.config.names(), ["a", "b", "c"]);
    }

    /// Pairs are previous and current, one after the other; the third part of the input is what
    /// changed.
    #[test]
    fn a_change_reads_current_previous_and_difference() {
        let change = head(HeadTask::Change, &["edema", "pneumonia"], &["improving", "stable", "worsening"]);
        let features = (Tensor::arange(16, (Kind::Float, Device::Cpu)) * 0.7).sin().view([4, 4]);
        let probabilities = change.probabilities(&features);
        assert_eq!(probabilities.size(), [2, 6]);
        assert_eq!(change.config.names()[..2], ["edema, improving", "edema, stable"]);
        let row = |n: i64| features.get(n);
        let input = Tensor::cat(&[row(3), row(2), row(3) - row(2)], 0).unsqueeze(0);
        let expected = change.linear.forward(&input).view([2, 3]).softmax(1, None::<Kind>);
        assert!(probabilities.get(1).view([2, 3]).allclose(&expected, 1e-6, 1e-6, false));
    }

    #[test]
    fn heads_that_make_no_sense_are_refused() {
        let config = |task, labels: &[&str], classes: &[&str]| HeadConfig {
            task,
            labels: labels.iter().map(ToString::to_string).collect(),
            classes: classes.iter().map(ToString::to_string).collect(),
        };
        for wrong in [
            config(HeadTask::Findings, &[], &[]),
            config(HeadTask::Findings, &["a"], &["x", "y"]),
            config(HeadTask::Exclusive, &["a"], &["x"]),
            config(HeadTask::Exclusive, &["a", "b"], &["x", "y"]),
            config(HeadTask::Change, &["a"], &[]),
        ] {
            assert!(wrong.validate().unwrap_err().to_string().contains("model.head"));
        }
    }
}
