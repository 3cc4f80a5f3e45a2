//! Evaluation of a model, or of vectors that Python holds, by the tasks of the command
//! `medst eval`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use medst_data::corpus::Corpus;
use medst_data::json;
use medst_data::progress::Progress;
use medst_data::split::Split;
use medst_infer::eval::Vectors;
use medst_infer::eval::encode::{Encoder, ModelEncoder, RowVectors, Studies};
use medst_infer::eval::report::Evaluation;
use medst_infer::eval::result::{Protocol, Task};
use medst_infer::eval::suite::{CorpusPart, Suite};
use medst_infer::infer::Origin;
use medst_infer::stats::bootstrap::Bootstrap;
use medst_model::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::array::Lent;
use crate::data;
use crate::engine::Engine;
use crate::errors;
use crate::task::{self, Watched};

/// The options of an evaluation, with the names of `medst.evaluate`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct EvaluationOptions {
    tasks: Vec<String>,
    protocol: String,
    split: Option<String>,
    label: Option<String>,
    by: Vec<String>,
    replicates: usize,
    seed: u64,
}

impl EvaluationOptions {
    fn suite(self, py: Python<'_>) -> PyResult<Suite> {
        let task = |name: &String| {
            name.parse::<Task>().map_err(|expected| errors::input(py, format!("task \"{name}\": {expected}")))
        };
        let protocol = self
            .protocol
            .parse::<Protocol>()
            .map_err(|expected| errors::input(py, format!("protocol=\"{}\": {expected}", self.protocol)))?;
        let part = match self.split.as_deref() {
            None => CorpusPart::HeldOut,
            Some("all") => CorpusPart::All,
            Some(name) => CorpusPart::Of(Split::parse(name).ok_or_else(|| {
                errors::input(py, format!("split=\"{name}\": expected train, validate, test or all"))
            })?),
        };
        let mut tasks: Vec<Task> = self.tasks.iter().map(task).collect::<PyResult<_>>()?;
        tasks.sort();
        tasks.dedup();
        let bootstrap = Bootstrap { replicates: self.replicates, seed: self.seed };
        Ok(Suite { tasks, protocol, bootstrap, part, label: self.label, by: self.by })
    }
}

/// Vectors in memory: one row per study of the corpus, NaN for a study without a vector.
struct Held {
    images: Vectors,
    reports: Option<Vectors>,
    features: Option<Vectors>,
    texts: Option<(HashMap<String, usize>, Vectors)>,
}

impl Encoder for Held {
    fn origin(&self) -> Origin {
        let width = ("embedding width".to_string(), self.images.width().to_string());
        Origin { name: "embeddings from Python".into(), properties: vec![width], ..Origin::default() }
    }

    fn studies(&self, _: &Corpus, rows: &[usize], _: &dyn Progress) -> Result<Studies> {
        let place = |vectors: &Vectors| RowVectors::new(vectors.select(rows), rows);
        let none = || RowVectors::new(self.images.select(&[]), &[]);
        Ok(Studies {
            features: self.features.as_ref().map(place),
            images: place(&self.images),
            reports: self.reports.as_ref().map_or_else(none, place),
        })
    }

    fn texts(&self, texts: &[String]) -> Result<Vectors> {
        let Some((places, vectors)) = &self.texts else {
            return Err(Error::Evaluation(
                "this task compares texts; give `texts`, with a vector for each text of `evaluation_texts`".into(),
            ));
        };
        let missing = |text: &String| {
            Error::Evaluation(format!("the text “{text}” has no vector; give one for each text of `evaluation_texts`"))
        };
        let rows = texts.iter().map(|text| places.get(text).copied().ok_or_else(|| missing(text)));
        Ok(vectors.select(&rows.collect::<Result<Vec<usize>>>()?))
    }
}

/// Evaluates vectors; returns the result as JSON and as text.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "all that vectors may come with, called by name from one place")]
pub fn evaluate_vectors(
    py: Python<'_>,
    options: EvaluationOptions,
    corpus: &data::Corpus,
    images: Bound<'_, PyCapsule>,
    reports: Option<Bound<'_, PyCapsule>>,
    features: Option<Bound<'_, PyCapsule>>,
    texts: Option<(Vec<String>, Bound<'_, PyCapsule>)>,
    show: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let suite = options.suite(py)?;
    let studies = corpus.corpus.studies().len();
    let read = |what: &str, capsule: Bound<'_, PyCapsule>, expected: usize| {
        let vectors = Vectors::from_tensor(&Lent::new(&capsule)?.tensor);
        let vectors = vectors.map_err(|error| errors::exception(py, error))?;
        if vectors.len() == expected {
            return Ok(vectors);
        }
        Err(errors::input(py, format!("{what}: expected {expected} rows, not {}", vectors.len())))
    };
    let texts = texts.map(|(texts, capsule)| {
        let vectors = read("texts", capsule, texts.len())?;
        PyResult::Ok((texts.into_iter().enumerate().map(|(row, text)| (text, row)).collect(), vectors))
    });
    let held = Held {
        images: read("embeddings", images, studies)?,
        reports: reports.map(|vectors| read("reports", vectors, studies)).transpose()?,
        features: features.map(|vectors| read("features", vectors, studies)).transpose()?,
        texts: texts.transpose()?,
    };
    let corpus = corpus.corpus.clone();
    task::run(py, show.as_ref(), move |watched| evaluate(&suite, &held, &corpus, watched))
}

/// Evaluates a model; returns the result as JSON and as text.
#[pyfunction]
pub fn evaluate_model(
    py: Python<'_>,
    options: EvaluationOptions,
    corpus: &data::Corpus,
    engine: &Engine,
    show: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let suite = options.suite(py)?;
    let corpus: Arc<Corpus> = corpus.corpus.clone();
    task::run(py, show.as_ref(), |watched| {
        let engine = engine.engine.lock().unwrap_or_else(PoisonError::into_inner);
        evaluate(&suite, &ModelEncoder::from(&*engine), &corpus, watched)
    })
}

fn evaluate(suite: &Suite, encoder: &dyn Encoder, corpus: &Corpus, watched: &Watched) -> Result<(String, String)> {
    let results = suite.run(encoder, std::slice::from_ref(corpus), watched)?;
    let command = vec!["medst.evaluate".to_string()];
    let evaluation = Evaluation::new(command, encoder.origin(), suite.protocol, suite.bootstrap, results);
    Ok((json::text(&evaluation), evaluation.to_string()))
}

/// The texts that tasks compare.
#[pyfunction]
pub fn evaluation_texts(py: Python<'_>, options: EvaluationOptions, corpus: &data::Corpus) -> PyResult<Vec<String>> {
    let suite = options.suite(py)?;
    Ok(py.detach(|| suite.texts(std::slice::from_ref(corpus.corpus.as_ref()))))
}
