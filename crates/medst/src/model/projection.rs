//! Projection heads (paper, section 3.2): Linear → BatchNorm → ReLU → Linear → BatchNorm without scale and shift, then
//! unit length. The local heads act on every token; the reference writes them as 1×1 convolutions with the same weights.
//!
//! Letters: `H` encoder width, `D` embedding width.

use tch::Tensor;

use super::Mode;
use super::config::ProjectionConfig;
use super::parameters::{Init, Linear, Scope};

const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

#[derive(Debug)]
pub struct Projection {
    expand: Linear,
    scale: Tensor,
    shift: Tensor,
    hidden: Statistics,
    contract: Linear,
    output: Statistics,
}

/// Running mean and variance of a batch normalisation.
#[derive(Debug)]
struct Statistics {
    mean: Tensor,
    variance: Tensor,
}

impl Statistics {
    fn new(scope: &Scope, width: i64) -> Statistics {
        Statistics {
            mean: scope.buffer("mean", &[width], Init::Zeros),
            variance: scope.buffer("variance", &[width], Init::Ones),
        }
    }

    /// Normalises the columns of `x` (`[rows, width]`): in training with the statistics of these rows, which also move
    /// the running ones.
    fn normalise(&self, x: &Tensor, affine: Option<(&Tensor, &Tensor)>, mode: Mode) -> Tensor {
        let (weight, bias) = affine.unzip();
        x.batch_norm(weight, bias, Some(&self.mean), Some(&self.variance), mode == Mode::Train, MOMENTUM, EPSILON, true)
    }
}

impl Projection {
    pub fn new(scope: &Scope, inputs: i64, config: &ProjectionConfig) -> Projection {
        Projection {
            expand: Linear::new(&scope.at("expand"), inputs, config.hidden),
            scale: scope.parameter("norm.weight", &[config.hidden], Init::Ones),
            shift: scope.parameter("norm.bias", &[config.hidden], Init::Zeros),
            hidden: Statistics::new(&scope.at("norm"), config.hidden),
            contract: Linear::new(&scope.at("contract"), config.hidden, config.embedding),
            output: Statistics::new(&scope.at("output_norm"), config.embedding),
        }
    }

    /// `[rows, H]` to unit vectors `[rows, D]`, both float32 at least. Every row counts in the batch statistics, so rows that stand for nothing
    /// must not be passed. Zero rows give zero rows.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if x.size()[0] == 0 {
            return Tensor::zeros([0, self.contract.weight.size()[0]], (self.contract.weight.kind(), x.device()));
        }
        // Studies differ by little of what their states have in common, which the normalisation takes away: in bfloat16 its rounding
        // would be left.
        let x = x.to_kind(self.expand.weight.kind());
        let hidden = self.hidden.normalise(&self.expand.forward(&x), Some((&self.scale, &self.shift)), mode).relu();
        unit(&self.output.normalise(&self.contract.forward(&hidden), None, mode))
    }
}

/// Vectors along the last axis at length 1 (lengths below 1e-12 are left alone).
pub fn unit(x: &Tensor) -> Tensor {
    let length = x.norm_scalaropt_dim(2.0, &[-1i64][..], true).clamp_min(1e-12);
    x / length
}
