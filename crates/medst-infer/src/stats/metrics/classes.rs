//! Figures of predicted classes.

use serde::Serialize;

/// Weighted counts of true (row) and predicted (column) classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfusionMatrix {
    pub counts: Vec<Vec<f64>>,
}

impl ConfusionMatrix {
    /// # Panics
    /// When the lengths differ, or a class is not below `classes`.
    pub fn new(truth: &[usize], predicted: &[usize], weights: &[f64], classes: usize) -> ConfusionMatrix {
        assert!(truth.len() == predicted.len() && truth.len() == weights.len(), "a class for each row");
        let mut counts = vec![vec![0.0; classes]; classes];
        truth.iter().zip(predicted).zip(weights).for_each(|((&t, &p), weight)| counts[t][p] += weight);
        ConfusionMatrix { counts }
    }

    fn of_truth(&self, class: usize) -> f64 {
        self.counts[class].iter().sum()
    }

    fn of_prediction(&self, class: usize) -> f64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// The share of rows on the diagonal.
    pub fn accuracy(&self) -> Option<f64> {
        let total: f64 = self.counts.iter().flatten().sum();
        let right: f64 = (0..self.counts.len()).map(|class| self.counts[class][class]).sum();
        (total > 0.0).then(|| right / total)
    }

    /// The share of a class' rows that are found.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let rows = self.of_truth(class);
        (rows > 0.0).then(|| self.counts[class][class] / rows)
    }

    /// The mean recall of the classes that occur: MS-CXR-T's macro accuracy (Bannur et al., CVPR
    /// 2023).
    pub fn macro_accuracy(&self) -> Option<f64> {
        let recalls: Vec<f64> = (0..self.counts.len()).filter_map(|class| self.recall(class)).collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }

    /// `2 TP / (2 TP + FP + FN)` of a class; `None` where it neither occurs nor is predicted.
    pub fn f1(&self, class: usize) -> Option<f64> {
        let both = self.of_truth(class) + self.of_prediction(class);
        (both > 0.0).then(|| 2.0 * self.counts[class][class] / both)
    }

    /// The mean F1 of the classes that occur or are predicted.
    pub fn macro_f1(&self) -> Option<f64> {
        let each: Vec<f64> = (0..self.counts.len()).filter_map(|class| self.f1(class)).collect();
        (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = [0,0,1,1,2,2,2]`, `p = [0,1,1,1,2,0,2]`: accuracy_score, balanced_accuracy_score,
    /// f1_score(average="macro"), f1_score(average=None).
    #[test]
    fn figures_are_scikit_learns() {
        let matrix = ConfusionMatrix::new(&[0, 0, 1, 1, 2, 2, 2], &[0, 1, 1, 1, 2, 0, 2], &[1.0; 7], 3);
        assert_eq!(matrix.counts, [[1.0, 1.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 2.0]]);
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        close(matrix.accuracy(), 5.0 / 7.0);
        close(matrix.macro_accuracy(), 0.722_222_222_222_222_2);
        close(matrix.macro_f1(), 0.7);
        close(matrix.f1(2), 0.8);
    }

    #[test]
    fn absent_classes_and_no_rows_are_undefined() {
        let matrix = ConfusionMatrix::new(&[0, 0], &[0, 2], &[1.0; 2], 4);
        assert_eq!((matrix.recall(1), matrix.f1(1), matrix.f1(2)), (None, None, Some(0.0)));
        assert_eq!(matrix.macro_accuracy(), Some(0.5));
        let empty = ConfusionMatrix::new(&[], &[], &[], 2);
        assert_eq!((empty.accuracy(), empty.macro_accuracy(), empty.macro_f1()), (None, None, None));
    }
}
