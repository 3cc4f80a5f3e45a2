//! Importance of words and patches (paper, section 3.3, modality-weighted local alignment):
//! single-head attention whose query is the mean of the aligned tokens; only its attention weights
//! are used.
//!
//! Letters: `B` studies, `N` tokens (words or patches), `D` embedding width.

use tch::{Kind, Tensor};

use super::parameters::{Init, Scope};

#[derive(Debug)]
pub struct Importance {
    /// `[2D, D]`: query rows, then key rows.
    weight: Tensor,
    bias: Tensor,
}

impl Importance {
    pub fn new(scope: &Scope, width: i64) -> Importance {
        Importance {
            weight: scope.parameter("weight", &[2 * width, width], Init::TruncatedNormal),
            bias: scope.parameter("bias", &[2 * width], Init::Zeros),
        }
    }

    /// From values that are trained elsewhere: `weight` `[2D, D]` (query rows, then key rows),
    /// `bias` `[2D]`.
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Importance {
        Importance { weight, bias }
    }

    /// Weights `[B, N]` that sum to 1 over the tokens of a study, 0 where `exists` (`[B, N]` bool)
    /// is false.
    ///
    /// * `aligned`: `[B, N, D]`, unit vectors `a_i = normalise(x_i ⊙ context_i)`.
    pub fn weights(&self, aligned: &Tensor, exists: Option<&Tensor>) -> Tensor {
        let width = self.weight.size()[1];
        let mean = match exists {
            None => aligned.mean_dim(&[1i64][..], false, None::<Kind>),
            Some(exists) => {
                let exists = exists.unsqueeze(2).to_kind(aligned.kind());
                let count = exists.sum_dim_intlist(&[1i64][..], false, None::<Kind>).clamp_min(1.0);
                (aligned * exists).sum_dim_intlist(&[1i64][..], false, None::<Kind>) / count
            }
        };
        let part = |x: &Tensor, n: i64| {
            x.linear(&self.weight.narrow(0, n * width, width), Some(&self.bias.narrow(0, n * width, width)))
        };
        let (query, keys) = (part(&mean, 0), part(aligned, 1));
        let mut scores = keys.matmul(&query.unsqueeze(2)).squeeze_dim(2) / (width as f64).sqrt();
        if let Some(exists) = exists {
            scores = scores.masked_fill(&exists.logical_not(), f64::NEG_INFINITY);
        }
        scores.softmax(-1, None::<Kind>)
    }
}
