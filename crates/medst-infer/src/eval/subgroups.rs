//! Subgroups: a figure for women and for men, for each age group, for each value of any column.
//!
//! A figure is a statistic of one weight per row. The figure of a subgroup is the same statistic
//! with the weights of all other rows set to zero; trained classifiers are not trained again. Gaps
//! use the same bootstrap draws of subjects as the figure itself, and a subject with rows in both
//! subgroups counts in both.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::stats::bootstrap::{Bootstrap, Clusters, Estimate, Statistic};

/// A subgroup with fewer subjects than this is small, and its figure is marked as such.
pub const SMALL: usize = 20;
/// With more values than this, numbers are grouped into ranges, and other values are refused.
const MOST: usize = 12;
/// Lower bounds of the age groups in years; the first group begins at birth.
const AGES: [f64; 4] = [18.0, 40.0, 60.0, 80.0];

/// The subgroup of every study of a corpus, by the values of one column.
#[derive(Clone, Debug, PartialEq)]
pub struct Subgroups {
    pub column: String,
    /// In the order in which they are shown.
    pub names: Vec<String>,
    /// The number of each study's subgroup; `None` where the study has no value.
    of_study: Vec<Option<usize>>,
}

/// A figure by the subgroups of a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breakdown {
    pub column: String,
    pub parts: Vec<SubgroupFigure>,
    /// Between the subgroups with the highest and the lowest value; `None` where fewer than two
    /// have one.
    pub gap: Option<Gap>,
}

/// A figure of one subgroup.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubgroupFigure {
    pub name: String,
    /// `None` where the subgroup does not define it, such as an AUROC of positive rows alone.
    pub value: Option<f64>,
    /// 95 %, of a bootstrap over subjects.
    pub interval: Option<(f64, f64)>,
    pub rows: usize,
    pub subjects: usize,
    /// It has fewer than [`SMALL`] subjects.
    pub small: bool,
}

/// The difference of two subgroups.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    pub highest: String,
    pub lowest: String,
    pub value: f64,
    /// 95 %, of the difference of these two, which were chosen by looking: with many subgroups it
    /// is too narrow.
    pub interval: Option<(f64, f64)>,
    /// One of the two is small.
    pub small: bool,
}

/// Why a column makes no subgroups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    #[error("no study has a value in the column {0}")]
    Empty(String),
    #[error("the column {column} has {count} values that are not numbers; subgroups need at most {MOST}")]
    TooManyValues { column: String, count: usize },
    #[error("the column {column} has one value, {value}: nothing can be compared")]
    OneValue { column: String, value: String },
}

impl Subgroups {
    /// * `values`: of the column, one for each study of the corpus.
    ///
    /// Ages become age groups. In other columns each value is a subgroup, unless there are many:
    /// many numbers become quartiles.
    ///
    /// # Errors
    /// No values, one value, or many that are not numbers.
    pub fn new(column: &str, values: &[Option<&str>]) -> Result<Subgroups, ColumnError> {
        let distinct: BTreeSet<&str> = values.iter().flatten().copied().collect();
        let is_age = is_age(column);
        let number =
            |value: &str| if is_age { years(value) } else { value.parse().ok().filter(|x: &f64| x.is_finite()) };
        let numbers: Option<Vec<f64>> = distinct.iter().map(|value| number(value)).collect();
        let (names, of_value): (Vec<String>, BTreeMap<&str, usize>) = match (distinct.len(), numbers) {
            (0, _) => return Err(ColumnError::Empty(column.into())),
            (count, None) if count > MOST => {
                return Err(ColumnError::TooManyValues { column: column.into(), count });
            }
            (_, Some(numbers)) if is_age => bands(&distinct, &numbers, &AGES),
            (count, Some(numbers)) if count > MOST => bands(&distinct, &numbers, &quarters(values, number)),
            _ => {
                let names = distinct.iter().map(|name| (*name).to_string()).collect();
                (names, distinct.iter().copied().zip(0..).collect())
            }
        };
        if names.len() < 2 {
            return Err(ColumnError::OneValue { column: column.into(), value: names[0].clone() });
        }
        let of_study = values.iter().map(|value| value.map(|value| of_value[value])).collect();
        Ok(Subgroups { column: column.into(), names, of_study })
    }

    /// The subgroups of some rows of the corpus.
    pub fn of_rows(&self, rows: impl IntoIterator<Item = usize>) -> Vec<Option<usize>> {
        rows.into_iter().map(|row| self.of_study.get(row).copied().flatten()).collect()
    }

    /// A statistic in each subgroup, and the largest gap.
    ///
    /// * `of_row`: the subgroup of each row that the statistic weighs;
    /// * `used`: the rows that the figure covers, such as those with a known label.
    pub fn break_down(
        &self,
        bootstrap: Bootstrap,
        clusters: &Clusters,
        of_row: &[Option<usize>],
        used: &[usize],
        statistic: Statistic<'_>,
    ) -> Breakdown {
        let masked = |weights: &[f64], group: usize| -> Option<f64> {
            let of_group =
                weights.iter().zip(of_row).map(|(weight, of)| if *of == Some(group) { *weight } else { 0.0 });
            statistic(&of_group.collect::<Vec<f64>>())
        };
        let part = |group: usize| {
            let rows: Vec<usize> = used.iter().copied().filter(|&row| of_row[row] == Some(group)).collect();
            let subjects = clusters.count_among(&rows);
            let found = bootstrap.estimate(clusters, &|weights| masked(weights, group));
            SubgroupFigure {
                name: self.names[group].clone(),
                value: found.map(|found| found.value),
                // Redrawing one subject changes nothing, which is not certainty.
                interval: found.and_then(|found| found.interval).filter(|_| subjects > 1),
                rows: rows.len(),
                subjects,
                small: subjects < SMALL,
            }
        };
        let parts: Vec<SubgroupFigure> = (0..self.names.len()).map(part).collect();
        let defined = || parts.iter().enumerate().filter_map(|(group, part)| Some((group, part.value?)));
        let highest = defined().max_by(|a, b| a.1.total_cmp(&b.1));
        let lowest = defined().min_by(|a, b| a.1.total_cmp(&b.1));
        let gap = highest.zip(lowest).filter(|(high, low)| high.0 != low.0).and_then(|((high, _), (low, _))| {
            let difference = |weights: &[f64]| Some(masked(weights, high)? - masked(weights, low)?);
            let Estimate { value, interval } = bootstrap.estimate(clusters, &difference)?;
            let both = [&parts[high], &parts[low]];
            Some(Gap {
                highest: both[0].name.clone(),
                lowest: both[1].name.clone(),
                value,
                interval: interval.filter(|_| both.iter().all(|part| part.subjects > 1)),
                small: both.iter().any(|part| part.small),
            })
        });
        Breakdown { column: self.column.clone(), parts: parts.into_iter().filter(|part| part.rows > 0).collect(), gap }
    }
}

/// Whether a column's name has the word age: `age`, `PatientAge`, `Patient Age`, but not `image` or
/// `stage`.
fn is_age(column: &str) -> bool {
    let letter = |index: usize| column.as_bytes().get(index).copied().filter(u8::is_ascii_alphabetic);
    let lower = column.to_ascii_lowercase();
    lower.match_indices("age").any(|(start, _)| {
        let capital = column.as_bytes()[start].is_ascii_uppercase();
        let before = start.checked_sub(1).and_then(letter);
        let begins = before.is_none_or(|before| capital && before.is_ascii_lowercase());
        let ends =
            letter(start + 3).is_none_or(|after| after.is_ascii_uppercase() && !column[start..].starts_with("AGE"));
        begins && ends
    })
}

/// Years of an age: a number, or DICOM's `063Y`, `011M`, `003W`, `010D`.
fn years(value: &str) -> Option<f64> {
    let value = value.trim();
    let (digits, per_year) = match value.as_bytes().last()?.to_ascii_uppercase() {
        b'Y' => (&value[..value.len() - 1], 1.0),
        b'M' => (&value[..value.len() - 1], 12.0),
        b'W' => (&value[..value.len() - 1], 52.0),
        b'D' => (&value[..value.len() - 1], 365.0),
        _ => (value, 1.0),
    };
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number / per_year)
}

/// The quartiles of all values, which begin the second, third and fourth quarter.
fn quarters(values: &[Option<&str>], number: impl Fn(&str) -> Option<f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.iter().flatten().filter_map(|value| number(value)).collect();
    all.sort_by(f64::total_cmp);
    let mut starts: Vec<f64> = (1..4).map(|quarter| all[all.len() * quarter / 4]).collect();
    starts.dedup();
    starts.retain(|&start| start > all[0]);
    starts
}

/// Ranges of numbers that begin at `starts`; those without a value are left out.
fn bands<'a>(values: &BTreeSet<&'a str>, numbers: &[f64], starts: &[f64]) -> (Vec<String>, BTreeMap<&'a str, usize>) {
    let band = |number: f64| starts.iter().filter(|&&start| number >= start).count();
    let filled: BTreeSet<usize> = numbers.iter().map(|&number| band(number)).collect();
    let filled: Vec<usize> = filled.into_iter().collect();
    let name = |&band: &usize| match (band.checked_sub(1).map(|n| starts[n]), starts.get(band)) {
        (None, Some(end)) => format!("under {end}"),
        (Some(start), Some(end)) => format!("{start} to under {end}"),
        (Some(start), None) => format!("{start} and more"),
        (None, None) => "all".into(),
    };
    let index_of = |number: f64| filled.binary_search(&band(number)).expect("its band is filled");
    let of_value = values.iter().zip(numbers).map(|(&value, &number)| (value, index_of(number))).collect();
    (filled.iter().map(name).collect(), of_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subgroups(column: &str, values: &[&str]) -> Result<Subgroups, ColumnError> {
        let values: Vec<Option<&str>> =
            values.iter().map(|&value| Some(value).filter(|value| !value.is_empty())).collect();
        Subgroups::new(column, &values)
    }

    #[test]
    fn values_become_subgroups_ages_bands_and_many_numbers_quarters() {
        let sex = subgroups("sex", &["M", "F", "", "M"]).unwrap();
        assert_eq!((sex.names, sex.of_study), (vec!["F".into(), "M".into()], vec![Some(1), Some(0), None, Some(1)]));
        let ages = subgroups("PatientAge", &["063Y", "11M", "90", "41.5"]).unwrap();
        assert_eq!(ages.names, ["under 18", "40 to under 60", "60 to under 80", "80 and more"]);
        assert_eq!(ages.of_study, [Some(2), Some(0), Some(3), Some(1)]);
        let named = ["age", "AGE", "Patient Age", "PatientAge", "age_years", "ageYears"];
        assert!(
            named.into_iter().all(is_age) && !["image", "IMAGE", "stage", "language", "sex"].into_iter().any(is_age)
        );
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let bmi = subgroups("bmi", &many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert_eq!(bmi.names, ["under 10", "10 to under 20", "20 to under 30", "30 and more"]);
        assert_eq!(bmi.of_rows([9, 10, 39, 400]), [Some(0), Some(1), Some(3), None]);
        let words: Vec<String> = (0..40).map(|n| format!("w{n}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(subgroups("note", &words).unwrap_err().to_string().contains("40 values"));
        assert!(subgroups("site", &["a", "a"]).unwrap_err().to_string().contains("one value, a"));
        assert_eq!(subgroups("site", &["", ""]).unwrap_err(), ColumnError::Empty("site".into()));
    }

    #[test]
    fn a_gap_has_the_interval_that_theory_gives_and_small_groups_say_so() {
        // Two rows a subject; right in 90 % of 200 rows of `a`, in half of 200 rows of `b`, always
        // in the 6 rows of `c`.
        let of: Vec<usize> = (0..406).map(|row| if row < 400 { row / 200 } else { 2 }).collect();
        let right: Vec<f64> =
            (0..406).map(|row| f64::from(u8::from([row / 2 % 10 != 0, row / 2 % 2 == 0, true][of[row]]))).collect();
        let values: Vec<&str> = of.iter().map(|&group| ["a", "b", "c"][group]).collect();
        let by = subgroups("site", &values).unwrap();
        let clusters = Clusters::new((0..406).map(|row| (row / 2).to_string()));
        let all: Vec<usize> = (0..406).collect();
        let mean = |weights: &[f64]| {
            let total: f64 = weights.iter().sum();
            (total > 0.0).then(|| weights.iter().zip(&right).map(|(w, x)| w * x).sum::<f64>() / total)
        };
        let found = by.break_down(Bootstrap::default(), &clusters, &by.of_rows(0..406), &all, &mean);
        let part = |n: usize| &found.parts[n];
        assert_eq!([part(0).value, part(1).value, part(2).value], [Some(0.9), Some(0.5), Some(1.0)]);
        assert_eq!((part(0).rows, part(0).subjects, part(0).small), (200, 100, false));
        assert_eq!((part(2).subjects, part(2).small), (3, true));
        let gap = found.gap.unwrap();
        assert_eq!((gap.highest.as_str(), gap.lowest.as_str(), gap.value, gap.small), ("c", "b", 0.5, true));
        // ±1.96 · 0.5 / sqrt(100): `c` does not vary.
        let (low, high) = gap.interval.unwrap();
        assert!((low - 0.402).abs() < 0.02 && (high - 0.598).abs() < 0.02, "{low} {high}");
    }

    #[test]
    fn one_subject_has_no_interval_and_what_is_undefined_takes_no_part_in_the_gap() {
        let by = subgroups("sex", &["F", "F", "M", "M", "X"]).unwrap();
        let clusters = Clusters::new(["1", "1", "2", "3", "4"]);
        let value = [0.2, 0.2, 0.7, 0.9, f64::NAN];
        let mean = |weights: &[f64]| {
            let total: f64 = weights.iter().sum();
            let sum: f64 = weights.iter().zip(value).filter(|row| *row.0 > 0.0).map(|(w, x)| w * x).sum();
            (total > 0.0).then(|| sum / total)
        };
        let found = by.break_down(Bootstrap::default(), &clusters, &by.of_rows(0..5), &[0, 1, 2, 3, 4], &mean);
        assert_eq!(found.parts.iter().map(|part| part.interval.is_some()).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(found.parts[2].value, None);
        let gap = found.gap.unwrap();
        assert_eq!((gap.highest.as_str(), gap.lowest.as_str(), gap.interval), ("M", "F", None));
        assert!((gap.value - 0.6).abs() < 1e-12);
        // A figure of the first two rows alone: the others are not counted, and nothing can be
        // compared.
        let first = |weights: &[f64]| (weights[0] + weights[1] > 0.0).then_some(1.0);
        let found = by.break_down(Bootstrap::default(), &clusters, &by.of_rows(0..5), &[0, 1], &first);
        assert_eq!((found.parts.len(), found.gap), (1, None));
    }
}
