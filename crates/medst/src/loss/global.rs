//! Global alignment (paper, section 3.3): symmetric InfoNCE between images and reports.
//!
//! `logits = image · reportᵀ / temperature`, `L = CE(logits, diagonal) + CE(logitsᵀ, diagonal)` — a sum, not a mean.
//!
//! # Shapes
//! `image`, `report`: `[B, D]` unit vectors, row `b` of both from study `b`.

use tch::{Kind, Tensor};

/// The loss and the retrieval accuracy of its logits.
#[derive(Debug)]
pub struct Global {
    pub loss: Tensor,
    pub accuracy_at_1: Tensor,
    pub accuracy_at_5: Tensor,
}

pub fn global(image: &Tensor, report: &Tensor, temperature: f64) -> Global {
    let logits = image.matmul(&report.tr()) / temperature;
    let diagonal = |x: Tensor| x.diagonal(0, 0, 1);
    let loss = -diagonal(logits.log_softmax(1, None::<Kind>)).mean(None::<Kind>)
        - diagonal(logits.log_softmax(0, None::<Kind>)).mean(None::<Kind>);
    let scores = logits.detach();
    Global { loss, accuracy_at_1: accuracy(&scores, 1), accuracy_at_5: accuracy(&scores, 5) }
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
    use super::*;
    use tch::Device;

    #[test]
    fn aligned_pairs_have_full_accuracy_and_lower_loss_than_shuffled_ones() {
        tch::manual_seed(1);
        let x = crate::model::projection::unit(&Tensor::randn([6, 16], (Kind::Double, Device::Cpu)));
        let aligned = global(&x, &x, 0.07);
        let shuffled = global(&x, &x.roll([1], [0]), 0.07);
        assert_eq!(aligned.accuracy_at_1.double_value(&[]), 1.0);
        assert_eq!(shuffled.accuracy_at_1.double_value(&[]), 0.0);
        assert!(aligned.loss.double_value(&[]) < shuffled.loss.double_value(&[]));
    }

    #[test]
    fn identical_rows_give_twice_the_logarithm_of_their_number() {
        let x = crate::model::projection::unit(&Tensor::ones([5, 8], (Kind::Double, Device::Cpu)));
        let loss = global(&x, &x, 0.07).loss.double_value(&[]);
        assert!((loss - 2.0 * 5f64.ln()).abs() < 1e-12, "{loss}");
    }
}
