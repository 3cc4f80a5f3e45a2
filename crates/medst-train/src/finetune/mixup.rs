//! Mixup: the pictures of each item of a batch are mixed with those of another item, and the loss
//! with the loss of the other's labels (Zhang, Cissé, Dauphin, Lopez-Paz: "mixup: Beyond Empirical
//! Risk Minimization", ICLR 2018, arXiv 1710.09412).
//!
//! ```text
//! x = λ x_i + (1 - λ) x_j        L = λ L(y_i) + (1 - λ) L(y_j)        λ drawn of Beta(α, α)
//! ```
//!
//! As in the authors' program, `λ` is one number for the batch, and the `j` are the items of the
//! batch in another order, so some items may stay unmixed. Beyond the paper:
//!
//! * A label that is known for one of two items counts with that item's share alone. Since every
//!   item is an `i` and a `j` once, the batch has `λK + (1 - λ)K = K` known labels, as without
//!   mixup.
//! * Of pairs of studies, the previous pictures are mixed with each other and the current ones with
//!   each other, in the same shares.
//! * A lateral view is mixed if both studies have one, and left out otherwise: alone it would show
//!   one of the two only.
//! * Grey values are rounded to whole numbers.

use std::f64::consts::TAU;

use rand::Rng;
use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

use super::data::{Batch, Other};
use crate::model::input::ImageInput;
use crate::train::sampler::{self, Purpose};

/// What the items of a batch are mixed with, and in which shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixing {
    /// The share of an item itself, `λ`.
    pub share: f64,
    /// The other item of each item.
    pub others: Vec<usize>,
}

impl Mixing {
    /// Draws how a batch is mixed; `None` if `alpha` is 0.
    ///
    /// * `numbers`: its items; * `place`: the epoch, and the number of the batch in it.
    pub fn draw(alpha: f64, numbers: &[usize], seed: u64, place: [u64; 2]) -> Option<Mixing> {
        if alpha <= 0.0 {
            return None;
        }
        let mut random = sampler::random(seed, place, Purpose::Mixup);
        let share = symmetric_beta(alpha, &mut random);
        let mut others = numbers.to_vec();
        others.shuffle(&mut random);
        Some(Mixing { share, others })
    }

    /// Mixes items with their others.
    pub fn mix(&self, own: Batch, other: Batch) -> Batch {
        let images = ImageInput {
            frontal: self.blend(&own.images.frontal, &other.images.frontal),
            ..self.laterals(&own.images, &other.images)
        };
        Batch { images, targets: own.targets, mixed: Some(Other { share: self.share, targets: other.targets }) }
    }

    /// The lateral views of the studies that have one on both sides; frontal views unchanged.
    fn laterals(&self, own: &ImageInput, other: &ImageInput) -> ImageInput {
        let in_other = |row: &i64| other.lateral_rows.contains(row);
        let rows: Vec<i64> = own.lateral_rows.iter().copied().filter(in_other).collect();
        if rows.is_empty() {
            return own.frontal_only();
        }
        let views = |images: &ImageInput| {
            let numbered = images.lateral_rows.iter().zip(0i64..);
            let kept: Vec<i64> = numbered.filter(|(row, _)| rows.contains(row)).map(|(_, number)| number).collect();
            images.lateral.index_select(0, &Tensor::from_slice(&kept))
        };
        let lateral = self.blend(&views(own), &views(other));
        ImageInput { frontal: own.frontal.shallow_clone(), lateral, lateral_rows: rows }
    }

    fn blend(&self, own: &Tensor, other: &Tensor) -> Tensor {
        let own = own.to_kind(Kind::Float) * self.share;
        let other = other.to_kind(Kind::Float) * (1.0 - self.share);
        (own + other).round().to_kind(Kind::Uint8)
    }
}

/// A number drawn of `Beta(alpha, alpha)`.
///
/// `x / √(1 + x²)` of `x = t / √(2 alpha)`, where `t` has Student's distribution with `2 alpha`
/// degrees of freedom, is distributed so between -1 and 1; `t` is drawn by Bailey's polar method
/// (Mathematics of Computation 62, 1994).
fn symmetric_beta(alpha: f64, random: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    let cosine = (TAU * angle).cos();
    let square = (radius.powf(-1.0 / alpha) - 1.0) * cosine * cosine;
    0.5 + 0.5 * cosine.signum() / (1.0 + 1.0 / square).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(alpha: f64, seed: u64, place: [u64; 2]) -> Mixing {
        Mixing::draw(alpha, &[4, 7, 9, 12, 30], seed, place).unwrap()
    }

    #[test]
    fn how_a_batch_is_mixed_depends_on_seed_and_place_alone() {
        assert_eq!(Mixing::draw(0.0, &[1, 2], 1, [0, 0]), None);
        let first = draw(0.4, 1, [2, 3]);
        assert_eq!(first, draw(0.4, 1, [2, 3]));
        for other in [draw(0.4, 2, [2, 3]), draw(0.4, 1, [1, 3]), draw(0.4, 1, [2, 4])] {
            assert_ne!(first.share, other.share);
        }
        let mut items = first.others;
        items.sort_unstable();
        assert_eq!(items, [4, 7, 9, 12, 30]);
    }

    #[test]
    fn shares_have_the_distribution() {
        for alpha in [0.1, 0.4, 1.0, 4.0] {
            let shares: Vec<f64> = (0..20_000).map(|place| draw(alpha, 5, [0, place]).share).collect();
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
            assert!((mean - 0.5).abs() < 0.015, "Beta({alpha}, {alpha}) has mean {mean}");
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((variance / expected - 1.0).abs() < 0.05, "Beta({alpha}, {alpha}) has variance {variance}");
        }
        // The extremes of what can be configured.
        assert!([1e-9, 1e9].iter().all(|&alpha| (0.0..=1.0).contains(&draw(alpha, 5, [0, 0]).share)));
    }

    /// Studies of 1 × 1 pixel.
    fn batch(frontal: &[u8], lateral: &[u8], lateral_rows: &[i64], targets: &[i64]) -> Batch {
        let pixels = |values: &[u8]| Tensor::from_data_size(values, &[values.len() as i64, 1, 1], Kind::Uint8);
        let images =
            ImageInput { frontal: pixels(frontal), lateral: pixels(lateral), lateral_rows: lateral_rows.to_vec() };
        Batch { images, targets: Tensor::from_slice(targets).unsqueeze(1), mixed: None }
    }

    fn values(x: &Tensor) -> Vec<i64> {
        Vec::try_from(x.to_kind(Kind::Int64).contiguous().view([-1])).unwrap()
    }

    #[test]
    fn pictures_and_labels_are_mixed_in_the_same_shares() {
        let mixing = Mixing { share: 0.25, others: Vec::new() };
        let own = batch(&[0, 100, 255], &[40, 80], &[0, 2], &[1, 0, -1]);
        let other = batch(&[200, 101, 255], &[9, 160], &[1, 2], &[0, 0, 1]);
        let mixed = mixing.mix(own, other);
        // 100.75 is rounded.
        assert_eq!(values(&mixed.images.frontal), [150, 101, 255]);
        // The third study alone has a lateral view on both sides.
        assert_eq!((values(&mixed.images.lateral), mixed.images.lateral_rows), (vec![140], vec![2]));
        assert_eq!(values(&mixed.targets), [1, 0, -1]);
        let labels = mixed.mixed.unwrap();
        assert_eq!((labels.share, values(&labels.targets)), (0.25, vec![0, 0, 1]));

        let mixed = mixing.mix(batch(&[8], &[], &[], &[1]), batch(&[4], &[5], &[0], &[1]));
        assert_eq!((values(&mixed.images.frontal), mixed.images.lateral.size()), (vec![5], vec![0, 1, 1]));
    }
}
