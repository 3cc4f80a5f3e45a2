//! Study sequences: the time-ordered studies of one subject, cut into chunks.
//!
//! Source: Med-ST (arXiv 2405.19654), section 3.1, and the reference's dataset assembly: per
//! subject and split, studies are sorted by time and cut into chunks of `length`; the remainder is
//! kept as a shorter chunk, which takes part in the global and local losses only.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::study::{Study, SubjectId};

/// The unit of one time step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SequenceUnit {
    /// One visit; further frontal images of it are alternative views.
    #[default]
    Study,
    /// Every frontal image, as the reference does: two frontals of one visit become two steps.
    Image,
}

impl fmt::Display for SequenceUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SequenceUnit::Study => "study",
            SequenceUnit::Image => "image",
        })
    }
}

/// How the time-ordered studies of a subject are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Studies of a full sequence.
    pub length: usize,
    /// Studies between the beginnings of two sequences; less than `length` makes them overlap.
    pub stride: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks::apart(4)
    }
}

impl Chunks {
    /// Chunks of `length` that share no study, as the reference cuts them.
    pub fn apart(length: usize) -> Chunks {
        Chunks { length, stride: length }
    }

    /// Full chunks first, then one with the studies that are in none of them.
    fn cut(self, timed: &[u32]) -> Vec<Vec<u32>> {
        let (length, stride) = (self.length.max(1), self.stride.clamp(1, self.length.max(1)));
        let full = (timed.len() + stride).checked_sub(length).map_or(0, |room| room / stride);
        let mut chunks: Vec<Vec<u32>> = (0..full).map(|n| timed[n * stride..n * stride + length].to_vec()).collect();
        let covered = full.checked_sub(1).map_or(0, |last| last * stride + length);
        if covered < timed.len() {
            chunks.push(timed[covered..].to_vec());
        }
        chunks
    }
}

/// A chunk of one subject's studies in time order. A study without a time forms a separate chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub subject: SubjectId,
    pub split: Split,
    /// Row numbers in the corpus' studies, in time order; never empty.
    pub studies: Vec<u32>,
}

/// Cuts studies into sequences: per subject and split, in order of time (ties by study id), in
/// chunks; the remainder is a shorter chunk. A study without a time is a separate chunk.
///
/// Chunks come in the order in which their subjects first appear.
pub fn build_sequences(studies: &[Study], chunks: Chunks) -> Vec<Sequence> {
    let mut order: Vec<(&SubjectId, Split)> = Vec::new();
    let mut groups: HashMap<(&SubjectId, Split), Vec<u32>> = HashMap::new();
    for (row, study) in studies.iter().enumerate() {
        let key = (&study.subject, study.split);
        let group = groups.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        group.push(row as u32);
    }
    let mut sequences = Vec::new();
    for key in order {
        let rows = groups.remove(&key).unwrap_or_default();
        let study = |row: u32| &studies[row as usize];
        let (mut timed, timeless): (Vec<u32>, Vec<u32>) =
            rows.into_iter().partition(|&row| study(row).acquired.is_some());
        timed.sort_by(|&a, &b| {
            let (a, b) = (study(a), study(b));
            a.acquired.partial_cmp(&b.acquired).unwrap_or(Ordering::Equal).then_with(|| a.study.cmp(&b.study))
        });
        let cut = chunks.cut(&timed).into_iter().chain(timeless.chunks(1).map(<[u32]>::to_vec));
        sequences.extend(cut.map(|studies| Sequence { subject: key.0.clone(), split: key.1, studies }));
    }
    sequences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Day, ImageIndex, StudyId};
    use proptest::prelude::*;

    fn study(subject: u8, number: usize, day: Option<i8>) -> Study {
        Study {
            subject: SubjectId(subject.to_string()),
            study: StudyId(number.to_string()),
            acquired: day.map(|day| Day(day.into())),
            split: if subject.is_multiple_of(2) { Split::Train } else { Split::Test },
            frontal: ImageIndex(0),
            alternative_frontals: Vec::new(),
            lateral: None,
            report: None,
            labels: Default::default(),
        }
    }

    proptest! {
        #[test]
        fn every_study_is_in_a_sequence_of_its_subject_in_order(
            drawn in proptest::collection::vec((0u8..5, proptest::option::of(-20i8..20)), 0..60),
            length in 1usize..6, stride in 1usize..6,
        ) {
            let stride = stride.min(length);
            let studies: Vec<Study> = drawn.iter().enumerate().map(|(n, &(subject, day))| study(subject, n, day)).collect();
            let sequences = build_sequences(&studies, Chunks { length, stride });
            let mut seen: Vec<u32> = sequences.iter().flat_map(|sequence| sequence.studies.clone()).collect();
            seen.sort_unstable();
            if stride == length {
                prop_assert_eq!(seen.len(), studies.len());
            }
            seen.dedup();
            prop_assert_eq!(seen, (0..studies.len() as u32).collect::<Vec<_>>());
            for sequence in &sequences {
                let steps: Vec<&Study> = sequence.studies.iter().map(|&row| &studies[row as usize]).collect();
                prop_assert!((1..=length).contains(&steps.len()));
                prop_assert!(steps.iter().all(|s| s.subject == sequence.subject && s.split == sequence.split));
                prop_assert!(steps.windows(2).all(|pair| pair[0].acquired <= pair[1].acquired && pair[0].acquired.is_some()));
            }
        }
    }
    #[test]
    fn a_stride_makes_sequences_overlap() {
        let cut = |count: u32, length, stride| Chunks { length, stride }.cut(&(0..count).collect::<Vec<_>>());
        assert_eq!(cut(5, 4, 4), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(cut(5, 4, 1), [vec![0, 1, 2, 3], vec![1, 2, 3, 4]]);
        assert_eq!(cut(6, 4, 3), [vec![0, 1, 2, 3], vec![4, 5]]);
        assert_eq!(cut(3, 4, 1), [vec![0, 1, 2]]);
        assert!(cut(0, 4, 1).is_empty());
    }
}
