//! The difference between stated probabilities and observed frequencies.

use serde::Serialize;

/// Bins of equal width.
const BINS: usize = 15;

/// Predictions by their stated confidence.
#[derive(Clone, Debug)]
pub struct Calibration {
    confidence: Vec<f64>,
    right: Vec<bool>,
}

/// A bar of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    pub confidence: f64,
    pub accuracy: f64,
    pub count: usize,
}

impl Calibration {
    /// * `probabilities`: of every class, row by row; `truth`: the class of each row.
    pub fn new(probabilities: &[Vec<f64>], truth: &[usize]) -> Calibration {
        let highest = |row: &Vec<f64>| {
            row.iter().copied().enumerate().fold((0, f64::MIN), |best, next| if next.1 > best.1 { next } else { best })
        };
        let (confidence, right) = probabilities
            .iter()
            .zip(truth)
            .map(|(row, &truth)| {
                let (class, confidence) = highest(row);
                (confidence, class == truth)
            })
            .unzip();
        Calibration { confidence, right }
    }

    /// `(weight, sum of confidences, sum of right)` of each bin.
    fn sums(&self, weights: &[f64]) -> [(f64, f64, f64); BINS] {
        let mut bins = [(0.0, 0.0, 0.0); BINS];
        for ((&confidence, &right), &weight) in self.confidence.iter().zip(&self.right).zip(weights) {
            // Right-closed, as Guo et al. (ICML 2017) have them.
            let bin = &mut bins[((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
            *bin = (bin.0 + weight, bin.1 + weight * confidence, bin.2 + weight * f64::from(u8::from(right)));
        }
        bins
    }

    /// Expected calibration error (Guo et al., 2017): the mean distance of confidence and accuracy
    /// over 15 bins.
    pub fn error(&self, weights: &[f64]) -> Option<f64> {
        let total: f64 = weights.iter().sum();
        let gaps = self.sums(weights).iter().map(|(_, confidence, right)| (confidence - right).abs()).sum::<f64>();
        (total > 0.0).then(|| gaps / total)
    }

    /// The bins that hold rows.
    pub fn bins(&self) -> Vec<Bin> {
        let sums = self.sums(&vec![1.0; self.confidence.len()]);
        let filled = sums.iter().filter(|bin| bin.0 > 0.0);
        filled.map(|&(n, c, r)| Bin { confidence: c / n, accuracy: r / n, count: n as usize }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_that_is_wrong_half_of_the_time_is_off_by_half() {
        let sure = vec![vec![1.0, 0.0]; 4];
        let calibration = Calibration::new(&sure, &[0, 1, 0, 1]);
        assert_eq!(calibration.error(&[1.0; 4]), Some(0.5));
        assert_eq!(calibration.bins(), [Bin { confidence: 1.0, accuracy: 0.5, count: 4 }]);
        assert_eq!(calibration.error(&[1.0, 0.0, 1.0, 0.0]), Some(0.0));
        assert_eq!(calibration.error(&[0.0; 4]), None);
    }
}
