//! A folder of numbers that the reference implementation produced, and the model and batch that
//! belong to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use medst_model::convert::reference;
use medst_model::loss::config::{GlobalTemperature, LossConfig};
use medst_model::model::MedSt;
use medst_model::model::config::{ImageConfig, ModelConfig, Positions, ProjectionConfig, Semantics, TextConfig};
use medst_model::model::input::{Batch, ImageInput, Relations, ReportInput};
use medst_model::model::weights::TensorFile;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// `config.json` of the folder.
#[derive(Debug, Deserialize)]
pub struct ReferenceConfig {
    pub dim: i64,
    pub depth: i64,
    pub heads: i64,
    pub bert_layers: i64,
    pub bert_intermediate: i64,
    pub bert_max_positions: i64,
    pub projection_hidden: i64,
    pub embedding: i64,
    pub max_tokens: i64,
    pub softmax_temperature: f64,
    pub local_temperature: f64,
    pub temporal_temperature: f64,
    pub variance_lambda: f64,
    pub sequence_length: i64,
    pub image: i64,
    pub patch: i64,
    pub lr: f64,
    pub weight_decay: f64,
    pub warmup_steps: u64,
    pub first_cycle_steps: u64,
    pub min_lr: f64,
    pub dropout: f64,
}

pub struct Fixture {
    pub folder: PathBuf,
    pub config: ReferenceConfig,
    pub outputs: BTreeMap<String, Tensor>,
    pub vocabulary: Vec<String>,
}

impl Fixture {
    pub fn open() -> Fixture {
        let folder = std::env::var_os("MEDST_REFERENCE_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference"), PathBuf::from);
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let vocabulary = std::fs::read_to_string(folder.join("vocab.txt")).unwrap();
        Fixture {
            config: serde_json::from_str(&text).unwrap(),
            outputs: TensorFile::read(&folder.join("outputs.safetensors")).unwrap().tensors,
            vocabulary: vocabulary.lines().map(str::to_string).collect(),
            folder,
        }
    }

    pub fn tensors(&self, name: &str) -> TensorFile {
        TensorFile::read(&self.folder.join(name)).unwrap()
    }

    pub fn model_config(&self) -> ModelConfig {
        let c = &self.config;
        let weights = self.tensors("weights.safetensors").tensors;
        let rows = |name: &str| weights[name].size()[0];
        ModelConfig {
            semantics: Semantics::Reference,
            initial_deviation: 0.02,
            image: ImageConfig {
                size: c.image,
                patch: c.patch,
                hidden_size: c.dim,
                num_layers: c.depth,
                num_heads: c.heads,
                intermediate_size: rows("img_encoder_q.model.blocks.0.mlp.fc1.weight"),
                ..ImageConfig::default()
            },
            text: TextConfig {
                vocabulary: rows("text_encoder_q.model.embeddings.word_embeddings.weight"),
                hidden_size: c.dim,
                num_layers: c.bert_layers,
                num_heads: c.heads,
                intermediate_size: c.bert_intermediate,
                max_positions: c.bert_max_positions,
                max_tokens: c.max_tokens,
                dropout: c.dropout,
                positions: Positions::Zero,
            },
            projection: ProjectionConfig { hidden: c.projection_hidden, embedding: c.embedding },
            ..ModelConfig::default()
        }
    }

    pub fn loss_config(&self) -> LossConfig {
        let c = &self.config;
        LossConfig {
            global_temperature: GlobalTemperature::Fixed(c.softmax_temperature),
            local_temperature: c.local_temperature,
            temporal_temperature: c.temporal_temperature,
            variance_weight: c.variance_lambda,
            ..LossConfig::default()
        }
    }

    /// The model with the weights of `file`, in the precision `kind`.
    pub fn model(&self, file: &str, kind: Kind) -> MedSt {
        let mut model = MedSt::new(&self.model_config(), 0, Device::Cpu, kind).unwrap();
        reference::import(&mut model, &self.tensors(file)).unwrap();
        model
    }

    pub fn batch(&self) -> Batch {
        let batch = self.tensors("batch.safetensors").tensors;
        let numbers = |name: &str| Vec::<i64>::try_from(batch[name].to_kind(Kind::Int64).view([-1])).unwrap();
        let lateral_rows: Vec<i64> = numbers("has_lateral")
            .iter()
            .enumerate()
            .filter(|(_, has)| **has != 0)
            .map(|(row, _)| row as i64)
            .collect();
        let tokens = batch["input_ids"].size()[1] as usize;
        let (ids, mask) = (numbers("input_ids"), numbers("attention_mask"));
        let reports: Vec<Vec<u32>> = ids
            .chunks(tokens)
            .zip(mask.chunks(tokens))
            .map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(id, _)| *id as u32).collect())
            .collect();
        let separator = self.vocabulary.iter().position(|piece| piece == "[SEP]").unwrap() as u32;
        let steps = self.config.sequence_length;
        let sequences = numbers("sequence_images")[0] / steps;
        Batch {
            images: ImageInput {
                frontal: batch["frontal"].shallow_clone(),
                lateral: batch["lateral"].index_select(0, &Tensor::from_slice(&lateral_rows)),
                lateral_rows,
            },
            reports: ReportInput::new(
                &reports,
                |id| self.vocabulary[id as usize].starts_with("##"),
                separator,
                tokens as i64,
                Semantics::Reference,
            ),
            truth: None,
            relations: Relations::of_sequences(
                Tensor::arange(sequences * steps, (Kind::Int64, Device::Cpu)).view([sequences, steps]),
            ),
        }
    }
}

/// ‖difference‖ / ‖expected‖; the length of the difference where the expected tensor is zero.
pub fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let (found, expected) = (found.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let length = |x: &Tensor| x.norm().double_value(&[]);
    let scale = length(&expected);
    length(&(found - expected)) / if scale > 0.0 { scale } else { 1.0 }
}

/// Collects what is out of tolerance, so that one run shows everything.
pub struct Comparison {
    tolerance: f64,
    worst: f64,
    failures: Vec<String>,
    compared: usize,
}

impl Comparison {
    pub fn new(tolerance: f64) -> Comparison {
        Comparison { tolerance, worst: 0.0, failures: Vec::new(), compared: 0 }
    }

    pub fn add(&mut self, name: &str, found: &Tensor, expected: &Tensor) {
        if found.size() != expected.size() {
            self.failures.push(format!("{name}: shape {:?}, expected {:?}", found.size(), expected.size()));
            return;
        }
        self.add_error(name, relative(found, expected));
    }

    pub fn add_error(&mut self, name: &str, error: f64) {
        self.compared += 1;
        self.worst = self.worst.max(error);
        if error.is_nan() || error > self.tolerance {
            self.failures.push(format!("{name}: {error:.3e}"));
        }
    }

    pub fn finish(self, what: &str) {
        println!("{what}: {} compared, worst {:.2e}, allowed {:.0e}", self.compared, self.worst, self.tolerance);
        assert!(self.compared > 0, "{what}: nothing was compared");
        assert!(self.failures.is_empty(), "{what}, allowed {:e}:\n{}", self.tolerance, self.failures.join("\n"));
    }
}
