//! Pairs of studies of one subject, with the course of findings between them.

use super::Vectors;
use crate::labels::Course;

/// `n` pairs of images with their embeddings.
#[derive(Clone, Debug)]
pub struct ImagePairs {
    /// `[n, D]` of the earlier images.
    pub previous: Vectors,
    /// `[n, D]` of the later ones.
    pub current: Vectors,
    pub subjects: Vec<String>,
    /// Rows of the corpus, previous first.
    pub studies: Vec<[usize; 2]>,
    /// The course of each finding in each pair; `None` where it is unknown.
    pub findings: Vec<(String, Vec<Option<Course>>)>,
}

/// The pairs that have a course of a finding.
pub(super) struct Labelled<'a> {
    pub name: &'a str,
    /// Rows of the pairs.
    pub rows: Vec<usize>,
    /// Class numbers of those rows.
    pub truth: Vec<usize>,
}

impl ImagePairs {
    /// Rows of the corpus of the later images, whose subgroups are those of the pairs.
    pub(super) fn current_rows(&self) -> impl Iterator<Item = usize> + Clone {
        self.studies.iter().map(|pair| pair[1])
    }

    pub(super) fn labelled(&self) -> impl Iterator<Item = Labelled<'_>> {
        self.findings.iter().map(|(name, courses)| {
            let known = courses.iter().enumerate().filter_map(|(row, course)| Some((row, (*course)?.class())));
            let (rows, truth) = known.unzip();
            Labelled { name, rows, truth }
        })
    }
}

impl Labelled<'_> {
    /// Why the classes cannot be distinguished; `None` if they can be.
    pub fn trouble(&self) -> Option<String> {
        let first = *self.truth.first()?;
        let alone = self.truth.iter().all(|&class| class == first);
        alone.then(|| format!("every pair is {}", Course::ALL[first].name()))
    }

    /// Their weights out of those of all pairs.
    pub fn weights(&self, of_pairs: &[f64]) -> Vec<f64> {
        self.rows.iter().map(|&row| of_pairs[row]).collect()
    }
}
