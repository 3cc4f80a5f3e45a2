//! `POST /v1/compare`.

use axum::Json;
use medst_infer::infer::compare::{Comparison, PointVectors, compare_vectors};
use medst_infer::labels::prompts::MS_CXR_T;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::upload::{Upload, UploadedPicture, number};
use crate::{Error, Result};

/// Findings of a request.
const MOST_FINDINGS: usize = 32;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// Model name [default: the first model].
    #[serde(default)]
    model: Option<String>,
    /// Two or more time points, earliest first.
    time_points: Vec<TimePointUpload>,
    /// Findings to follow [default: the five of MS-CXR-T].
    #[serde(default)]
    findings: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TimePointUpload {
    #[serde(default)]
    name: Option<String>,
    /// Days since any fixed date.
    #[serde(default, deserialize_with = "number")]
    day: Option<f64>,
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    #[serde(default)]
    report: Option<String>,
}

/// Compares time points of a subject: changes of findings, similarities, and the most probable
/// order in time.
#[utoipa::path(post, path = "/v1/compare",
    request_body(content((CompareRequest = "application/json"), (CompareRequest = "multipart/form-data"))),
    responses((status = 200, description = "changes of findings and similarities per step, and the most probable orders in time", body = serde_json::Value),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn compare(upload: Upload<CompareRequest>) -> Result<Json<Comparison>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let points = &request.time_points;
    if points.len() < 2 {
        return Err(Error::Bad(format!("a comparison needs two or more time points, not {}", points.len())));
    }
    if request.findings.len() > MOST_FINDINGS {
        return Err(Error::TooLarge(format!("too many findings: {} (limit {MOST_FINDINGS})", request.findings.len())));
    }
    let pictures =
        points.iter().map(|point| usize::from(point.frontal.is_some()) + usize::from(point.lateral.is_some()));
    upload.check_counts(pictures.sum(), points.iter().filter(|point| point.report.is_some()).count())?;
    let (mut views, mut texts, mut reported) = (Vec::new(), Vec::new(), Vec::new());
    for (n, point) in points.iter().enumerate() {
        let what = format!("time_points.{n}.");
        let text = point.report.as_ref().map(|report| model.worker.reader.report(report)).transpose();
        reported.push(point.report.is_some());
        texts.extend(text.map_err(|reason| Error::Report(format!("{what}report: {reason}")))?);
        views.push(
            upload.views(model.worker.preprocessing, point.frontal.as_ref(), point.lateral.as_ref(), &what).await?,
        );
    }
    let findings: Vec<String> = match request.findings.is_empty() {
        true => MS_CXR_T.map(str::to_string).to_vec(),
        false => request.findings.iter().map(|name| name.trim().to_lowercase()).collect(),
    };
    let sentences = model.sentences(&findings).await?;
    let images = model.worker.images(views).await?;
    let reports = if texts.is_empty() { None } else { Some(model.worker.texts(texts).await?) };
    let mut reports = reports.iter().flat_map(|vectors| vectors.rows());
    let points: Vec<PointVectors> = points
        .iter()
        .enumerate()
        .map(|(n, point)| PointVectors {
            name: point.name.clone().unwrap_or_else(|| (n + 1).to_string()),
            day: point.day,
            image: images.row(n).to_vec(),
            report: if reported[n] { reports.next().map(<[f32]>::to_vec) } else { None },
        })
        .collect();
    Ok(Json(compare_vectors(&points, &sentences, model.courses())?))
}
