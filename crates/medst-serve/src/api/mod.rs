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

use medst_infer::infer::{Preprocessing, Views};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::upload::{Upload, UploadedPicture};
use crate::{Error, Result};

/// A study: a frontal image, a lateral image, or both, and optionally the report.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StudyUpload {
    /// Returned in the answer.
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub frontal: Option<UploadedPicture>,
    #[serde(default)]
    pub lateral: Option<UploadedPicture>,
    /// The report as written.
    #[serde(default)]
    pub report: Option<String>,
}

impl StudyUpload {
    fn pictures(&self) -> usize {
        usize::from(self.frontal.is_some()) + usize::from(self.lateral.is_some())
    }
}

/// The studies of a request that is about images, of which one may be given without a list.
///
/// # Errors
/// No study.
fn pictured(
    studies: &[StudyUpload],
    frontal: Option<&UploadedPicture>,
    lateral: Option<&UploadedPicture>,
) -> Result<Vec<StudyUpload>> {
    let mut studies = studies.to_vec();
    if frontal.is_some() || lateral.is_some() {
        let (frontal, lateral) = (frontal.cloned(), lateral.cloned());
        studies.push(StudyUpload { frontal, lateral, ..StudyUpload::default() });
    }
    if studies.is_empty() {
        return Err(Error::Bad("no image: give frontal, lateral or studies".into()));
    }
    Ok(studies)
}

/// Decodes the images of studies, one after the other.
///
/// # Errors
/// Like [`Upload::views`], for several studies; errors name the number of the study.
async fn views<T>(upload: &Upload<T>, preprocessing: Preprocessing, studies: &[StudyUpload]) -> Result<Vec<Views>> {
    let mut views = Vec::new();
    for (number, study) in studies.iter().enumerate() {
        let what = format!("studies.{number}.");
        views.push(upload.views(preprocessing, study.frontal.as_ref(), study.lateral.as_ref(), &what).await?);
    }
    Ok(views)
}
