//! `POST /v1/search`.

use axum::Json;
use medst::infer::search::{Among, Answer, Filter, Query, together};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::upload::{Picture, Upload, number};
use crate::{Error, Result};

/// Answers of a request.
const MOST: usize = 1000;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// May be absent where one index is served.
    #[serde(default)]
    index: Option<String>,
    /// Studies that resemble this picture …
    #[serde(default)]
    frontal: Option<Picture>,
    #[serde(default)]
    lateral: Option<Picture>,
    /// … or that this text describes …
    #[serde(default)]
    text: Option<String>,
    /// … or that resemble this study of the index.
    #[serde(default)]
    study: Option<String>,
    /// With a picture and a text: how much the text counts, 0.5 where absent.
    #[serde(default, deserialize_with = "number")]
    text_share: Option<f32>,
    /// 10 where absent.
    #[serde(default, deserialize_with = "number")]
    count: Option<usize>,
    /// `images` (the default) or `reports`.
    #[serde(default)]
    among: Option<String>,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    not_subjects: Vec<String>,
    /// A date or a number of days.
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    /// `edema`, `edema=0`, or any `COLUMN=VALUE`.
    #[serde(default)]
    findings: Vec<String>,
    /// Search exactly also where there is a graph.
    #[serde(default, deserialize_with = "number")]
    exact: Option<bool>,
}

/// The nearest studies of an index.
#[utoipa::path(post, path = "/v1/search",
    request_body(content((SearchRequest = "application/json"), (SearchRequest = "multipart/form-data"))),
    responses((status = 200, description = "studies with their cosines, nearest first", body = serde_json::Value),
        (status = 400, description = "what cannot be read, and why", body = ErrorBody), (status = 401, description = "no or another token"),
        (status = 404, description = "no such index"), (status = 429, description = "come back after Retry-After seconds")))]
pub async fn search(upload: Upload<SearchRequest>) -> Result<Json<Answer>> {
    let request = &upload.request;
    let (index, model) = upload.shared().index(request.index.as_deref())?;
    let (_, model) = upload.shared().model(Some(model))?;
    let count = request.count.unwrap_or(10);
    let share = request.text_share.unwrap_or(0.5);
    if !(1..=MOST).contains(&count) || !(0.0..=1.0).contains(&share) {
        return Err(Error::Bad(format!("count must be 1 to {MOST}, text_share 0 to 1")));
    }
    let among = match request.among.as_deref() {
        None | Some("images") => Among::Images,
        Some("reports") => Among::Reports,
        Some(_) => return Err(Error::Bad("among: expected images or reports".into())),
    };
    let day = |text: &Option<String>| text.as_ref().map(|text| Filter::day(text)).transpose().map_err(Error::Bad);
    let findings = request.findings.iter().map(|text| Filter::finding(text)).collect::<Result<_, _>>();
    let filter = Filter {
        subjects: request.subjects.clone(),
        not_subjects: request.not_subjects.clone(),
        from: day(&request.from)?,
        to: day(&request.to)?,
        findings: findings.map_err(Error::Bad)?,
    };
    let asked = request
        .study
        .as_ref()
        .map(|id| index.find(id).ok_or_else(|| Error::Bad("study: the index has none of that name".into())));
    let asked = asked.transpose()?;
    let image = match (asked, request.frontal.is_some() || request.lateral.is_some()) {
        (Some(_), true) => return Err(Error::Bad("a picture and a study were asked with; give one".into())),
        (Some(row), false) => {
            Some(index.vector_of(row, among).ok_or_else(|| Error::Bad("the study has no vector".into()))?.to_vec())
        }
        (None, true) => {
            let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
            let views = upload.views(model.worker.sight, frontal, lateral, "").await?;
            Some(model.worker.images(vec![views]).await?.row(0).to_vec())
        }
        (None, false) => None,
    };
    let text = match &request.text {
        Some(text) => Some(model.worker.texts(vec![model.worker.reader.prompt(text)?]).await?.row(0).to_vec()),
        None => None,
    };
    let vector = together(image.as_deref(), text.as_deref(), share);
    let vector = vector.ok_or_else(|| Error::Bad("nothing was asked: give frontal, text or study".into()))?;
    let query = Query { vector, count, among, filter, exact: request.exact.unwrap_or(false), not: asked };
    let search = move || index.search(&query);
    let mut answer = tokio::task::spawn_blocking(search).await.map_err(|_| Error::Internal)??;
    // Where files lie on this machine is nobody's business.
    answer.found.iter_mut().for_each(|own| own.study.frontal = None);
    Ok(Json(answer))
}
