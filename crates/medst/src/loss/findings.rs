//! Supervision by labels and boxes (not part of the paper, off by default): binary cross-entropy of every finding in a study, and
//! of every finding in every frontal patch.
//!
//! `L_findings = mean over known (b, f) of BCE(logit_bf, y_bf)`, `L_boxes` the same over `(b, p, f)`, where `y_bpf` is the
//! share of the patch that boxes of the finding cover. Unknown entries are NaN and count nowhere.
//!
//! # Shapes
//! `B` studies, `P` patches, `F` findings: `[B, F]` and `[B, P, F]`.

use tch::{Kind, Reduction, Tensor};

use crate::model::findings::FindingLogits;
use crate::model::input::Truth;

/// Sums and counts of known entries, so that the shares of several processes add up.
#[derive(Debug)]
pub struct Supervision {
    /// Sums of cross-entropy, of studies and of patches.
    pub sums: [Tensor; 2],
    /// How many entries are known.
    pub counts: [Tensor; 2],
}

impl Supervision {
    pub fn of(logits: &FindingLogits, truth: &Truth) -> Supervision {
        let parts = [(&logits.study, &truth.findings), (&logits.patches, &truth.patches)];
        let [study, patches] = parts.map(|(logits, truth)| entropy(logits, truth));
        Supervision { sums: [study.0, patches.0], counts: [study.1, patches.1] }
    }

    /// `[L_findings, L_boxes]`; zero where nothing is known.
    pub fn means(&self) -> [Tensor; 2] {
        [0, 1].map(|part: usize| &self.sums[part] / self.counts[part].clamp_min(1.0))
    }
}

/// The sum of cross-entropy over known entries, and their number.
fn entropy(logits: &Tensor, truth: &Tensor) -> (Tensor, Tensor) {
    let truth = truth.to_kind(logits.kind());
    let known = truth.isnan().logical_not();
    let target = truth.nan_to_num(0.0, None::<f64>, None::<f64>);
    let entropy = logits.binary_cross_entropy_with_logits::<Tensor>(&target, None, None, Reduction::None);
    let sum = entropy.masked_fill(&known.logical_not(), 0.0).sum(None::<Kind>);
    (sum, known.sum(logits.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_entries_count_and_unknown_ones_do_not() {
        let logits = FindingLogits {
            study: Tensor::from_slice(&[2.0, -1.0, 5.0, 0.0]).view([2, 2]),
            patches: Tensor::from_slice(&[1.0, 3.0]).view([1, 2, 1]),
        };
        let truth = Truth {
            findings: Tensor::from_slice(&[1.0, 0.0, f64::NAN, f64::NAN]).view([2, 2]),
            patches: Tensor::from_slice(&[0.25, f64::NAN]).view([1, 2, 1]),
        };
        let [study, patches] = Supervision::of(&logits, &truth).means().map(|own| own.double_value(&[]));
        let minus_log = |x: f64| (1.0 + (-x).exp()).ln();
        assert!((study - (minus_log(2.0) + minus_log(1.0)) / 2.0).abs() < 1e-12, "{study}");
        assert!((patches - (0.25 * minus_log(1.0) + 0.75 * minus_log(-1.0))).abs() < 1e-12, "{patches}");
    }

    #[test]
    fn with_nothing_known_the_loss_is_zero_and_so_is_its_gradient() {
        let study = Tensor::from_slice(&[2.0, -1.0]).view([1, 2]).set_requires_grad(true);
        let logits = FindingLogits { study: study.shallow_clone(), patches: study.view([1, 1, 2]) };
        let unknown = Tensor::from_slice(&[f64::NAN, f64::NAN]);
        let truth = Truth { findings: unknown.view([1, 2]), patches: unknown.view([1, 1, 2]) };
        let [a, b] = Supervision::of(&logits, &truth).means();
        (&a + &b).backward();
        assert_eq!((&a + &b).double_value(&[]), 0.0);
        assert_eq!(study.grad().abs().sum(None::<Kind>).double_value(&[]), 0.0);
    }
}
