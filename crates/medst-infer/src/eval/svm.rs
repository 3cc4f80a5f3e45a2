//! A linear support vector classifier, one against one: scikit-learn's `SVC(kernel="linear", C=1)`,
//! which is libsvm's.
//!
//! The inner products of all rows are computed once, in float64, and every fold picks its own.

use libsvm_rs::predict::predict_values;
use libsvm_rs::train::svm_train;
use libsvm_rs::{KernelType, SvmModel, SvmNode, SvmParameter, SvmProblem, SvmType};
use rayon::prelude::*;

use super::Vectors;
use crate::{Error, Result};

/// Inner products of `n` rows with each other, in the form that the solver reads: `n` rows of
/// `[(0, own number), (1, …), …]`.
#[derive(Debug)]
pub struct Kernel {
    nodes: Vec<Vec<SvmNode>>,
}

impl Kernel {
    /// The linear kernel of all rows.
    ///
    /// # Errors
    /// Names a row with NaN or infinity, on which the solver would not end.
    pub fn linear(features: &Vectors) -> Result<Kernel> {
        if let Some(row) = (0..features.len()).find(|&row| !features.is_finite(row)) {
            return Err(Error::Evaluation(format!("row {row} of the features is not finite")));
        }
        Ok(Kernel { nodes: (0..features.len()).into_par_iter().map(|row| products(features, row, features)).collect() })
    }

    /// Rows of other features against those that a classifier was trained on.
    pub fn against(features: &Vectors, others: &Vectors) -> Kernel {
        Kernel { nodes: (0..others.len()).into_par_iter().map(|row| products(features, row, others)).collect() }
    }
}

/// The products of a row of `others` with all `features`.
fn products(features: &Vectors, row: usize, others: &Vectors) -> Vec<SvmNode> {
    let vector = others.row(row);
    let product = |other: &[f32]| vector.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let number = SvmNode { index: 0, value: (row + 1) as f64 };
    let numbered = features.rows().zip(1i32..).map(|(other, index)| SvmNode { index, value: product(other) });
    std::iter::once(number).chain(numbered).collect()
}

/// A trained classifier.
#[derive(Debug)]
pub struct Classifier {
    /// `None` where all training rows are of one class.
    model: Option<SvmModel>,
    /// The classes that occur in training, ascending.
    classes: Vec<usize>,
}

/// The decision of a classifier about a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub class: usize,
    /// A score for each of all classes, comparable over rows: votes, and between equal votes the
    /// confidence (scikit-learn's `decision_function_shape="ovr"`); negative infinity for classes
    /// without training rows.
    pub scores: Vec<f64>,
}

impl Classifier {
    /// Trains on some rows of a kernel.
    ///
    /// # Errors
    /// No rows.
    pub fn train(kernel: &Kernel, rows: &[usize], truth: &[usize]) -> Result<Classifier> {
        // libsvm numbers classes by their first row and scikit-learn by value: sorted rows make
        // both the same. Within a class the order stays.
        let mut rows = rows.to_vec();
        rows.sort_by_key(|&row| truth[row]);
        let mut classes: Vec<usize> = rows.iter().map(|&row| truth[row]).collect();
        let labels = classes.iter().map(|&class| class as f64).collect();
        classes.dedup();
        if classes.is_empty() {
            return Err(Error::Evaluation("a classifier needs training rows".into()));
        }
        if classes.len() == 1 {
            return Ok(Classifier { model: None, classes });
        }
        let parameters = SvmParameter {
            svm_type: SvmType::CSvc,
            kernel_type: KernelType::Precomputed,
            c: 1.0,
            eps: 1e-3,
            cache_size: 200.0,
            ..SvmParameter::default()
        };
        let problem = SvmProblem { labels, instances: rows.iter().map(|&row| kernel.nodes[row].clone()).collect() };
        libsvm_rs::set_quiet(true);
        Ok(Classifier { model: Some(svm_train(&problem, &parameters)), classes })
    }

    /// Decides a row of the kernel it was trained on, or one [`Kernel::against`] its rows;
    /// `classes` counts all classes.
    pub fn decide(&self, kernel: &Kernel, row: usize, classes: usize) -> Decision {
        let mut scores = vec![f64::NEG_INFINITY; classes];
        let Some(model) = &self.model else {
            scores[self.classes[0]] = 0.0;
            return Decision { class: self.classes[0], scores };
        };
        let count = self.classes.len();
        let mut values = vec![0.0; count * (count - 1) / 2];
        // The votes are counted here: among equal ones libsvm takes the first class, this library's
        // own the last.
        predict_values(model, &kernel.nodes[row], &mut values);
        let (mut votes, mut confidence) = (vec![0.0; count], vec![0.0; count]);
        let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second)));
        for ((first, second), value) in pairs.zip(values) {
            votes[if value > 0.0 { first } else { second }] += 1.0;
            confidence[first] += value;
            confidence[second] -= value;
        }
        let best = (0..count).fold(0, |best, class| if votes[class] > votes[best] { class } else { best });
        for (number, &class) in self.classes.iter().enumerate() {
            scores[class] = votes[number] + confidence[number] / (3.0 * (confidence[number].abs() + 1.0));
        }
        Decision { class: self.classes[best], scores }
    }
}

/// Decides every row with the classifier of its fold, which has not seen the fold. `others` are
/// decided in the place of the rows themselves where they are given.
///
/// # Errors
/// A fold that contains all rows.
pub fn cross_validate(
    kernel: &Kernel,
    others: &[&Kernel],
    truth: &[usize],
    fold_of: &[usize],
    classes: usize,
) -> Result<Vec<Vec<Decision>>> {
    let folds = fold_of.iter().max().map_or(0, |most| most + 1);
    let part = |fold: usize, inside: bool| -> Vec<usize> {
        (0..truth.len()).filter(|&row| (fold_of[row] == fold) == inside).collect()
    };
    let decided: Vec<(Vec<usize>, Vec<Vec<Decision>>)> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let rows = part(fold, true);
            let classifier = Classifier::train(kernel, &part(fold, false), truth)?;
            let all = |kernel: &Kernel| rows.iter().map(|&row| classifier.decide(kernel, row, classes)).collect();
            let decisions = std::iter::once(kernel).chain(others.iter().copied()).map(all).collect();
            Ok((rows, decisions))
        })
        .collect::<Result<_>>()?;
    let mut sorted = vec![Vec::new(); others.len() + 1];
    for (kind, sorted) in sorted.iter_mut().enumerate() {
        let mut by_row: Vec<(usize, &Decision)> =
            decided.iter().flat_map(|(rows, all)| rows.iter().copied().zip(&all[kind])).collect();
        by_row.sort_by_key(|decision| decision.0);
        *sorted = by_row.into_iter().map(|decision| decision.1.clone()).collect();
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_classes_are_told_apart_and_one_class_needs_no_machine() {
        let rows: Vec<[f32; 2]> = (0..30).map(|n| [[0.0, 3.0], [3.0, 0.0], [-3.0, -3.0]][n % 3]).collect();
        let features = Vectors::from_rows(rows).unwrap();
        let truth: Vec<usize> = (0..30).map(|n| n % 3).collect();
        let kernel = Kernel::linear(&features).unwrap();
        let classifier = Classifier::train(&kernel, &(0..15).collect::<Vec<_>>(), &truth).unwrap();
        for (row, &class) in truth.iter().enumerate().skip(15) {
            let decision = classifier.decide(&kernel, row, 4);
            assert_eq!(decision.class, class);
            assert_eq!(decision.scores[3], f64::NEG_INFINITY);
        }
        let single = Classifier::train(&kernel, &[0, 3], &truth).unwrap();
        assert_eq!(single.decide(&kernel, 7, 3).class, 0);
        assert!(Classifier::train(&kernel, &[], &truth).is_err());
        let broken = Vectors::from_rows([[1.0, f32::NAN]]).unwrap();
        assert!(Kernel::linear(&broken).unwrap_err().to_string().contains("row 0"));
    }

    #[test]
    fn constant_features_end() {
        let features = Vectors::from_rows(vec![[1.0f32, 1.0]; 12]).unwrap();
        let truth: Vec<usize> = (0..12).map(|n| n % 2).collect();
        let kernel = Kernel::linear(&features).unwrap();
        let folds: Vec<usize> = (0..12).map(|n| n / 2 % 3).collect();
        let decisions = cross_validate(&kernel, &[], &truth, &folds, 2).unwrap();
        assert_eq!(decisions[0].len(), 12);
    }
}
