//! Study sequences: the time-ordered studies of one subject, cut into chunks.
//!
//! Source: Med-ST (arXiv 2405.19654), section 3.1, and the reference's dataset assembly: per subject and split, studies
//! are sorted by time and cut into chunks of `length`; the remainder is kept as a shorter chunk, which takes part in the
//! global and local losses only.

use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::study::SubjectId;

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
