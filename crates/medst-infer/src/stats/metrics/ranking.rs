//! Figures of a score that should be higher for positive rows.

use serde::Serialize;

/// Rows sorted by score, so that every replicate of a bootstrap needs one pass.
#[derive(Debug)]
pub struct Ranking {
    /// Row and label, highest score first.
    order: Vec<(usize, bool)>,
    /// Positions in `order` at which a new score begins.
    starts: Vec<usize>,
    scores: Vec<f64>,
}

/// A point of a receiver operating characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub false_positive_rate: f64,
    pub true_positive_rate: f64,
}

/// Points that are kept of a curve for drawing.
const MOST_POINTS: usize = 200;

impl Ranking {
    /// * `scores`: finite; `positive`: the truth, row by row.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn new(scores: &[f64], positive: &[bool]) -> Ranking {
        assert_eq!(scores.len(), positive.len(), "a score for each row");
        let mut order: Vec<(usize, bool)> = positive.iter().copied().enumerate().collect();
        order.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]));
        let new = |&index: &usize| index == 0 || scores[order[index].0] != scores[order[index - 1].0];
        let starts = (0..order.len()).filter(new).collect();
        Ranking { starts, scores: scores.to_vec(), order }
    }

    /// Weights of positive and negative rows of each distinct score, highest first.
    fn steps<'a>(&'a self, weights: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
        let ends = self.starts.iter().skip(1).copied().chain([self.order.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| {
            self.order[start..end].iter().fold((0.0, 0.0), |(positive, negative), &(row, is_positive)| {
                let weight = weights[row];
                if is_positive { (positive + weight, negative) } else { (positive, negative + weight) }
            })
        })
    }

    /// The area under the receiver operating characteristic; `None` without positive or without
    /// negative rows.
    pub fn auroc(&self, weights: &[f64]) -> Option<f64> {
        let (mut positives, mut negatives, mut area) = (0.0, 0.0, 0.0);
        for (positive, negative) in self.steps(weights) {
            // Negative rows of this score rank below all earlier positive rows, and tie with the
            // positive rows of the same score.
            area += negative * (positives + positive / 2.0);
            positives += positive;
            negatives += negative;
        }
        (positives > 0.0 && negatives > 0.0).then(|| area / (positives * negatives))
    }

    /// Average precision, `Σ (R_n − R_{n−1}) P_n` over distinct scores; `None` without positive
    /// rows.
    pub fn average_precision(&self, weights: &[f64]) -> Option<f64> {
        let (mut positives, mut all, mut sum) = (0.0, 0.0, 0.0);
        for (positive, negative) in self.steps(weights) {
            positives += positive;
            all += positive + negative;
            if positive > 0.0 {
                sum += positive * positives / all;
            }
        }
        (positives > 0.0).then(|| sum / positives)
    }

    /// The share of positive rows in the first `k` places; of rows with one score, those at the
    /// edge count in proportion. `None` with fewer rows than places.
    pub fn precision_at(&self, k: usize, weights: &[f64]) -> Option<f64> {
        let (mut left, mut found) = (k as f64, 0.0);
        for (positive, negative) in self.steps(weights).filter(|step| step.0 + step.1 > 0.0) {
            let taken = left.min(positive + negative);
            found += positive * taken / (positive + negative);
            left -= taken;
            if left <= 0.0 {
                return Some(found / k as f64);
            }
        }
        None
    }

    /// The receiver operating characteristic for drawing, thinned; empty where it is undefined.
    pub fn curve(&self) -> Vec<Point> {
        let weights = vec![1.0; self.order.len()];
        let totals = self.steps(&weights).fold((0.0, 0.0), |(a, b), (p, n)| (a + p, b + n));
        if totals.0 == 0.0 || totals.1 == 0.0 {
            return Vec::new();
        }
        let mut points = vec![Point { false_positive_rate: 0.0, true_positive_rate: 0.0 }];
        let (mut positives, mut negatives) = (0.0, 0.0);
        for (positive, negative) in self.steps(&weights) {
            positives += positive;
            negatives += negative;
            points.push(Point { false_positive_rate: negatives / totals.1, true_positive_rate: positives / totals.0 });
        }
        let step = points.len().div_ceil(MOST_POINTS).max(1);
        let last = points.len() - 1;
        points.into_iter().enumerate().filter(|(n, _)| n % step == 0 || *n == last).map(|(_, point)| point).collect()
    }

    /// The threshold `t` that makes `score > t` right most often on the data, by the candidates'
    /// order the first such.
    pub fn best_threshold(&self, candidates: &[f64]) -> Option<f64> {
        let right = |threshold: f64| {
            self.order.iter().filter(|&&(row, positive)| (self.scores[row] > threshold) == positive).count()
        };
        let best = candidates.iter().map(|&threshold| (right(threshold), threshold));
        best.fold(None, |best: Option<(usize, f64)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, threshold)| threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_scikit_learns() {
        // roc_auc_score([1,0,1,1,0,0,1], [.9,.8,.8,.7,.6,.3,.3]), average_precision_score of the
        // same, and with sample_weight=[1,2,0,1,3,1,2].
        let positive = [1, 0, 1, 1, 0, 0, 1].map(|label| label == 1);
        let ranking = Ranking::new(&[0.9, 0.8, 0.8, 0.7, 0.6, 0.3, 0.3], &positive);
        let ones = [1.0; 7];
        assert!((ranking.auroc(&ones).unwrap() - 0.666_666_666_666_666_6).abs() < 1e-12);
        assert!((ranking.average_precision(&ones).unwrap() - 0.747_023_809_523_809_5).abs() < 1e-12);
        let weights = [1.0, 2.0, 0.0, 1.0, 3.0, 1.0, 2.0];
        assert!((ranking.auroc(&weights).unwrap() - 0.458_333_333_333_333_3).abs() < 1e-12);
        assert!((ranking.average_precision(&weights).unwrap() - 0.575).abs() < 1e-12);
        // The first place is positive; the second and third share a score, one of them positive.
        assert_eq!(
            [1, 2, 3, 8].map(|k| ranking.precision_at(k, &ones)),
            [Some(1.0), Some(0.75), Some(2.0 / 3.0), None]
        );
        let one_class = Ranking::new(&[0.1, 0.2], &[true, true]);
        assert_eq!((one_class.auroc(&[1.0; 2]), one_class.average_precision(&[1.0; 2])), (None, Some(1.0)));
        assert!(one_class.curve().is_empty());
    }

    proptest! {
        #[test]
        fn auroc_is_the_share_of_pairs_in_order(
            rows in proptest::collection::vec((0u8..6, any::<bool>(), 0u8..3), 2..40),
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let positive: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let weights: Vec<f64> = rows.iter().map(|row| f64::from(row.2)).collect();
            let (mut right, mut all) = (0.0, 0.0);
            for (i, a) in rows.iter().enumerate().filter(|(_, row)| row.1) {
                for (j, b) in rows.iter().enumerate().filter(|(_, row)| !row.1) {
                    let weight = weights[i] * weights[j];
                    all += weight;
                    right += weight * match a.0.cmp(&b.0) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            let ranking = Ranking::new(&scores, &positive);
            match ranking.auroc(&weights) {
                Some(area) => prop_assert!((area - right / all).abs() < 1e-9),
                None => prop_assert_eq!(all, 0.0),
            }
            if let Some(last) = ranking.curve().last() {
                prop_assert_eq!((last.false_positive_rate, last.true_positive_rate), (1.0, 1.0));
            }
        }
    }
}
