//! `GET /v1/examples`: example patients for the page.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::Shared;
use crate::{Error, Result};

#[derive(Serialize, ToSchema)]
pub struct ExampleList {
    /// Empty if the service was started without `--examples`.
    pub patients: Vec<ExamplePatient>,
}

#[derive(Serialize, ToSchema)]
pub struct ExamplePatient {
    pub name: String,
    pub files: Vec<String>,
}

/// Lists the example patients.
#[utoipa::path(get, path = "/v1/examples", responses((status = 200, body = ExampleList), (status = 401, description = "missing or wrong token")))]
pub async fn list(State(shared): State<Arc<Shared>>) -> Json<ExampleList> {
    let patient = |(name, files): (&str, Vec<&str>)| ExamplePatient {
        name: name.into(),
        files: files.into_iter().map(str::to_string).collect(),
    };
    Json(ExampleList { patients: shared.examples.list().map(patient).collect() })
}

/// Returns a file of an example patient.
#[utoipa::path(get, path = "/v1/examples/{patient}/{file}", params(("patient" = String, Path), ("file" = String, Path)),
    responses((status = 200, description = "contents of the file"), (status = 401, description = "missing or wrong token"), (status = 404, description = "no such example")))]
pub async fn file(
    State(shared): State<Arc<Shared>>,
    Path((patient, file)): Path<(String, String)>,
) -> Result<Response> {
    let path = shared.examples.file(&patient, &file).map(std::path::Path::to_path_buf);
    let path = path.ok_or_else(|| Error::NotFound("no such example; see /v1/examples".into()))?;
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(|_| Error::Internal)?;
    let bytes = read.map_err(|_| Error::NotFound("the file of this example no longer exists".into()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(bytes)).into_response())
}
