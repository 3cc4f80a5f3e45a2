//! What one visit of a subject is: ids, views, time, images, report.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::image::View;
use crate::split::Split;

/// Identifies a subject (a patient) within one corpus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectId(pub String);

/// Identifies a study (one visit) within one corpus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StudyId(pub String);

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StudyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of an image in a corpus, counted over all its image shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageIndex(pub u32);

/// When a study was acquired, in days. For tables with calendar dates the count starts at
/// 1970-01-01; for tables with a `day` column it is that column (days since admission, onset, …; it
/// may be negative). Only differences matter.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub f64);

/// One visit of a subject, as a corpus holds it. A study without a frontal image cannot be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    pub subject: SubjectId,
    pub study: StudyId,
    /// `None` when the source gives no time; such a study takes part in no sequence.
    pub acquired: Option<Day>,
    pub split: Split,
    pub frontal: ImageIndex,
    /// Further frontal images of the same visit, which a loader may draw instead of `frontal` in
    /// training.
    pub alternative_frontals: Vec<ImageIndex>,
    pub lateral: Option<ImageIndex>,
    /// The cleaned report (see [`crate::report::clean`]); `None` makes the study usable for
    /// image-only jobs alone.
    pub report: Option<String>,
    /// Further columns of the source, by name.
    pub labels: BTreeMap<String, String>,
}
