//! Global alignment (paper, section 3.3): symmetric InfoNCE between images and reports.
//!
//! `logits = image · reportᵀ / temperature`, `L = CE(logits, diagonal) + CE(logitsᵀ, diagonal)` — a
//! sum, not a mean.
//!
//! Beyond the paper and off by default: `sigmoid` is another form of the loss.
//!
//! # Shapes
//! `image`, `report`: `[B, D]` unit vectors, row `b` of both from study `b`.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::config::{GlobalKind, LossConfig};
use super::scale::Scale;
use super::sigmoid;

/// The loss and the retrieval accuracy of its logits.
#[derive(Debug)]
pub struct Global {
    pub loss: Tensor,
    pub accuracy_at_1: Tensor,
    pub accuracy_at_5: Tensor,
}

/// The loss with the configured temperature, or the first one where it is learned.
pub fn global(image: &Tensor, report: &Tensor, config: &LossConfig) -> Global {
    with_scale(image, report, &Scale::fixed(config.global_temperature.first()), config)
}

/// Like [`global`], with a temperature that may be learned.
pub fn with_scale(image: &Tensor, report: &Tensor, scale: &Scale<'_>, config: &LossConfig) -> Global {
    part(image, report, &(0..image.size()[0]), scale, config)
}

/// The contribution of some studies of a batch to its loss and accuracies: their images against all
/// reports, and their reports against all images. The contributions of all studies add up to the
/// whole. Processes that share a batch each compute `2·R·B` pairs instead of `B²`.
///
/// * `rows`: the `R` studies.
pub fn part(image: &Tensor, report: &Tensor, rows: &Range<i64>, scale: &Scale<'_>, config: &LossConfig) -> Global {
    let studies = image.size()[0];
    let of_rows = |all: &Tensor| all.narrow(0, rows.start, rows.end - rows.start);
    let score = |vectors: &Tensor, others: &Tensor| scale.logits(&vectors.matmul(&others.tr()));
    let images = score(&of_rows(image), report);
    let reports = if *rows == (0..studies) { images.tr() } else { score(&of_rows(report), image) };
    let loss = match config.global {
        GlobalKind::Sigmoid => sigmoid::sigmoid(&images, rows, scale.bias()),
        GlobalKind::Softmax => softmax(&images, rows) + softmax(&reports, rows),
    };
    let [images, reports] = [images, reports].map(|scores| accuracies(&scores.detach(), rows));
    let [accuracy_at_1, accuracy_at_5] = [0, 1].map(|place| (&images[place] + &reports[place]) / 2.0);
    Global { loss, accuracy_at_1, accuracy_at_5 }
}

/// The sum over `rows` of the cross entropy of `logits` `[R, B]` towards the row's own study;
/// divided by `B`.
fn softmax(logits: &Tensor, rows: &Range<i64>) -> Tensor {
    let studies = logits.size()[1] as f64;
    -logits.log_softmax(1, None::<Kind>).diagonal(rows.start, 0, 1).sum(None::<Kind>) / studies
}

/// Share of the batch that `rows` add whose own study is the best, and among the five best, of
/// their row of `scores` `[R, B]`. With fewer than five candidates all of them are taken.
fn accuracies(scores: &Tensor, rows: &Range<i64>) -> [Tensor; 2] {
    let studies = scores.size()[1];
    let pair = Tensor::arange_start(rows.start, rows.end, (Kind::Int64, scores.device())).unsqueeze(1);
    let (_, best) = scores.topk(5.min(studies), 1, true, true);
    let hits = best.eq_tensor(&pair);
    let share = |hits: &Tensor| hits.to_kind(scores.kind()).sum(None::<Kind>) / studies as f64;
    [share(&hits.narrow(1, 0, 1.min(studies))), share(&hits)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::contrast::Contrast;
    use proptest::prelude::*;
    use tch::Device;

    fn plain(image: &Tensor, report: &Tensor) -> Global {
        global(image, report, &LossConfig::default())
    }

    fn of_kind(sigmoid: bool) -> LossConfig {
        let global = if sigmoid { GlobalKind::Sigmoid } else { GlobalKind::Softmax };
        LossConfig { global, ..LossConfig::default() }
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

    /// Values by the formula in plain numbers, gradients by its differences.
    #[test]
    fn the_sigmoid_loss_learns_temperature_and_bias() {
        let (images, reports) = ([0.0f64, 1.0, 2.5], [0.2f64, 1.4, 2.0]);
        let vectors = |angles: [f64; 3]| {
            let values = angles.map(|angle| [angle.cos(), angle.sin()]).concat();
            Tensor::from_slice(&values).view([3, 2])
        };
        let parameter = |value: f64| Tensor::from_slice(&[value]).set_requires_grad(true);
        let (temperature, log_scale, bias) = (0.5, 0.3, -0.7);
        let learned = Contrast { log_scale: parameter(log_scale), bias: parameter(bias) };
        let scale = Scale::new(temperature, Some(&learned));
        let found = with_scale(&vectors(images), &vectors(reports), &scale, &of_kind(true)).loss;
        let expected = |log_scale: f64, bias: f64| {
            let mut sum = 0.0;
            for (row, image) in images.iter().enumerate() {
                for (column, report) in reports.iter().enumerate() {
                    let cosine = (image - report).cos();
                    let logit = cosine * log_scale.exp() / temperature - 2f64.ln() + bias;
                    let sign: f64 = if row == column { 1.0 } else { -1.0 };
                    sum += (1.0 + (-sign * logit).exp()).ln();
                }
            }
            sum / 3.0
        };
        assert!((found.double_value(&[]) - expected(log_scale, bias)).abs() < 1e-12, "{found:?}");
        found.backward();
        let step = 1e-5f64;
        let slope = |along: &dyn Fn(f64) -> f64| (along(step) - along(-step)) / (2.0 * step);
        for (name, parameter, expected) in [
            ("log_scale", &learned.log_scale, slope(&|x| expected(log_scale + x, bias))),
            ("bias", &learned.bias, slope(&|x| expected(log_scale, bias + x))),
        ] {
            let gradient = parameter.grad().double_value(&[]);
            assert!(gradient.abs() > 1e-3 && (gradient - expected).abs() < 1e-8, "{name}: {gradient}, {expected}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever the variant, the order of the studies is none of its business.
        #[test]
        fn order_changes_nothing(seed in 0i64..1000, rotation in 1i64..6, sigmoid: bool) {
            let config = of_kind(sigmoid);
            let (x, y) = (units(6, seed), units(6, seed + 1));
            let a = global(&x, &y, &config).loss.double_value(&[]);
            let (x, y) = (x.roll([rotation], [0]), y.roll([rotation], [0]));
            let b = global(&x, &y, &config).loss.double_value(&[]);
            prop_assert!(a.is_finite() && (a - b).abs() < 1e-9, "{a} {b}");
        }

        /// However a batch is divided, parts of it add up to its loss, its accuracies and its
        /// gradients.
        #[test]
        fn parts_add_up(seed in 0i64..1000, first in 0i64..8, second in 0i64..8, sigmoid: bool) {
            let config = of_kind(sigmoid);
            let scale = Scale::fixed(config.global_temperature.first());
            let both = [units(7, seed), units(7, seed + 1)].map(|vectors| vectors.set_requires_grad(true));
            let figures = |part: &Global| {
                [&part.loss, &part.accuracy_at_1, &part.accuracy_at_5].map(|figure| figure.double_value(&[]))
            };
            let backward = |loss: &Tensor| Tensor::run_backward(&[loss], &both, true, false);
            let whole = global(&both[0], &both[1], &config);
            let (mut sum, mut gradients) = ([0.0; 3], both.each_ref().map(Tensor::zeros_like));
            for rows in [0..first.min(second), first.min(second)..first.max(second), first.max(second)..7] {
                if rows.start > 6 {
                    continue;
                }
                let part = part(&both[0], &both[1], &(rows.start..rows.end.min(7)), &scale, &config);
                sum.iter_mut().zip(figures(&part)).for_each(|(sum, part)| *sum += part);
                gradients.iter_mut().zip(backward(&part.loss)).for_each(|(sum, part)| drop(sum.g_add_(&part)));
            }
            for (sum, whole) in sum.iter().zip(figures(&whole)) {
                prop_assert!((sum - whole).abs() < 1e-12, "{sum} {whole}");
            }
            for (sum, whole) in gradients.iter().zip(backward(&whole.loss)) {
                prop_assert!(sum.allclose(&whole, 1e-10, 1e-12, false), "{sum:?} {whole:?}");
            }
        }
    }
}
