//! The models and indexes that are served, the health of the service, and its metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use medst_infer::infer::calibrate::Fit;
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::Shared;

#[derive(Serialize, ToSchema)]
pub struct Models {
    /// Requests that name no model use the first.
    pub models: Vec<ModelInfo>,
    pub indexes: Vec<IndexInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct ModelInfo {
    pub name: String,
    /// SHA-256 of the weights.
    pub checksum: String,
    /// Size of an embedding.
    pub width: usize,
    /// Side of the model's input, in pixels.
    pub pixels: usize,
    /// Maximum length of a text, in tokens.
    pub tokens: usize,
    /// Classes whose probabilities are calibrated.
    pub calibrations: Vec<CalibrationInfo>,
    /// Calibration of the findings' courses; null if there is none.
    pub courses: Option<CalibrationInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct CalibrationInfo {
    pub names: Vec<String>,
    /// The data it was fitted on.
    pub source: String,
    /// For each name, the log loss on held-out subjects: without calibration (for courses, of
    /// guessing) and with it.
    pub log_loss: Vec<[f64; 2]>,
}

#[derive(Serialize, ToSchema)]
pub struct IndexInfo {
    pub name: String,
    /// The model that made it.
    pub model: String,
    pub studies: usize,
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `ending` or `broken`.
    pub status: &'static str,
}

/// Lists the models and indexes that are served.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models), (status = 401, description = "missing or wrong token")))]
pub async fn list(State(shared): State<Arc<Shared>>) -> Json<Models> {
    let models = shared.models().iter().map(|(name, model)| ModelInfo {
        name: name.clone(),
        checksum: model.checksum.clone(),
        width: model.width,
        pixels: model.side,
        tokens: model.window,
        calibrations: model
            .calibrations()
            .iter()
            .map(|calibration| info(&calibration.fits, &calibration.source))
            .collect(),
        courses: model.courses().map(|calibration| info(&calibration.fits, &calibration.source)),
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

/// Reports whether requests are answered. Requires no token.
#[utoipa::path(get, path = "/health", security(()), responses(
    (status = 200, description = "requests are answered", body = Health), (status = 503, description = "the service is shutting down, or the thread of a model has ended")))]
pub async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let status =
        match (shared.ending.load(Ordering::SeqCst), shared.models().iter().all(|model| model.1.worker.is_alive())) {
            (true, _) => "ending",
            (false, true) => "ok",
            (false, false) => "broken",
        };
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status })).into_response()
}

/// Metrics in the format of Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "metrics as text", body = String)))]
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    for (name, model) in shared.models() {
        shared.metrics.waiting(name, model.worker.waiting());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}
