//! The configuration of a fine-tuning run: one TOML file in the style of that of pre-training.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{OptimizerConfig, in_file, overridden, read, unreadable};
use crate::model::config::Precision;
use crate::model::head::HeadTask;
use crate::weights_input::{Input, one_or_many};
use crate::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub data: DataConfig,
    pub init: InitConfig,
    pub optimizer: RatesConfig,
    pub train: TrainConfig,
}

/// The task, and the data to learn it from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The corpus folder; a relative path is relative to the working directory.
    pub corpus: PathBuf,
    pub task: HeadTask,
    /// Label columns; empty: for findings and changes every column of a known finding, for
    /// exclusive classes `label` or `finding`.
    pub labels: Vec<String>,
    /// Classes of a change, or of one label of several classes; other values are not used. Empty:
    /// those that the training studies have.
    pub classes: Vec<String>,
    /// Share of the training subjects whose labels are used.
    pub share: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            corpus: "corpus".into(),
            task: HeadTask::default(),
            labels: Vec::new(),
            classes: Vec::new(),
            share: 1.0,
        }
    }
}

impl DataConfig {
    /// The classes as the data has them: those of changes in lower case.
    pub(super) fn classes(&self) -> Vec<String> {
        let class = |class: &String| match self.task {
            HeadTask::Change => class.trim().to_lowercase(),
            _ => class.trim().to_string(),
        };
        self.classes.iter().map(class).collect()
    }

    fn check_classes(&self) -> Result<()> {
        let classes = self.classes();
        let different: BTreeSet<&String> = classes.iter().collect();
        let message = match self.task {
            _ if classes.is_empty() => return Ok(()),
            HeadTask::Findings => "findings are there or not and have no other classes; leave it empty",
            _ if classes.len() < 2 || different.len() < classes.len() => "name two or more different classes",
            _ => return Ok(()),
        };
        Err(Error::Config(format!("data.classes = {classes:?}: {message}")))
    }
}

/// The model that training starts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitConfig {
    /// Whatever `medst convert` reads, or the name of a model that comes with the program.
    #[serde(deserialize_with = "one_or_many")]
    pub weights: Vec<Input>,
    /// Number of stages of the image encoder that are frozen, counted from the pixels: 1 freezes
    /// the patch embedding, 1 + n also the first n blocks, and with num_layers + 2 only the head is
    /// trained.
    pub frozen: usize,
}

/// AdamW's learning rates; the rest is as in pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatesConfig {
    /// Highest learning rate of the head. It rises over the first tenth of the steps and falls to 0
    /// as a cosine.
    pub lr: f64,
    /// Ratio of the learning rate of a stage to that of the stage above it.
    pub layer_decay: f64,
    pub weight_decay: f64,
}

impl Default for RatesConfig {
    fn default() -> Self {
        RatesConfig { lr: 1e-3, layer_decay: 0.75, weight_decay: 0.05 }
    }
}

impl RatesConfig {
    /// The same settings, in the form that the optimiser takes.
    pub(super) fn adamw(&self) -> OptimizerConfig {
        let (lr, weight_decay) = (self.lr, self.weight_decay);
        OptimizerConfig { lr, weight_decay, warmup_fraction: 0.1, ..OptimizerConfig::default() }
    }
}

/// How much a label counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All alike.
    #[default]
    None,
    /// Inversely to how often its class occurs among the training studies.
    Balanced,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The run's folder.
    pub output: PathBuf,
    pub epochs: u64,
    /// Studies of a batch, or pairs of studies for a change.
    pub batch: usize,
    pub class_weights: ClassWeights,
    /// Mixup (arXiv 1710.09412): each item of a batch is mixed with another one, in shares that are
    /// drawn of `Beta(mixup, mixup)`; 0: not.
    pub mixup: f64,
    /// Number format that the encoders compute in, as in pre-training.
    pub precision: Precision,
    /// Decay of a moving average of the weights, which is then what is validated and used; 0: none.
    pub average: f64,
    pub seed: u64,
    /// Epochs without a better figure on the validation split after which training ends; 0: never.
    pub patience: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            output: "runs/finetune".into(),
            epochs: 20,
            batch: 32,
            class_weights: ClassWeights::default(),
            mixup: 0.0,
            precision: Precision::default(),
            average: 0.0,
            seed: 42,
            patience: 5,
        }
    }
}

impl Config {
    /// Reads a TOML file, applies `key.path=value` overrides, and validates.
    ///
    /// # Errors
    /// Names the file, and the key that is unknown, missing, or out of range.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Config> {
        Config::parse(&read(path)?, overrides).map_err(|error| in_file(path, error))
    }

    /// Like [`Config::load`], for a text.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Config> {
        let config: Config = overridden(text, overrides)?.try_into().map_err(unreadable)?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        let Config { data, init, optimizer, train } = self;
        if init.weights.is_empty() {
            let message = "init.weights is missing: name the model to start from, such as \"phantom\", a run, or \
                           \"image=vit.safetensors\"";
            return Err(Error::Config(message.into()));
        }
        data.check_classes()?;
        let ranges = [
            ("data.share", data.share, data.share > 0.0 && data.share <= 1.0),
            ("optimizer.lr", optimizer.lr, optimizer.lr > 0.0),
            (
                "optimizer.layer_decay",
                optimizer.layer_decay,
                optimizer.layer_decay > 0.0 && optimizer.layer_decay <= 1.0,
            ),
            ("optimizer.weight_decay", optimizer.weight_decay, optimizer.weight_decay >= 0.0),
            ("train.epochs", train.epochs as f64, train.epochs > 0),
            ("train.batch", train.batch as f64, train.batch > 1),
            ("train.mixup", train.mixup, train.mixup >= 0.0),
            ("train.average", train.average, (0.0..1.0).contains(&train.average)),
        ];
        match ranges.into_iter().find(|(_, value, fits)| !fits || !value.is_finite()) {
            Some((key, value, _)) => Err(Error::Config(format!("{key} = {value}: out of range"))),
            None => Ok(()),
        }
    }

    /// The resolved configuration as TOML.
    ///
    /// # Errors
    /// Only if a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::Config(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../configs/finetune.toml");

    #[test]
    fn the_shipped_configuration_shows_every_key_with_its_default() {
        let config = Config::parse(SHIPPED, &[]).unwrap();
        let init = InitConfig { weights: vec!["phantom".parse().unwrap()], frozen: 0 };
        assert_eq!(config, Config { init, ..Config::default() });
        let table: toml::Table = toml::from_str(&config.to_toml().unwrap()).unwrap();
        for key in table.values().flat_map(|section| section.as_table().unwrap().keys()) {
            assert!(SHIPPED.lines().any(|line| line.starts_with(&format!("{key} ="))), "`{key}` is missing");
        }
        assert_eq!(Config::parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str, overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            Config::parse(text, &overrides).unwrap_err().to_string()
        };
        assert!(error("", &[]).contains("init.weights is missing"));
        assert!(error(SHIPPED, &["optimizer.rate=1"]).contains("rate"));
        assert!(error(SHIPPED, &["data.task=regression"]).contains("exclusive"));
        for (setting, expected) in [
            ("data.share=0", "data.share = 0"),
            ("optimizer.layer_decay=1.5", "optimizer.layer_decay = 1.5"),
            ("train.batch=1", "train.batch = 1"),
            ("train.average=1.0", "train.average = 1"),
            ("train.mixup=-0.2", "train.mixup = -0.2"),
            ("data.classes=[\"there\"]", "leave it empty"),
            ("optimizer.lr=nan", "optimizer.lr"),
        ] {
            assert!(error(SHIPPED, &[setting]).contains(expected), "{setting}");
        }
        for classes in ["data.classes=[\"new\"]", "data.classes=[\"new\", \"New\"]"] {
            assert!(error(SHIPPED, &["data.task=change", classes]).contains("two or more different"), "{classes}");
        }
    }
}
