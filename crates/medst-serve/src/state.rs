//! What all requests share: models, indexes and limits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use medst_infer::infer::Engine;
use medst_infer::infer::calibrate::Calibration;
use medst_infer::infer::classes::{Classes, Prototypes};
use medst_infer::infer::course::CourseCalibration;
use medst_infer::infer::search::Index;
use medst_infer::infer::sentences::Sentences;
use tokio::sync::Semaphore;

use crate::auth::Keys;
use crate::config::{Limits, ServeConfig};
use crate::connections::Connections;
use crate::examples::Examples;
use crate::memory::{CancellationToken, Memory};
use crate::metrics::Metrics;
use crate::origin::Hosts;
use crate::worker::{Decoding, Worker};
use crate::{Error, Result};

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

impl Shared {
    /// # Errors
    /// Less memory than the largest body needs.
    pub(crate) fn new(config: &ServeConfig) -> Result<Shared> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Shared {
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
        })
    }

    /// Adds a model. Requests that name no model use the first.
    ///
    /// # Errors
    /// A name that is taken, or calibrations of another model.
    pub(crate) fn add_model(&mut self, name: &str, engine: Engine, files: &Calibrations<'_>) -> Result<()> {
        let fail = |error: medst_model::Error| Error::Config(error.to_string());
        if name.is_empty() || self.models.iter().any(|model| model.0 == name) {
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
            worker: Worker::start(name, engine, self.limits.queue, self.metrics.clone(), self.decoding.clone())
                .map_err(|source| Error::Listen { address: "a thread for the model".into(), source })?,
            prototypes: Mutex::default(),
            sentences: Mutex::default(),
        };
        self.models.push((name.to_string(), model));
        Ok(())
    }

    /// Adds an index, which must have been made with one of the models.
    ///
    /// # Errors
    /// An index that cannot be read, of another model, or of a name that is taken.
    pub(crate) fn add_index(&mut self, name: &str, path: &Path) -> Result<()> {
        let index = Index::open(path).map_err(|error| Error::Config(error.to_string()))?;
        let model = self.models.iter().find(|model| model.1.checksum == index.model_checksum());
        let model = model.ok_or_else(|| {
            Error::Config(format!(
                "{}: this index was made by a model that is not served; add it with --model",
                path.display()
            ))
        })?;
        let named_index = (Arc::new(index), model.0.clone());
        match self.indexes.insert(name.to_string(), named_index) {
            None => Ok(()),
            Some(_) => {
                Err(Error::Config(format!("two indexes have the name `{name}`; rename one with --index NAME=PATH")))
            }
        }
    }

    /// Does what takes a core, when one is free. The core is free again when the work has ended:
    /// neither when the client goes away nor when the answer is taken. Work of several steps asks
    /// between them whether it was cancelled.
    ///
    /// # Errors
    /// Work that failed or panicked.
    pub async fn on_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancellationToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.cores.clone().acquire_owned().await.map_err(|_| Error::Ending)?;
        let cancellation = CancellationToken::default();
        // This future is dropped when the client disconnects or the time is over.
        let _guard = cancellation.cancel_on_drop();
        let work = move || {
            let _core = core;
            cancellation.check().and_then(|()| cancellation.during(|| work(&cancellation)))
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
            Some(name) => self.models.iter().find(|model| model.0 == name),
        };
        found.map(|model| (model.0.as_str(), &model.1)).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| model.0.as_str()).collect();
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
        self.indexes.iter().map(|(name, index)| (name.as_str(), index.1.as_str(), index.0.studies.len()))
    }
}

impl Model {
    /// Classes as directions, embedded once.
    ///
    /// # Errors
    /// A sentence without words or too long.
    pub async fn prototypes(&self, classes: Classes) -> Result<Arc<Prototypes>> {
        let key = classes.checksum();
        if let Some(prototypes) = self.prototypes.lock().ok().and_then(|kept| kept.get(&key).cloned()) {
            return Ok(prototypes);
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
            let sentences = match kept {
                Some(sentences) => sentences,
                None => {
                    let name = finding.clone();
                    let made = self.worker.task(move |engine| Sentences::new(engine, &name)).await?;
                    keep(&self.sentences, finding.clone(), made.clone());
                    made
                }
            };
            all.push(sentences);
        }
        Ok(all)
    }

    /// The calibration of classes, if there is one.
    pub fn calibration(&self, classes: &Classes) -> Option<&Calibration> {
        self.calibrations.iter().find(|calibration| calibration.belongs_to(classes))
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
