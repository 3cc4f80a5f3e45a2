//! One file per task: an evaluator takes embeddings and truth, and returns a
//! [`TaskResult`](super::result::TaskResult). It depends neither on the source of the embeddings
//! nor on training.

mod grounding;
mod linear_heads;
mod linear_probe;
mod phrases;
mod progression;
mod retrieval;
mod sequence_order;
mod series_questions;
mod series_words;
mod temporal_image;
mod temporal_sentence;
mod temporal_transfer;
mod zero_shot;

pub use grounding::{Grounding, Region};
pub use linear_probe::draw_subjects;
pub use linear_probe::{LinearProbe, ProbeData, ProbeTruth};
pub use phrases::{PhraseProgression, Phrases};
pub use progression::{Progression, Prototypes};
pub use retrieval::{ByFinding, Retrieval, RetrievalData, best_ranks};
pub use sequence_order::{SequenceData, SequenceOrder};
pub use series_questions::{Question, QuestionVectors, SeriesQuestions};
pub use temporal_image::{TemporalImage, fold_accuracies};
pub use temporal_sentence::{SentencePairs, TemporalSentence, reference_threshold};
pub use temporal_transfer::{COURSES, TemporalTransfer, TransferData};
pub use zero_shot::{BinaryFinding, ZeroShot};

use super::Vectors;
use crate::{Error, Result};

/// Why the data do not define a figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Undefined(String);

/// Checks that every evaluator makes of its embeddings.
struct Input;

impl Input {
    /// There are rows, and all values are finite.
    fn check(vectors: &Vectors, what: &str) -> Result<()> {
        if vectors.is_empty() {
            return Err(Error::Evaluation(format!("no {what} are given")));
        }
        match (0..vectors.len()).find(|&row| !vectors.is_finite(row)) {
            Some(row) => Err(Error::Evaluation(format!("{what}: row {row} is not finite"))),
            None => Ok(()),
        }
    }

    /// Like [`Input::check`]; also checks that there are as many rows, of the same width, as in
    /// `other`.
    fn check_like(vectors: &Vectors, other: &Vectors, what: &str) -> Result<()> {
        Input::check(vectors, what)?;
        Input::check_width(vectors, other, what)?;
        if vectors.len() != other.len() {
            return Err(Error::Evaluation(format!("{what}: {} rows, expected {}", vectors.len(), other.len())));
        }
        Ok(())
    }

    fn check_width(vectors: &Vectors, other: &Vectors, what: &str) -> Result<()> {
        let (found, expected) = (vectors.width(), other.width());
        if found != expected && !vectors.is_empty() && !other.is_empty() {
            return Err(Error::Evaluation(format!("{what}: embeddings have {found} values, expected {expected}")));
        }
        Ok(())
    }

    /// Checks that there is one label per row.
    fn check_count(count: usize, vectors: &Vectors, what: &str) -> Result<()> {
        if count != vectors.len() {
            return Err(Error::Evaluation(format!("{what}: {count}, expected one for each of {} rows", vectors.len())));
        }
        Ok(())
    }
}

/// The mean of figures; `None` where one of them is undefined, or there are none.
pub fn mean_of_all(figures: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let figures: Vec<f64> = figures.into_iter().collect::<Option<_>>()?;
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

/// The inner product of two rows.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
}
