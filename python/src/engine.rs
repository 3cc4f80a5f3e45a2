//! A model in use, for `medst.Model`; see `medst/model.py`, which calls this, for the user
//! documentation.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use medst_data::hub;
use medst_data::image::Decoding;
use medst_data::image::dicom::Window;
use medst_data::json;
use medst_infer::eval::Vectors;
use medst_infer::infer::align::Alignment;
use medst_infer::infer::calibrate::Calibration;
use medst_infer::infer::classes::{Class, ClassKind, Classes, Prototypes};
use medst_infer::infer::compare::{self, TimePoint};
use medst_infer::infer::course::CourseCalibration;
use medst_infer::infer::draw::Canvas;
use medst_infer::infer::ground::ground;
use medst_infer::infer::sentences::Sentences;
use medst_infer::infer::zero_shot::probabilities;
use medst_infer::infer::{Limits, Preprocessing, Text, Views};
use medst_model::model::view_experts::View;
use medst_model::{Error, Result};
use pyo3::prelude::*;
use rayon::prelude::*;
use tch::Device;

use crate::array::Array;
use crate::errors;
use crate::pictures::Study;
use crate::task;

/// A loaded model. Calls from several threads take turns.
#[pyclass(frozen, module = "medst._medst")]
pub struct Engine {
    pub(crate) engine: Mutex<medst_infer::infer::Engine>,
    preprocessing: Preprocessing,
}

/// Rows of float32 that arrive batch by batch.
#[pyclass(frozen, module = "medst._medst")]
pub struct Rows {
    values: Mutex<Vec<f32>>,
    width: usize,
}

impl Rows {
    fn values(&self) -> MutexGuard<'_, Vec<f32>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Rows {
    #[new]
    fn new(width: usize) -> Rows {
        Rows { values: Mutex::new(Vec::new()), width: width.max(1) }
    }

    fn __len__(&self) -> usize {
        self.values().len() / self.width
    }

    /// Returns all rows and leaves this empty.
    fn take(&self) -> Array {
        Array::of_rows(std::mem::take(&mut *self.values()), self.width)
    }
}

/// A class and its sentences.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct ClassSentences {
    name: String,
    positive: Vec<String>,
    negative: Vec<String>,
}

/// Sizes of a model, as a dict.
#[derive(IntoPyObject)]
pub struct Sizes {
    /// Of embeddings.
    width: usize,
    /// Of features.
    feature_width: usize,
    /// The longest text in tokens.
    window: usize,
    /// The side of the model's input in pixels.
    side: usize,
}

/// The name of a view and its heat map `[S, S]`.
type Heat = (String, Array);
/// A phrase: its description as JSON; heat maps; cosines and attention, `[W, K]`, `[W, K]`,
/// `[K, W]`.
type Phrase = (String, Vec<Heat>, [Array; 3]);

impl Engine {
    fn lock(&self) -> MutexGuard<'_, medst_infer::infer::Engine> {
        // A model has no state that a panic could leave inconsistent.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decoded(&self, studies: &[Study]) -> Result<Vec<Views>> {
        studies.par_iter().map(|study| study.views(self.preprocessing)).collect()
    }
}

#[pymethods]
impl Engine {
    /// * `device`: `auto`, `cpu`, `cuda`; `window`: `declared`, `reference`; `batch`: pictures
    ///   computed at once.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        device: &str,
        exact: bool,
        window: &str,
        batch: usize,
        show: Option<Py<PyAny>>,
    ) -> PyResult<Engine> {
        let device = match (device, (device != "cpu").then(medst_model::device::cuda).flatten()) {
            ("auto" | "cpu", None) => Device::Cpu,
            ("auto" | "cuda", Some(found)) => found,
            ("cuda", None) => return Err(errors::input(py, "device=\"cuda\": torch finds no CUDA device")),
            _ => return Err(errors::input(py, format!("device=\"{device}\": expected auto, cpu or cuda"))),
        };
        let window = Window::parse(window).ok_or_else(|| {
            errors::input(py, format!("window=\"{window}\": expected {}", Window::ALL.map(Window::name).join(" or ")))
        })?;
        let engine = task::run(py, show.as_ref(), move |watched| {
            let path = hub::local_with(&path, watched)?;
            let mut engine = medst_infer::infer::Engine::open(&path, device)?;
            engine.limits = Limits::of_images(batch);
            engine.set_decoding(Decoding { exact, window });
            Ok(engine)
        })?;
        let preprocessing = engine.preprocessing();
        Ok(Engine { engine: Mutex::new(engine), preprocessing })
    }

    /// Its description: path, card (JSON), checksum of the weights, device.
    fn about(&self) -> PyResult<(String, String, String, String)> {
        let engine = self.lock();
        let card = json::text(engine.card());
        let device = match engine.model().device() {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "cpu".to_string(),
        };
        Ok((engine.path().display().to_string(), card, engine.checksum().to_string(), device))
    }

    fn sizes(&self) -> Sizes {
        let engine = self.lock();
        Sizes {
            width: engine.width(),
            feature_width: engine.model().config.image.hidden_size as usize,
            window: engine.reader().window(),
            side: self.preprocessing.side(),
        }
    }

    /// Adds embeddings (or features) of studies to `rows`.
    fn embed_images(&self, py: Python<'_>, studies: Vec<Study>, rows: &Rows, features: bool) -> PyResult<()> {
        let vectors = task::run(py, None, |watched| {
            let views = self.decoded(&studies)?;
            watched.go_on()?;
            let found = self.lock().images(&views.iter().collect::<Vec<_>>())?;
            Ok(if features { found.features } else { found.embeddings })
        })?;
        rows.values().extend_from_slice(vectors.values());
        Ok(())
    }

    /// Adds embeddings of texts to `rows`; returns how many were cut off. `prompts`: texts are
    /// never cut off; a text that is too long is refused.
    fn embed_texts(&self, py: Python<'_>, texts: Vec<(String, String)>, rows: &Rows, prompts: bool) -> PyResult<usize> {
        let (vectors, truncated) = task::run(py, None, |watched| {
            let reader = self.lock().reader().clone();
            let read = |(name, text): &(String, String)| match prompts {
                true => reader.prompt(text).map_err(|error| Error::Input(format!("{name}: {error}"))),
                false => reader.report(text).map_err(|reason| Error::Input(format!("{name}: {reason}"))),
            };
            let texts: Vec<Text> = texts.par_iter().map(read).collect::<Result<_>>()?;
            watched.go_on()?;
            let vectors = self.lock().texts(&texts.iter().collect::<Vec<_>>())?;
            Ok((vectors, texts.iter().filter(|text| text.truncated).count()))
        })?;
        rows.values().extend_from_slice(vectors.values());
        Ok(truncated)
    }

    /// Scores and probabilities `[n, C]` of embedded images; names of the classes; what the
    /// probabilities were calibrated on.
    fn classify(
        &self,
        py: Python<'_>,
        rows: &Rows,
        file: Option<PathBuf>,
        classes: Vec<ClassSentences>,
        exclusive: bool,
        calibration: Option<PathBuf>,
    ) -> PyResult<(Vec<String>, Array, Array, Option<String>)> {
        let images = std::mem::take(&mut *rows.values());
        let width = rows.width;
        task::run(py, None, move |_| {
            let kind = if exclusive { ClassKind::Exclusive } else { ClassKind::Findings };
            let class = |ClassSentences { name, positive, negative }| Class { name, positive, negative };
            let classes = match file {
                Some(file) => Classes::read(&file)?,
                None => Classes::new(kind, classes.into_iter().map(class).collect())?,
            };
            let engine = self.lock();
            let calibration = calibration.map(|file| Calibration::read(&file, &engine, &classes)).transpose()?;
            let prototypes = Prototypes::new(&engine, classes)?;
            let kind = prototypes.classes.kind;
            let scores: Vec<Vec<f64>> = images.chunks_exact(width).map(|image| prototypes.scores(image)).collect();
            let likely: Vec<f64> =
                scores.iter().flat_map(|scores| probabilities(kind, calibration.as_ref(), scores)).collect();
            let names: Vec<String> = prototypes.classes.names().into_iter().map(str::to_string).collect();
            let shape = vec![scores.len() as i64, names.len() as i64];
            let (scores, likely) = (Array::of_values(scores.concat(), shape.clone()), Array::of_values(likely, shape));
            Ok((names, scores, likely, calibration.map(|calibration| calibration.source)))
        })
    }

    /// Names and probabilities `[n, O]` of the model's head for image features; `[n - 1, O]` for a
    /// change.
    fn predict(&self, py: Python<'_>, rows: &Rows) -> PyResult<(Vec<String>, Array)> {
        let (values, width) = (std::mem::take(&mut *rows.values()), rows.width);
        task::run(py, None, move |_| {
            let engine = self.lock();
            let names = engine.head()?.config.names();
            // A call without rows asks whether the model has a head.
            let found = if values.is_empty() { Vec::new() } else { engine.predict(&Vectors::new(values, width)?)? };
            let shape = vec![found.len() as i64, names.len() as i64];
            Ok((names, Array::of_values(found.concat(), shape)))
        })
    }

    /// A comparison as JSON and as a table.
    fn compare(
        &self,
        py: Python<'_>,
        studies: Vec<Study>,
        findings: Vec<String>,
        calibration: Option<PathBuf>,
    ) -> PyResult<(String, String)> {
        task::run(py, None, |watched| {
            let views = self.decoded(&studies)?;
            watched.go_on()?;
            let engine = self.lock();
            let point = |(study, views): (&Study, Views)| {
                let read = |report: &String| {
                    let text = engine.reader().report(report);
                    text.map_err(|reason| Error::Input(format!("{}: {reason}", study.name)))
                };
                let report = study.report.as_ref().map(read).transpose()?;
                Ok(TimePoint { name: study.name.clone(), day: study.day, views, report })
            };
            let points: Vec<TimePoint> = studies.iter().zip(views).map(point).collect::<Result<_>>()?;
            let findings: Vec<Sentences> =
                findings.iter().map(|name| Sentences::new(&engine, name)).collect::<Result<_>>()?;
            let calibration = calibration.map(|file| CourseCalibration::read(&file, &engine)).transpose()?;
            let found = compare::compare(&engine, &points, &findings, calibration.as_ref())?;
            Ok((json::text(&found), found.to_string()))
        })
    }

    /// Grounds phrases in the pictures of a study.
    fn ground(&self, py: Python<'_>, study: Study, phrases: Vec<String>, threshold: f32) -> PyResult<Vec<Phrase>> {
        task::run(py, None, |watched| {
            let (views, canvases) = (study.views(self.preprocessing)?, study.canvases(self.preprocessing)?);
            watched.go_on()?;
            let alignments = {
                let engine = self.lock();
                let texts: Vec<Text> =
                    phrases.iter().map(|phrase| engine.reader().prompt(phrase)).collect::<Result<_, _>>()?;
                engine.align(&vec![&views; texts.len()], &texts.iter().collect::<Vec<_>>())?
            };
            let shown: Vec<(View, &Canvas)> = [View::Frontal, View::Lateral]
                .into_iter()
                .zip(&canvases)
                .filter_map(|(view, canvas)| Some((view, canvas.as_ref()?)))
                .collect();
            Ok(phrases
                .iter()
                .zip(&alignments)
                .map(|(phrase, alignment)| described(phrase, alignment, &shown, threshold))
                .collect())
        })
    }
}

/// A grounded phrase for Python.
fn described(phrase: &str, alignment: &Alignment, shown: &[(View, &Canvas)], threshold: f32) -> Phrase {
    let grounded = ground(phrase, alignment, shown, threshold, false);
    let text = serde_json::json!({
        "grounded": grounded,
        "word_importance": alignment.word_importance,
        "patch_importance": alignment.patch_importance,
        "grid": alignment.grid.side,
    });
    let heat = |view: &View| {
        let map = alignment.heat(*view)?;
        let name = if *view == View::Frontal { "frontal" } else { "lateral" };
        Some((name.to_string(), Array::of_rows(map.values, map.side)))
    };
    let matrices = [&alignment.similarity, &alignment.words_to_patches, &alignment.patches_to_words];
    let matrices = matrices.map(|matrix| Array::of_rows(matrix.values().to_vec(), matrix.width()));
    (text.to_string(), alignment.views.iter().filter_map(heat).collect(), matrices)
}
