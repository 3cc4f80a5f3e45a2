//! Maximum likelihood for calibrations: a handful of parameters, fitted by Newton's method.
//!
//! `p(c) ∝ exp(x_c · θ)` with a design vector `x_c` for each class of each row. A small ridge keeps
//! the answer finite where the data are separable.

/// One observation.
#[derive(Clone, Debug)]
pub struct Observation {
    /// For each class its design vector.
    pub design: Vec<Vec<f64>>,
    /// How much each class is true, sums to 1.
    pub target: Vec<f64>,
}

/// Probabilities of the classes under parameters.
pub fn probabilities(design: &[Vec<f64>], parameters: &[f64]) -> Vec<f64> {
    let logit = |row: &Vec<f64>| row.iter().zip(parameters).map(|(x, parameter)| x * parameter).sum::<f64>();
    softmax(&design.iter().map(logit).collect::<Vec<f64>>())
}

/// `exp(x) / Σ exp(x)`.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Parameters of the highest likelihood less `ridge / 2 · (θ − start)²`.
pub fn fit(observations: &[Observation], start: &[f64], ridge: f64) -> Vec<f64> {
    let mut parameters = start.to_vec();
    let mut loss = penalised(observations, &parameters, start, ridge);
    for _ in 0..100 {
        let (gradient, hessian) = derivatives(observations, &parameters, start, ridge);
        let Some(step) = solve(hessian, gradient.clone()) else { break };
        // A whole step may overshoot far from the optimum.
        let mut length = 1.0;
        let better = loop {
            let next: Vec<f64> =
                parameters.iter().zip(&step).map(|(parameter, step)| parameter - length * step).collect();
            let value = penalised(observations, &next, start, ridge);
            if value < loss {
                break Some((next, value));
            }
            length /= 2.0;
            if length < 1e-6 {
                break None;
            }
        };
        let Some((next, value)) = better else { break };
        let gain = loss - value;
        (parameters, loss) = (next, value);
        if gain < 1e-10 * (1.0 + loss.abs()) {
            break;
        }
    }
    parameters
}

fn penalised(observations: &[Observation], parameters: &[f64], start: &[f64], ridge: f64) -> f64 {
    let penalty: f64 = parameters.iter().zip(start).map(|(parameter, start)| (parameter - start).powi(2)).sum();
    let of = |observation: &Observation| -> f64 {
        let probabilities = probabilities(&observation.design, parameters);
        -observation.target.iter().zip(&probabilities).map(|(t, p)| t * p.max(1e-300).ln()).sum::<f64>()
    };
    observations.iter().map(of).sum::<f64>() + ridge / 2.0 * penalty
}

fn derivatives(
    observations: &[Observation],
    parameters: &[f64],
    start: &[f64],
    ridge: f64,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let count = parameters.len();
    let mut gradient: Vec<f64> =
        parameters.iter().zip(start).map(|(parameter, start)| ridge * (parameter - start)).collect();
    let mut hessian = vec![vec![0.0; count]; count];
    (0..count).for_each(|n| hessian[n][n] = ridge);
    for observation in observations {
        let probabilities = probabilities(&observation.design, parameters);
        let mut mean = vec![0.0; count];
        for ((row, p), target) in observation.design.iter().zip(&probabilities).zip(&observation.target) {
            for (n, x) in row.iter().enumerate() {
                mean[n] += p * x;
                gradient[n] += (p - target) * x;
            }
        }
        for (row, p) in observation.design.iter().zip(&probabilities) {
            for n in 0..count {
                for m in 0..count {
                    hessian[n][m] += p * (row[n] - mean[n]) * (row[m] - mean[m]);
                }
            }
        }
    }
    (gradient, hessian)
}

/// Solves `A x = b` by elimination with pivots; `None` where `A` is singular.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let count = b.len();
    for column in 0..count {
        let pivot = (column..count).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
        if a[pivot][column].abs() < 1e-14 {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..count {
            let (above, below) = a.split_at_mut(row);
            let (pivot, cells) = (&above[column], &mut below[0]);
            let factor = cells[column] / pivot[column];
            cells.iter_mut().zip(pivot).skip(column).for_each(|(cell, pivot)| *cell -= factor * pivot);
            b[row] -= factor * b[column];
        }
    }
    for row in (0..count).rev() {
        let rest: f64 = (row + 1..count).map(|n| a[row][n] * b[n]).sum();
        b[row] = (b[row] - rest) / a[row][row];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(x: f64, there: bool) -> Observation {
        let target = if there { vec![0.0, 1.0] } else { vec![1.0, 0.0] };
        Observation { design: vec![vec![0.0, 0.0], vec![x, 1.0]], target }
    }

    #[test]
    fn without_a_ridge_the_gradient_of_the_likelihood_vanishes() {
        // The conditions that define the maximum: residuals sum to zero, alone and weighted with x.
        let rows: Vec<Observation> =
            [0, 0, 1, 0, 1, 0, 1, 1].iter().enumerate().map(|(x, &y)| binary(x as f64, y == 1)).collect();
        let parameters = fit(&rows, &[0.0, 0.0], 1e-9);
        let (gradient, _) = derivatives(&rows, &parameters, &[0.0, 0.0], 1e-9);
        assert!(gradient.iter().all(|slope| slope.abs() < 1e-5), "{gradient:?}");
        assert!(parameters[0] > 0.3 && parameters[1] < 0.0, "{parameters:?}");
    }

    #[test]
    fn separable_rows_give_a_finite_answer() {
        let rows: Vec<Observation> = (0..10).map(|x| binary(f64::from(x), x > 4)).collect();
        let parameters = fit(&rows, &[0.0, 0.0], 0.01);
        assert!(parameters.iter().all(|parameter| parameter.is_finite()));
        assert!(probabilities(&rows[9].design, &parameters)[1] > 0.9);
    }

    proptest! {
        #[test]
        fn fitting_never_makes_it_worse(rows in proptest::collection::vec((-3.0f64..3.0, any::<bool>()), 1..40)) {
            let rows: Vec<Observation> = rows.iter().map(|&(x, there)| binary(x, there)).collect();
            let start = [1.0, 0.0];
            let fitted = fit(&rows, &start, 0.1);
            prop_assert!(penalised(&rows, &fitted, &start, 0.1) <= penalised(&rows, &start, &start, 0.1) + 1e-9);
            prop_assert!((probabilities(&rows[0].design, &fitted).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
