//! Supervision by labels and boxes (not part of the paper, off by default): binary cross-entropy of
//! every finding in a study, and of every finding in every frontal patch; where the words of a
//! phrase look; and the courses of findings between visits.
//!
//! ```text
//! L_findings = mean over known (b, f) of BCE(logit_bf, y_bf)
//! L_boxes    = mean over known (b, p, f) of BCE(logit_bpf, y_bpf)
//! L_phrases  = mean over phrases of KL(y_b / Σ_p y_bp ‖ softmax_p(mean_w q_bw·k_bp / τ))
//! L_courses  = mean over known (n, f) of BCE(worse_nf, y_nf = 1) + BCE(better_nf, y_nf = -1)
//! ```
//!
//! `y_bpf` is the share of patch `p` that boxes of `f` cover; `n` counts pairs of visits and
//! statements. `q`, `k`: embeddings of the phrase's words and of the frontal patches, whose mean
//! cosine is what a heat map shows (`infer::heat`); τ is that of the local loss. `worse` and
//! `better` are linear in the change of the image embedding and in the embedding of a statement
//! about a course (`crate::model::findings`). Unknown entries are NaN and count nowhere.
//!
//! # Shapes
//! `B` studies, `P` patches, `F` findings, `W` words, `D` embedding width, `N` pairs of visits.

use tch::{Kind, Reduction, Tensor};

use super::change::pairs;
use super::config::LossConfig;
use crate::device::send_rows;
use crate::model::findings::{FindingHeads, FindingLogits};
use crate::model::input::Truth;
use crate::model::{ImageEmbeddings, ReportEmbeddings};

/// How many parts there are: findings, boxes, phrases, courses.
pub const PARTS: usize = 4;

/// Sums and counts of known entries, so that the shares of several processes add up.
#[derive(Debug)]
pub struct Supervision {
    /// Sums of cross-entropy.
    pub sums: [Tensor; PARTS],
    /// Number of known entries.
    pub counts: [Tensor; PARTS],
}

impl Supervision {
    /// The loss of labels and boxes only; the other parts are zero.
    pub fn new(logits: &FindingLogits, truth: &Truth) -> Supervision {
        let none = || {
            let zero = Tensor::zeros([1i64; 0], (logits.study.kind(), logits.study.device()));
            (zero.shallow_clone(), zero)
        };
        let parts = [entropy(&logits.study, &truth.findings), entropy(&logits.patches, &truth.patches), none(), none()];
        let [sums, counts] = [0, 1].map(|part| parts.each_ref().map(|(sum, count)| [sum, count][part].shallow_clone()));
        Supervision { sums, counts }
    }

    /// Adds what phrases say of patches.
    #[must_use]
    pub fn with_phrases(
        mut self,
        images: &ImageEmbeddings,
        reports: &ReportEmbeddings,
        truth: &Truth,
        config: &LossConfig,
    ) -> Supervision {
        let heat =
            images.frontal_patches.bmm(&reports.mean_words().unsqueeze(2)).squeeze_dim(2) / config.local_temperature;
        [self.sums[2], self.counts[2]] = divergence(&heat, &truth.named).into();
        self
    }

    /// Adds the courses between consecutive visits, and those in statements.
    ///
    /// * `image`, `report`: `[B, D]`; * `sequences`: rows of them, `[Q, T]`, see
    ///   [`crate::model::input::Relations`].
    #[must_use]
    pub fn with_courses(
        mut self,
        heads: &FindingHeads,
        [image, report]: [&Tensor; 2],
        sequences: &Tensor,
        truth: &Truth,
    ) -> Supervision {
        let (earlier, later): (Vec<i64>, Vec<i64>) = pairs(sequences).into_iter().unzip();
        let [earlier, later] = [earlier, later].map(|rows| send_rows(&rows, image.device()));
        let change = image.index_select(0, &later) - image.index_select(0, &earlier);
        let directions = Tensor::cat(&[change, report.shallow_clone()], 0);
        let course = Tensor::cat(&[truth.courses.index_select(0, &later), truth.text_courses.shallow_clone()], 0);
        let known = |which: f64| course.eq(which).to_kind(course.kind()).where_self(&course.isfinite(), &course);
        let [worse, better] = heads.courses(&directions);
        let [worse, better] = [entropy(&worse, &known(1.0)), entropy(&better, &known(-1.0))];
        [self.sums[3], self.counts[3]] = [worse.0 + better.0, worse.1];
        self
    }

    /// The losses of findings, boxes, phrases and courses; zero where nothing is known.
    pub fn means(&self) -> [Tensor; PARTS] {
        [0, 1, 2, 3].map(|part: usize| &self.sums[part] / self.counts[part].clamp_min(1.0))
    }
}

/// The sum over rows of `KL(target ‖ softmax(logits))`, `[B, P]` both, the target to be scaled to a
/// sum of 1; rows with NaN are left out. And the number of rows that count.
fn divergence(logits: &Tensor, target: &Tensor) -> (Tensor, Tensor) {
    let known = target.isfinite().all_dim(1, false);
    let target = target.to_kind(logits.kind()).nan_to_num(0.0, None::<f64>, None::<f64>);
    let target = &target / target.sum_dim_intlist(&[1i64][..], true, None::<Kind>).clamp_min(1e-6);
    let log_target = target.clamp_min(1e-12).log();
    let each = (&target * (log_target - logits.log_softmax(1, None::<Kind>))).sum_dim_intlist(
        &[1i64][..],
        false,
        None::<Kind>,
    );
    (each.masked_fill(&known.logical_not(), 0.0).sum(None::<Kind>), known.sum(logits.kind()))
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

    /// Labels of two findings, and of one in two patches.
    fn truth(findings: &[f64], patches: &[f64]) -> Truth {
        let unknown = Tensor::from_slice(&[f64::NAN]);
        Truth {
            findings: Tensor::from_slice(findings).view([-1, 2]),
            patches: Tensor::from_slice(patches).view([1, -1, 1]),
            named: unknown.view([1, 1]),
            courses: unknown.view([1, 1]),
            text_courses: unknown.view([1, 1]),
        }
    }

    #[test]
    fn a_phrase_that_looks_into_its_box_costs_nothing_and_one_without_a_box_does_not_count() {
        let named = Tensor::from_slice(&[0.5, 0.5, 0.0, f64::NAN, f64::NAN, f64::NAN]).view([2, 3]);
        let [there, away] = [[30.0, 30.0, 0.0], [0.0, 0.0, 30.0]].map(|row| {
            let logits = Tensor::from_slice(&[row, [1.0, 2.0, 3.0]].concat()).view([2, 3]);
            let (sum, count) = divergence(&logits, &named);
            assert_eq!(count.double_value(&[]), 1.0);
            sum.double_value(&[])
        });
        assert!(there.abs() < 1e-9, "{there}");
        // Half of the mass each in two patches: ln(1/2) + 30 + ln(1 + 2e⁻³⁰).
        assert!((away - (30.0 - 2f64.ln())).abs() < 1e-9, "{away}");
    }

    #[test]
    fn known_entries_count_and_unknown_ones_do_not() {
        let logits = FindingLogits {
            study: Tensor::from_slice(&[2.0, -1.0, 5.0, 0.0]).view([2, 2]),
            patches: Tensor::from_slice(&[1.0, 3.0]).view([1, 2, 1]),
        };
        let truth = truth(&[1.0, 0.0, f64::NAN, f64::NAN], &[0.25, f64::NAN]);
        let [study, patches, phrases, courses] =
            Supervision::new(&logits, &truth).means().map(|loss| loss.double_value(&[]));
        assert_eq!((phrases, courses), (0.0, 0.0));
        let minus_log = |x: f64| (1.0 + (-x).exp()).ln();
        assert!((study - (minus_log(2.0) + minus_log(1.0)) / 2.0).abs() < 1e-12, "{study}");
        assert!((patches - (0.25 * minus_log(1.0) + 0.75 * minus_log(-1.0))).abs() < 1e-12, "{patches}");
    }

    #[test]
    fn with_nothing_known_the_loss_is_zero_and_so_is_its_gradient() {
        let study = Tensor::from_slice(&[2.0, -1.0]).view([1, 2]).set_requires_grad(true);
        let logits = FindingLogits { study: study.shallow_clone(), patches: study.view([1, 2, 1]) };
        let unknown = [f64::NAN, f64::NAN];
        let [a, b, ..] = Supervision::new(&logits, &truth(&unknown, &unknown)).means();
        (&a + &b).backward();
        assert_eq!((&a + &b).double_value(&[]), 0.0);
        assert_eq!(study.grad().abs().sum(None::<Kind>).double_value(&[]), 0.0);
    }
}
