//! Temporal alignment (paper, section 3.4): cycle consistency between the image sequence and the report sequence of one
//! subject.
//!
//! For unit vectors `u, v` of shape `[Q, T, D]`, `d(u, v) = ‖u − v‖²`, temperature `ϑ`:
//! * forward mapping classification: `CE(−d(u_t, v_·)/ϑ, t)`, mean over `Q·T`;
//! * reverse mapping regression: soft neighbour `ṽ_t = Σ_s softmax_s(−d(u_t, v_s)/ϑ) v_s`, back distribution
//!   `β_t = softmax(−d(ṽ_t, u_·)/ϑ)`, times `τ_t = t/(T + 1e-7)`, `μ = Σ β τ`, `log σ² = log(Σ β (τ − μ)² + 1e-7)`,
//!   loss `exp(−log σ²)(τ_t − μ)² + λ·log σ²`, mean over `Q·T`.
//!
//! How this differs from the reference: the reference switches to a linear branch where the error exceeds δ = 2, which
//! times below 1 never do; that branch is left out.
//!
//! # Shapes
//! `Q` sequences, `T` steps, `D` embedding width.

use tch::{Kind, Tensor};

use super::config::LossConfig;

const EPSILON: f64 = 1e-7;

/// The two temporal parts, each summed over image→report and report→image.
#[derive(Debug)]
pub struct Temporal {
    pub forward_mapping: Tensor,
    pub reverse_mapping: Tensor,
}

/// Temporal losses of the sequences of a batch; exactly zero when there are none.
///
/// * `image`, `report`: `[B, D]` unit vectors; `sequences`: `[Q, T]` int64 rows in time order.
pub fn temporal(image: &Tensor, report: &Tensor, sequences: &Tensor, config: &LossConfig) -> Temporal {
    let size = sequences.size();
    if size[0] == 0 {
        let zero = || Tensor::zeros([1], (image.kind(), image.device())).squeeze();
        return Temporal { forward_mapping: zero(), reverse_mapping: zero() };
    }
    let steps = |x: &Tensor| x.index_select(0, &sequences.reshape([-1])).view([size[0], size[1], -1]);
    let (image, report) = (steps(image), steps(report));
    let forward = |u: &Tensor, v: &Tensor| forward_mapping(u, v, config.temporal_temperature);
    let reverse = |u: &Tensor, v: &Tensor| reverse_mapping(u, v, config.temporal_temperature, config.variance_weight);
    Temporal {
        forward_mapping: forward(&image, &report) + forward(&report, &image),
        reverse_mapping: reverse(&image, &report) + reverse(&report, &image),
    }
}

/// Forward mapping classification from `source` to `target`, both `[Q, T, D]`.
pub fn forward_mapping(source: &Tensor, target: &Tensor, temperature: f64) -> Tensor {
    let logits = -squared_distances(source, target) / temperature;
    -logits.log_softmax(-1, None::<Kind>).diagonal(0, 1, 2).mean(None::<Kind>)
}

/// Reverse mapping regression from `source` through `target` back to `source`, both `[Q, T, D]`.
pub fn reverse_mapping(source: &Tensor, target: &Tensor, temperature: f64, variance_weight: f64) -> Tensor {
    let steps = source.size()[1];
    let attention = (-squared_distances(source, target) / temperature).softmax(-1, None::<Kind>);
    let soft_neighbor = attention.bmm(target);
    let back = (-squared_distances(&soft_neighbor, source) / temperature).softmax(-1, None::<Kind>);
    let times = Tensor::arange(steps, (source.kind(), source.device())) / (steps as f64 + EPSILON);
    let mean = back.matmul(&times);
    let spread = (&times - mean.unsqueeze(2)).square();
    let log_variance = ((back * spread).sum_dim_intlist(&[2i64][..], false, None::<Kind>) + EPSILON).log();
    let error = (&times - &mean).square();
    ((-&log_variance).exp() * error + log_variance * variance_weight).mean(None::<Kind>)
}

/// `‖u_t − v_s‖²` for all pairs of steps, `[Q, T, T]`.
fn squared_distances(u: &Tensor, v: &Tensor) -> Tensor {
    (u.unsqueeze(2) - v.unsqueeze(1)).square().sum_dim_intlist(&[-1i64][..], false, None::<Kind>)
}
