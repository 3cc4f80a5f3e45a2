//! `POST /v1/zero-shot`.

use axum::Json;
use medst_infer::infer::classes::{Class, ClassKind, Classes};
use medst_infer::infer::stream::NoteCounts;
use medst_infer::infer::zero_shot::{Classified, ClassifiedStudy, probabilities};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{StudyUpload, pictured, views};
use crate::Result;
use crate::error::ErrorBody;
use crate::upload::{Upload, UploadedPicture};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroShotRequest {
    /// Model name [default: the first model].
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    studies: Vec<StudyUpload>,
    /// Shorthand for a single study.
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    /// Names, or objects with a name and positive and (for findings) negative sentences.
    #[schema(value_type = Vec<ClassObject>)]
    classes: Vec<ClassUpload>,
    /// `findings` (independent of each other, the default) or `exclusive` (exactly one applies).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    kind: ClassKind,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum ClassUpload {
    Name(String),
    Full(Class),
}

/// A class with its sentences.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what Class reads")]
struct ClassObject {
    name: String,
    positive: Vec<String>,
    negative: Vec<String>,
}

/// Classifies images by sentences. Probabilities are calibrated if the service has a calibration
/// for these classes and sentences.
#[utoipa::path(post, path = "/v1/zero-shot",
    request_body(content((ZeroShotRequest = "application/json"), (ZeroShotRequest = "multipart/form-data"))),
    responses((status = 200, description = "kind, classes, calibrated_on, and for each study scores and probabilities", body = serde_json::Value),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn classify(upload: Upload<ZeroShotRequest>) -> Result<Json<Classified>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let studies = pictured(&request.studies, request.frontal.as_ref(), request.lateral.as_ref())?;
    let classes = request.classes.iter().cloned().map(|class| match class {
        ClassUpload::Name(name) => Class { name, positive: Vec::new(), negative: Vec::new() },
        ClassUpload::Full(class) => class,
    });
    let classes = Classes::new(request.kind, classes.collect())?;
    upload.check_counts(studies.iter().map(StudyUpload::pictures).sum(), classes.sentences().count())?;
    let views = views(&upload, model.worker.preprocessing, &studies).await?;
    let calibration = model.calibration(&classes);
    let prototypes = model.prototypes(classes).await?;
    let images = model.worker.images(views).await?;
    let answers = studies.iter().zip(images.rows()).enumerate().map(|(number, (study, image))| {
        let scores = prototypes.scores(image);
        let probabilities = probabilities(request.kind, calibration, &scores);
        ClassifiedStudy { study: study.id.clone().unwrap_or_else(|| number.to_string()), scores, probabilities }
    });
    Ok(Json(Classified {
        kind: request.kind,
        classes: prototypes.classes.names().into_iter().map(str::to_string).collect(),
        calibrated_on: calibration.map(|calibration| calibration.source.clone()),
        studies: answers.collect(),
        left_out: Vec::new(),
        notes: NoteCounts::new(),
    }))
}
