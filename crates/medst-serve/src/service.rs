//! A service that is put together: its models and indexes, and the router of its requests.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use medst_infer::infer::Engine;
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::ServeConfig;
use crate::examples::Examples;
use crate::state::{Calibrations, Shared};
use crate::{Error, Result, api, auth, error, limits, openapi, origin, page, reference};

/// A service that is being put together.
pub struct Service {
    shared: Shared,
}

impl Service {
    /// # Errors
    /// Less memory than the largest body needs.
    pub fn new(config: &ServeConfig) -> Result<Service> {
        Ok(Service { shared: Shared::new(config)? })
    }

    /// Adds a model. Requests that name no model use the first.
    ///
    /// # Errors
    /// A name that is taken, or calibrations of another model.
    pub fn add_model(&mut self, name: &str, engine: Engine, files: &Calibrations<'_>) -> Result<()> {
        self.shared.add_model(name, engine, files)
    }

    /// Adds an index, which must have been made with one of the models.
    ///
    /// # Errors
    /// An index that cannot be read, of another model, or of a name that is taken.
    pub fn add_index(&mut self, name: &str, path: &Path) -> Result<()> {
        self.shared.add_index(name, path)
    }

    /// Offers example patients on the page.
    ///
    /// # Errors
    /// A folder without any.
    pub fn set_examples(&mut self, folder: &Path) -> Result<()> {
        self.shared.examples = Examples::open(folder)?;
        Ok(())
    }

    /// The state of all requests, and the router.
    ///
    /// # Errors
    /// A service without a model.
    pub fn finish(self) -> Result<(Arc<Shared>, Router)> {
        if self.shared.models().is_empty() {
            return Err(Error::Config("no model to serve".into()));
        }
        let shared = Arc::new(self.shared);
        Ok((shared.clone(), router(shared)))
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/v1/models", get(api::models::list))
        .route("/v1/embed", post(api::embed::embed))
        .route("/v1/zero-shot", post(api::zero_shot::classify))
        .route("/v1/predict", post(api::predict::predict))
        .route("/v1/compare", post(api::compare::compare))
        .route("/v1/ground", post(api::ground::ground))
        .route("/v1/search", post(api::search::search))
        .route("/v1/report", post(api::report::report))
        .route("/v1/picture", post(api::picture::picture))
        .route("/v1/examples", get(api::examples::list))
        .route("/v1/examples/{patient}/{file}", get(api::examples::file))
        .layer(from_fn_with_state(shared.clone(), limits::admit))
        .route("/metrics", get(api::models::metrics))
        .layer(from_fn_with_state(shared.clone(), authenticate));
    Router::new()
        .merge(guarded)
        .merge(page::routes())
        .route("/health", get(api::models::health))
        .route("/openapi.json", get(openapi::json))
        .route("/reference", get(reference::page))
        .fallback(|| async { Error::NotFound("not found; see /reference".into()) })
        .method_not_allowed_fallback(|| async { Error::Method })
        .layer(DefaultBodyLimit::max(shared.limits.body))
        .layer(map_response(error::as_json))
        .layer(from_fn_with_state(shared.clone(), check_origin))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(secure))
        .layer(from_fn_with_state(shared.clone(), limits::note))
        .with_state(shared)
}

/// Lets requests with the token or the cookie through; all requests if no token is required.
///
/// # Errors
/// 401 without either.
async fn authenticate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    auth::check(shared.keys.as_ref(), request.headers())?;
    Ok(next.run(request).await)
}

/// Refuses requests to names of others, and requests that pages of other sites make.
///
/// # Errors
/// 400 without a `Host` header, 403 for a foreign host or site.
async fn check_origin(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    origin::check(&shared.hosts, &request)?;
    Ok(next.run(request).await)
}

/// Adds headers that tell browsers what they must not do with responses.
async fn secure(request: Request, next: Next) -> Response {
    use axum::http::{HeaderValue, header};
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The page sets its own policy.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"));
    response
}
