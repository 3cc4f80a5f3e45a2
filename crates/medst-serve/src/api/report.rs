//! `POST /v1/report`: a report against the pictures of its study.

use axum::Json;
use medst::infer::align::Shown;
use medst::infer::draw::Canvas;
use medst::infer::reading::{Piece, ReadSentence, Reading};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::memory::Wanted;
use crate::upload::{Picture, Upload, number};
use crate::{Error, Result};

/// The lowest closeness that is a match where a request does not say.
const LEAST: f32 = 0.47;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// The first model where absent.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    frontal: Option<Picture>,
    #[serde(default)]
    lateral: Option<Picture>,
    /// As a hospital writes it. Impression and findings are read, of a text without headers all.
    report: String,
    /// Boxes hold what is hotter than this share of the way from the median to the maximum; 0.5 where absent.
    #[serde(default, deserialize_with = "number")]
    threshold: Option<f32>,
    /// The lowest closeness of a sentence that matches a region: the mean over its words of the highest cosine with a patch, weighted with the
    /// importance that the model gives them; 0.47 where absent. It is a choice, no calibrated number.
    #[serde(default, deserialize_with = "number")]
    least: Option<f32>,
}

#[derive(Serialize)]
pub struct ReportAnswer {
    /// The report, piece by piece; what is read names its sentence.
    pieces: Vec<Piece>,
    sentences: Vec<ReadSentence>,
    least: f32,
}

/// Which regions the sentences and words of a report resemble, and which sentences resemble none.
#[utoipa::path(post, path = "/v1/report",
    request_body(content((ReportRequest = "application/json"), (ReportRequest = "multipart/form-data"))),
    responses((status = 200, description = "pieces of the report; for each sentence words, boxes, cosines with patches, its closeness, whether it matches", body = serde_json::Value),
        (status = 400, description = "what cannot be read, and why", body = ErrorBody), (status = 401, description = "no or another token"),
        (status = 413, description = "more than a limit"), (status = 429, description = "come back after Retry-After seconds")))]
pub async fn report(upload: Upload<ReportRequest>) -> Result<Json<ReportAnswer>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let (share, least) = (request.threshold.unwrap_or(0.5), request.least.unwrap_or(LEAST));
    if !(0.0..1.0).contains(&share) || !(-1.0..=1.0).contains(&least) {
        return Err(Error::Bad("threshold must be at least 0 and below 1, least from -1 to 1".into()));
    }
    let reading = Reading::new(&request.report, &model.worker.reader);
    let reading = reading.map_err(|reason| Error::Bad(format!("report: {reason}")))?;
    let sight = model.worker.sight;
    let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
    let (views, canvases) = upload.drawn_views(sight, frontal, lateral).await?;
    let texts: Vec<_> = reading.texts().cloned().collect();
    let align = move |engine: &medst::infer::Engine| engine.align_texts(&views, &texts.iter().collect::<Vec<_>>());
    let alignments = model.worker.task(align).await?;
    let tell = move |_: &Wanted| -> Result<ReportAnswer> {
        let shown: Vec<(Shown, &Canvas)> = canvases.iter().map(|(view, canvas)| (*view, canvas)).collect();
        let sentences = reading.told(&alignments, &shown, share, least);
        Ok(ReportAnswer { pieces: reading.pieces, sentences, least })
    };
    Ok(Json(upload.shared().on_core(tell).await?))
}
