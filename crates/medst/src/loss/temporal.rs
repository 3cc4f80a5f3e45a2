//! Temporal alignment (paper, section 3.4): cycle consistency between the image sequence and the report sequence of one
//! subject.
//!
//! For unit vectors `u, v` of shape `[Q, T, D]`, `d(u, v) = ‖u − v‖²`, temperature `ϑ`:
//! * forward mapping classification: `CE(−d(u_t, v_·)/ϑ, t)`, mean over `Q·T`;
//! * reverse mapping regression: soft neighbour `ṽ_t = Σ_s softmax_s(−d(u_t, v_s)/ϑ) v_s`, back distribution
//!   `β_t = softmax(−d(ṽ_t, u_·)/ϑ)`, times `τ_t = t/(T + 1e-7)`, `μ = Σ β τ`, `log σ² = log(Σ β (τ − μ)² + 1e-7)`,
//!   loss `exp(−log σ²)(τ_t − μ)² + λ·log σ²`, mean over `Q·T`.
//!
//! The paper maps image→report and report→image ([`Mapping`]). *Within one modality* is read as `u` and `v` both being the images (or
//! both the reports) of a sequence: forward mapping then only pushes a subject's studies apart, because every step finds itself at
//! distance 0.
//!
//! Beyond the paper, by configuration: sequences of any length `n ≥ 2` beside each other, steps that do not exist taken out of every
//! softmax and every mean, `T` being the sequence's own; and times in days, `τ_t = (day_t − day_0)/(day_last − day_0) · (n − 1)/(n + 1e-7)`,
//! which are the steps' where visits are equally far apart.
//!
//! How this differs from the reference: the reference switches to a linear branch where the error exceeds δ = 2, which
//! times below 1 never do; that branch is left out.
//!
//! # Shapes
//! `Q` sequences, `T` steps of the longest, `D` embedding width.

use tch::{Kind, Tensor};

use super::config::{LossConfig, Mapping, Times};
use crate::device::send;
use crate::model::input::Relations;

const EPSILON: f64 = 1e-7;

/// The two temporal parts, each summed over the mappings.
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
    let times = times(relations, exists, config.temporal_times, &image);
    let of = |mapping: Mapping| match mapping {
        Mapping::ImageToReport => (&image, &report),
        Mapping::ReportToImage => (&report, &image),
        Mapping::ImageToImage => (&image, &image),
        Mapping::ReportToReport => (&report, &report),
    };
    let sum = |part: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
        let parts = config.temporal_mappings.iter().map(|&mapping| {
            let (source, target) = of(mapping);
            part(source, target)
        });
        parts.reduce(|a, b| a + b).expect("a validated configuration names a mapping")
    };
    let (temperature, weight) = (config.temporal_temperature, config.variance_weight);
    Temporal {
        forward_mapping: sum(&|u, v| forward_mapping(u, v, exists, temperature)),
        reverse_mapping: sum(&|u, v| reverse_mapping(u, v, exists, &times, temperature, weight)),
    }
}

/// Times `[T]`, or `[Q, T]` where sequences differ in them.
fn times(relations: &Relations, exists: Option<&Tensor>, kind: Times, like: &Tensor) -> Tensor {
    let options = (like.kind(), like.device());
    let steps = like.size()[1];
    let lengths = match exists {
        Some(exists) => exists.sum_dim_intlist(&[1i64][..], true, options.0),
        None => Tensor::full([1, 1], steps, options),
    };
    match (kind, exists) {
        (Times::Steps, None) => step_times(steps, options),
        (Times::Steps, Some(_)) => Tensor::arange(steps, options).unsqueeze(0) / (lengths + EPSILON),
        (Times::Days, _) => {
            let days = relations.days.as_ref().expect("the batch of a run with times in days has its days");
            let days = days.to_kind(options.0);
            let last = days.amax([1i64], true);
            let range = (&lengths - 1.0) / (&lengths + EPSILON);
            // Visits of one day have no range; then all times are 0.
            days / last.clamp_min(EPSILON) * range
        }
    }
}

/// `τ_t = t/(T + 1e-7)`, `[T]`.
pub fn step_times(steps: i64, options: (Kind, tch::Device)) -> Tensor {
    Tensor::arange(steps, options) / (steps as f64 + EPSILON)
}

/// Forward mapping classification from `source` to `target`, both `[Q, T, D]`; `exists` `[Q, T]` bool, all where absent.
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

    /// Sequences of these lengths, one after the other, and days of their studies.
    fn relations(lengths: &[usize], days: &[f64]) -> Relations {
        let longest = lengths.iter().copied().max().unwrap_or(2);
        let (mut rows, mut known, mut next) = (Vec::new(), Vec::new(), 0);
        for &length in lengths {
            let first = days[next];
            for step in 0..longest {
                let there = step < length;
                rows.push(if there { (next + step) as i64 } else { -1 });
                known.push(if there { days[next + step] - first } else { 0.0 });
            }
            next += length;
        }
        let shape = [lengths.len() as i64, longest as i64];
        Relations {
            days: Some(Tensor::from_slice(&known).view(shape)),
            ..Relations::of_sequences(Tensor::from_slice(&rows).view(shape))
        }
    }

    fn parts(x: &Tensor, y: &Tensor, relations: &Relations, config: &LossConfig) -> [f64; 2] {
        let found = temporal(x, y, relations, config);
        [found.forward_mapping, found.reverse_mapping].map(|part| part.double_value(&[]))
    }

    fn config(times: Times) -> LossConfig {
        LossConfig { temporal_times: times, ..LossConfig::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Beside longer sequences a short one counts as it does alone: the whole is the mean of the sequences' own, by steps.
        #[test]
        fn masked_is_shorter(
            lengths in proptest::collection::vec(2usize..6, 1..5), seed in 0i64..1000, in_days: bool,
            gaps in proptest::collection::vec(0.5f64..90.0, 24..25),
        ) {
            let studies: usize = lengths.iter().sum();
            let days: Vec<f64> = gaps.iter().scan(0.0, |day, gap| { *day += gap; Some(*day) }).collect();
            let config = config(if in_days { Times::Days } else { Times::Steps });
            let (x, y) = (units(studies as i64, seed), units(studies as i64, seed + 1));
            let whole = parts(&x, &y, &relations(&lengths, &days), &config);
            let (mut sums, mut first) = ([0.0; 2], 0);
            for &length in &lengths {
                let narrow = |x: &Tensor| x.narrow(0, first as i64, length as i64);
                let own = parts(&narrow(&x), &narrow(&y), &relations(&[length], &days[first..]), &config);
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own * length as f64 / studies as f64);
                first += length;
            }
            for (whole, sum) in whole.into_iter().zip(sums) {
                prop_assert!((whole - sum).abs() < 1e-9 * sum.abs().max(1.0), "{whole} {sum}");
            }
        }

        /// Which of the two modalities is called image is of no consequence when both directions are mapped.
        #[test]
        fn exchanging_the_modalities_changes_nothing(seed in 0i64..1000, length in 2usize..6) {
            let known = relations(&[length, length], &[0.0, 3.0, 4.0, 9.0, 11.0, 30.0, 31.0, 45.0, 50.0, 52.0]);
            let (x, y) = (units(2 * length as i64, seed), units(2 * length as i64, seed + 1));
            let (a, b) = (parts(&x, &y, &known, &config(Times::Days)), parts(&y, &x, &known, &config(Times::Days)));
            for (a, b) in a.into_iter().zip(b) {
                prop_assert!((a - b).abs() < 1e-9 * a.abs().max(1.0));
            }
        }
    }

    #[test]
    fn equal_gaps_in_days_are_steps_and_unequal_ones_are_not() {
        let (x, y) = (units(4, 7), units(4, 8));
        let steps = parts(&x, &y, &relations(&[4], &[5.0, 12.0, 19.0, 26.0]), &config(Times::Steps));
        let even = parts(&x, &y, &relations(&[4], &[5.0, 12.0, 19.0, 26.0]), &config(Times::Days));
        let uneven = parts(&x, &y, &relations(&[4], &[5.0, 6.0, 7.0, 26.0]), &config(Times::Days));
        assert!((steps[1] - even[1]).abs() < 1e-6 * steps[1].abs(), "{steps:?} {even:?}");
        assert!((steps[1] - uneven[1]).abs() > 1e-3, "{steps:?} {uneven:?}");
        assert_eq!(steps[0], uneven[0], "forward mapping knows no times");
        let same_day = parts(&x, &y, &relations(&[4], &[5.0; 4]), &config(Times::Days));
        assert!(same_day[1].is_finite());
    }

    #[test]
    fn mappings_add_up_and_within_a_modality_every_step_finds_itself() {
        let (x, y) = (units(6, 9), units(6, 10));
        let known = relations(&[3, 3], &[0.0; 6]);
        let of = |mappings: &[Mapping]| {
            parts(&x, &y, &known, &LossConfig { temporal_mappings: mappings.to_vec(), ..LossConfig::default() })
        };
        let [there, back] = [Mapping::ImageToReport, Mapping::ReportToImage].map(|one| of(&[one]));
        let both = of(&LossConfig::default().temporal_mappings);
        assert!((both[0] - there[0] - back[0]).abs() < 1e-12 && (both[1] - there[1] - back[1]).abs() < 1e-9);
        // Far apart in six dimensions: no step is mistaken for another.
        let within = of(&[Mapping::ImageToImage]);
        assert!(within[0] < 0.1 * there[0], "{within:?} {there:?}");
    }

    #[test]
    fn gradients_of_masked_steps_are_finite() {
        let x = units(5, 11).set_requires_grad(true);
        let y = units(5, 12);
        let known = relations(&[3, 2], &[0.0, 1.0, 2.0, 0.0, 0.0]);
        let found = temporal(&x, &y, &known, &config(Times::Days));
        (found.forward_mapping + found.reverse_mapping).backward();
        assert!(bool::try_from(x.grad().isfinite().all()).unwrap());
    }
}
