//! The projections of radiographs.

use serde::{Deserialize, Serialize};

/// The projection a radiograph was taken in, by the names DICOM's ViewPosition uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum View {
    /// Postero-anterior, a frontal view.
    #[serde(rename = "PA")]
    Pa,
    /// Antero-posterior, a frontal view.
    #[serde(rename = "AP")]
    Ap,
    /// Lateral, side unspecified.
    #[serde(rename = "LATERAL")]
    Lateral,
    /// Left lateral.
    #[serde(rename = "LL")]
    Ll,
}

impl View {
    /// Reads a view by its name, in any case; `None` for every other name.
    pub fn parse(name: &str) -> Option<View> {
        match name.trim().to_ascii_uppercase().as_str() {
            "PA" => Some(View::Pa),
            "AP" => Some(View::Ap),
            "LATERAL" => Some(View::Lateral),
            "LL" => Some(View::Ll),
            _ => None,
        }
    }

    /// Its name, as [`View::parse`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            View::Pa => "PA",
            View::Ap => "AP",
            View::Lateral => "LATERAL",
            View::Ll => "LL",
        }
    }

    /// PA and AP are frontal; the others are lateral.
    pub fn is_frontal(self) -> bool {
        matches!(self, View::Pa | View::Ap)
    }
}
