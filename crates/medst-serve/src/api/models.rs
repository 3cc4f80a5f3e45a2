//! What is served, whether it works, and its figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use medst::infer::calibrate::Fit;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::Shared;

#[derive(Serialize, ToSchema)]
pub struct Models {
    /// The first is what requests get that name none.
    pub models: Vec<ModelInfo>,
    pub indexes: Vec<IndexInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct ModelInfo {
    pub name: String,
    /// SHA-256 of the weights.
    pub checksum: String,
    /// Values of an embedding.
    pub width: usize,
    /// Side in pixels of what the model reads.
    pub pixels: usize,
    /// Longest text in tokens.
    pub tokens: usize,
    /// Classes whose probabilities are calibrated.
    pub calibrations: Vec<CalibrationInfo>,
    /// Findings whose courses are calibrated; null without a calibration of courses.
    pub courses: Option<CalibrationInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct CalibrationInfo {
    pub names: Vec<String>,
    /// What it was fitted on.
    pub source: String,
    /// For each name the log loss on subjects that a fit did not see, without calibration (of courses: of a guess) and with it.
    pub log_loss: Vec<[f64; 2]>,
}

#[derive(Serialize, ToSchema)]
pub struct IndexInfo {
    pub name: String,
    /// The model that it was made with.
    pub model: String,
    pub studies: usize,
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `ending` or `broken`.
    pub status: &'static str,
}

/// Models and indexes that are served.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models), (status = 401, description = "no or another token")))]
pub async fn list(State(shared): State<Arc<Shared>>) -> Json<Models> {
    let models = shared.models().iter().map(|(name, own)| ModelInfo {
        name: name.clone(),
        checksum: own.checksum.clone(),
        width: own.width,
        pixels: own.side,
        tokens: own.window,
        calibrations: own.calibrations().iter().map(|own| info(&own.fits, &own.source)).collect(),
        courses: own.courses().map(|own| info(&own.fits, &own.source)),
    });
    let indexes =
        shared.indexes().map(|(name, model, studies)| IndexInfo { name: name.into(), model: model.into(), studies });
    Json(Models { models: models.collect(), indexes: indexes.collect() })
}

fn info(fits: &[Fit], source: &str) -> CalibrationInfo {
    CalibrationInfo {
        names: fits.iter().map(|fit| fit.name.clone()).collect(),
        source: source.into(),
        log_loss: fits.iter().map(|fit| [fit.before.log_loss, fit.after.log_loss]).collect(),
    }
}

/// Whether requests are answered; asks for no token.
#[utoipa::path(get, path = "/health", security(()), responses(
    (status = 200, description = "they are", body = Health), (status = 503, description = "the service ends, or a model's thread is gone")))]
pub async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let status = match (shared.ending.load(Ordering::SeqCst), shared.models().iter().all(|own| own.1.worker.is_alive()))
    {
        (true, _) => "ending",
        (false, true) => "ok",
        (false, false) => "broken",
    };
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status })).into_response()
}

/// Figures in Prometheus' format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "text", body = String)))]
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    for (name, own) in shared.models() {
        shared.metrics.waiting(name, own.worker.waiting());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}
