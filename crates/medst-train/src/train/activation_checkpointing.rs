//! Activation checkpointing (Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016):
//! an encoder is run without a tape, the states between its blocks are kept, and in the backward
//! pass one block after another is computed again with a separate tape.
//!
//! A block then keeps its input instead of ten times as much; the price is a second forward pass of
//! the encoders.

use tch::Tensor;

use super::gradients::Gradients;
use crate::model::stage::{self, Stage};

/// An encoder over some studies.
pub struct Chain<'a> {
    /// Each gives the same whenever it is computed, dropout included.
    pub stages: Vec<Stage<'a>>,
}

/// The tapes of all stages of a chain; per stage the states before it, at which its tape begins,
/// and the states after it.
pub struct Tapes(Vec<[Vec<Tensor>; 2]>);

/// The states before each stage of a chain that was run.
pub struct Kept(Vec<Vec<Tensor>>);

impl Chain<'_> {
    /// The states after the last stage.
    pub fn run(&self) -> Vec<Tensor> {
        stage::run(&self.stages)
    }

    /// Like [`Chain::run`], without a tape. [`Chain::backward_by_stage`] needs the kept states.
    pub fn run_keeping(&self) -> (Vec<Tensor>, Kept) {
        let _guard = tch::no_grad_guard();
        let (mut kept, mut states) = (Vec::new(), Vec::new());
        for stage in &self.stages {
            let next = stage(&states);
            kept.push(std::mem::replace(&mut states, next));
        }
        (states, Kept(kept))
    }

    /// Like [`Chain::run`], with a separate tape for each stage.
    pub fn run_taping(&self) -> (Vec<Tensor>, Tapes) {
        let (mut tapes, mut states) = (Vec::new(), Vec::new());
        for stage in &self.stages {
            let inputs = leaves(&states);
            states = stage(&inputs);
            tapes.push([inputs, states.iter().map(Tensor::shallow_clone).collect()]);
        }
        (states, Tapes(tapes))
    }

    /// Adds the parameters' gradient, a stage at a time; calls `done` after each.
    pub fn backward_by_tape(
        &self,
        Tapes(mut tapes): Tapes,
        mut of_states: Vec<Tensor>,
        gradients: &mut Gradients,
        done: &mut dyn FnMut(usize, &mut Gradients),
    ) {
        while let Some([inputs, states]) = tapes.pop() {
            of_states = gradients.add(&product(&states, &of_states), &inputs);
            done(tapes.len(), gradients);
        }
    }

    /// Adds the parameters' gradient, where the last states have the gradients `of_states`. The
    /// tape is that of the whole chain.
    pub fn backward(&self, of_states: &[Tensor], gradients: &mut Gradients) {
        gradients.add(&product(&self.run(), of_states), &[]);
    }

    /// Like [`Chain::backward`], one stage's tape at a time. Calls `done` after each stage.
    pub fn backward_by_stage(
        &self,
        Kept(mut kept): Kept,
        of_states: Vec<Tensor>,
        gradients: &mut Gradients,
        done: &mut dyn FnMut(usize, &mut Gradients),
    ) {
        let mut of_states = of_states;
        for (number, stage) in self.stages.iter().enumerate().rev() {
            let inputs = kept.pop().unwrap_or_default();
            let inputs = leaves(&inputs);
            of_states = gradients.add(&product(&stage(&inputs), &of_states), &inputs);
            done(number, gradients);
        }
    }
}

/// The states at which a tape begins. The tensors are kept elsewhere too, so a leaf must be a
/// separate handle.
fn leaves(states: &[Tensor]) -> Vec<Tensor> {
    states.iter().map(|state| state.detach().set_requires_grad(true)).collect()
}

/// `Σ states · gradients`, whose gradient by the states is `gradients`.
pub(super) fn product(states: &[Tensor], gradients: &[Tensor]) -> Tensor {
    let products = states.iter().zip(gradients).map(|(state, gradient)| (state * gradient).sum(None::<tch::Kind>));
    products.reduce(|a, b| a + b).expect("an encoder has states")
}
