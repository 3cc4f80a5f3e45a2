//! Models, indexes and limits, and the router.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{get, post};
use medst::infer::Engine;
use medst::infer::calibrate::Calibration;
use medst::infer::classes::{Classes, Prototypes};
use medst::infer::compare::Sentences;
use medst::infer::course::CourseCalibration;
use medst::infer::search::Index;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::Keys;
use crate::config::{Limits, ServeConfig};
use crate::connections::Connections;
use crate::examples::Examples;
use crate::memory::{Memory, Wanted};
use crate::metrics::Metrics;
use crate::origin::Hosts;
use crate::worker::{Decoding, Worker};
use crate::{Error, Result, api, auth, error, limits, openapi, origin, page, reference};

/// Sentences that are kept embedded for each model.
const KEPT: usize = 256;

/// A model that is served.
pub struct Model {
    pub worker: Worker,
    /// SHA-256 of the weights.
    pub checksum: String,
    /// Embedding width.
    pub width: usize,
    pub side: usize,
    pub window: usize,
    /// Patches per row and per column of the model's input.
    pub patches: usize,
    calibrations: Vec<Calibration>,
    courses: Option<Arc<CourseCalibration>>,
    prototypes: Mutex<HashMap<String, Arc<Prototypes>>>,
    sentences: Mutex<HashMap<String, Sentences>>,
}

/// Calibration files of a model.
#[derive(Clone, Debug, Default)]
pub struct Calibrations<'a> {
    pub classes: &'a [std::path::PathBuf],
    pub courses: Option<&'a Path>,
}

/// State that all requests share.
pub struct Shared {
    /// Models by name. Requests that name no model use the first.
    models: Vec<(String, Model)>,
    indexes: BTreeMap<String, (Arc<Index>, String)>,
    pub examples: Examples,
    /// Host names by which requests may address the service.
    pub hosts: Hosts,
    pub keys: Option<Keys>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    /// Requests that may be in progress.
    pub places: Semaphore,
    pub memory: Arc<Memory>,
    pub connections: Arc<Connections>,
    /// Pictures that are decoded at the same time.
    cores: Arc<Semaphore>,
    pub decoding: Decoding,
    pub ending: AtomicBool,
}

/// A service that is being put together.
pub struct Service {
    shared: Shared,
}

impl Service {
    /// # Errors
    /// Less memory than the largest body needs.
    pub fn new(config: &ServeConfig) -> Result<Service> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Service {
            shared: Shared {
                models: Vec::new(),
                indexes: BTreeMap::new(),
                examples: Examples::default(),
                hosts: config.hosts.clone(),
                keys: config.keys.clone(),
                limits: config.limits,
                metrics: Arc::new(Metrics::default()),
                places: Semaphore::new(config.limits.requests),
                memory: Arc::new(Memory::new(config.limits.memory, config.limits.body)?),
                connections: Arc::new(Connections::new(config.limits.connections, config.limits.peer_connections)),
                cores: Arc::new(Semaphore::new(cores)),
                decoding: Decoding::default(),
                ending: AtomicBool::new(false),
            },
        })
    }

    /// Adds a model. Requests that name no model use the first.
    ///
    /// # Errors
    /// A name that is taken, or calibrations of another model.
    pub fn add_model(&mut self, name: &str, engine: Engine, files: &Calibrations<'_>) -> Result<()> {
        let fail = |error: medst::Error| Error::Config(error.to_string());
        if name.is_empty() || self.shared.models.iter().any(|own| own.0 == name) {
            return Err(Error::Config(format!("two models have the name `{name}`; rename one with --model NAME=PATH")));
        }
        let calibrations = files.classes.iter().map(|path| Calibration::open(path, &engine));
        let model = Model {
            calibrations: calibrations.collect::<Result<_, _>>().map_err(fail)?,
            courses: files
                .courses
                .map(|path| CourseCalibration::read(path, &engine))
                .transpose()
                .map_err(fail)?
                .map(Arc::new),
            checksum: engine.checksum().to_string(),
            width: engine.width(),
            side: engine.preprocessing().side(),
            window: engine.reader().window(),
            patches: (engine.model().config.image.size / engine.model().config.image.patch) as usize,
            worker: Worker::start(
                name,
                engine,
                self.shared.limits.queue,
                self.shared.metrics.clone(),
                self.shared.decoding.clone(),
            )
            .map_err(|source| Error::Listen { address: "a thread for the model".into(), source })?,
            prototypes: Mutex::default(),
            sentences: Mutex::default(),
        };
        self.shared.models.push((name.to_string(), model));
        Ok(())
    }

    /// Adds an index, which must have been made with one of the models.
    ///
    /// # Errors
    /// An index that cannot be read, of another model, or of a name that is taken.
    pub fn add_index(&mut self, name: &str, path: &Path) -> Result<()> {
        let index = Index::open(path).map_err(|error| Error::Config(error.to_string()))?;
        let model = self.shared.models.iter().find(|own| own.1.checksum == index.model_checksum());
        let model = model.ok_or_else(|| {
            Error::Config(format!(
                "{}: this index was made by a model that is not served; add it with --model",
                path.display()
            ))
        })?;
        let own = (Arc::new(index), model.0.clone());
        match self.shared.indexes.insert(name.to_string(), own) {
            None => Ok(()),
            Some(_) => {
                Err(Error::Config(format!("two indexes have the name `{name}`; rename one with --index NAME=PATH")))
            }
        }
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
        if self.shared.models.is_empty() {
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
        .layer(from_fn_with_state(shared.clone(), auth::check));
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
        .layer(from_fn_with_state(shared.clone(), origin::check))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(secure))
        .layer(from_fn_with_state(shared.clone(), limits::note))
        .with_state(shared)
}

/// Adds headers that tell browsers what they must not do with responses.
async fn secure(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
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

impl Shared {
    /// Does what takes a core, when one is free. The core is free again when the work has ended: neither when the client goes
    /// away nor when the answer is taken. Work of several steps asks between them whether it is still wanted.
    ///
    /// # Errors
    /// Work that failed or panicked.
    pub async fn on_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.cores.clone().acquire_owned().await.map_err(|_| Error::Ending)?;
        let wanted = Wanted::default();
        // This future is dropped when the client disconnects or the time is over.
        let _until = wanted.until_dropped();
        let work = move || {
            let _core = core;
            wanted.check().and_then(|()| wanted.during(|| work(&wanted)))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal)?
    }

    /// The model of a name, or the first.
    ///
    /// # Errors
    /// An unknown name; the message lists the models.
    pub fn model(&self, name: Option<&str>) -> Result<(&str, &Model)> {
        let found = match name {
            None => self.models.first(),
            Some(name) => self.models.iter().find(|own| own.0 == name),
        };
        found.map(|own| (own.0.as_str(), &own.1)).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|own| own.0.as_str()).collect();
            Error::NotFound(format!("unknown model; the models are {}", names.join(", ")))
        })
    }

    pub fn models(&self) -> &[(String, Model)] {
        &self.models
    }

    /// The index of a name, or the only one, with the name of its model.
    ///
    /// # Errors
    /// An unknown name, or no name unless there is exactly one index; the message lists the
    /// indexes.
    pub fn index(&self, name: Option<&str>) -> Result<(Arc<Index>, &str)> {
        let found = match name {
            Some(name) => self.indexes.get(name),
            None => self.indexes.values().next().filter(|_| self.indexes.len() == 1),
        };
        found.map(|(index, model)| (index.clone(), model.as_str())).ok_or_else(|| {
            let names: Vec<&str> = self.indexes.keys().map(String::as_str).collect();
            Error::NotFound(format!("name one of the indexes: {}", names.join(", ")))
        })
    }

    /// Name, model and number of studies.
    pub fn indexes(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.indexes.iter().map(|(name, own)| (name.as_str(), own.1.as_str(), own.0.studies.len()))
    }
}

impl Model {
    /// Classes as directions, embedded once.
    ///
    /// # Errors
    /// A sentence without words or too long.
    pub async fn prototypes(&self, classes: Classes) -> Result<Arc<Prototypes>> {
        let key = classes.checksum();
        if let Some(own) = self.prototypes.lock().ok().and_then(|kept| kept.get(&key).cloned()) {
            return Ok(own);
        }
        let made = Arc::new(self.worker.task(move |engine| Prototypes::new(engine, classes)).await?);
        keep(&self.prototypes, key, made.clone());
        Ok(made)
    }

    /// The sentences of findings, embedded once.
    ///
    /// # Errors
    /// A finding without words or too long.
    pub async fn sentences(&self, findings: &[String]) -> Result<Vec<Sentences>> {
        let mut all = Vec::new();
        for finding in findings {
            let kept = self.sentences.lock().ok().and_then(|kept| kept.get(finding).cloned());
            let own = match kept {
                Some(own) => own,
                None => {
                    let name = finding.clone();
                    let made = self.worker.task(move |engine| Sentences::new(engine, &name)).await?;
                    keep(&self.sentences, finding.clone(), made.clone());
                    made
                }
            };
            all.push(own);
        }
        Ok(all)
    }

    /// The calibration of classes, if there is one.
    pub fn calibration(&self, classes: &Classes) -> Option<&Calibration> {
        self.calibrations.iter().find(|own| own.belongs_to(classes))
    }

    pub fn calibrations(&self) -> &[Calibration] {
        &self.calibrations
    }

    pub fn courses(&self) -> Option<&CourseCalibration> {
        self.courses.as_deref()
    }
}

/// Keeps a value; where there are too many, all others go, so that no client can fill the memory.
fn keep<T>(kept: &Mutex<HashMap<String, T>>, key: String, value: T) {
    if let Ok(mut kept) = kept.lock() {
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, value);
    }
}
