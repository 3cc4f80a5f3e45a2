//! Limits the requests in progress and the time for an answer, and logs and counts every request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::memory::Leaving;
use crate::metrics::Metrics;
use crate::state::Shared;
use crate::{Error, Result};

/// Turns requests away while as many as allowed are in progress, or the service ends. Answers count
/// as memory until they are sent.
///
/// # Errors
/// 429 or 503.
pub async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    if shared.ending.load(Ordering::SeqCst) {
        return Err(Error::Ending);
    }
    let _place = shared.places.try_acquire().map_err(|_| Error::Busy)?;
    let _counted = Counted::new(&shared.metrics);
    let answer = tokio::time::timeout(shared.limits.receive + shared.limits.answer, next.run(request)).await;
    let answer = answer.map_err(|_| Error::Timeout)?;
    let mut held = shared.memory.hold();
    let added = held.add(usize::try_from(answer.body().size_hint().lower()).unwrap_or(usize::MAX));
    added.inspect_err(|_| shared.connections.close_stalled())?;
    Ok(answer.map(|body| Body::new(Leaving::new(body, held))))
}

/// A request in progress, until it is answered or its client disconnects. In the latter case
/// nothing after the wait is run.
struct Counted<'a>(&'a Metrics);

impl Counted<'_> {
    fn new(metrics: &Metrics) -> Counted<'_> {
        metrics.in_flight.inc();
        Counted(metrics)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Notes route, status, sizes and time of every request; nothing of what was sent, so a line has no
/// control characters and a bounded length.
pub async fn note(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_string();
    // Clients may make methods up, of any length.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let method = known.into_iter().find(|known| known == request.method());
    let method = method.as_ref().map_or("other", Method::as_str);
    let length = request.headers().get(axum::http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|value| value.parse::<u64>().ok());
    let response = next.run(request).await;
    let (status, seconds) = (response.status().as_u16(), start.elapsed().as_secs_f64());
    shared.metrics.answered(&route, status, seconds);
    tracing::info!(method, route, status, bytes = length, milliseconds = (seconds * 1e3).round(), "request");
    response
}

/// Answers for a handler that panicked.
pub fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Error::Internal.into_response()
}
