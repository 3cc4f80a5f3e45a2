//! Temperatures, weights and variants of the losses; defaults are the paper's.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// λ₁, weight of the global loss.
    pub global_weight: f64,
    /// λ₂, weight of the local loss.
    pub local_weight: f64,
    /// λ₃, weight of the temporal loss.
    pub temporal_weight: f64,
    /// Weight of the alignment of changes between visits (`super::change`); sequences as for the
    /// temporal loss.
    pub change_weight: f64,
    /// Weight of the loss of study labels, for models with `crate::model::findings`.
    pub findings_weight: f64,
    /// Weight of the loss of boxes, patch by patch.
    pub boxes_weight: f64,
    /// Weight of the loss of phrases, whose words are to find the patches in their boxes
    /// (`data.statements`).
    pub phrases_weight: f64,
    /// Weight of the loss of labelled courses between visits; sequences as for the temporal loss.
    pub courses_weight: f64,
    pub global_temperature: GlobalTemperature,
    pub global: GlobalKind,
    pub local: LocalKind,
    pub temporal: TemporalKind,
    /// A constant of the method, which heat maps use as well: no key of a configuration, as are the
    /// next two.
    #[serde(skip)]
    pub local_temperature: f64,
    #[serde(skip)]
    pub temporal_temperature: f64,
    /// Weight of the log-variance in reverse mapping regression.
    #[serde(skip)]
    pub variance_weight: f64,
}

/// The temperature of the contrast between images and reports: a number, or `"learned"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GlobalTemperature {
    /// As in the paper.
    Fixed(f64),
    /// Trained with the model, from [`GlobalTemperature::START`] on (CLIP; [`super::scale`]).
    Learned,
}

impl GlobalTemperature {
    /// The paper's temperature, and where a learned one begins.
    pub const START: f64 = 0.07;

    /// The fixed temperature, or the first one.
    pub fn first(self) -> f64 {
        match self {
            GlobalTemperature::Fixed(temperature) => temperature,
            GlobalTemperature::Learned => GlobalTemperature::START,
        }
    }
}

const LEARNED: &str = "learned";

impl Serialize for GlobalTemperature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            GlobalTemperature::Fixed(temperature) => serializer.serialize_f64(*temperature),
            GlobalTemperature::Learned => serializer.serialize_str(LEARNED),
        }
    }
}

impl<'de> Deserialize<'de> for GlobalTemperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GlobalTemperature, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = GlobalTemperature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number or \"{LEARNED}\" as global_temperature")
            }

            fn visit_f64<E>(self, temperature: f64) -> Result<GlobalTemperature, E> {
                Ok(GlobalTemperature::Fixed(temperature))
            }

            fn visit_i64<E>(self, temperature: i64) -> Result<GlobalTemperature, E> {
                Ok(GlobalTemperature::Fixed(temperature as f64))
            }

            fn visit_u64<E>(self, temperature: u64) -> Result<GlobalTemperature, E> {
                Ok(GlobalTemperature::Fixed(temperature as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GlobalTemperature, E> {
                match text {
                    LEARNED => Ok(GlobalTemperature::Learned),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
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

/// The contrast of the local loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalKind {
    /// The contexts of other words of the same study, as published ([`super::local`]).
    #[default]
    Within,
    /// A word is contrasted with its context in the pictures of the other studies in the batch
    /// (`super::across`).
    Across,
}

/// Which parts of the temporal loss are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemporalKind {
    /// The paper's.
    #[default]
    Both,
    /// Forward mapping classification alone.
    Forward,
    /// Reverse mapping regression alone.
    Reverse,
}

impl TemporalKind {
    /// Factors of forward mapping classification and of reverse mapping regression.
    pub fn factors(self) -> [f64; 2] {
        match self {
            TemporalKind::Both => [1.0, 1.0],
            TemporalKind::Forward => [1.0, 0.0],
            TemporalKind::Reverse => [0.0, 1.0],
        }
    }
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
            global_temperature: GlobalTemperature::Fixed(GlobalTemperature::START),
            global: GlobalKind::default(),
            local: LocalKind::default(),
            temporal: TemporalKind::default(),
            local_temperature: 0.1,
            temporal_temperature: 0.1,
            variance_weight: 0.001,
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
    pub fn validate(&self) -> crate::Result<()> {
        let global_temperature = self.global_temperature.first();
        let ranges = [
            ("global_weight", self.global_weight, self.global_weight >= 0.0),
            ("local_weight", self.local_weight, self.local_weight >= 0.0),
            ("temporal_weight", self.temporal_weight, self.temporal_weight >= 0.0),
            ("change_weight", self.change_weight, self.change_weight >= 0.0),
            ("findings_weight", self.findings_weight, self.findings_weight >= 0.0),
            ("boxes_weight", self.boxes_weight, self.boxes_weight >= 0.0),
            ("phrases_weight", self.phrases_weight, self.phrases_weight >= 0.0),
            ("courses_weight", self.courses_weight, self.courses_weight >= 0.0),
            ("global_temperature", global_temperature, global_temperature > 0.0),
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
