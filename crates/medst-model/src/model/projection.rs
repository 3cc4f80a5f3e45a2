//! Projection heads (paper, section 3.2): Linear → BatchNorm → ReLU → Linear → BatchNorm without
//! scale and shift, then unit length. The local heads act on every token; the reference writes them
//! as 1×1 convolutions with the same weights.
//!
//! Letters: `H` encoder width, `D` embedding width.

use tch::{Kind, Tensor};

use super::Mode;
use super::config::ProjectionConfig;
use super::layers::Linear;
use super::parameters::{Init, Scope};
use crate::distributed::Group;
use crate::distributed::sum::sum_over_ranks;

const MOMENTUM: f64 = 0.1;
/// Added to the variance in batch normalisations.
pub(crate) const EPSILON: f64 = 1e-5;
/// [`unit`] divides vectors that are shorter than this by it, not by their length.
pub(crate) const SHORTEST: f64 = 1e-12;

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
    /// In training, the processes over whose rows the statistics are taken; `None`: this one's.
    group: Option<Group>,
}

impl Statistics {
    fn new(scope: &Scope, width: i64) -> Statistics {
        Statistics {
            mean: scope.buffer("mean", &[width], Init::Zeros),
            variance: scope.buffer("variance", &[width], Init::Ones),
            group: None,
        }
    }

    /// Normalises the columns of `x` (`[rows, width]`): in training with the statistics of these
    /// rows, which also move the running ones.
    fn normalise(&self, x: &Tensor, affine: Option<(&Tensor, &Tensor)>, mode: Mode) -> Tensor {
        if let Some(group) = self.group.as_ref().filter(|_| mode == Mode::Train) {
            return self.normalise_over_ranks(x, affine, group);
        }
        let (weight, bias) = affine.unzip();
        x.batch_norm(weight, bias, Some(&self.mean), Some(&self.variance), mode == Mode::Train, MOMENTUM, EPSILON, true)
    }
}

impl Statistics {
    /// Like [`Statistics::normalise`] in training, with the statistics of the rows of all
    /// processes. Single processes may have no rows.
    ///
    /// The variance is computed around the common mean, in a second sum. Since the states of
    /// studies resemble each other, differences of large numbers would consist of rounding errors.
    fn normalise_over_ranks(&self, x: &Tensor, affine: Option<(&Tensor, &Tensor)>, group: &Group) -> Tensor {
        let width = x.size()[1];
        let column_sums = |x: &Tensor| x.sum_dim_intlist(&[0i64][..], false, None::<Kind>);
        let own_rows = Tensor::full([1], x.size()[0], (x.kind(), x.device()));
        let sums = sum_over_ranks(&Tensor::cat(&[column_sums(x), own_rows], 0), group);
        let rows = sums.narrow(0, width, 1).detach();
        let mean = sums.narrow(0, 0, width) / &rows;
        let centred = x - &mean;
        let variance = sum_over_ranks(&column_sums(&centred.square()), group) / &rows;
        tch::no_grad(|| {
            // As in libtorch, the running variance is the unbiased one.
            let unbiased = &variance * (&rows / (&rows - 1.0).clamp_min(1.0));
            for (running, now) in [(&self.mean, &mean), (&self.variance, &unbiased)] {
                drop(running.shallow_clone().lerp_(now, MOMENTUM));
            }
        });
        let normalised = centred / (variance + EPSILON).sqrt();
        match affine {
            Some((weight, bias)) => normalised * weight + bias,
            None => normalised,
        }
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

    /// From now on, batch statistics in training are those of the rows of all these processes.
    pub fn synchronise(&mut self, group: &Group) {
        for statistics in [&mut self.hidden, &mut self.output] {
            statistics.group = (group.size() > 1).then(|| Group::clone(group));
        }
    }

    /// `[rows, H]` to unit vectors `[rows, D]`, both float32 at least. Every row counts in the
    /// batch statistics, so rows of padding must not be passed. Zero rows give zero rows.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let met = mode == Mode::Train && self.hidden.group.is_some();
        // A collective needs every process, even one without rows.
        if x.size()[0] == 0 && !met {
            return Tensor::zeros([0, self.contract.weight.size()[0]], (self.contract.weight.kind(), x.device()));
        }
        // Studies differ by little of what their states have in common, which the normalisation
        // takes away: in bfloat16 its rounding would be left.
        let x = x.to_kind(self.expand.weight.kind());
        let hidden = self.hidden.normalise(&self.expand.forward(&x), Some((&self.scale, &self.shift)), mode).relu();
        unit(&self.output.normalise(&self.contract.forward(&hidden), None, mode))
    }
}

/// Vectors along the last axis at length 1 (lengths below 1e-12 are left alone).
pub fn unit(x: &Tensor) -> Tensor {
    let length = x.norm_scalaropt_dim(2.0, &[-1i64][..], true).clamp_min(SHORTEST);
    x / length
}
