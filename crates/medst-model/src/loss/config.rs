//! Temperatures, weights and variants of the losses; defaults are the paper's.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// λ₁, weight of the global loss.
    pub global_weight: f64,
    /// λ₂, weight of the local loss.
    pub local_weight: f64,
    /// λ₃, weight of the temporal loss.
    pub temporal_weight: f64,
    /// Weight of the alignment of changes between visits ([`super::change`]); sequences as for the temporal loss.
    pub change_weight: f64,
    /// Weight of the loss of study labels, for models with [`crate::model::findings`].
    pub findings_weight: f64,
    /// Weight of the loss of boxes, patch by patch.
    pub boxes_weight: f64,
    /// Weight of the loss of phrases, whose words are to find the patches in their boxes (`data.statements`).
    pub phrases_weight: f64,
    /// Weight of the loss of labelled courses between visits; sequences as for the temporal loss.
    pub courses_weight: f64,
    /// Within the temporal loss, the weight of forward mapping classification …
    pub forward_mapping_weight: f64,
    /// … and of reverse mapping regression.
    pub reverse_mapping_weight: f64,
    pub global_temperature: f64,
    pub local_temperature: f64,
    pub temporal_temperature: f64,
    /// Weight of the log-variance in reverse mapping regression.
    pub variance_weight: f64,
    pub global: GlobalKind,
    pub negatives: Negatives,
    pub local: LocalKind,
    pub importance: ImportanceKind,
}

/// The form of the global loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GlobalKind {
    /// Symmetric InfoNCE, the paper's.
    #[default]
    Softmax,
    /// Every pair is a separate yes or no (SigLIP).
    Sigmoid,
}

/// Which other studies of the batch a study is contrasted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negatives {
    /// All studies, including other visits of the same subject.
    #[default]
    All,
    /// Those of other subjects.
    OtherSubjects,
}

/// The contrast of the local loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalKind {
    /// The contexts of other words of the same study, as published ([`super::local`]).
    #[default]
    Within,
    /// A word is contrasted with its context in the pictures of the other studies in the batch
    /// ([`super::across`]).
    Across,
}

/// How tokens are weighted in the local loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportanceKind {
    /// Queries by the learned importance attention, the paper's.
    #[default]
    Learned,
    /// All queries alike.
    Uniform,
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            global_weight: 1.0,
            local_weight: 1.0,
            temporal_weight: 1.0,
            change_weight: 0.0,
            findings_weight: 0.0,
            boxes_weight: 0.0,
            phrases_weight: 0.0,
            courses_weight: 0.0,
            forward_mapping_weight: 1.0,
            reverse_mapping_weight: 1.0,
            global_temperature: 0.07,
            local_temperature: 0.1,
            temporal_temperature: 0.1,
            variance_weight: 0.001,
            global: GlobalKind::default(),
            negatives: Negatives::default(),
            local: LocalKind::default(),
            importance: ImportanceKind::default(),
        }
    }
}

impl LossConfig {
    /// Whether any loss needs reports or embeddings; otherwise only labels and boxes of pictures
    /// are learned.
    pub fn reads_reports(&self) -> bool {
        let of_reports = [self.global_weight, self.local_weight, self.temporal_weight, self.change_weight];
        of_reports.iter().chain([&self.phrases_weight, &self.courses_weight]).any(|&weight| weight > 0.0)
    }

    /// Refuses values that no run can have, naming the key.
    ///
    /// # Errors
    /// Names the key.
    pub fn validate(&self) -> Result<()> {
        let ranges = [
            ("global_weight", self.global_weight, self.global_weight >= 0.0),
            ("local_weight", self.local_weight, self.local_weight >= 0.0),
            ("temporal_weight", self.temporal_weight, self.temporal_weight >= 0.0),
            ("change_weight", self.change_weight, self.change_weight >= 0.0),
            ("findings_weight", self.findings_weight, self.findings_weight >= 0.0),
            ("boxes_weight", self.boxes_weight, self.boxes_weight >= 0.0),
            ("phrases_weight", self.phrases_weight, self.phrases_weight >= 0.0),
            ("courses_weight", self.courses_weight, self.courses_weight >= 0.0),
            ("forward_mapping_weight", self.forward_mapping_weight, self.forward_mapping_weight >= 0.0),
            ("reverse_mapping_weight", self.reverse_mapping_weight, self.reverse_mapping_weight >= 0.0),
            ("global_temperature", self.global_temperature, self.global_temperature > 0.0),
            ("local_temperature", self.local_temperature, self.local_temperature > 0.0),
            ("temporal_temperature", self.temporal_temperature, self.temporal_temperature > 0.0),
            ("variance_weight", self.variance_weight, true),
        ];
        match ranges.into_iter().find(|(_, value, fits)| !fits || !value.is_finite()) {
            Some((key, value, _)) => Err(Error::Config(format!("loss.{key} = {value}: out of range"))),
            None => Ok(()),
        }
    }
}
