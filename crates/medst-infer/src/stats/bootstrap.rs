//! Confidence intervals by a bootstrap over subjects.
//!
//! Studies of one subject resemble each other; drawing studies one by one would call the figures
//! surer than they are. So subjects are drawn with replacement, with all their rows, and a
//! statistic sees how often each row was drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// A figure with its percentile interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// 95 %: the percentiles 2.5 and 97.5 of the replicates. `None` where subjects or defined
    /// replicates are too few.
    pub interval: Option<(f64, f64)>,
}

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    pub replicates: usize,
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap { replicates: 1000, seed: 0 }
    }
}

/// Which rows belong together.
#[derive(Clone, Debug)]
pub struct Clusters {
    of_row: Vec<u32>,
    count: usize,
    /// Hash of the subjects' names in order; equal for equal rows of equal subjects.
    identity: u64,
}

/// A statistic in every replicate of a bootstrap. Replicate `n` draws the same subjects for all
/// statistics with the same clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicates {
    /// Without the draws, on the data themselves.
    pub value: f64,
    /// `None` where the replicate does not define it; no replicates with fewer than two clusters.
    drawn: Vec<Option<f64>>,
    bootstrap: Bootstrap,
    identity: u64,
}

impl Clusters {
    /// Rows of one name belong together.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Clusters {
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        let mut hash = DefaultHasher::new();
        let of_row = names
            .into_iter()
            .map(|name| {
                name.as_ref().hash(&mut hash);
                let next = numbers.len() as u32;
                *numbers.entry(name.as_ref().to_string()).or_insert(next)
            })
            .collect();
        Clusters { of_row, count: numbers.len(), identity: hash.finish() }
    }

    /// Number of clusters.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.of_row.len()
    }

    /// Number of clusters that some rows belong to.
    pub fn count_among(&self, rows: &[usize]) -> usize {
        rows.iter().map(|&row| self.of_row[row]).collect::<BTreeSet<u32>>().len()
    }
}

/// A statistic of weighted rows: it gets a weight for each row (how often it was drawn), and
/// returns `None`, never NaN, where it is undefined. Not a type parameter, because there are about
/// a hundred statistics, and compiling the loop over the replicates for each of them takes minutes.
pub type Statistic<'a> = &'a (dyn Fn(&[f64]) -> Option<f64> + Sync);

impl Bootstrap {
    /// A statistic with its interval; `None` where it is undefined on the data themselves.
    pub fn estimate(&self, clusters: &Clusters, statistic: Statistic<'_>) -> Option<Estimate> {
        self.replicates(clusters, statistic).map(|replicates| replicates.estimate())
    }

    /// Like [`Bootstrap::estimate`], together with the value of every replicate.
    pub fn replicates(&self, clusters: &Clusters, statistic: Statistic<'_>) -> Option<Replicates> {
        let defined = |weights: &[f64]| statistic(weights).filter(|value| value.is_finite());
        let value = defined(&vec![1.0; clusters.of_row.len()])?;
        let count = if clusters.count < 2 { 0 } else { self.replicates };
        let drawn = (0..count).into_par_iter().map(|number| defined(&self.weights(clusters, number))).collect();
        Some(Replicates { value, drawn, bootstrap: *self, identity: clusters.identity })
    }

    /// How often each row is drawn in a replicate, whichever thread draws it.
    fn weights(&self, clusters: &Clusters, replicate: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(replicate as u64);
        let mut times = vec![0.0; clusters.count];
        (0..clusters.count).for_each(|_| times[random.random_range(0..clusters.count)] += 1.0);
        clusters.of_row.iter().map(|&cluster| times[cluster as usize]).collect()
    }
}

impl Replicates {
    /// The value with its interval.
    pub fn estimate(&self) -> Estimate {
        let mut drawn: Vec<f64> = self.drawn.iter().flatten().copied().collect();
        // With fewer, the interval would speak of the replicates that happened to be defined.
        if drawn.len() * 2 < self.drawn.len() || drawn.is_empty() {
            return Estimate { value: self.value, interval: None };
        }
        drawn.sort_by(f64::total_cmp);
        Estimate { value: self.value, interval: Some((percentile(&drawn, 0.025), percentile(&drawn, 0.975))) }
    }

    /// This statistic minus another, with the interval of the difference, which is paired: each
    /// replicate takes both from the same drawn subjects. Statistics of different rows or draws get
    /// no interval.
    pub fn less(&self, other: &Replicates) -> Estimate {
        let paired = self.identity == other.identity && self.bootstrap == other.bootstrap;
        let both = self.drawn.iter().zip(&other.drawn).map(|(a, b)| Some((*a)? - (*b)?));
        let drawn = if paired { both.collect() } else { Vec::new() };
        Replicates { value: self.value - other.value, drawn, ..*self }.estimate()
    }
}

/// Linear interpolation between sorted values, as NumPy's default.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (low, part) = (position.floor() as usize, position.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> impl Fn(&[f64]) -> Option<f64> {
        move |weights| {
            let total: f64 = weights.iter().sum();
            (total > 0.0).then(|| weights.iter().zip(values).map(|(w, x)| w * x).sum::<f64>() / total)
        }
    }

    #[test]
    fn intervals_of_a_mean_have_the_width_that_theory_gives() {
        let values: Vec<f64> = (0..400).map(|n| f64::from(n % 2)).collect();
        let single = Clusters::new((0..400).map(|n| n.to_string()));
        let estimate = Bootstrap::default().estimate(&single, &mean(&values)).unwrap();
        let (low, high) = estimate.interval.unwrap();
        // ±1.96 · 0.5 / sqrt(400).
        assert!((low - 0.451).abs() < 0.01 && (high - 0.549).abs() < 0.01, "{low} {high}");
        // Ten rows a subject that agree with each other: a tenth of the information.
        let values: Vec<f64> = (0..400).map(|n| f64::from(n / 10 % 2)).collect();
        let grouped = Clusters::new((0..400).map(|n| (n / 10).to_string()));
        let (low, high) = Bootstrap::default().estimate(&grouped, &mean(&values)).unwrap().interval.unwrap();
        assert!((low - 0.345).abs() < 0.04 && (high - 0.655).abs() < 0.04, "{low} {high}");
    }

    #[test]
    fn paired_differences_know_that_both_are_of_the_same_subjects() {
        let values: Vec<f64> = (0..200).map(|n| f64::from(n % 2)).collect();
        // Better by 0.1 on every row.
        let better: Vec<f64> = values.iter().map(|x| x + 0.1).collect();
        let clusters = Clusters::new((0..200).map(|n| n.to_string()));
        let bootstrap = Bootstrap::default();
        let of = |values: &[f64], clusters: &Clusters| bootstrap.replicates(clusters, &mean(values)).unwrap();
        let (ours, other) = (of(&better, &clusters), of(&values, &clusters));
        let (low, high) = ours.less(&other).interval.unwrap();
        assert!((low - 0.1).abs() < 1e-9 && (high - 0.1).abs() < 1e-9, "{low} {high}");
        let alone = ours.estimate().interval.unwrap();
        assert!(alone.1 - alone.0 > 0.1, "each alone is far less sure");
        // Statistics of different rows are not paired.
        let others = Clusters::new((0..200).map(|n| (n + 1).to_string()));
        let unpaired = ours.less(&of(&values, &others));
        assert!(unpaired.interval.is_none() && (unpaired.value - 0.1).abs() < 1e-9);
    }

    #[test]
    fn one_subject_has_no_interval_and_an_undefined_figure_is_none() {
        let one_subject = Clusters::new(["a", "a", "a"]);
        assert_eq!(Bootstrap::default().estimate(&one_subject, &mean(&[1.0, 2.0, 3.0])).unwrap().interval, None);
        assert!(Bootstrap::default().estimate(&one_subject, &|_| None).is_none());
        assert!(Bootstrap::default().estimate(&one_subject, &|_| Some(f64::NAN)).is_none());
    }
}
