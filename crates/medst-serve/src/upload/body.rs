//! Reading a request's body, JSON or multipart, within the bounds of bytes, parts and values.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::parts::{UploadPart, from_json};
use crate::memory::{Arriving, Held};
use crate::state::Shared;
use crate::{Error, Result};

/// Time for a body that is not wanted.
const DISCARD: Duration = Duration::from_secs(1);
/// Parts of a body.
const MOST_PARTS: usize = 256;

/// Reads a request of either kind, and returns it together with the memory that it occupies.
///
/// # Errors
/// A body of another kind, too large, or invalid; 429 while too little memory is free for it.
pub async fn read<T: DeserializeOwned>(request: Request, shared: &Arc<Shared>) -> Result<(T, Arc<Mutex<Held>>)> {
    let (parts, body) = request.into_parts();
    let body = Arriving::new(body, shared.memory.hold());
    let (held, full) = (body.held(), body.full());
    match value(Request::from_parts(parts, Body::new(body)), shared).await {
        Err(_) if full.load(Ordering::SeqCst) => {
            shared.connections.close_stalled();
            Err(Error::Busy)
        }
        value => Ok((value?, held)),
    }
}

async fn value<T: DeserializeOwned>(request: Request, shared: &Arc<Shared>) -> Result<T> {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > shared.limits.body as u64) {
        discard(request.into_body(), shared).await;
        return Err(too_large(shared));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => {
            let bytes = Bytes::from_request(request, shared).await.map_err(|error| refused(error.status(), shared))?;
            from_json(&bytes).map_err(|error| Error::Bad(format!("invalid JSON: {error}")))
        }
        "multipart/form-data" => {
            let parts = Multipart::from_request(request, shared).await;
            let parts = multipart(parts.map_err(|error| Error::Bad(error.body_text()))?, shared).await?;
            T::deserialize(parts).map_err(|error| Error::Bad(error.to_string()))
        }
        _ => Err(Error::MediaType),
    }
}

/// Reads what a client is sending and keeps nothing: a client that is cut off while it sends may
/// not see the answer.
async fn discard(mut body: Body, shared: &Shared) {
    let mut seen = 0;
    let all = async {
        while seen < shared.limits.body {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    };
    // It gets an answer all the same.
    let _ = tokio::time::timeout(DISCARD.min(shared.limits.receive / 2), all).await;
}

fn refused(status: StatusCode, shared: &Shared) -> Error {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(shared),
        _ => Error::Bad("the body is incomplete".into()),
    }
}

fn too_large(shared: &Shared) -> Error {
    Error::TooLarge(format!("the body is too large (limit {} bytes)", shared.limits.body))
}

async fn multipart(mut parts: Multipart, shared: &Shared) -> Result<UploadPart> {
    let fail = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(shared),
        _ => Error::Bad(format!("invalid multipart body: {}", error.body_text())),
    };
    let (mut body, mut count) = (UploadPart::nothing(), 0);
    while let Some(part) = parts.next_field().await.map_err(fail)? {
        count += 1;
        if count > MOST_PARTS {
            return Err(Error::TooLarge(format!("the body has too many parts (limit {MOST_PARTS})")));
        }
        let name = part.name().unwrap_or_default().to_string();
        let kind = part.content_type().unwrap_or_default().to_ascii_lowercase();
        let is_file = part.file_name().is_some();
        let bytes = part.bytes().await.map_err(fail)?;
        if name == "request" {
            body.merge(&bytes)?;
            continue;
        }
        let part = match kind.as_str() {
            "application/json" if !is_file => {
                let value = from_json::<serde_json::Value>(&bytes);
                UploadPart::from(value.map_err(|error| Error::Bad(format!("part {name:?}: {error}")))?)
            }
            kind if !is_file && (kind.is_empty() || kind.starts_with("text/")) => {
                let text = String::from_utf8(bytes.into());
                let text = text.map_err(|_| Error::Bad(format!("part {name:?} is not UTF-8")))?;
                UploadPart::Text { name: name.clone(), text }
            }
            _ => UploadPart::File { name: name.clone(), bytes },
        };
        body.place(&name, part)?;
    }
    Ok(body)
}
