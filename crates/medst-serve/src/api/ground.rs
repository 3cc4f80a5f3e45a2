//! `POST /v1/ground`.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst::infer::align::Shown;
use medst::infer::boxes::hot_boxes;
use medst::infer::draw::Canvas;
use medst::infer::ground::{Grounded, ground as told};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::memory::Wanted;
use crate::upload::{Picture, Upload, number};
use crate::{Error, Result};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroundRequest {
    /// The first model where absent.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    frontal: Option<Picture>,
    #[serde(default)]
    lateral: Option<Picture>,
    /// What to look for.
    phrase: String,
    /// Boxes hold what is hotter than this share of the way from the median to the maximum; 0.5 where absent.
    #[serde(default, deserialize_with = "number")]
    threshold: Option<f32>,
    /// Whether pictures with the heat map come back.
    #[serde(default, deserialize_with = "number")]
    pictures: Option<bool>,
    /// Whether all cosines and attentions of words and patches come back.
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
    view: Shown,
    png: String,
}

/// Where pictures resemble a phrase: boxes, words and patches both ways, heat maps.
#[utoipa::path(post, path = "/v1/ground",
    request_body(content((GroundRequest = "application/json"), (GroundRequest = "multipart/form-data"))),
    responses((status = 200, description = "views with boxes, words, patches; pictures and matrices where asked for", body = serde_json::Value),
        (status = 400, description = "what cannot be read, and why", body = ErrorBody), (status = 401, description = "no or another token"),
        (status = 413, description = "more than a limit"), (status = 429, description = "come back after Retry-After seconds")))]
pub async fn ground(upload: Upload<GroundRequest>) -> Result<Json<GroundAnswer>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let share = request.threshold.unwrap_or(0.5);
    if !(0.0..1.0).contains(&share) {
        return Err(Error::Bad(format!("threshold {share}: expected at least 0, below 1")));
    }
    let text = model.worker.reader.prompt(&request.phrase)?;
    let sight = model.worker.sight;
    let (frontal, lateral) = (request.frontal.as_ref(), request.lateral.as_ref());
    let (views, canvases) = upload.drawn_views(sight, frontal, lateral).await?;
    let alignment = model.worker.align(views, text).await?;
    let (phrase, pictures, matrices) =
        (request.phrase.clone(), request.pictures.unwrap_or(false), request.matrices.unwrap_or(false));
    let draw = move |_: &Wanted| -> Result<GroundAnswer> {
        let shown: Vec<(Shown, &Canvas)> = canvases.iter().map(|(view, canvas)| (*view, canvas)).collect();
        let grounded = told(&phrase, &alignment, &shown, share, matrices);
        let patch = alignment.grid.pixels / alignment.grid.side;
        let drawn = shown.iter().filter(|_| pictures).filter_map(|(view, canvas)| {
            let map = alignment.heat(*view)?;
            Some(DrawnView { view: *view, png: STANDARD.encode(canvas.png(&map, &hot_boxes(&map, share, patch))) })
        });
        Ok(GroundAnswer { grounded, pictures: drawn.collect() })
    };
    Ok(Json(upload.shared().on_core(draw).await?))
}
