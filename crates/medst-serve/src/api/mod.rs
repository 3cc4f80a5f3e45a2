//! One file per operation: typed request, model, typed answer.

pub mod compare;
pub mod embed;
pub mod examples;
pub mod ground;
pub mod models;
pub mod picture;
pub mod predict;
pub mod report;
pub mod search;
pub mod zero_shot;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::upload::Picture;

/// A study: a frontal image, a lateral image, or both, and optionally the report.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StudyUpload {
    /// Returned in the answer.
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub frontal: Option<Picture>,
    #[serde(default)]
    pub lateral: Option<Picture>,
    /// The report as written.
    #[serde(default)]
    pub report: Option<String>,
}

impl StudyUpload {
    fn pictures(&self) -> usize {
        usize::from(self.frontal.is_some()) + usize::from(self.lateral.is_some())
    }
}
