//! Sentences about a finding, and what images say of them: the finding's presence, and its change
//! between two images.

use serde::Serialize;

use super::engine::Engine;
use super::text::Text;
use super::vectors::Vectors;
use crate::labels::prompts;
use crate::{Error, Result};

/// What an image says of a finding: score of its presence, place between improvement and worsening;
/// cosine units.
pub type Reading = [f64; 2];

/// Sentences about a finding, embedded.
#[derive(Clone, Debug)]
pub struct Sentences {
    pub finding: String,
    /// `[p, D]`, `[q, D]` unit vectors.
    improving: Vectors,
    worsening: Vectors,
    /// `[D]` directions of presence and absence.
    present: Vec<f32>,
    absent: Vec<f32>,
}

/// How far a pair moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Cosine units; above 0 is worse.
    pub towards_worse: f64,
    /// Share of pairs of a worsening and an improving sentence that say the same direction.
    pub agreement: f64,
}

impl Sentences {
    /// The sentences of [`prompts`] for a finding.
    ///
    /// # Errors
    /// A finding without words, or too long.
    pub fn new(engine: &Engine, finding: &str) -> Result<Sentences> {
        let embed = |sentences: Vec<String>| -> Result<Vectors> {
            let texts: Vec<Text> =
                sentences.iter().map(|sentence| engine.reader().prompt(sentence)).collect::<Result<_, _>>()?;
            Ok(engine.texts(&texts.iter().collect::<Vec<_>>())?.unit())
        };
        if finding.trim().is_empty() {
            return Err(Error::Input("a finding has no name".into()));
        }
        Ok(Sentences {
            finding: finding.to_string(),
            improving: embed(prompts::improving(finding))?,
            worsening: embed(prompts::worsening(finding))?,
            present: embed(prompts::positive(finding))?.mean_direction(),
            absent: embed(prompts::negative(finding))?.mean_direction(),
        })
    }

    /// From the earlier to the later image, unit vectors of `D`.
    pub fn change(&self, previous: &[f32], current: &[f32]) -> Change {
        let step = |sentence: &[f32]| dot(current, sentence) - dot(previous, sentence);
        let towards_worse = step(&self.worsening.mean_direction()) - step(&self.improving.mean_direction());
        let (worse, better): (Vec<f64>, Vec<f64>) =
            (self.worsening.rows().map(step).collect(), self.improving.rows().map(step).collect());
        let pairs = worse.iter().flat_map(|worse| better.iter().map(move |better| worse - better));
        let same = pairs.filter(|change| change * towards_worse > 0.0).count();
        let agreement = same as f64 / (worse.len() * better.len()).max(1) as f64;
        Change { towards_worse, agreement }
    }

    /// What images of several time points say of the finding.
    pub fn readings<V: AsRef<[f32]>>(&self, images: &[V]) -> Vec<Reading> {
        images.iter().map(|image| self.reading(image.as_ref())).collect()
    }

    /// Presence, and the place along the direction that [`Sentences::change`] measures steps along.
    pub fn reading(&self, image: &[f32]) -> Reading {
        let course = dot(image, &self.worsening.mean_direction()) - dot(image, &self.improving.mean_direction());
        [self.presence(image), course]
    }

    /// Cosine to sentences that say the finding less that to sentences that deny it.
    pub fn presence(&self, image: &[f32]) -> f64 {
        dot(image, &self.present) - dot(image, &self.absent)
    }
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
}
