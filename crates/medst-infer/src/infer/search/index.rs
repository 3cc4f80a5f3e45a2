//! An index on disk: vectors of studies, and what filters ask of them.
//!
//! A folder: `index.json` (format, model, counts, sizes of the files), `studies.jsonl` (one line
//! per study), `images.npy` and `reports.npy` (rows of NaN where a study has none), and for large
//! indexes the two files of a [`super::graph`]. The folder is written next to its target and then
//! renamed, with checksums of all its files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use medst_data::files::folder::{Foreign, check_replaceable, publish_folder, recover, seal, stage_folder};
use medst_data::files::sha256_of;
use medst_data::files::sums::{Sums, check_found};
use medst_data::gather::{Gathered, LeftOut, PictureLocation};
use medst_data::input;
use medst_data::progress::Progress;
use medst_data::study::Day;
use serde::{Deserialize, Serialize};

use super::graph::{self, Graph};
use crate::infer::engine::Engine;
use crate::infer::stream::{Collected, NoteCounts};
use crate::infer::table::{npy_bytes, write_remarks};
use crate::infer::vectors::Vectors;
use crate::model::builtin;
use crate::{Error, Result};

const FORMAT: &str = "medst-index";
const MANIFEST: &str = "index.json";
const STUDIES: &str = "studies.jsonl";
const IMAGES: &str = "images.npy";
const REPORTS: &str = "reports.npy";

/// Which vectors are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Among {
    #[default]
    Images,
    Reports,
}

/// A study in an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    pub study: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Days, as in the corpus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquired: Option<Day>,
    /// Path, where its image is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontal: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    /// SHA-256 of the weights, and where they were.
    model: String,
    model_path: PathBuf,
    source: String,
    width: usize,
    studies: usize,
    /// Recall@10 of the graph when it was built; none without one.
    graph_recall: Option<f64>,
    /// Bytes of each file.
    files: BTreeMap<String, u64>,
}

/// An open index.
pub struct Index {
    manifest: Manifest,
    pub studies: Vec<StudyRecord>,
    /// `[n, D]`; rows of NaN for studies without an image.
    pub images: Vectors,
    /// `[n, D]`; rows of NaN for studies without a report.
    pub reports: Vectors,
    pub graph: Option<Graph>,
    has_image: Vec<bool>,
    has_report: Vec<bool>,
}

/// Whether an index gets a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithGraph {
    /// From [`graph::WORTHWHILE`] images on.
    #[default]
    Auto,
    Always,
    Never,
}

/// What was indexed.
#[derive(Clone, Debug, Serialize)]
pub struct Indexed {
    pub index: PathBuf,
    pub studies: usize,
    pub with_image: usize,
    pub with_report: usize,
    /// Recall@10 of the graph against exact search.
    pub graph_recall: Option<f64>,
    pub left_out: Vec<LeftOut>,
    /// Pictures by what should be known of how they were read.
    pub notes: NoteCounts,
}

impl fmt::Display for Indexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Indexed { index, studies, with_image, with_report, .. } = self;
        writeln!(f, "{}: {studies} studies, {with_image} with an image, {with_report} with a report", index.display())?;
        if let Some(recall) = self.graph_recall {
            writeln!(f, "  graph for approximate search: recall@10 {recall:.3} against exact search")?;
        }
        write_remarks(f, &self.notes, &self.left_out)
    }
}

/// Writes an index of what was embedded.
///
/// # Errors
/// A target that is there already (unless it is an index and `overwrite` is set), or cannot be
/// written.
pub fn build(
    engine: &Engine,
    gathered: &Gathered,
    collected: &Collected,
    source: String,
    out: &Path,
    (with_graph, overwrite): (WithGraph, bool),
    progress: &dyn Progress,
) -> Result<Indexed> {
    check_target(out, overwrite)?;
    if collected.studies.is_empty() {
        return Err(Error::Evaluation("nothing to index: no input could be embedded".into()));
    }
    let staged = stage_folder(out, 0o700)?;
    let folder = staged.path();
    let mut lines = Vec::new();
    for &number in &collected.studies {
        let study = &gathered.studies[number];
        let record = StudyRecord {
            study: study.id.clone(),
            subject: study.subject.clone(),
            acquired: study.acquired,
            frontal: study.frontal.as_ref().or(study.lateral.as_ref()).and_then(|picture| match picture {
                PictureLocation::File(path) => Some(path.clone()),
                PictureLocation::Stored(_) => None,
            }),
            report: study.report.clone(),
            labels: study.labels.clone(),
        };
        serde_json::to_writer(&mut lines, &record).map_err(|error| Error::io(folder)(error.into()))?;
        lines.push(b'\n');
    }
    let missing = vec![f32::NAN; engine.width()];
    let npy = |vectors: &Vectors, rows: &[Option<usize>]| {
        let vectors_of_rows = rows.iter().map(|row| row.map_or(missing.as_slice(), |row| vectors.row(row)));
        npy_bytes(rows.len(), engine.width(), vectors_of_rows)
    };
    let files = [
        (STUDIES, lines),
        (IMAGES, npy(&collected.images, &collected.image_of)),
        (REPORTS, npy(&collected.reports, &collected.report_of)),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(Error::io(&path))?;
    }
    let with_image = collected.images.len();
    let worthwhile = match with_graph {
        WithGraph::Auto => with_image >= graph::WORTHWHILE,
        WithGraph::Always => with_image > 0,
        WithGraph::Never => false,
    };
    let graph_recall = match worthwhile {
        true => Some(graph::build(&collected.images, &collected.image_of, folder, progress)?),
        false => None,
    };
    let mut sizes = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let length = entry.metadata().map_err(Error::io(folder))?.len();
        sizes.insert(entry.file_name().to_string_lossy().into_owned(), length);
    }
    let manifest = Manifest {
        format: FORMAT.into(),
        version: 1,
        model: engine.checksum().to_string(),
        // The name of a built-in model is not a path.
        model_path: match builtin::named(engine.path()) {
            Some(_) => engine.path().to_path_buf(),
            None => std::path::absolute(engine.path()).unwrap_or_else(|_| engine.path().to_path_buf()),
        },
        source,
        width: engine.width(),
        studies: collected.studies.len(),
        graph_recall,
        files: sizes,
    };
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::io(&path)(error.into()))?;
    fs::write(&path, text).map_err(Error::io(&path))?;
    seal(folder, &BTreeMap::new())?;
    // The folder was made for its owner only, and stays so: it holds ids, reports and labels.
    publish_folder(folder, out, &[], Foreign::Refuse)?;
    let _ = staged.keep();
    Ok(Indexed {
        index: out.to_path_buf(),
        studies: collected.studies.len(),
        with_image,
        with_report: collected.reports.len(),
        graph_recall,
        left_out: gathered.left_out.iter().chain(&collected.left_out).cloned().collect(),
        notes: collected.notes.clone(),
    })
}

/// Refuses targets that would be lost, before anything is embedded.
///
/// # Errors
/// As [`build`].
pub fn check_target(out: &Path, overwrite: bool) -> Result<()> {
    let fail = |message: &str| Err(Error::Input(format!("{}: {message}", out.display())));
    recover(out)?;
    match (out.exists(), out.join(MANIFEST).is_file(), overwrite) {
        (false, ..) => Ok(()),
        (true, false, _) => fail("already exists and is not an index; choose another --out"),
        (true, true, false) => fail("is already an index; pass --overwrite to replace it"),
        (true, true, true) => Ok(check_replaceable(out, &[])?),
    }
}

impl Index {
    /// Opens an index.
    ///
    /// # Errors
    /// Names what is missing, damaged, or does not fit.
    pub fn open(path: &Path) -> Result<Index> {
        let fail = |message: String| Error::Evaluation(format!("{}: not a usable index: {message}", path.display()));
        let file = path.join(MANIFEST);
        let text = input::read(&file, input::TEXT).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                fail(format!("it has no {MANIFEST}; create an index with `medst search index`"))
            }
            _ => Error::io(&file)(error),
        })?;
        let sums = Sums::read(path)?.unwrap_or_default();
        if let Some(sum) = sums.0.get(MANIFEST) {
            check_found(&file, &sha256_of(&text), sum)?;
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| fail(format!("{MANIFEST}: {error}")))?;
        if manifest.format != FORMAT || manifest.version != 1 {
            return Err(fail(format!(
                "its format is `{}` version {}; this program reads {FORMAT} version 1",
                manifest.format, manifest.version
            )));
        }
        for (name, &bytes) in &manifest.files {
            let found = fs::metadata(path.join(name)).map(|meta| meta.len()).ok();
            if found != Some(bytes) {
                return Err(fail(format!(
                    "{name} is missing or damaged: {} bytes, expected {bytes}",
                    found.unwrap_or(0)
                )));
            }
            sums.check(path, name)?;
        }
        let lines = input::read_to_string(&path.join(STUDIES), input::BULK).map_err(Error::io(path.join(STUDIES)))?;
        let studies: Vec<StudyRecord> = lines
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|error| fail(format!("{STUDIES}: {error}")))?;
        let (images, reports) = (Vectors::read_npy(&path.join(IMAGES))?, Vectors::read_npy(&path.join(REPORTS))?);
        let fits = |vectors: &Vectors| vectors.len() == studies.len() && vectors.width() == manifest.width;
        if studies.len() != manifest.studies || !fits(&images) || !fits(&reports) {
            return Err(fail("its files differ in the number of studies".into()));
        }
        if let Some(row) = images.partial_row().or(reports.partial_row()) {
            return Err(fail(format!("the vector of {} is not finite", studies[row].study)));
        }
        let graph = manifest.graph_recall.map(|_| Graph::open(path, studies.len())).transpose();
        let graph = graph.map_err(|error| fail(error.to_string()))?;
        // Needed for every question; in the matrices, the first values of the vectors are far apart
        // in memory.
        let [has_image, has_report] = [&images, &reports]
            .map(|vectors| vectors.rows().map(|vector| vector.first().is_some_and(|x| x.is_finite())).collect());
        Ok(Index { manifest, studies, images, reports, graph, has_image, has_report })
    }

    /// SHA-256 of the weights of the model with which it was made.
    pub fn model_checksum(&self) -> &str {
        &self.manifest.model
    }

    /// Recall@10 of the graph against exact search, from when it was built.
    pub fn graph_recall(&self) -> Option<f64> {
        self.manifest.graph_recall
    }

    /// Which studies have a vector.
    pub(super) fn has(&self, among: Among) -> &[bool] {
        match among {
            Among::Images => &self.has_image,
            Among::Reports => &self.has_report,
        }
    }

    /// The vector of a study of the kind that is searched, else of the other.
    pub fn vector_of(&self, row: usize, among: Among) -> Option<&[f32]> {
        let choices = match among {
            Among::Images => [&self.images, &self.reports],
            Among::Reports => [&self.reports, &self.images],
        };
        choices.into_iter().map(|vectors| vectors.row(row)).find(|vector| vector[0].is_finite())
    }

    /// Where the model was with which it was made.
    pub fn model_path(&self) -> &Path {
        &self.manifest.model_path
    }

    /// # Errors
    /// A model with other weights than those the index was made with.
    pub fn check_model(&self, engine: &Engine) -> Result<()> {
        if engine.checksum() != self.manifest.model {
            let message = format!(
                "{}: the index was made by a model with other weights; pass that model with --model, or index again",
                engine.path().display()
            );
            return Err(Error::Input(message));
        }
        Ok(())
    }

    /// The row of a study.
    pub fn find(&self, study: &str) -> Option<usize> {
        self.studies.iter().position(|record| record.study == study)
    }
}
