//! An encoder as a chain of stages: who computes it can keep the states between them and leave the rest
//! (activation checkpointing, `train/recompute.rs`).

use tch::Tensor;

/// A part of an encoder, from the states before it to those behind it. The first one starts from none.
pub type Stage<'a> = Box<dyn Fn(&[Tensor]) -> Vec<Tensor> + 'a>;

/// The states behind the last stage.
pub fn run(stages: &[Stage]) -> Vec<Tensor> {
    stages.iter().fold(Vec::new(), |states, stage| stage(&states))
}
