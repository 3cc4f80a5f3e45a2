//! `POST /v1/search`.

use axum::Json;
use medst_infer::infer::search::{Among, Answer, Filter, Query, together};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::upload::{Upload, UploadedPicture, number};
use crate::{Error, Result};

/// Answers of a request.
const MOST: usize = 1000;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Index name; required if several indexes are served.
    #[serde(default)]
    index: Option<String>,
    /// Find studies that resemble this image …
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    /// … or match this text …
    #[serde(default)]
    text: Option<String>,
    /// … or that resemble this study of the index.
    #[serde(default)]
    study: Option<String>,
    /// Weight of the text where both an image and a text are given [default: 0.5].
    #[serde(default, deserialize_with = "number")]
    text_share: Option<f32>,
    /// Number of studies to return [default: 10].
    #[serde(default, deserialize_with = "number")]
    count: Option<usize>,
    /// Compare the query with `images` (the default) or `reports`.
    #[serde(default)]
    among: Option<String>,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    not_subjects: Vec<String>,
    /// First date (2020-03-31) or day number.
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    /// `edema`, `edema=0`, or any `COLUMN=VALUE`.
    #[serde(default)]
    findings: Vec<String>,
    /// Search exactly even if the index has a graph for approximate search.
    #[serde(default, deserialize_with = "number")]
    exact: Option<bool>,
}

/// Finds the most similar studies of an index.
#[utoipa::path(post, path = "/v1/search",
    request_body(content((SearchRequest = "application/json"), (SearchRequest = "multipart/form-data"))),
    responses((status = 200, description = "studies with their cosines, nearest first", body = serde_json::Value),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 404, description = "no such index"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn search(upload: Upload<SearchRequest>) -> Result<Json<Answer>> {
    let request = &upload.request;
    let (index, model) = upload.shared().index(request.index.as_deref())?;
    let (_, model) = upload.shared().model(Some(model))?;
    let count = request.count.unwrap_or(10);
    let share = request.text_share.unwrap_or(0.5);
    if !(1..=MOST).contains(&count) || !(0.0..=1.0).contains(&share) {
        return Err(Error::Bad(format!("count must be between 1 and {MOST}, and text_share between 0 and 1")));
    }
    let among = match request.among.as_deref() {
        None | Some("images") => Among::Images,
        Some("reports") => Among::Reports,
        Some(_) => return Err(Error::Bad("among must be images or reports".into())),
    };
    let day = |text: &Option<String>| text.as_ref().map(|text| Filter::day(text)).transpose();
    let findings = request.findings.iter().map(|text| Filter::finding(text)).collect::<Result<_, medst_model::Error>>();
    let filter = Filter {
        subjects: request.subjects.clone(),
        not_subjects: request.not_subjects.clone(),
        from: day(&request.from)?,
        to: day(&request.to)?,
        findings: findings?,
    };
    let study_row = request
        .study
        .as_ref()
        .map(|id| index.find(id).ok_or_else(|| Error::Bad("study: the index has no study with this ID".into())));
    let study_row = study_row.transpose()?;
    let image = match (study_row, request.frontal.is_some() || request.lateral.is_some()) {
        (Some(_), true) => return Err(Error::Bad("give an image or a study, not both".into())),
        (Some(row), false) => Some(
            index
                .vector_of(row, among)
                .ok_or_else(|| {
                    Error::Bad("the index has no embedding of this kind for the study; choose another `among`".into())
                })?
                .to_vec(),
        ),
        (None, true) => {
            let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
            let views = upload.views(model.worker.preprocessing, frontal, lateral, "").await?;
            Some(model.worker.images(vec![views]).await?.row(0).to_vec())
        }
        (None, false) => None,
    };
    let text = match &request.text {
        Some(text) => Some(model.worker.texts(vec![model.worker.reader.prompt(text)?]).await?.row(0).to_vec()),
        None => None,
    };
    let vector = together(image.as_deref(), text.as_deref(), share);
    let vector = vector.ok_or_else(|| Error::Bad("the query is empty: give frontal, lateral, text or study".into()))?;
    let query = Query { vector, count, among, filter, exact: request.exact.unwrap_or(false), not: study_row };
    let search = move || index.search(&query);
    let mut answer = tokio::task::spawn_blocking(search).await.map_err(|_| Error::Internal)??;
    // Clients must not learn the paths of files on this machine.
    answer.found.iter_mut().for_each(|found| found.study.frontal = None);
    Ok(Json(answer))
}
