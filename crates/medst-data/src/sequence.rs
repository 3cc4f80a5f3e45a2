//! Study sequences: the time-ordered studies of one subject, cut into chunks.
//!
//! Source: Med-ST (arXiv 2405.19654), section 3.1, and the reference's dataset assembly: per subject and split, studies
//! are sorted by time and cut into chunks of `length`; the remainder is kept as a shorter chunk, which takes part in the
//! global and local losses only.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::study::{Study, SubjectId};

/// What counts as one time step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SequenceUnit {
    /// One visit; further frontal images of it are alternative views.
    #[default]
    Study,
    /// Every frontal image, as the reference does: two frontals of one visit become two steps.
    Image,
}

/// A chunk of one subject's studies in time order. A study without a time forms a chunk of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub subject: SubjectId,
    pub split: Split,
    /// Row numbers in the corpus' studies, in time order; never empty.
    pub studies: Vec<u32>,
}

/// Cuts studies into sequences: per subject and split, in order of time (ties by study id), in chunks of `length`; the
/// remainder is a shorter chunk. A study without a time is a chunk of its own.
///
/// Chunks come in the order in which their subjects first appear.
pub fn build_sequences(studies: &[Study], length: usize) -> Vec<Sequence> {
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
        let chunks = timed.chunks(length.max(1)).chain(timeless.chunks(1)).map(<[u32]>::to_vec);
        sequences.extend(chunks.map(|studies| Sequence { subject: key.0.clone(), split: key.1, studies }));
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
        fn every_study_is_in_one_sequence_of_its_subject_in_order(
            drawn in proptest::collection::vec((0u8..5, proptest::option::of(-20i8..20)), 0..60), length in 1usize..6,
        ) {
            let studies: Vec<Study> = drawn.iter().enumerate().map(|(n, &(subject, day))| study(subject, n, day)).collect();
            let sequences = build_sequences(&studies, length);
            let mut seen: Vec<u32> = sequences.iter().flat_map(|sequence| sequence.studies.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..studies.len() as u32).collect::<Vec<_>>());
            for sequence in &sequences {
                let own: Vec<&Study> = sequence.studies.iter().map(|&row| &studies[row as usize]).collect();
                prop_assert!((1..=length).contains(&own.len()));
                prop_assert!(own.iter().all(|s| s.subject == sequence.subject && s.split == sequence.split));
                prop_assert!(own.windows(2).all(|pair| pair[0].acquired <= pair[1].acquired && pair[0].acquired.is_some()));
            }
        }
    }
}
