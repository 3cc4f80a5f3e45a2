//! The sigmoid form of the global loss (beyond the paper; Zhai et al., *Sigmoid Loss for Language
//! Image Pre-Training*, 2023): every pair of an image and a report is a separate yes or no, without
//! a normalisation over the batch.
//!
//! `L = −1/B Σ_ij log σ(z_ij (x_i·y_j / temperature + b))`, `z` 1 on the diagonal and −1 elsewhere.
//! The published loss learns temperature and `b`. By default they are fixed: the temperature is the
//! configured one, and `b = −ln(B − 1)` means that one of `B` reports belongs to an image. With
//! `loss.global_temperature = "learned"` both are learned from there ([`super::scale`]), as
//! published.
//!
//! # Shapes
//! `image`, `report`: `[B, D]` unit vectors.

use std::ops::Range;

use tch::{Kind, Tensor};

/// The contribution of the images `rows` of a batch to the loss of `logits = image · reportᵀ /
/// temperature`.
///
/// * `logits`: `[R, B]`; * `learned`: `[1]`, added to the bias.
pub fn sigmoid(logits: &Tensor, rows: &Range<i64>, learned: Option<&Tensor>) -> Tensor {
    let studies = logits.size()[1];
    let bias = -((studies - 1).max(1) as f64).ln();
    let logits = match learned {
        Some(learned) => logits + bias + learned,
        None => logits + bias,
    };
    let own = Tensor::zeros([rows.end - rows.start, studies], (logits.kind(), logits.device()));
    let _ = own.diagonal(rows.start, 0, 1).fill_(1);
    let signs = own * 2.0 - 1.0;
    -(logits * signs).log_sigmoid().sum(None::<Kind>) / studies as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn two_studies_by_hand() {
        // b = −ln 1 = 0. Own pairs at logit 2, others at −1.
        let logits = Tensor::from_slice(&[2.0, -1.0, -1.0, 2.0]).view([2, 2]);
        let minus_log = |x: f64| (1.0 + (-x).exp()).ln();
        let expected = minus_log(2.0) + minus_log(1.0);
        assert!((sigmoid(&logits, &(0..2), None).double_value(&[]) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_prior_is_where_untrained_logits_rest() {
        // At equal logits the best constant is the one at which a share of 1/B says yes: the
        // gradient there sums to zero.
        let logits = Tensor::zeros([9, 9], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        sigmoid(&logits, &(0..9), None).backward();
        assert!(logits.grad().sum(None::<Kind>).double_value(&[]).abs() < 1e-12);
    }
}
