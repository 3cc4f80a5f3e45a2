//! The OpenAPI document of the service, generated from the handlers.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::api;

#[derive(OpenApi)]
#[openapi(
    info(title = "medst", description = "Med-ST models of chest radiographs over HTTP. Research software, not a medical device."),
    paths(
        api::embed::embed,
        api::zero_shot::classify,
        api::predict::predict,
        api::compare::compare,
        api::ground::ground,
        api::search::search,
        api::report::report,
        api::picture::picture,
        api::examples::list,
        api::examples::file,
        api::models::list,
        api::models::health,
        api::models::metrics,
    ),
    components(schemas(crate::error::ErrorBody)),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Interface;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
    }
}

/// The document.
pub fn document() -> Document {
    Interface::openapi()
}

/// Built once, because it takes milliseconds and requires no token.
static TEXT: LazyLock<String> = LazyLock::new(|| medst_data::json::text(&document()));

/// `GET /openapi.json`.
pub async fn json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
