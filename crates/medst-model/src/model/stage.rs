//! An encoder as a chain of stages: its caller can keep the states between them and drop the rest
//! (activation checkpointing, `train/activation_checkpointing.rs`).

use tch::Tensor;

/// A part of an encoder, from the states before it to those after it. The first stage starts from
/// none.
pub type Stage<'a> = Box<dyn Fn(&[Tensor]) -> Vec<Tensor> + 'a>;

/// The states after the last stage.
pub fn run(stages: &[Stage]) -> Vec<Tensor> {
    stages.iter().fold(Vec::new(), |states, stage| stage(&states))
}
