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
    /// The batch is contrasted in this many parts, as devices that gather no negatives from each other would; 1: whole.
    pub global_parts: i64,
    /// Share of the target that goes to studies whose reports resemble a study's own; 0: a study is its own only target.
    pub soft_targets: f64,
    pub soft_target_similarity: Similarity,
    pub soft_target_temperature: f64,
    /// Share of itself that the momentum teacher keeps at every step.
    pub soft_target_momentum: f64,
    pub local: LocalKind,
    pub importance: ImportanceKind,
    /// The sequences between which the temporal losses map, each `source → target`; their losses are summed.
    pub temporal_mappings: Vec<Mapping>,
    pub temporal_times: Times,
}

/// The form of the global loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GlobalKind {
    /// Symmetric InfoNCE, the paper's.
    #[default]
    Softmax,
    /// Every pair a yes or no of its own (SigLIP).
    Sigmoid,
}

/// Which other studies of the batch a study is told apart from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negatives {
    /// All, other visits of the same subject among them.
    #[default]
    All,
    /// Those of other subjects.
    OtherSubjects,
}

/// What makes two reports resemble each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// The word pieces they share: cosine of their sets.
    #[default]
    Text,
    /// The cosine of their embeddings, as the model has them at that step.
    Embedding,
    /// How well the one's image fits the other's report, as a slower model sees it ([`crate::train::teacher`]).
    Momentum,
}

/// What the local loss tells a word's context apart from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalKind {
    /// The contexts of other words of the same study, as published ([`super::local`]).
    #[default]
    Within,
    /// What the report's words find in the pictures of other studies of the batch ([`super::across`]).
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
    /// Queries as with `learned`; and keys, by their own importance, where a query's context is drawn from them.
    Both,
}

/// From which sequence to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    ImageToReport,
    ReportToImage,
    ImageToImage,
    ReportToReport,
}

/// What time is in reverse mapping regression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Times {
    /// The number of the step.
    #[default]
    Steps,
    /// Days since the first study of the sequence, scaled to the range of the steps.
    Days,
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
            global_parts: 1,
            soft_targets: 0.0,
            soft_target_similarity: Similarity::default(),
            soft_target_temperature: 0.1,
            soft_target_momentum: 0.995,
            local: LocalKind::default(),
            importance: ImportanceKind::default(),
            temporal_mappings: vec![Mapping::ImageToReport, Mapping::ReportToImage],
            temporal_times: Times::default(),
        }
    }
}

impl LossConfig {
    /// Whether anything is asked of reports or embeddings; without, only labels and boxes of pictures are learned.
    pub fn reads_reports(&self) -> bool {
        let of_reports = [self.global_weight, self.local_weight, self.temporal_weight, self.change_weight];
        of_reports.iter().chain([&self.phrases_weight, &self.courses_weight]).any(|&weight| weight > 0.0)
    }

    /// Whether targets come from a slower model.
    pub fn has_teacher(&self) -> bool {
        self.soft_targets > 0.0 && self.soft_target_similarity == Similarity::Momentum
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
            ("soft_targets", self.soft_targets, (0.0..=1.0).contains(&self.soft_targets)),
            ("soft_target_temperature", self.soft_target_temperature, self.soft_target_temperature > 0.0),
            ("soft_target_momentum", self.soft_target_momentum, (0.0..1.0).contains(&self.soft_target_momentum)),
        ];
        if let Some((key, value, _)) = ranges.into_iter().find(|(_, value, fits)| !fits || !value.is_finite()) {
            return Err(Error::Config(format!("loss.{key} = {value}: out of range")));
        }
        if self.global_parts < 1 {
            return Err(Error::Config(format!("loss.global_parts = {}: must be at least 1", self.global_parts)));
        }
        if self.global == GlobalKind::Sigmoid && self.soft_targets > 0.0 {
            return Err(Error::Config(
                "loss.soft_targets: the sigmoid loss has no distribution over targets; set one of them only".into(),
            ));
        }
        let mappings = &self.temporal_mappings;
        if mappings.is_empty() {
            return Err(Error::Config(
                "loss.temporal_mappings = []: at least one is needed; loss.temporal_weight = 0 switches them off"
                    .into(),
            ));
        }
        if mappings.iter().enumerate().any(|(place, own)| mappings[..place].contains(own)) {
            return Err(Error::Config(format!("loss.temporal_mappings = {mappings:?}: one is named twice")));
        }
        Ok(())
    }
}
