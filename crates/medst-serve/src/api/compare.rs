//! `POST /v1/compare`.

use axum::Json;
use medst::infer::compare::{Comparison, PointVectors, compare_vectors};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::upload::{Picture, Upload, number};
use crate::{Error, Result};

/// The findings of MS-CXR-T.
const FINDINGS: [&str; 5] = ["consolidation", "edema", "pleural effusion", "pneumonia", "pneumothorax"];
/// Findings of a request.
const MOST_FINDINGS: usize = 32;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// The first model where absent.
    #[serde(default)]
    model: Option<String>,
    /// Two or more, earliest first.
    time_points: Vec<TimePointUpload>,
    /// The five of MS-CXR-T where absent.
    #[serde(default)]
    findings: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TimePointUpload {
    #[serde(default)]
    name: Option<String>,
    /// Days since any beginning.
    #[serde(default, deserialize_with = "number")]
    day: Option<f64>,
    #[serde(default)]
    frontal: Option<Picture>,
    #[serde(default)]
    lateral: Option<Picture>,
    #[serde(default)]
    report: Option<String>,
}

/// Time points of a subject against each other: change of findings, similarity, the order that the model believes.
#[utoipa::path(post, path = "/v1/compare",
    request_body(content((CompareRequest = "application/json"), (CompareRequest = "multipart/form-data"))),
    responses((status = 200, description = "steps with changes of findings, similarities, believed orders", body = serde_json::Value),
        (status = 400, description = "what cannot be read, and why", body = ErrorBody), (status = 401, description = "no or another token"),
        (status = 413, description = "more than a limit"), (status = 429, description = "come back after Retry-After seconds")))]
pub async fn compare(upload: Upload<CompareRequest>) -> Result<Json<Comparison>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let points = &request.time_points;
    if points.len() < 2 {
        return Err(Error::Bad(format!("{} time points: a comparison needs two or more", points.len())));
    }
    if request.findings.len() > MOST_FINDINGS {
        return Err(Error::TooLarge(format!(
            "{} findings; a request may hold {MOST_FINDINGS}",
            request.findings.len()
        )));
    }
    let pictures = points.iter().map(|own| usize::from(own.frontal.is_some()) + usize::from(own.lateral.is_some()));
    upload.check_counts(pictures.sum(), points.iter().filter(|own| own.report.is_some()).count())?;
    let (mut views, mut texts, mut reported) = (Vec::new(), Vec::new(), Vec::new());
    for (n, own) in points.iter().enumerate() {
        let what = format!("time_points.{n}.");
        let text = own.report.as_ref().map(|report| model.worker.reader.report(report)).transpose();
        reported.push(own.report.is_some());
        texts.extend(text.map_err(|reason| Error::Bad(format!("{what}report: {reason}")))?);
        views.push(upload.views(model.worker.sight, own.frontal.as_ref(), own.lateral.as_ref(), &what).await?);
    }
    let findings: Vec<String> = match request.findings.is_empty() {
        true => FINDINGS.map(str::to_string).to_vec(),
        false => request.findings.iter().map(|name| name.trim().to_lowercase()).collect(),
    };
    let sentences = model.sentences(&findings).await?;
    let images = model.worker.images(views).await?;
    let reports = if texts.is_empty() { None } else { Some(model.worker.texts(texts).await?) };
    let mut reports = reports.iter().flat_map(|own| own.rows());
    let points: Vec<PointVectors> = points
        .iter()
        .enumerate()
        .map(|(n, own)| PointVectors {
            name: own.name.clone().unwrap_or_else(|| (n + 1).to_string()),
            day: own.day,
            image: images.row(n).to_vec(),
            report: if reported[n] { reports.next().map(<[f32]>::to_vec) } else { None },
        })
        .collect();
    Ok(Json(compare_vectors(&points, &sentences, model.courses())?))
}
