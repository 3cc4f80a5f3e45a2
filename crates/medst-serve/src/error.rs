//! Errors of the service, and how clients see them: a status and `{"error": {"code", "message"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use medst_infer::infer::text::TextError;
use serde::Serialize;
use utoipa::ToSchema;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0}")]
    Config(String),

    #[error("{address}: {source}")]
    Listen { address: String, source: std::io::Error },

    /// A request that cannot be understood or answered.
    #[error("{0}")]
    Bad(String),

    /// A report that cannot be read. Clients may repeat the request without it.
    #[error("{0}")]
    Report(String),

    #[error(
        "missing or wrong token: send the header Authorization: Bearer TOKEN, or open the link that the service \
         printed at start-up"
    )]
    Unauthorized,

    /// `Host` is not one of the service's names.
    #[error("the host name {0:?} is not allowed; start the service with --allow-host NAME to allow a name")]
    Host(String),

    #[error("requests from pages of other sites are not allowed (see the headers Origin and Sec-Fetch-Site)")]
    CrossSite,

    #[error("{0}")]
    NotFound(String),

    #[error("method not allowed; see /reference")]
    Method,

    #[error("the request was received too slowly")]
    Slow,

    #[error("{0}")]
    TooLarge(String),

    #[error("unsupported content type; send application/json or multipart/form-data")]
    MediaType,

    /// Come back later.
    #[error("too many requests; try again in a moment")]
    Busy,

    #[error("the service is shutting down")]
    Ending,

    #[error("the request timed out")]
    Timeout,

    #[error("internal error; the log of the service has details")]
    Internal,
}

/// Body of an error response.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable code for programs, such as `too_large`.
    pub code: &'static str,
    /// Explanation for people.
    pub message: String,
}

impl Error {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Error::Bad(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Error::Report(_) => (StatusCode::BAD_REQUEST, "unreadable_report"),
            Error::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            Error::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Error::Host(_) => (StatusCode::FORBIDDEN, "host"),
            Error::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Error::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Error::Slow => (StatusCode::REQUEST_TIMEOUT, "slow_request"),
            Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Error::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Error::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
            Error::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Error::Config(_) | Error::Listen { .. } | Error::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }
}

impl From<medst_model::Error> for Error {
    fn from(error: medst_model::Error) -> Error {
        match error {
            medst_model::Error::Input(message) | medst_model::Error::Config(message) => Error::Bad(message),
            // Other messages name internal paths and tensors, which clients must not see.
            _ => Error::Internal,
        }
    }
}

impl From<TextError> for Error {
    fn from(error: TextError) -> Error {
        Error::Bad(error.to_string())
    }
}

/// Characters of a message; what a client sent, which messages quote, can be much longer.
const LONGEST: usize = 500;
/// Characters kept of its end, which states what was expected.
const END: usize = 200;

fn shortened(message: String) -> String {
    let offset = |index: usize| message.char_indices().map(|(at, _)| at).nth(index);
    let offset_from_end = |index: usize| message.char_indices().rev().map(|(at, _)| at).nth(index);
    match (offset(LONGEST), offset(LONGEST - END), offset_from_end(END - 1)) {
        (Some(_), Some(start), Some(end)) => format!("{}…{}", &message[..start], &message[end..]),
        _ => message,
    }
}

/// The same form for errors that occur before a handler is called, such as paths that are not
/// UTF-8.
pub async fn as_json(mut response: Response) -> Response {
    let status = response.status();
    let is_json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    let failed = status.is_client_error() || status.is_server_error();
    if failed && !response.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
        let message = status.canonical_reason().unwrap_or("error").to_lowercase();
        let code = if status.is_client_error() { "bad_request" } else { "internal" };
        let body = Json(ErrorBody { error: ErrorDetail { code, message } }).into_response();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.into_body();
    }
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let body = ErrorBody { error: ErrorDetail { code, message: shortened(self.to_string()) } };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self {
            Error::Busy => _ = headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
            Error::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body is not read.
            Error::Slow | Error::TooLarge(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_whatever_they_quote() {
        assert_eq!(shortened("é".repeat(LONGEST)).chars().count(), LONGEST);
        let long = shortened(format!("class {}: shorten it", "é".repeat(1 << 20)));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.starts_with("class é") && long.contains("é…é") && long.ends_with(": shorten it"));
    }
}
