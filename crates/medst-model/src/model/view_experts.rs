//! Mixture of View Experts (paper, section 3.2): after the shared attention, frontal tokens (with
//! `[CLS]`) go through the frontal expert and lateral tokens through the lateral expert, each a
//! residual MLP with its own LayerNorm.

use serde::Serialize;
use tch::Tensor;

use super::layers::{self, LayerNorm, Linear};
use super::parameters::Scope;

/// A view of a study, and the expert that its tokens go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    Frontal,
    Lateral,
}

#[derive(Debug)]
pub struct ViewExperts {
    frontal: Expert,
    lateral: Expert,
    /// The expert that lateral tokens go through.
    of_lateral: View,
}

impl ViewExperts {
    /// * `of_lateral`: the expert of lateral tokens; with [`View::Frontal`] the lateral expert
    ///   exists (so that all other weights are those of a model that uses it) and is not used.
    pub fn new(scope: &Scope, width: i64, hidden: i64, epsilon: f64, of_lateral: View) -> ViewExperts {
        ViewExperts {
            frontal: Expert::new(&scope.at("frontal_expert"), width, hidden, epsilon),
            lateral: Expert::new(&scope.at("lateral_expert"), width, hidden, epsilon),
            of_lateral,
        }
    }

    /// As [`Linear::compute_in_int8`], of all layers.
    pub fn compute_in_int8(&mut self) {
        for expert in [&mut self.frontal, &mut self.lateral] {
            expert.expand.compute_in_int8();
            expert.contract.compute_in_int8();
        }
    }

    /// `x + mlp(norm(x))` with the expert of `view`; `x` is `[…, H]`.
    pub fn forward(&self, x: &Tensor, view: View) -> Tensor {
        match (view, self.of_lateral) {
            (View::Lateral, View::Lateral) => self.lateral.forward(x),
            _ => self.frontal.forward(x),
        }
    }
}

#[derive(Debug)]
struct Expert {
    norm: LayerNorm,
    expand: Linear,
    contract: Linear,
}

impl Expert {
    fn new(scope: &Scope, width: i64, hidden: i64, epsilon: f64) -> Expert {
        Expert {
            norm: LayerNorm::new(&scope.at("norm"), width, epsilon),
            expand: Linear::new(&scope.at("expand"), width, hidden),
            contract: Linear::new(&scope.at("contract"), hidden, width),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        layers::mlp(x, Some(&self.norm), &self.expand, &self.contract)
    }
}
