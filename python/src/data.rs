//! Corpora, phantom cohorts and the preparation of corpora, for `medst/corpus.py` and
//! `medst/cohort.py`.

use std::path::PathBuf;
use std::sync::Arc;

use medst_data::corpus;
use medst_data::image::Decoding;
use medst_data::import::{Labels, PrepareOptions, prepare_table as prepare};
use medst_data::json;
use medst_data::report::Rule;
use medst_data::sequence::Chunks;
use medst_data::split::Split;
use medst_data::study::ImageIndex;
use medst_phantom::{Difficulty, Layout, PhantomOptions};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};

use crate::errors;
use crate::task;

/// A corpus on disk; pictures are read on request.
#[pyclass(frozen, module = "medst._medst")]
pub struct Corpus {
    pub(crate) corpus: Arc<corpus::Corpus>,
}

#[pymethods]
impl Corpus {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Corpus> {
        let corpus = task::run(py, None, move |_| Ok(corpus::Corpus::open(&path)?))?;
        Ok(Corpus { corpus: Arc::new(corpus) })
    }

    fn __len__(&self) -> usize {
        self.corpus.studies().len()
    }

    /// `corpus.json`.
    fn manifest(&self) -> String {
        json::text(self.corpus.manifest())
    }

    #[getter]
    fn image_size(&self) -> usize {
        self.corpus.image_size()
    }

    #[getter]
    fn fingerprint(&self) -> String {
        self.corpus.fingerprint()
    }

    /// Rows of a split, or of all.
    fn rows(&self, py: Python<'_>, split: Option<&str>) -> PyResult<Vec<usize>> {
        let split = split.map(|name| parse_split(py, name)).transpose()?;
        let studies = self.corpus.studies().iter().enumerate();
        Ok(studies.filter(|(_, study)| split.is_none_or(|split| study.split == split)).map(|(row, _)| row).collect())
    }

    /// All that is known about a study except its pictures, which are given by their numbers.
    fn study<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyDict>> {
        let study = self.corpus.studies().get(row).ok_or_else(|| PyIndexError::new_err("no such study"))?;
        let fields = PyDict::new(py);
        fields.set_item("study_id", &study.study.0)?;
        fields.set_item("subject_id", &study.subject.0)?;
        fields.set_item("split", study.split.name())?;
        fields.set_item("day", study.acquired.map(|day| day.0))?;
        fields.set_item("report", study.report.as_deref())?;
        fields.set_item("labels", &study.labels)?;
        fields.set_item("frontal", study.frontal.0)?;
        fields.set_item("lateral", study.lateral.map(|image| image.0))?;
        fields.set_item(
            "alternative_frontals",
            study.alternative_frontals.iter().map(|image| image.0).collect::<Vec<_>>(),
        )?;
        Ok(fields)
    }

    /// The pixels of a picture, `image_size · image_size` bytes row by row.
    fn image<'py>(&self, py: Python<'py>, number: u32) -> PyResult<Bound<'py, PyByteArray>> {
        if number as usize >= self.corpus.images() {
            return Err(PyIndexError::new_err("no such image"));
        }
        // A picture of a corpus in object storage may take a while to arrive.
        let pixels = py.detach(|| self.corpus.image(ImageIndex(number)));
        let pixels = pixels.map_err(|error| errors::exception(py, error.into()))?;
        Ok(PyByteArray::new(py, &pixels))
    }

    /// Rows of the studies of each sequence, in time order.
    fn sequences(&self, py: Python<'_>, split: Option<&str>) -> PyResult<Vec<Vec<u32>>> {
        let split = split.map(|name| parse_split(py, name)).transpose()?;
        let wanted =
            self.corpus.sequences().iter().filter(|sequence| split.is_none_or(|split| sequence.split == split));
        Ok(wanted.map(|sequence| sequence.studies.clone()).collect())
    }
}

fn parse_split(py: Python<'_>, name: &str) -> PyResult<Split> {
    let wrong = || errors::input(py, format!("split=\"{name}\": expected train, validate or test"));
    Split::parse(name).ok_or_else(wrong)
}

/// Draws a cohort; returns what was written, as JSON.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the options of a cohort, called by name from one place")]
pub fn draw_phantom(
    py: Python<'_>,
    out: PathBuf,
    subjects: u32,
    seed: u64,
    size: u32,
    difficulty: &str,
    layouts: Vec<String>,
    show: Option<Py<PyAny>>,
) -> PyResult<String> {
    let known = Difficulty::ALL.into_iter().find(|value| value.name() == difficulty);
    let difficulty = known.ok_or_else(|| {
        errors::input(
            py,
            format!(
                "difficulty=\"{difficulty}\": expected one of {}",
                Difficulty::ALL.map(Difficulty::name).join(", ")
            ),
        )
    })?;
    let layout = |name: &String| {
        let known = Layout::ALL.into_iter().find(|value| value.name() == name);
        known.ok_or_else(|| {
            errors::input(
                py,
                format!("layout \"{name}\": expected one of {}", Layout::ALL.map(Layout::name).join(", ")),
            )
        })
    };
    let layouts = layouts.iter().map(layout).collect::<PyResult<_>>()?;
    let options = PhantomOptions { subjects, seed, size, difficulty, layouts };
    let summary = task::run(py, show.as_ref(), move |watched| Ok(medst_phantom::generate(&out, &options, watched)?))?;
    Ok(json::text(&summary))
}

/// Makes a corpus from a table of images; returns what was written, as JSON and as text.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the options of a corpus, called by name from one place")]
pub fn prepare_table(
    py: Python<'_>,
    table: PathBuf,
    out: PathBuf,
    image_size: usize,
    sequence_length: usize,
    report_rule: &str,
    labels: Vec<String>,
    exact: bool,
    overwrite: bool,
    show: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let rule = Rule::parse(report_rule).ok_or_else(|| {
        errors::input(py, format!("report_rule=\"{report_rule}\": expected {}", Rule::ALL.map(Rule::name).join(" or ")))
    })?;
    let options = PrepareOptions {
        image_size,
        chunks: Chunks::apart(sequence_length),
        report_rule: rule,
        labels: Labels::WithoutPatients { but: labels },
        decoding: Decoding { exact, ..Decoding::default() },
        overwrite,
        ..PrepareOptions::default()
    };
    let summary = task::run(py, show.as_ref(), move |watched| Ok(prepare(&table, &out, &options, watched)?))?;
    Ok((json::text(&summary), summary.to_string()))
}
