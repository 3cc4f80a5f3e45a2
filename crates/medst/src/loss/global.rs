//! Global alignment (paper, section 3.3): symmetric InfoNCE between images and reports.
//!
//! `logits = image · reportᵀ / temperature`, `L = CE(logits, diagonal) + CE(logitsᵀ, diagonal)` — a sum, not a mean.
//!
//! Beyond the paper, each off by default: [`candidates`] takes pairs out of the contrast, [`mod@soft_targets`] share the target
//! among near-identical reports (`CE` is then `−Σ target · log softmax`), [`mod@sigmoid`] is another form of the loss.
//!
//! # Shapes
//! `image`, `report`: `[B, D]` unit vectors, row `b` of both from study `b`.

use tch::{Kind, Tensor};

use super::config::{GlobalKind, LossConfig};
use super::{candidates, sigmoid, soft_targets};
use crate::model::input::Relations;

/// The loss and the retrieval accuracy of its logits.
#[derive(Debug)]
pub struct Global {
    pub loss: Tensor,
    pub accuracy_at_1: Tensor,
    pub accuracy_at_5: Tensor,
}

pub fn global(image: &Tensor, report: &Tensor, relations: &Relations, config: &LossConfig) -> Global {
    let logits = image.matmul(&report.tr()) / config.global_temperature;
    let excluded = candidates::excluded(logits.size()[0], relations, config, logits.device());
    let loss = match config.global {
        GlobalKind::Sigmoid => sigmoid::sigmoid(&logits, excluded.as_ref()),
        GlobalKind::Softmax => {
            let targets = soft_targets::targets(report, excluded.as_ref(), relations, config);
            softmax(&logits, excluded.as_ref(), targets.as_ref())
        }
    };
    let scores = logits.detach();
    Global { loss, accuracy_at_1: accuracy(&scores, 1), accuracy_at_5: accuracy(&scores, 5) }
}

/// Symmetric InfoNCE of `logits` `[B, B]`, without the pairs that are `excluded`, towards the diagonal or towards `targets` of
/// images and of reports.
fn softmax(logits: &Tensor, excluded: Option<&Tensor>, targets: Option<&[Tensor; 2]>) -> Tensor {
    let diagonal = |x: Tensor| x.diagonal(0, 0, 1);
    let candidates = match excluded {
        Some(excluded) => logits.masked_fill(excluded, f64::NEG_INFINITY),
        None => logits.shallow_clone(),
    };
    let Some([of_images, of_reports]) = targets else {
        return -diagonal(candidates.log_softmax(1, None::<Kind>)).mean(None::<Kind>)
            - diagonal(candidates.log_softmax(0, None::<Kind>)).mean(None::<Kind>);
    };
    let entropy = |logits: &Tensor, targets: &Tensor| {
        let mut likelihood = logits.log_softmax(1, None::<Kind>);
        if let Some(excluded) = excluded {
            // Excluded pairs have no target, and 0 · −∞ would be none either.
            likelihood = likelihood.masked_fill(excluded, 0.0);
        }
        -(targets * likelihood).sum_dim_intlist(&[1i64][..], false, None::<Kind>).mean(None::<Kind>)
    };
    entropy(&candidates, of_images) + entropy(&candidates.tr(), of_reports)
}

/// Share of rows and columns whose partner is among the `k` best, averaged over both directions. With fewer than `k`
/// candidates all of them are taken.
fn accuracy(logits: &Tensor, k: i64) -> Tensor {
    let studies = logits.size()[0];
    let target = Tensor::arange(studies, (Kind::Int64, logits.device())).unsqueeze(1);
    let hits = |scores: &Tensor| {
        let (_, best) = scores.topk(k.min(studies), 1, true, true);
        best.eq_tensor(&target).any_dim(1, false).to_kind(logits.kind()).mean(None::<Kind>)
    };
    (hits(logits) + hits(&logits.tr())) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::config::Negatives;
    use super::*;
    use proptest::prelude::*;
    use tch::Device;

    fn relations(subjects: &[u32]) -> Relations {
        let none = Tensor::zeros([0, 2], (Kind::Int64, Device::Cpu));
        Relations { subjects: subjects.to_vec(), ..Relations::of_sequences(none) }
    }

    fn plain(image: &Tensor, report: &Tensor) -> Global {
        global(image, report, &relations(&[]), &LossConfig::default())
    }

    fn units(studies: i64, seed: i64) -> Tensor {
        tch::manual_seed(seed);
        crate::model::projection::unit(&Tensor::randn([studies, 16], (Kind::Double, Device::Cpu)))
    }

    #[test]
    fn aligned_pairs_have_full_accuracy_and_lower_loss_than_shuffled_ones() {
        let x = units(6, 1);
        let aligned = plain(&x, &x);
        let shuffled = plain(&x, &x.roll([1], [0]));
        assert_eq!(aligned.accuracy_at_1.double_value(&[]), 1.0);
        assert_eq!(shuffled.accuracy_at_1.double_value(&[]), 0.0);
        assert!(aligned.loss.double_value(&[]) < shuffled.loss.double_value(&[]));
    }

    #[test]
    fn identical_rows_give_twice_the_logarithm_of_their_number() {
        let x = crate::model::projection::unit(&Tensor::ones([5, 8], (Kind::Double, Device::Cpu)));
        let loss = plain(&x, &x).loss.double_value(&[]);
        assert!((loss - 2.0 * 5f64.ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn parts_are_contrasted_as_batches_of_their_own() {
        let (x, y) = (units(6, 2), units(6, 3));
        let config = LossConfig { global_parts: 2, ..LossConfig::default() };
        let whole = global(&x, &y, &relations(&[]), &config).loss.double_value(&[]);
        let part = |start: i64| plain(&x.narrow(0, start, 3), &y.narrow(0, start, 3)).loss.double_value(&[]);
        assert!((whole - (part(0) + part(3)) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn another_visit_of_the_subject_is_no_negative_when_so_asked() {
        let config = LossConfig { negatives: Negatives::OtherSubjects, ..LossConfig::default() };
        let (x, y) = (units(4, 4), units(4, 5));
        let loss = |subjects: &[u32]| global(&x, &y, &relations(subjects), &config).loss.double_value(&[]);
        assert!((loss(&[1, 2, 3, 4]) - plain(&x, &y).loss.double_value(&[])).abs() < 1e-12);
        assert!(loss(&[1, 1, 3, 4]) < loss(&[1, 2, 3, 4]), "fewer candidates, less to tell apart");
        assert!(loss(&[5; 4]).abs() < 1e-12, "nothing to tell apart");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever the variant, the order of the studies is none of its business (parts apart, which are made by order).
        #[test]
        fn order_changes_nothing(
            subjects in proptest::collection::vec(0u32..3, 6..7), seed in 0i64..1000, rotation in 1i64..6,
            sigmoid: bool, masked: bool, soft in 0.0f64..1.0,
        ) {
            let config = LossConfig {
                global: if sigmoid { GlobalKind::Sigmoid } else { GlobalKind::Softmax },
                negatives: if masked { Negatives::OtherSubjects } else { Negatives::All },
                soft_targets: if sigmoid { 0.0 } else { soft },
                ..LossConfig::default()
            };
            let known = |subjects: Vec<u32>| Relations {
                pieces: subjects.iter().map(|&own| vec![own, own + 1]).collect(),
                ..relations(&subjects)
            };
            let (x, y) = (units(6, seed), units(6, seed + 1));
            let mut moved = subjects.clone();
            moved.rotate_right(rotation as usize);
            let a = global(&x, &y, &known(subjects), &config).loss.double_value(&[]);
            let b = global(&x.roll([rotation], [0]), &y.roll([rotation], [0]), &known(moved), &config).loss.double_value(&[]);
            prop_assert!(a.is_finite() && (a - b).abs() < 1e-9, "{a} {b}");
        }
    }
}
