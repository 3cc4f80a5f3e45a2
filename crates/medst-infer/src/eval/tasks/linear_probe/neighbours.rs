//! Probes without training: the nearest training images vote, or the nearest class mean decides.
//!
//! The votes are those of DINO's protocol (Caron et al., ICCV 2021): the 20 most similar training
//! images by cosine, each with the weight `exp(cosine / 0.07)`. A prototype is the mean of a class'
//! unit vectors; its probability is a softmax of cosines at the same temperature.

use ndarray::{ArrayView2, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{Probabilities, ProbeData, ProbeTruth};
use crate::eval::Vectors;

/// Neighbours that vote.
const VOTERS: usize = 20;
const TEMPERATURE: f64 = 0.07;
/// Test rows that are compared with all training rows at once.
const BLOCK: usize = 64;

/// The groups of figures, with the probabilities of the test rows.
pub(super) fn probes(data: &ProbeData, training: &[usize], test: &[usize]) -> [(&'static str, Probabilities); 2] {
    let features = data.features.unit();
    let (known, queries) = (features.select(training), features.select(test));
    [
        ("nearest neighbours", votes(data, training, &known, &queries)),
        ("prototypes", prototypes(data, training, &known, &queries)),
    ]
}

/// For each training row, whether it shows an output (1 or 0); `None` if unknown.
fn labels(data: &ProbeData, training: &[usize], output: usize) -> Vec<Option<f64>> {
    let share = |there: bool| f64::from(u8::from(there));
    let label = |&row: &usize| match &data.truth {
        ProbeTruth::Classes { of, .. } => Some(share(of[row] == output)),
        ProbeTruth::Findings { of, .. } => of[row][output].map(share),
    };
    training.iter().map(label).collect()
}

fn votes(data: &ProbeData, training: &[usize], known: &Vectors, queries: &Vectors) -> Probabilities {
    let outputs = data.truth.names().len();
    let by_output: Vec<Vec<Option<f64>>> = (0..outputs).map(|output| labels(data, training, output)).collect();
    let all = view(known);
    let starts: Vec<usize> = (0..queries.len()).step_by(BLOCK).collect();
    starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let part = queries.select(&(start..(start + BLOCK).min(queries.len())).collect::<Vec<_>>());
            let mut cosines = ndarray::Array2::<f32>::zeros((part.len(), known.len()));
            general_mat_mul(1.0, &view(&part), &all.t(), 0.0, &mut cosines);
            let of_row = |row: ndarray::ArrayView1<'_, f32>| -> Vec<f64> {
                by_output.iter().map(|labels| vote(row.as_slice().expect("rows are contiguous"), labels)).collect()
            };
            cosines.rows().into_iter().map(of_row).collect::<Vec<_>>()
        })
        .collect()
}

fn view(vectors: &Vectors) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((vectors.len(), vectors.width()), vectors.values()).expect("rows of one width")
}

/// The weighted share of rows that show it among the most similar rows for which that is known.
fn vote(cosines: &[f32], labels: &[Option<f64>]) -> f64 {
    let mut near: Vec<(f32, f64)> =
        cosines.iter().zip(labels).filter_map(|(&cosine, label)| Some((cosine, (*label)?))).collect();
    if near.len() > VOTERS {
        near.select_nth_unstable_by(VOTERS - 1, |a, b| b.0.total_cmp(&a.0));
        near.truncate(VOTERS);
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for (cosine, shows) in near {
        // Less 1: what is common to all weights.
        let weight = ((f64::from(cosine) - 1.0) / TEMPERATURE).exp();
        (sum, total) = (sum + weight * shows, total + weight);
    }
    if total > 0.0 { sum / total } else { 0.5 }
}

fn prototypes(data: &ProbeData, training: &[usize], known: &Vectors, queries: &Vectors) -> Probabilities {
    let outputs = data.truth.names().len();
    let mean = |output: usize, shown: f64| {
        let labels = labels(data, training, output);
        let rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == Some(shown)).collect();
        known.select(&rows).mean_direction()
    };
    let cosine = |row: &[f32], mean: &[f32]| crate::eval::tasks::dot(row, mean) / TEMPERATURE;
    match &data.truth {
        ProbeTruth::Classes { .. } => {
            let means: Vec<Vec<f32>> = (0..outputs).map(|output| mean(output, 1.0)).collect();
            let of_row = |row: &[f32]| -> Vec<f64> {
                let weights: Vec<f64> =
                    means.iter().map(|mean| (cosine(row, mean) - 1.0 / TEMPERATURE).exp()).collect();
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / sum).collect()
            };
            queries.rows().map(of_row).collect()
        }
        ProbeTruth::Findings { .. } => {
            let means: Vec<[Vec<f32>; 2]> =
                (0..outputs).map(|output| [1.0, 0.0].map(|shown| mean(output, shown))).collect();
            let there =
                |row: &[f32], [shown, not]: &[Vec<f32>; 2]| 1.0 / (1.0 + (cosine(row, not) - cosine(row, shown)).exp());
            queries.rows().map(|row| means.iter().map(|means| there(row, means)).collect()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medst_data::split::Split;

    /// Two training images along each of two directions, and a test image near each.
    fn data() -> ProbeData {
        let rows =
            [[1.0, 0.0, 0.1], [1.0, 0.1, 0.0], [0.0, 1.0, 0.1], [0.1, 1.0, 0.0], [0.9, 0.1, 0.0], [0.1, 0.8, 0.1]];
        ProbeData {
            features: Vectors::from_rows(rows).unwrap(),
            truth: ProbeTruth::Classes { names: vec!["a".into(), "b".into()], of: vec![0, 0, 1, 1, 0, 1] },
            splits: vec![Split::Train; 6],
            subjects: (0..6).map(|row| row.to_string()).collect(),
            rows: (0..6).collect(),
        }
    }

    #[test]
    fn the_nearest_vote_and_the_nearest_mean_decides() {
        for (name, found) in probes(&data(), &[0, 1, 2, 3], &[4, 5]) {
            assert!(found[0][0] > 0.99 && found[1][1] > 0.99, "{name}: {found:?}");
            assert!(found.iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-9), "{name}: {found:?}");
        }
    }

    #[test]
    fn findings_are_judged_by_the_rows_that_tell_them() {
        // The first finding is known for rows 0 (shown) and 2 (not shown); for row 1, the nearest
        // of all, it is unknown.
        let labels = vec![vec![Some(true)], vec![None], vec![Some(false)], vec![None], vec![None], vec![None]];
        let data = ProbeData { truth: ProbeTruth::Findings { names: vec!["x".into()], of: labels }, ..data() };
        for (name, found) in probes(&data, &[0, 1, 2, 3], &[1, 5]) {
            assert!(found[0][0] > 0.99 && found[1][0] < 0.01, "{name}: {found:?}");
        }
    }

    #[test]
    fn only_the_nearest_twenty_vote() {
        // 20 near rows that show it, 100 far ones that do not.
        let cosines: Vec<f32> = (0..120).map(|row| if row % 6 == 0 { 0.5 } else { 0.45 }).collect();
        let labels: Vec<Option<f64>> = (0..120).map(|row| Some(f64::from(u8::from(row % 6 == 0)))).collect();
        assert!((vote(&cosines, &labels) - 1.0).abs() < 1e-12);
        assert_eq!(vote(&cosines, &vec![None; 120]), 0.5);
    }
}
