//! The Med-ST model (paper, section 3.2).

pub mod config;
pub mod input;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::Result;
use config::ModelConfig;
use input::{ImageInput, ReportInput};

/// A named trainable tensor. Cloning the handle shares the storage.
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
}

/// Whether statistics and dropout behave as in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Evaluate,
}

pub struct MedSt {
    pub config: ModelConfig,
}

impl MedSt {
    /// A model with random weights, drawn from `seed` alone.
    pub fn new(_config: &ModelConfig, _seed: u64, _device: Device, _kind: Kind) -> Result<MedSt> {
        unimplemented!()
    }
    /// Trainable parameters in a fixed order.
    pub fn parameters(&self) -> &[Parameter] {
        unimplemented!()
    }
    /// Running statistics (not trained, but saved).
    pub fn buffers(&self) -> &[Parameter] {
        unimplemented!()
    }
    /// Writes parameters and buffers as float32 safetensors, atomically.
    pub fn save(&self, _path: &Path) -> Result<()> {
        unimplemented!()
    }
    /// Reads what `save` wrote; refuses missing, unknown and misshapen tensors.
    pub fn load(&mut self, _path: &Path) -> Result<()> {
        unimplemented!()
    }
    /// Image side of a batch.
    pub fn embed_images(&self, _images: &ImageInput, _mode: Mode) -> ImageEmbeddings {
        unimplemented!()
    }
    /// Report side of a batch.
    pub fn embed_reports(&self, _reports: &ReportInput, _mode: Mode) -> ReportEmbeddings {
        unimplemented!()
    }
}

/// Unit vectors of the image side.
pub struct ImageEmbeddings {
    /// `[B, D]`.
    pub global: Tensor,
}

/// Unit vectors of the report side.
pub struct ReportEmbeddings {
    /// `[B, D]`.
    pub global: Tensor,
}
