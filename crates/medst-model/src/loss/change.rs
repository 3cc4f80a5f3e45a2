//! Alignment of change (not part of the paper, off by default): the change of the image embedding
//! between two visits is contrasted with the later report.
//!
//! The paper's temporal losses map a patient's images and reports onto each other in order, for
//! which words such as "improved" and "worsened" are hardly needed. Here the difference of two
//! consecutive images must find its report among those of all other pairs in the batch, including
//! other pairs of the same patient:
//!
//! ```text
//! δ_p  = u_p,later − u_p,earlier                            image embeddings of pair p
//! loss = CE(δ_p · v_q / τ, p) + CE((δ_p · v_q / τ)ᵀ, p)     v_q: the later report of pair q
//! ```
//!
//! This is the direction along which progression is judged without training
//! (`eval::tasks::Progression`). The difference is not normalised: where nothing changed, it
//! favours no report.
//!
//! # Shapes
//! `image`, `report`: `[B, D]` unit vectors; `relations.sequences`: `[Q, T]`; `N` pairs.

use tch::{Kind, Tensor};

use super::scale::Scale;
use crate::device::send_rows;
use crate::model::input::Relations;

/// The loss; exactly zero with fewer than two pairs of consecutive visits.
pub fn change(image: &Tensor, report: &Tensor, relations: &Relations, scale: &Scale<'_>) -> Tensor {
    let pairs = pairs(&relations.sequences);
    if pairs.len() < 2 {
        return Tensor::zeros([1i64; 0], (image.kind(), image.device()));
    }
    let (earlier, later): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let rows = |x: &Tensor, rows: &[i64]| x.index_select(0, &send_rows(rows, x.device()));
    let difference = rows(image, &later) - rows(image, &earlier);
    let logits = scale.logits(&difference.matmul(&rows(report, &later).tr()));
    let entropy = |axis: i64| -logits.log_softmax(axis, None::<Kind>).diagonal(0, 0, 1).mean(None::<Kind>);
    entropy(0) + entropy(1)
}

/// Consecutive visits `(earlier, later)` of all sequences.
pub(super) fn pairs(sequences: &Tensor) -> Vec<(i64, i64)> {
    let (count, steps) = sequences.size2().expect("sequences are [Q, T]");
    let rows = Vec::<i64>::try_from(sequences.contiguous().view([-1])).expect("row numbers");
    let sequence = |n: usize| &rows[n * steps as usize..(n + 1) * steps as usize];
    (0..count as usize)
        .flat_map(|n| sequence(n).windows(2))
        .filter(|pair| pair.iter().all(|&row| row >= 0))
        .map(|pair| (pair[0], pair[1]))
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn relations(rows: &[i64]) -> Relations {
        Relations::of_sequences(Tensor::from_slice(rows).view([-1, 3]))
    }

    /// Rows `(x, y)` as unit vectors.
    fn rows(values: &[(f64, f64)]) -> Tensor {
        let flat: Vec<f64> = values.iter().flat_map(|&(x, y)| [x, y]).collect();
        crate::model::projection::unit(&Tensor::from_slice(&flat).view([-1, 2]))
    }

    #[test]
    fn two_pairs_by_hand() {
        // One image turns from x to y, the other from y to x; the later reports match.
        let image = rows(&[(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0)]);
        let report = rows(&[(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0)]);
        let sequences = Tensor::from_slice(&[0i64, 1, -1, 2, 3, -1]).view([2, 3]);
        let loss = change(&image, &report, &Relations::of_sequences(sequences), &Scale::fixed(0.5)).double_value(&[]);
        // δ·v is 1 for the own report and −1 for the other, so each of the four distributions is
        // σ(4).
        assert!((loss - 2.0 * (1.0 + (-4f64).exp()).ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn reports_of_the_opposite_change_cost() {
        let image = rows(&[(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0)]);
        let relations = relations(&[0, 1, -1, 2, 3, -1]);
        let loss = |report: &Tensor| change(&image, report, &relations, &Scale::fixed(0.5)).double_value(&[]);
        let aligned = rows(&[(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0)]);
        assert!(loss(&aligned) + 3.0 < loss(&aligned.roll([2], [0])));
    }

    #[test]
    fn without_two_pairs_there_is_nothing_to_tell_apart() {
        let image = rows(&[(1.0, 0.0), (0.0, 1.0)]).set_requires_grad(true);
        let loss = change(&image, &image, &relations(&[0, 1, -1]), &Scale::fixed(0.5));
        assert_eq!(loss.double_value(&[]), 0.0);
        let none = Relations::of_sequences(Tensor::zeros([0, 4], (Kind::Int64, Device::Cpu)));
        assert_eq!(change(&image, &image, &none, &Scale::fixed(0.5)).double_value(&[]), 0.0);
    }
}
