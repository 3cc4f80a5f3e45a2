//! The Med-ST losses (paper, sections 3.3 and 3.4) as pure functions.

pub mod config;

use tch::Tensor;

use crate::model::input::Batch;
use crate::model::{MedSt, Mode};
use config::LossConfig;

/// Every part of one step's loss, each a scalar tensor, logged under its own name.
pub struct Losses {
    /// λ₁·global + λ₂·local + λ₃·(forward_mapping + reverse_mapping); what is differentiated.
    pub total: Tensor,
    pub global: Tensor,
    pub local: Tensor,
    pub forward_mapping: Tensor,
    pub reverse_mapping: Tensor,
    /// Retrieval accuracy within the batch, both directions averaged, in `[0, 1]`.
    pub accuracy_at_1: Tensor,
    pub accuracy_at_5: Tensor,
}

/// Model and losses on one batch.
pub fn med_st(_model: &MedSt, _batch: &Batch, _config: &LossConfig, _mode: Mode) -> Losses {
    unimplemented!()
}
