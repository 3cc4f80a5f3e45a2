//! Temporal alignment (paper, section 3.4): cycle consistency between the image sequence and the
//! report sequence of one subject.
//!
//! For unit vectors `u, v` of shape `[Q, T, D]`, `d(u, v) = ‖u − v‖²`, temperature `ϑ`:
//! * forward mapping classification: `CE(−d(u_t, v_·)/ϑ, t)`, mean over `Q·T`;
//! * reverse mapping regression: soft neighbour `ṽ_t = Σ_s softmax_s(−d(u_t, v_s)/ϑ) v_s`, back
//!   distribution `β_t = softmax(−d(ṽ_t, u_·)/ϑ)`, times `τ_t = t/(T + 1e-7)`, `μ = Σ β τ`,
//!   `log σ² = log(Σ β (τ − μ)² + 1e-7)`, loss `exp(−log σ²)(τ_t − μ)² + λ·log σ²`, mean over
//!   `Q·T`.
//!
//! Both losses are summed over the two mappings of the paper, image→report and report→image.
//!
//! Beyond the paper, by configuration: sequences of any length `n ≥ 2` in one batch, with steps
//! that do not exist taken out of every softmax and every mean, and `T` being the sequence's own
//! length.
//!
//! How this differs from the reference: the reference switches to a linear branch where the error
//! exceeds δ = 2, which times below 1 never do; that branch is left out.
//!
//! # Shapes
//! `Q` sequences, `T` steps of the longest, `D` embedding width.

use tch::{Kind, Tensor};

use super::config::LossConfig;
use crate::device::send;
use crate::model::input::Relations;

const EPSILON: f64 = 1e-7;

/// The two temporal parts, each summed over both mappings.
#[derive(Debug)]
pub struct Temporal {
    pub forward_mapping: Tensor,
    pub reverse_mapping: Tensor,
}

/// Temporal losses of the sequences of a batch; exactly zero when there are none.
///
/// * `image`, `report`: `[B, D]` unit vectors.
pub fn temporal(image: &Tensor, report: &Tensor, relations: &Relations, config: &LossConfig) -> Temporal {
    let sequences = &relations.sequences;
    let size = sequences.size();
    if size[0] == 0 {
        let zero = || Tensor::zeros([1], (image.kind(), image.device())).squeeze();
        return Temporal { forward_mapping: zero(), reverse_mapping: zero() };
    }
    let exists = sequences.ge(0);
    // Asked on the host, which therefore need not wait for a GPU.
    let exists = if bool::try_from(exists.all()).unwrap_or(false) { None } else { Some(send(&exists, image.device())) };
    let rows = if exists.is_some() { sequences.clamp_min(0) } else { sequences.shallow_clone() };
    let rows = send(&rows, image.device());
    let steps = |x: &Tensor| x.index_select(0, &rows.reshape([-1])).view([size[0], size[1], -1]);
    let (image, report) = (steps(image), steps(report));
    let exists = exists.as_ref();
    let times = times(exists, &image);
    let sum = |part: &dyn Fn(&Tensor, &Tensor) -> Tensor| part(&image, &report) + part(&report, &image);
    let (temperature, weight) = (config.temporal_temperature, config.variance_weight);
    Temporal {
        forward_mapping: sum(&|u, v| forward_mapping(u, v, exists, temperature)),
        reverse_mapping: sum(&|u, v| reverse_mapping(u, v, exists, &times, temperature, weight)),
    }
}

/// Times `[T]`, or `[Q, T]` where sequences differ in them.
fn times(exists: Option<&Tensor>, like: &Tensor) -> Tensor {
    let options = (like.kind(), like.device());
    let steps = like.size()[1];
    match exists {
        None => step_times(steps, options),
        Some(exists) => {
            let lengths = exists.sum_dim_intlist(&[1i64][..], true, options.0);
            Tensor::arange(steps, options).unsqueeze(0) / (lengths + EPSILON)
        }
    }
}

/// `τ_t = t/(T + 1e-7)`, `[T]`.
pub fn step_times(steps: i64, options: (Kind, tch::Device)) -> Tensor {
    Tensor::arange(steps, options) / (steps as f64 + EPSILON)
}

/// Forward mapping classification from `source` to `target`, both `[Q, T, D]`; `exists` `[Q, T]`
/// bool, all where absent.
pub fn forward_mapping(source: &Tensor, target: &Tensor, exists: Option<&Tensor>, temperature: f64) -> Tensor {
    let logits = among(exists, -squared_distances(source, target) / temperature);
    mean(exists, &-logits.log_softmax(-1, None::<Kind>).diagonal(0, 1, 2))
}

/// Reverse mapping regression from `source` through `target` back to `source`, both `[Q, T, D]`.
///
/// * `exists`: `[Q, T]` bool, all where absent; `times`: `[T]` or `[Q, T]`.
pub fn reverse_mapping(
    source: &Tensor,
    target: &Tensor,
    exists: Option<&Tensor>,
    times: &Tensor,
    temperature: f64,
    variance_weight: f64,
) -> Tensor {
    let attention = among(exists, -squared_distances(source, target) / temperature).softmax(-1, None::<Kind>);
    let soft_neighbor = attention.bmm(target);
    let back = among(exists, -squared_distances(&soft_neighbor, source) / temperature).softmax(-1, None::<Kind>);
    let mapped = match times.dim() {
        1 => back.matmul(times),
        _ => back.matmul(&times.unsqueeze(2)).squeeze_dim(2),
    };
    let spread = (times.unsqueeze(-2) - mapped.unsqueeze(2)).square();
    let log_variance = ((back * spread).sum_dim_intlist(&[2i64][..], false, None::<Kind>) + EPSILON).log();
    let error = (times - &mapped).square();
    mean(exists, &((-&log_variance).exp() * error + log_variance * variance_weight))
}

/// Scores `[Q, T, T]` with the steps that do not exist (last axis) out of reach.
fn among(exists: Option<&Tensor>, scores: Tensor) -> Tensor {
    match exists {
        Some(exists) => scores.masked_fill(&exists.logical_not().unsqueeze(1), f64::NEG_INFINITY),
        None => scores,
    }
}

/// Mean of `[Q, T]` over the steps that exist.
fn mean(exists: Option<&Tensor>, values: &Tensor) -> Tensor {
    match exists {
        Some(exists) => {
            values.masked_fill(&exists.logical_not(), 0.0).sum(None::<Kind>)
                / exists.sum(None::<Kind>).to_kind(values.kind())
        }
        None => values.mean(None::<Kind>),
    }
}

/// `‖u_t − v_s‖²` for all pairs of steps, `[Q, T, T]`.
fn squared_distances(u: &Tensor, v: &Tensor) -> Tensor {
    (u.unsqueeze(2) - v.unsqueeze(1)).square().sum_dim_intlist(&[-1i64][..], false, None::<Kind>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::projection::unit;
    use proptest::prelude::*;
    use tch::Device;

    /// Unit vectors that differ enough for the losses to say something.
    fn units(studies: i64, seed: i64) -> Tensor {
        tch::manual_seed(seed);
        unit(&Tensor::randn([studies, 6], (Kind::Double, Device::Cpu)))
    }

    /// Sequences of these lengths, one after the other.
    fn relations(lengths: &[usize]) -> Relations {
        let longest = lengths.iter().copied().max().unwrap_or(2);
        let (mut rows, mut next) = (Vec::new(), 0);
        for &length in lengths {
            rows.extend((0..longest).map(|step| if step < length { (next + step) as i64 } else { -1 }));
            next += length;
        }
        Relations::of_sequences(Tensor::from_slice(&rows).view([lengths.len() as i64, longest as i64]))
    }

    fn parts(x: &Tensor, y: &Tensor, relations: &Relations) -> [f64; 2] {
        let found = temporal(x, y, relations, &LossConfig::default());
        [found.forward_mapping, found.reverse_mapping].map(|part| part.double_value(&[]))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Next to longer sequences a short one counts as it does alone: the whole is the mean of
        /// the sequences' losses, weighted by their lengths.
        #[test]
        fn masked_is_shorter(lengths in proptest::collection::vec(2usize..6, 1..5), seed in 0i64..1000) {
            let studies: usize = lengths.iter().sum();
            let (x, y) = (units(studies as i64, seed), units(studies as i64, seed + 1));
            let whole = parts(&x, &y, &relations(&lengths));
            let (mut sums, mut first) = ([0.0; 2], 0);
            for &length in &lengths {
                let narrow = |x: &Tensor| x.narrow(0, first as i64, length as i64);
                let losses = parts(&narrow(&x), &narrow(&y), &relations(&[length]));
                sums.iter_mut().zip(losses).for_each(|(sum, losses)| *sum += losses * length as f64 / studies as f64);
                first += length;
            }
            for (whole, sum) in whole.into_iter().zip(sums) {
                prop_assert!((whole - sum).abs() < 1e-9 * sum.abs().max(1.0), "{whole} {sum}");
            }
        }

        /// Which of the two modalities is called image is of no consequence, because both
        /// directions are mapped.
        #[test]
        fn exchanging_the_modalities_changes_nothing(seed in 0i64..1000, length in 2usize..6) {
            let known = relations(&[length, length]);
            let (x, y) = (units(2 * length as i64, seed), units(2 * length as i64, seed + 1));
            let (a, b) = (parts(&x, &y, &known), parts(&y, &x, &known));
            for (a, b) in a.into_iter().zip(b) {
                prop_assert!((a - b).abs() < 1e-9 * a.abs().max(1.0));
            }
        }
    }

    #[test]
    fn both_mappings_of_the_paper_add_up() {
        let (x, y) = (units(6, 9), units(6, 10));
        let found = parts(&x, &y, &relations(&[3, 3]));
        let steps = |x: &Tensor| x.view([2, 3, 6]);
        let (x, y) = (steps(&x), steps(&y));
        let times = step_times(3, (Kind::Double, Device::Cpu));
        let forward = |u: &Tensor, v: &Tensor| forward_mapping(u, v, None, 0.1).double_value(&[]);
        let reverse = |u: &Tensor, v: &Tensor| reverse_mapping(u, v, None, &times, 0.1, 0.001).double_value(&[]);
        let expected = [forward(&x, &y) + forward(&y, &x), reverse(&x, &y) + reverse(&y, &x)];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn gradients_of_masked_steps_are_finite() {
        let x = units(5, 11).set_requires_grad(true);
        let y = units(5, 12);
        let found = temporal(&x, &y, &relations(&[3, 2]), &LossConfig::default());
        (found.forward_mapping + found.reverse_mapping).backward();
        assert!(bool::try_from(x.grad().isfinite().all()).unwrap());
    }
}
