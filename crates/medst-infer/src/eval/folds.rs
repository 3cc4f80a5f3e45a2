//! Cross-validation folds, as scikit-learn draws them: `StratifiedKFold` (the reference protocol)
//! and `StratifiedGroupKFold` (ours: no subject is in training and test at once).

use std::collections::BTreeMap;

use medst_data::permutation::NumpyRandom;

use crate::{Error, Result};

/// The fold in which each row is tested, by `StratifiedKFold(folds)`; with a seed
/// `shuffle=True, random_state=seed`.
///
/// # Errors
/// No class has as many rows as the number of folds.
pub fn stratified(classes: &[usize], folds: usize, seed: Option<u32>) -> Result<Vec<usize>> {
    let kinds = check(classes, folds)?;
    // Classes are numbered by their first row.
    let mut numbers = vec![usize::MAX; kinds];
    let mut next = 0;
    let encoded: Vec<usize> = classes
        .iter()
        .map(|&class| {
            if numbers[class] == usize::MAX {
                numbers[class] = next;
                next += 1;
            }
            numbers[class]
        })
        .collect();
    let mut sorted = encoded.clone();
    sorted.sort_unstable();
    let mut random = seed.map(NumpyRandom::new);
    let mut fold_of = vec![0; classes.len()];
    for class in 0..next {
        let mut folds_of_rows: Vec<usize> = (0..folds)
            .flat_map(|fold| {
                let count = sorted.iter().skip(fold).step_by(folds).filter(|&&other| other == class).count();
                std::iter::repeat_n(fold, count)
            })
            .collect();
        if let Some(random) = &mut random {
            random.shuffle(&mut folds_of_rows);
        }
        let rows = encoded.iter().enumerate().filter(|(_, other)| **other == class).map(|(row, _)| row);
        rows.zip(folds_of_rows).for_each(|(row, fold)| fold_of[row] = fold);
    }
    Ok(fold_of)
}

/// The fold in which each row is tested, by `StratifiedGroupKFold(folds)`: groups stay whole,
/// classes are spread as evenly as that allows.
///
/// # Errors
/// No class has as many rows as the number of folds, or there are fewer groups than folds.
pub fn grouped<S: AsRef<str>>(classes: &[usize], groups: &[S], folds: usize) -> Result<Vec<usize>> {
    let kinds = check(classes, folds)?;
    let mut rows_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    groups.iter().enumerate().for_each(|(row, group)| rows_of.entry(group.as_ref()).or_default().push(row));
    if rows_of.len() < folds {
        return Err(Error::Evaluation(format!("{} subjects are too few for {folds} folds", rows_of.len())));
    }
    let total = counts(classes, 0..classes.len(), kinds);
    let mut order: Vec<(&Vec<usize>, Vec<f64>)> =
        rows_of.values().map(|rows| (rows, counts(classes, rows.iter().copied(), kinds))).collect();
    // The most uneven groups come first, while they can still be balanced. The sort is stable, like
    // NumPy's mergesort.
    order.sort_by(|a, b| deviation(&b.1).total_cmp(&deviation(&a.1)));
    let mut held = vec![vec![0.0; kinds]; folds];
    let mut fold_of = vec![0; classes.len()];
    for (rows, counts) in order {
        let fold = best_fold(&held, &counts, &total);
        held[fold].iter_mut().zip(&counts).for_each(|(held, counts)| *held += counts);
        rows.iter().for_each(|&row| fold_of[row] = fold);
    }
    Ok(fold_of)
}

/// The fold that a group leaves most even: the mean over classes of the deviation of their shares
/// between folds.
fn best_fold(held: &[Vec<f64>], counts: &[f64], total: &[f64]) -> usize {
    let present: Vec<usize> = (0..total.len()).filter(|&class| total[class] > 0.0).collect();
    let mut best: Option<(usize, f64, f64)> = None;
    for fold in 0..held.len() {
        let share = |other: usize, class: usize| {
            (held[other][class] + if other == fold { counts[class] } else { 0.0 }) / total[class]
        };
        let spread = present
            .iter()
            .map(|&class| deviation(&(0..held.len()).map(|other| share(other, class)).collect::<Vec<f64>>()))
            .sum::<f64>()
            / present.len() as f64;
        let size: f64 = held[fold].iter().sum();
        let better = best.is_none_or(|(_, least, smallest)| {
            // numpy.isclose.
            let alike = (spread - least).abs() <= 1e-8 + 1e-5 * least.abs();
            spread < least || alike && size < smallest
        });
        if better {
            best = Some((fold, spread, size));
        }
    }
    best.map_or(0, |(fold, ..)| fold)
}

fn counts(classes: &[usize], rows: impl Iterator<Item = usize>, kinds: usize) -> Vec<f64> {
    let mut counts = vec![0.0; kinds];
    rows.for_each(|row| counts[classes[row]] += 1.0);
    counts
}

/// The standard deviation of a whole population.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / values.len() as f64).sqrt()
}

/// The number of classes; every fold must be able to hold a row of some class.
fn check(classes: &[usize], folds: usize) -> Result<usize> {
    let kinds = classes.iter().max().map_or(0, |most| most + 1);
    let largest = counts(classes, 0..classes.len(), kinds).into_iter().fold(0.0, f64::max) as usize;
    if folds < 2 || largest < folds {
        return Err(Error::Evaluation(format!("{folds} folds are not possible: the largest class has {largest} rows")));
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLASSES: [usize; 15] = [2, 0, 1, 0, 2, 1, 0, 0, 1, 0, 2, 0, 1, 1, 0];

    #[test]
    fn folds_are_scikit_learns() {
        assert_eq!(stratified(&CLASSES, 3, None).unwrap(), [0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!(stratified(&CLASSES, 3, Some(42)).unwrap(), [0, 1, 1, 0, 1, 0, 2, 0, 2, 2, 2, 0, 2, 1, 1]);
        let groups: Vec<String> = "abacbdceeffgghh".chars().map(String::from).collect();
        assert_eq!(grouped(&CLASSES, &groups, 3).unwrap(), [1, 2, 1, 0, 2, 2, 0, 0, 0, 0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn impossible_folds_are_refused() {
        assert!(stratified(&[0, 0, 1], 3, None).is_err());
        assert!(grouped(&[0, 0, 0, 0], &["a", "a", "b", "b"], 3).is_err());
        assert!(stratified(&[], 2, None).is_err());
    }

    proptest! {
        #[test]
        fn no_group_is_in_two_folds(rows in proptest::collection::vec((0usize..3, 0u8..12), 30..90)) {
            let classes: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let groups: Vec<String> = rows.iter().map(|row| row.1.to_string()).collect();
            if let Ok(folds) = grouped(&classes, &groups, 4) {
                let mut of: BTreeMap<&str, usize> = BTreeMap::new();
                for (group, fold) in groups.iter().zip(folds) {
                    prop_assert!(fold < 4);
                    prop_assert_eq!(*of.entry(group).or_insert(fold), fold);
                }
            }
        }
    }
}
