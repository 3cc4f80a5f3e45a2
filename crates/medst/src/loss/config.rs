//! Temperatures and weights of the losses; defaults are the paper's.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// λ₁, weight of the global loss.
    pub global_weight: f64,
    /// λ₂, weight of the local loss.
    pub local_weight: f64,
    /// λ₃, weight of the temporal loss.
    pub temporal_weight: f64,
    pub global_temperature: f64,
    pub local_temperature: f64,
    pub temporal_temperature: f64,
    /// Weight of the log-variance in reverse mapping regression.
    pub variance_weight: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            global_weight: 1.0,
            local_weight: 1.0,
            temporal_weight: 1.0,
            global_temperature: 0.07,
            local_temperature: 0.1,
            temporal_temperature: 0.1,
            variance_weight: 0.001,
        }
    }
}
