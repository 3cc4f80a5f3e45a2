//! `POST /v1/predict`.

use axum::Json;
use medst_infer::infer::predict::{Predicted, PredictedStudy};
use medst_infer::infer::stream::NoteCounts;
use medst_model::model::head::HeadTask;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{StudyUpload, pictured, views};
use crate::Result;
use crate::error::ErrorBody;
use crate::upload::{Upload, UploadedPicture};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// Model name [default: the first model]; it must have been fine-tuned.
    #[serde(default)]
    model: Option<String>,
    /// For a model of changes: the studies of one patient, earliest first.
    #[serde(default)]
    studies: Vec<StudyUpload>,
    /// Shorthand for a single study.
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
}

/// Probabilities by the head of a fine-tuned model.
#[utoipa::path(post, path = "/v1/predict",
    request_body(content((PredictRequest = "application/json"), (PredictRequest = "multipart/form-data"))),
    responses((status = 200, description = "task, names, and for each study the probability of each name; of a change, for each study but the first", body = serde_json::Value),
        (status = 400, description = "invalid request, or a model without a head; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn predict(upload: Upload<PredictRequest>) -> Result<Json<Predicted>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let studies = pictured(&request.studies, request.frontal.as_ref(), request.lateral.as_ref())?;
    upload.check_counts(studies.iter().map(StudyUpload::pictures).sum(), 0)?;
    let views = views(&upload, model.worker.preprocessing, &studies).await?;
    let ids: Vec<String> =
        studies.into_iter().enumerate().map(|(n, study)| study.id.unwrap_or_else(|| n.to_string())).collect();
    let predicted = model.worker.task(move |engine| {
        let head = &engine.head()?.config;
        let probabilities = engine.predict(&engine.images(&views.iter().collect::<Vec<_>>())?.features)?;
        let first = usize::from(head.task == HeadTask::Change);
        let study = |(n, probabilities): (usize, Vec<f64>)| PredictedStudy {
            study: ids[n + first].clone(),
            previous: (first == 1).then(|| ids[n].clone()),
            probabilities,
        };
        let studies = probabilities.into_iter().enumerate().map(study).collect();
        Ok(Predicted { task: head.task, names: head.names(), studies, left_out: Vec::new(), notes: NoteCounts::new() })
    });
    Ok(Json(predicted.await?))
}
