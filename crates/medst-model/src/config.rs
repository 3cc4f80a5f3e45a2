//! The configuration of a pre-training run: one TOML file, overrides, then a validated [`Config`]
//! that is saved with the results. Defaults are the paper's and the reference's (its command line
//! and Lightning module).

use std::path::{Path, PathBuf};

use medst_data::input;
use serde::{Deserialize, Serialize};

use crate::loss::config::{GlobalTemperature, LossConfig};
use crate::model::config::{ModelConfig, Precision, Temperature};
use crate::task::Task;
use crate::weights_input::{Input, one_or_many};
use crate::{Error, Result, former};

/// What a run is configured with.
///
/// Five fields of `model` are not keys of the file: `temperature` follows from
/// `loss.global_temperature`, `text.vocabulary` from `data.vocabulary`, and `text.max_positions`,
/// `text.positions` and `image.epsilon` from the weights that a run starts from
/// ([`crate::convert::Start`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub data: DataConfig,
    pub model: ModelConfig,
    pub loss: LossConfig,
    pub optimizer: OptimizerConfig,
    pub train: TrainConfig,
    pub init: InitConfig,
    pub evaluate: EvaluateConfig,
}

/// What is read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The corpus folder; a relative path is relative to the working directory.
    pub corpus: PathBuf,
    /// A vocabulary file; the built-in cased BERT vocabulary where absent.
    pub vocabulary: Option<PathBuf>,
    pub sentences: SentenceChoice,
    /// Share of the studies that are read as a statement made from their labels
    /// (`train::statements`) instead of their report, in training; for models with
    /// `model.findings`.
    pub statements: f64,
    /// Shorter sequences of two studies or more take part in the temporal loss as well.
    pub short_sequences: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            corpus: "corpus".into(),
            vocabulary: None,
            sentences: SentenceChoice::All,
            statements: 0.0,
            short_sequences: false,
        }
    }
}

/// Which sentences of a report are seen in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SentenceChoice {
    /// The whole report, as the paper does.
    #[default]
    All,
    /// Drawn ones in a drawn order (`train::sentences`); validation sees whole reports.
    Drawn,
}

/// AdamW and its learning rate; the constants of both are the reference's (`train::optimizer`,
/// `train::schedule`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Highest learning rate.
    pub lr: f64,
    pub weight_decay: f64,
    /// Share of all steps in which the learning rate rises.
    pub warmup_fraction: f64,
    /// Gradients longer than this are scaled down to it; absent: never.
    pub clip_norm: Option<f64>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig { lr: 4e-5, weight_decay: 0.05, warmup_fraction: 0.4, clip_norm: None }
    }
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The run's folder.
    pub output: PathBuf,
    pub epochs: u64,
    /// Ends after this many optimiser steps, whatever `epochs` says; 0 saves the untrained model.
    pub max_steps: Option<u64>,
    /// Sequences (full or shorter) of a batch.
    pub sequences_per_batch: usize,
    /// Studies that the encoders keep for the backward pass at once; the loss is over the whole
    /// batch all the same, at the price of a second forward pass. 0: the whole batch.
    pub encode_studies: usize,
    /// Keep only the states between the encoders' blocks for the backward pass and compute each
    /// block again there: less memory, at the price of a second forward pass.
    pub checkpoint_activations: bool,
    /// What the layers compute in. Parameters, statistics and losses are float32 in any case.
    pub precision: Precision,
    /// Decay of a moving average of the weights (`train::average`), which is then what is validated
    /// and used; 0: none.
    pub average: f64,
    pub seed: u64,
    /// Optimiser steps between validations; 0: at the end of every epoch.
    pub validate_every: u64,
    /// Validations without improvement after which training ends; 0: never.
    pub patience: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            output: "runs/pretrain".into(),
            epochs: 8,
            max_steps: None,
            sequences_per_batch: 10,
            encode_studies: 0,
            checkpoint_activations: false,
            precision: Precision::Float32,
            average: 0.0,
            seed: 42,
            validate_every: 0,
            patience: 5,
        }
    }
}

/// Where training starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitConfig {
    /// Whatever `medst convert` reads: one input, or several with different parts (`image=FILE` and
    /// `text=FILE` take one side of a file, `encoders=FILE` both encoders alone, `hf://OWNER/NAME`
    /// a model of a hub). Parts that no input has are random; without inputs, everything is.
    #[serde(deserialize_with = "one_or_many")]
    pub weights: Vec<Input>,
}

/// Tasks on the validation split, with each validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Empty: none.
    pub tasks: Vec<Task>,
    /// Empty: the training corpus.
    pub corpora: Vec<PathBuf>,
}

impl Config {
    /// Reads a TOML file, applies `key.path=value` overrides, and validates.
    ///
    /// # Errors
    /// Names the file, and the key that is unknown, has been removed, or is out of range.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Config> {
        Config::parse(&read(path)?, overrides).map_err(|error| in_file(path, error))
    }

    /// Reads what a run saved, perhaps of an earlier version: former keys are translated, or passed
    /// over where they asked for what is computed now.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn saved(path: &Path) -> Result<Config> {
        let config = table(&read(path)?).and_then(|mut table| {
            former::upgrade(&mut table);
            Config::from_table(table)
        });
        config.map_err(|error| in_file(path, error))
    }

    /// As [`Config::load`], from text.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Config> {
        Config::from_table(overridden(text, overrides)?)
    }

    fn from_table(table: toml::Table) -> Result<Config> {
        former::refuse(&table)?;
        let mut config: Config = table.try_into().map_err(unreadable)?;
        config.model.text.max_positions = config.model.text.max_tokens;
        if config.loss.global_temperature == GlobalTemperature::Learned {
            config.model.temperature = Temperature::Learned;
        }
        config.validate()?;
        Ok(config)
    }

    /// Refuses values that no run can have, naming the key.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.loss.validate()?;
        let (optimizer, train, loss) = (&self.optimizer, &self.train, &self.loss);
        let supervised = [
            ("data.statements", self.data.statements),
            ("loss.findings_weight", loss.findings_weight),
            ("loss.boxes_weight", loss.boxes_weight),
            ("loss.phrases_weight", loss.phrases_weight),
            ("loss.courses_weight", loss.courses_weight),
        ];
        if let Some((key, value)) =
            supervised.into_iter().find(|weight| weight.1 > 0.0 && self.model.findings.is_empty())
        {
            return Err(Error::Config(format!(
                "{key} = {value}: model.findings must name the findings that labels tell"
            )));
        }
        if loss.phrases_weight > 0.0 && self.data.statements == 0.0 {
            let weight = loss.phrases_weight;
            return Err(Error::Config(format!(
                "loss.phrases_weight = {weight}: phrases are read where data.statements is above 0"
            )));
        }
        let at_least_one =
            [("train.epochs", train.epochs), ("train.sequences_per_batch", train.sequences_per_batch as u64)];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(Error::Config(format!("{key} = 0: must be at least 1")));
            }
        }
        let ranges = [
            ("data.statements", self.data.statements, (0.0..=1.0).contains(&self.data.statements)),
            ("train.average", train.average, (0.0..1.0).contains(&train.average)),
            ("optimizer.lr", optimizer.lr, optimizer.lr > 0.0),
            ("optimizer.weight_decay", optimizer.weight_decay, optimizer.weight_decay >= 0.0),
            ("optimizer.warmup_fraction", optimizer.warmup_fraction, (0.0..1.0).contains(&optimizer.warmup_fraction)),
            ("optimizer.clip_norm", optimizer.clip_norm.unwrap_or(1.0), optimizer.clip_norm.unwrap_or(1.0) > 0.0),
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
        let unwritable = |error: toml::ser::Error| Error::Config(error.to_string());
        let mut table = toml::Table::try_from(self).map_err(unwritable)?;
        former::drop_derived(&mut table);
        toml::to_string_pretty(&table).map_err(unwritable)
    }
}

pub fn read(path: &Path) -> Result<String> {
    input::read_to_string(path, input::TEXT).map_err(Error::io(path))
}

fn table(text: &str) -> Result<toml::Table> {
    toml::from_str(text).map_err(unreadable)
}

/// The table of a TOML text, with `key.path=value` overrides.
pub fn overridden(text: &str, overrides: &[String]) -> Result<toml::Table> {
    let mut table = table(text)?;
    overrides.iter().try_for_each(|assignment| set(&mut table, assignment))?;
    Ok(table)
}

pub fn unreadable(error: toml::de::Error) -> Error {
    Error::Config(error.to_string().trim_end().to_string())
}

/// Names the file of a configuration that cannot be used.
pub fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Config(message) => Error::Config(format!("{}: {message}", path.display())),
        other => other,
    }
}

/// Sets `a.b.c=value` in a table; a value that is not TOML is taken as text.
fn set(table: &mut toml::Table, assignment: &str) -> Result<()> {
    let (path, value) =
        assignment.split_once('=').ok_or_else(|| Error::Config(format!("`{assignment}`: expected key=value")))?;
    let value = value.trim();
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut place = table;
    for key in keys {
        let entry = place.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let section = entry.as_table_mut();
        place = section.ok_or_else(|| Error::Config(format!("`{path}`: `{key}` is not a section")))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Config::parse(text, &overrides).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_papers_configuration() {
        assert_eq!(Config::parse("", &[]).unwrap(), Config::default());
    }

    #[test]
    fn the_published_configuration_shows_every_key_with_its_default() {
        let text = include_str!("../../../configs/pretrain.toml");
        assert_eq!(Config::parse(text, &[]).unwrap(), Config::default());
        let shown: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim_start_matches("# ").split_once(" =").map(|(key, _)| key))
            .filter(|key| !key.contains(' '))
            .collect();
        let mut config = Config::default();
        // What is absent by default is a key all the same.
        (config.data.vocabulary, config.optimizer.clip_norm) = (Some("vocab.txt".into()), Some(1.0));
        config.train.max_steps = Some(1);
        let table: toml::Table = toml::from_str(&config.to_toml().unwrap()).unwrap();
        let (mut sections, mut count) = (vec![&table], 0);
        while let Some(section) = sections.pop() {
            for (key, value) in section {
                match value.as_table() {
                    Some(inner) => sections.push(inner),
                    None => {
                        count += 1;
                        assert!(shown.contains(&key.as_str()), "`{key}` is missing");
                    }
                }
            }
        }
        assert_eq!((count, shown.len()), (54, 54), "{shown:?}");
    }

    #[test]
    fn what_is_saved_reads_back() {
        let config =
            Config::parse("[optimizer]\nclip_norm = 1.0\n", &["train.seed=7".into(), "data.corpus=x/y".into()])
                .unwrap();
        assert_eq!((config.train.seed, config.data.corpus.to_str()), (7, Some("x/y")));
        assert_eq!(Config::parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }

    #[test]
    fn mistakes_are_named() {
        let typo = error("[optimizer]\nlearning_rate = 1.0\n", &[]);
        assert!(typo.contains("learning_rate") && typo.contains("`lr`"), "{typo}");
        assert!(
            error("", &["model.image.num_heads=7"]).contains("model.image.hidden_size = 768 must be a multiple of")
        );
        assert!(error("", &["model.image.heads=7"]).contains("`model.image.heads` is now `model.image.num_heads`"));
        assert!(error("", &["optimizer.lr=-1"]).contains("optimizer.lr = -1"));
        assert!(error("", &["train.epochs=0"]).contains("train.epochs = 0"));
        assert!(error("", &["train.seed"]).contains("expected key=value"));
        assert!(error("", &["train.seed=1", "train.seed.x=1"]).contains("is not a section"));
        assert!(error("", &["model.text.max_tokens=2"]).contains("model.text.max_tokens = 2"));
        assert!(error("", &["train.average=1"]).contains("train.average = 1"));
        assert!(error("", &["loss.temporal=neither"]).contains("reverse"));
        assert!(error("", &["loss.temporal_weight=nan"]).contains("loss.temporal_weight"));
        for wrong in ["0.0", "-1", "taught"] {
            let refused = error("", &[&format!("loss.global_temperature={wrong}")]);
            assert!(refused.contains("global_temperature"), "{refused}");
        }
        assert!(error("", &["model.lateral=sideways"]).contains("ignored"));
    }

    #[test]
    fn what_is_not_a_key_follows_from_what_is() {
        let config =
            Config::parse("", &["loss.global_temperature=learned".into(), "model.text.max_tokens=64".into()]).unwrap();
        assert_eq!((config.model.temperature, config.model.text.max_positions), (Temperature::Learned, 64));
        let again = Config::parse(&config.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(again, config);
        let whole = Config::parse("", &["loss.global_temperature=1".into()]).unwrap();
        assert_eq!(whole.loss.global_temperature, GlobalTemperature::Fixed(1.0));
    }

    #[test]
    fn removed_keys_are_refused_by_name_and_passed_over_in_what_a_run_saved() {
        assert!(
            error("", &["data.subjects=700"]).contains("`data.subjects` has been removed: prepare a smaller corpus")
        );
        assert!(error("[loss]\nsoft_targets = 0.0\n", &[]).contains("`loss.soft_targets` has been removed"));
        assert!(error("", &["model.quirks.raw_context=true"]).contains("model.semantics = \"reference\""));
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom/config.toml");
        let now = Config::load(&shipped, &[]).unwrap();
        // The same run's, as version 0.1 saved it.
        let earlier = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/earlier/config.toml");
        assert_eq!(Config::saved(&earlier).unwrap(), now);
        assert!(Config::load(&earlier, &[]).unwrap_err().to_string().contains("earlier/config.toml"));
        // What asks for something else than what is computed now is refused in any file.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "[loss]\nsoft_targets = 0.3\nglobal_parts = 1\n").unwrap();
        let refused = Config::saved(&path).unwrap_err().to_string();
        assert!(refused.contains("config.toml: `loss.soft_targets`"), "{refused}");
    }
}
