//! Multinomial logistic regression with a ridge: scikit-learn's `LogisticRegression(C)`, solved to
//! the same minimum.
//!
//! Benchmarks of frozen features have hundreds of rows and thousands of columns, so the weights are
//! sums of training rows and everything is computed from inner products of rows: `[n, n]` instead
//! of `[n, D]` in each of many steps.

use ndarray::{Array1, Array2, Axis};

use super::Vectors;

/// Steps of the accelerated gradient at most.
const STEPS: usize = 5000;
/// The solution is found where the gradient's length, in the space of the weights, is below this.
const TOLERANCE: f64 = 1e-5;

/// Inner products of all pairs of rows, after features are standardised by some of the rows.
pub struct Products(Array2<f64>);

/// A trained classifier.
pub struct Logistic {
    training: Vec<usize>,
    /// `[m, classes]`: how much of each training row is in each class' weights.
    dual: Array2<f64>,
    bias: Array1<f64>,
}

impl Products {
    /// Scales every column to mean 0 and deviation 1 over the rows `training`, and multiplies all
    /// rows with each other.
    pub fn standardised(features: &Vectors, training: &[usize]) -> Products {
        let shape = (features.len(), features.width());
        let wide: Vec<f64> = features.values().iter().map(|&x| f64::from(x)).collect();
        let mut x = Array2::from_shape_vec(shape, wide).expect("rows of one width");
        let training_rows = x.select(Axis(0), training);
        let mean = training_rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(shape.1));
        let deviation =
            training_rows.std_axis(Axis(0), 0.0).mapv(|deviation| if deviation > 1e-12 { deviation } else { 1.0 });
        x -= &mean;
        x /= &deviation;
        Products(x.dot(&x.t()))
    }
}

impl Logistic {
    /// Minimises `C · Σ cross-entropy + ½ ‖W‖²` over the rows `training`; the bias is free. `start`
    /// is where the search begins.
    ///
    /// * `truth`: the class of each row, of all rows.
    ///
    /// # Panics
    /// Without training rows.
    pub fn fit(
        products: &Products,
        training: &[usize],
        truth: &[usize],
        classes: usize,
        c: f64,
        start: Option<&Logistic>,
    ) -> Logistic {
        assert!(!training.is_empty(), "a classifier needs training rows");
        let kernel = products.0.select(Axis(0), training).select(Axis(1), training);
        let rows = training.len() as f64;
        let mut target = Array2::<f64>::zeros((training.len(), classes));
        training.iter().enumerate().for_each(|(index, &row)| target[[index, truth[row]]] = 1.0);
        let ridge = 1.0 / (c * rows);
        // The curvature of the cross-entropy with respect to the logits is at most ½, and that of
        // the ridge is known. The curvature for weights and bias together is at most twice that for
        // each alone. The bias has no ridge and a separate step size, because a strong ridge would
        // slow it down.
        let steepest = largest_eigenvalue(&kernel) / rows + ridge;
        let root = (ridge / steepest).sqrt();
        let momentum = (1.0 - root) / (1.0 + root);
        let (mut dual, mut bias) = match start {
            Some(start) => (start.dual.clone(), start.bias.clone()),
            None => (Array2::zeros((training.len(), classes)), Array1::zeros(classes)),
        };
        let (mut ahead, mut ahead_bias) = (dual.clone(), bias.clone());
        for step in 0..STEPS {
            let mut residual = kernel.dot(&ahead) + &ahead_bias;
            residual.rows_mut().into_iter().for_each(softmax);
            residual -= &target;
            residual /= rows;
            let of_bias = residual.sum_axis(Axis(0));
            let gradient = residual + &ahead * ridge;
            if step % 10 == 0 {
                let length = (&gradient * &kernel.dot(&gradient)).sum() + of_bias.dot(&of_bias);
                if length.max(0.0).sqrt() < TOLERANCE {
                    break;
                }
            }
            let (next, next_bias) = (&ahead - &(gradient / steepest), &ahead_bias - &of_bias);
            ahead = &next + &((&next - &dual) * momentum);
            ahead_bias = &next_bias + &((&next_bias - &bias) * momentum);
            (dual, bias) = (next, next_bias);
        }
        Logistic { training: training.to_vec(), dual, bias }
    }

    /// Probabilities of all classes for a row of the products.
    pub fn probabilities(&self, products: &Products, row: usize) -> Vec<f64> {
        let products_of_row = products.0.row(row).select(Axis(0), &self.training);
        let mut logits = products_of_row.dot(&self.dual) + &self.bias;
        softmax(logits.view_mut());
        logits.to_vec()
    }

    /// The most probable class of a row.
    pub fn class(&self, products: &Products, row: usize) -> usize {
        let all = self.probabilities(products, row);
        (0..all.len()).fold(0, |best, class| if all[class] > all[best] { class } else { best })
    }
}

fn softmax(mut logits: ndarray::ArrayViewMut1<'_, f64>) {
    let most = logits.fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
    logits.mapv_inplace(|logit| (logit - most).exp());
    let sum = logits.sum();
    logits /= sum;
}

/// A little more than the largest eigenvalue of a positive matrix, by the power method.
fn largest_eigenvalue(matrix: &Array2<f64>) -> f64 {
    let mut direction = Array1::from_shape_fn(matrix.nrows(), |n| 1.0 + 0.1 * (n as f64).sin());
    let mut value = 0.0;
    for _ in 0..50 {
        direction /= direction.dot(&direction).sqrt().max(f64::MIN_POSITIVE);
        let next = matrix.dot(&direction);
        value = next.dot(&direction);
        direction = next;
    }
    1.05 * value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 rows of three classes; the formula that scikit-learn was given, too.
    fn data() -> (Vectors, Vec<usize>) {
        let value = |i: usize, j: usize| {
            let (x, y) = (i as f64, j as f64);
            let shift = if i % 3 == j { 1.2 } else { 0.0 };
            ((1.3 * x + 0.7 * y).sin() + shift + 0.5 * (0.37 * x * (y + 1.0)).cos()) as f32
        };
        let rows = (0..24).map(|i| (0..5).map(|j| value(i, j)).collect::<Vec<f32>>());
        (Vectors::from_rows(rows).unwrap(), (0..24).map(|i| i % 3).collect())
    }

    /// `LogisticRegression(C=C, tol=1e-10)` on `StandardScaler` of the first 18 rows,
    /// `predict_proba` of the rows 18, 19 and 23.
    #[test]
    fn probabilities_are_scikit_learns() {
        let (features, truth) = data();
        let training: Vec<usize> = (0..18).collect();
        let products = Products::standardised(&features, &training);
        let expected = [
            (
                0.01,
                [
                    [0.346_723, 0.323_611, 0.329_665],
                    [0.319_79, 0.353_232, 0.326_978],
                    [0.307_747, 0.317_602, 0.374_651],
                ],
            ),
            (
                1.0,
                [
                    [0.757_725, 0.103_279, 0.138_996],
                    [0.086_387, 0.809_104, 0.104_509],
                    [0.008_244, 0.015_814, 0.975_942],
                ],
            ),
        ];
        let mut last = None;
        for (c, expected) in expected {
            // From scratch, and from the solution of another strength: the minimum is the same.
            for start in [None, last.as_ref()] {
                let fitted = Logistic::fit(&products, &training, &truth, 3, c, start);
                for (row, expected) in [18, 19, 23].into_iter().zip(expected) {
                    let found = fitted.probabilities(&products, row);
                    assert!(
                        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4),
                        "C {c}: {found:?}, {expected:?}"
                    );
                }
            }
            last = Some(Logistic::fit(&products, &training, &truth, 3, c, None));
        }
    }

    #[test]
    fn a_column_without_variation_and_a_class_without_rows_do_no_harm() {
        let features = Vectors::from_rows([[1.0, 2.0], [1.0, -2.0], [1.0, 1.5], [1.0, -1.5]]).unwrap();
        let products = Products::standardised(&features, &[0, 1]);
        let fitted = Logistic::fit(&products, &[0, 1], &[0, 1, 0, 1], 3, 1.0, None);
        assert_eq!([fitted.class(&products, 2), fitted.class(&products, 3)], [0, 1]);
        let all = fitted.probabilities(&products, 2);
        assert!(all.iter().all(|share| share.is_finite()) && all[2] < all[1].max(all[0]), "{all:?}");
    }
}
