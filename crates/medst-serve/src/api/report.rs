//! `POST /v1/report`: matches a report with the images of its study.

use axum::Json;
use medst_infer::infer::draw::Canvas;
use medst_infer::infer::reading::{Piece, ReadSentence, Reading};
use medst_model::model::view_experts::View;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::memory::CancellationToken;
use crate::upload::{Upload, UploadedPicture, number};
use crate::{Error, Result};

/// Default of the lowest closeness that is a match.
const LEAST: f32 = 0.68;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// Model name [default: the first model].
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    /// The report as written. The model reads the impression and findings, or all of a text without
    /// headers.
    report: String,
    /// Boxes enclose patches above this fraction of the way from the median similarity to the
    /// maximum [default: 0.5].
    #[serde(default, deserialize_with = "number")]
    threshold: Option<f32>,
    /// Sentences of at least this closeness count as matching a region [default: 0.68]. Closeness
    /// is the mean over the sentence's words of the highest cosine with a patch, weighted by the
    /// importance that the model gives the words. The default suits the shipped model
    /// (docs/page.md).
    #[serde(default, deserialize_with = "number")]
    least: Option<f32>,
}

#[derive(Serialize)]
pub struct ReportAnswer {
    /// The report in pieces; each piece that the model reads refers to its sentence.
    pieces: Vec<Piece>,
    sentences: Vec<ReadSentence>,
    least: f32,
}

/// Shows which regions the sentences and words of a report match, and which sentences match none.
#[utoipa::path(post, path = "/v1/report",
    request_body(content((ReportRequest = "application/json"), (ReportRequest = "multipart/form-data"))),
    responses((status = 200, description = "pieces of the report; for each sentence its words, boxes, cosines with patches, closeness, and whether it matches", body = serde_json::Value),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn report(upload: Upload<ReportRequest>) -> Result<Json<ReportAnswer>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let (share, least) = (request.threshold.unwrap_or(0.5), request.least.unwrap_or(LEAST));
    if !(0.0..1.0).contains(&share) || !(-1.0..=1.0).contains(&least) {
        return Err(Error::Bad("threshold must be at least 0 and below 1, and least must be between -1 and 1".into()));
    }
    let reading = Reading::new(&request.report, &model.worker.reader);
    let reading = reading.map_err(|reason| Error::Report(format!("report: {reason}")))?;
    let preprocessing = model.worker.preprocessing;
    let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
    let (views, canvases) = upload.drawn_views(preprocessing, frontal, lateral).await?;
    let texts: Vec<_> = reading.texts().cloned().collect();
    let align =
        move |engine: &medst_infer::infer::Engine| engine.align_texts(&views, &texts.iter().collect::<Vec<_>>());
    let alignments = model.worker.task(align).await?;
    let tell = move |_: &CancellationToken| -> Result<ReportAnswer> {
        let shown: Vec<(View, &Canvas)> = canvases.iter().map(|(view, canvas)| (*view, canvas)).collect();
        let sentences = reading.ground(&alignments, &shown, share, least);
        Ok(ReportAnswer { pieces: reading.pieces, sentences, least })
    };
    Ok(Json(upload.shared().on_core(tell).await?))
}
