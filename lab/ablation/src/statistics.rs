//! Differences between arms over paired seeds: Student's t, intervals, and Holm's correction for
//! many comparisons.
//!
//! Every seed is a block: all arms share its cohort, its initial weights and the order of its
//! batches. The noise of a figure is estimated from the blocks of all arms together (the residual
//! of the two-way layout arms × seeds), because a standard deviation of three differences alone is
//! hardly one.

use std::collections::{BTreeMap, BTreeSet};

/// A difference with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Two-sided, not corrected.
    pub p: f64,
    /// The mean in standard deviations of the residual: the size of the effect.
    pub effect: f64,
    /// Two-sided p of a paired t-test on these differences alone; nothing for a single seed.
    pub p_alone: Option<f64>,
    pub seeds: usize,
}

/// The noise of an outcome: the residual after removing the effects of arms and seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Standard deviation of one run's figure around its arm's and its seed's mean.
    pub deviation: f64,
    pub degrees: usize,
}

/// The residual of the two-way layout: what the least-squares fit of one effect per arm and one per
/// seed leaves.
///
/// * `rows`: for each arm its figures by seed. Seeds may be missing; an arm with a single seed adds
///   nothing.
///
/// `None` with fewer than two such arms, or where no degrees of freedom are left.
pub fn noise(rows: &[BTreeMap<u64, f64>]) -> Option<Noise> {
    let rows: Vec<_> = rows.iter().filter(|row| row.len() > 1).collect();
    if rows.len() < 2 {
        return None;
    }
    let seeds: BTreeSet<u64> = rows.iter().flat_map(|row| row.keys().copied()).collect();
    let figures: usize = rows.iter().map(|row| row.len()).sum();
    let degrees = (figures + 1).checked_sub(rows.len() + seeds.len()).filter(|&degrees| degrees > 0)?;
    // Effects of arms and of seeds in turns, each given the other: one round where nothing is
    // missing, otherwise until nothing changes.
    let mut of_seed: BTreeMap<u64, f64> = seeds.iter().map(|&seed| (seed, 0.0)).collect();
    let mut of_arm = vec![0.0; rows.len()];
    for _ in 0..1000 {
        for (effect, row) in of_arm.iter_mut().zip(&rows) {
            *effect = mean(&row.iter().map(|(seed, value)| value - of_seed[seed]).collect::<Vec<_>>());
        }
        for (seed, effect) in &mut of_seed {
            let effects = rows.iter().zip(&of_arm).filter_map(|(row, arm)| Some(row.get(seed)? - arm));
            *effect = mean(&effects.collect::<Vec<_>>());
        }
    }
    let residuals = rows.iter().zip(&of_arm).flat_map(|(row, arm)| {
        let of_seed = &of_seed;
        row.iter().map(move |(seed, value)| value - arm - of_seed[seed])
    });
    let squares: f64 = residuals.map(|residual| residual * residual).sum();
    Some(Noise { deviation: (squares / degrees as f64).sqrt(), degrees })
}

/// The difference of an arm and what it is compared with, by seed.
///
/// `None` without a difference. With one alone, its interval comes from the noise of the others.
pub fn difference(differences: &[f64], noise: Noise) -> Option<Difference> {
    let seeds = differences.len();
    if seeds == 0 {
        return None;
    }
    let mean = mean(differences);
    // The difference of two runs has twice the variance of one.
    let error = noise.deviation * (2.0 / seeds as f64).sqrt();
    let reach = quantile(0.975, noise.degrees) * error;
    let p = |error: f64, degrees: usize| {
        if error > 0.0 { two_sided(mean / error, degrees) } else { f64::from(mean == 0.0) }
    };
    Some(Difference {
        mean,
        low: mean - reach,
        high: mean + reach,
        p: p(error, noise.degrees),
        effect: if noise.deviation > 0.0 { mean / noise.deviation } else { 0.0 },
        p_alone: (seeds > 1).then(|| p(deviation(differences) / (seeds as f64).sqrt(), seeds - 1)),
        seeds,
    })
}

/// Holm's step-down correction: the smallest family-wise error rate at which each would be
/// rejected.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, &place) in order.iter().enumerate() {
        largest = largest.max((p[place] * (p.len() - rank) as f64).min(1.0));
        corrected[place] = largest;
    }
    corrected
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// With n − 1.
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt()
}

/// Half the width of the 95 % interval of a mean.
pub fn reach(values: &[f64]) -> f64 {
    if values.len() < 2 {
        0.0
    } else {
        quantile(0.975, values.len() - 1) * deviation(values) / (values.len() as f64).sqrt()
    }
}

/// P(|T| > |t|) for Student's t.
pub fn two_sided(t: f64, degrees: usize) -> f64 {
    let degrees = degrees as f64;
    incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t))
}

/// The quantile of Student's t, `share` above one half.
pub fn quantile(share: f64, degrees: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if 1.0 - two_sided(middle, degrees) / 2.0 < share { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function, by its continued fraction (Lentz; Numerical Recipes,
/// section 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// ln Γ, by Lanczos' approximation (g = 7, nine terms), for arguments of one half and more.
fn log_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum: f64 = TERMS[0] + TERMS[1..].iter().zip(1..).map(|(term, n)| term / (x + f64::from(n))).sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} {b}");
    }

    /// The tables of Student's t.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, value) in [(1, 12.706_205), (4, 2.776_445), (10, 2.228_139), (30, 2.042_272), (120, 1.979_930)] {
            let found = quantile(0.975, degrees);
            assert!((found - value).abs() < 1e-5, "{degrees}: {found}");
            close(two_sided(found, degrees), 0.05);
        }
        close(two_sided(0.0, 7), 1.0);
        // One degree is Cauchy's distribution.
        close(two_sided(1.0, 1), 0.5);
    }

    fn row(values: &[f64]) -> BTreeMap<u64, f64> {
        (1..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn the_block_analysis_takes_seeds_away() {
        // Seeds differ by whole units, arms by a tenth, and the rest is ±0.01.
        let rows = [row(&[1.01, 2.0, 2.99]), row(&[1.09, 2.1, 3.11]), row(&[0.99, 2.0, 3.01])];
        let noise = noise(&rows).unwrap();
        assert_eq!(noise.degrees, 4);
        // By hand, as what is left after the means of rows and columns.
        assert!((noise.deviation - (0.0016_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12, "{noise:?}");
        let differences: Vec<f64> = rows[1].iter().map(|(seed, value)| value - rows[0][seed]).collect();
        let found = difference(&differences, noise).unwrap();
        close(found.mean, 0.1);
        assert!(found.p < 0.001 && found.low > 0.05 && found.high < 0.15 && found.effect > 5.0, "{found:?}");
        assert!(super::noise(&rows[..1]).is_none() && super::noise(&[row(&[1.0]), row(&[2.0])]).is_none());
        assert!(difference(&[], noise).is_none());
        // One seed has the interval of one difference, by the noise of the others.
        let one = difference(&differences[..1], noise).unwrap();
        close(one.high - one.low, (found.high - found.low) * 3.0_f64.sqrt());
        assert!(one.p_alone.is_none() && found.p_alone.is_some());
    }

    #[test]
    fn missing_seeds_leave_the_fit_unbiased() {
        // Effects of arms and seeds that add up exactly: no residual, whatever is missing.
        let full = row(&[1.0, 2.0, 4.0]);
        let some: BTreeMap<u64, f64> = full.iter().skip(1).map(|(&seed, value)| (seed, value + 0.5)).collect();
        let single: BTreeMap<u64, f64> = [(1, 7.0)].into();
        let found = noise(&[full.clone(), some.clone(), single.clone()]).unwrap();
        assert_eq!(found.degrees, 1);
        assert!(found.deviation < 1e-9, "{found:?}");
        // An arm with a single seed changes nothing.
        let mut other = full;
        *other.get_mut(&3).unwrap() += 0.1;
        assert_eq!(noise(&[other.clone(), some.clone(), single]), noise(&[other, some]));
    }

    #[test]
    fn arms_that_do_not_differ_have_no_effect() {
        let noise = noise(&vec![row(&[0.5, 0.6, 0.7]); 3]).unwrap();
        let found = difference(&[0.0; 3], noise).unwrap();
        assert!(found.mean == 0.0 && found.p > 0.999 && found.effect == 0.0, "{found:?}");
    }

    #[test]
    fn holms_correction_by_hand() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close(*found, expected);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
