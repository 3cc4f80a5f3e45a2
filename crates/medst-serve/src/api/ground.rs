//! `POST /v1/ground`.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst_infer::infer::boxes::hot_boxes;
use medst_infer::infer::draw::Canvas;
use medst_infer::infer::ground::{self, Grounded};
use medst_model::model::view_experts::View;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::memory::CancellationToken;
use crate::upload::{Upload, UploadedPicture, number};
use crate::{Error, Result};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroundRequest {
    /// Model name [default: the first model].
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    /// Phrase to locate.
    phrase: String,
    /// Boxes enclose patches above this fraction of the way from the median similarity to the
    /// maximum [default: 0.5].
    #[serde(default, deserialize_with = "number")]
    threshold: Option<f32>,
    /// Whether to return images with the heat map [default: false].
    #[serde(default, deserialize_with = "number")]
    pictures: Option<bool>,
    /// Whether to return all cosines and attention weights between words and patches [default:
    /// false].
    #[serde(default, deserialize_with = "number")]
    matrices: Option<bool>,
}

#[derive(Serialize)]
pub struct GroundAnswer {
    #[serde(flatten)]
    grounded: Grounded,
    /// PNG in base64, by view.
    pictures: Vec<DrawnView>,
}

#[derive(Serialize)]
struct DrawnView {
    view: View,
    png: String,
}

/// Shows where images match a phrase: boxes, heat maps, and which words match which patches.
#[utoipa::path(post, path = "/v1/ground",
    request_body(content((GroundRequest = "application/json"), (GroundRequest = "multipart/form-data"))),
    responses((status = 200, description = "boxes, words and patches per view; images and matrices if requested", body = serde_json::Value),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn ground(upload: Upload<GroundRequest>) -> Result<Json<GroundAnswer>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let share = request.threshold.unwrap_or(0.5);
    if !(0.0..1.0).contains(&share) {
        return Err(Error::Bad(format!("threshold must be at least 0 and below 1, not {share}")));
    }
    let text = model.worker.reader.prompt(&request.phrase)?;
    let preprocessing = model.worker.preprocessing;
    let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
    let (views, canvases) = upload.drawn_views(preprocessing, frontal, lateral).await?;
    let alignment = model.worker.align(views, text).await?;
    let (phrase, pictures, matrices) =
        (request.phrase.clone(), request.pictures.unwrap_or(false), request.matrices.unwrap_or(false));
    let draw = move |_: &CancellationToken| -> Result<GroundAnswer> {
        let shown: Vec<(View, &Canvas)> = canvases.iter().map(|(view, canvas)| (*view, canvas)).collect();
        let grounded = ground::ground(&phrase, &alignment, &shown, share, matrices);
        let patch = alignment.grid.pixels / alignment.grid.side;
        let drawn = shown.iter().filter(|_| pictures).filter_map(|(view, canvas)| {
            let map = alignment.heat(*view)?;
            Some(DrawnView { view: *view, png: STANDARD.encode(canvas.png(&map, &hot_boxes(&map, share, patch))) })
        });
        Ok(GroundAnswer { grounded, pictures: drawn.collect() })
    };
    Ok(Json(upload.shared().on_core(draw).await?))
}
