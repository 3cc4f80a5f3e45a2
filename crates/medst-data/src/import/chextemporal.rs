//! CheXTemporal, the gold pairs: five courses of findings between two images of CheXpert, MIMIC-CXR
//! or ReXGradient.
//!
//! Pairs of a source whose folder is not given are left out and counted. All images are taken as
//! frontal.

use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};

use super::assemble::{Assembly, FoundImage};
use super::courses::{self, Courses};
use super::table::read::{Row, read_columns};
use super::{Planned, PrepareOptions};
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Result};

const PAIRS: &str = "gold_progression_pairs.parquet";
/// Files of the release whose rows are counted and not read: it is not known to us whether boxes
/// are in pixels or in fractions, and silver labels are a language model's.
const UNREAD: [&str; 4] =
    ["gold_bboxes.parquet", "silver_findings.parquet", "silver_sentences.parquet", "silver_studies.parquet"];
const COLUMNS: [&str; 8] = [
    "patient_id",
    "study_id_prev",
    "study_id_curr",
    "img_path_prev",
    "img_path_curr",
    "disease_name",
    "progression",
    "dataset",
];

/// The folders of the parts.
#[derive(Clone, Debug, Default)]
pub struct CheXTemporal {
    /// The folder with `gold_progression_pairs.parquet`.
    pub root: PathBuf,
    /// The folders that the paths of CheXpert, MIMIC-CXR and ReXGradient are relative to.
    pub chexpert: Option<PathBuf>,
    pub mimic: Option<PathBuf>,
    pub rexgradient: Option<PathBuf>,
}

/// Reads the pairs.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(source: &CheXTemporal, options: &PrepareOptions) -> Result<Planned> {
    let path = source.root.join(PAIRS);
    if !path.exists() {
        return Err(Error::Usage(format!("{} is not CheXTemporal: it has no {PAIRS}", source.root.display())));
    }
    let table = read_columns(&path)?;
    table.need(&path, &COLUMNS)?;
    let mut assembly = Assembly::new(&path, options)?;
    for name in UNREAD {
        let other = source.root.join(name);
        if other.exists() {
            assembly.plan.warnings.insert(format!("rows of {name}, which is not read"), rows_of(&other)?);
        }
    }
    let (mut courses, mut sequences) = (Courses::default(), Vec::new());
    for row in &table.rows {
        let fail = |message: String| Error::Row { path: path.clone(), row: row.number, message };
        let cell = |name: &str| row.cell(name).ok_or_else(|| fail(format!("{name} is missing")));
        let dataset = cell("dataset")?.to_lowercase();
        let folder = match dataset.as_str() {
            "chexpert" => &source.chexpert,
            "mimic" => &source.mimic,
            "rexgradient" => &source.rexgradient,
            _ => {
                let message = format!("dataset is `{dataset}`; expected chexpert, mimic or rexgradient");
                return Err(fail(message));
            }
        };
        let word = cell("progression")?;
        let course = courses::parse(word).ok_or_else(|| {
            fail(format!("progression is `{word}`; expected Stable, New, Worse, Improved or Resolved"))
        })?;
        let Some(folder) = folder else {
            assembly.plan.skip(cell("img_path_curr")?, row.number, format!("no folder was given for {dataset}"));
            continue;
        };
        let mut indices = [0; 2];
        let mut ids = [String::new(), String::new()];
        for (n, [study, image]) in
            [["study_id_prev", "img_path_prev"], ["study_id_curr", "img_path_curr"]].into_iter().enumerate()
        {
            // Studies are numbered within a patient in some of the sources.
            ids[n] = format!("{dataset}-{}-{}", cell("patient_id")?, cell(study)?);
            indices[n] = study_index(&mut assembly, row, folder, cell("patient_id")?, &ids[n], cell(image)?, &dataset)?;
        }
        let pair = courses.pair([&ids[0], &ids[1]]);
        if pair == sequences.len() {
            sequences.push(indices.to_vec());
        }
        courses.tell(pair, cell("disease_name")?, course);
    }
    assembly.plan.sequences = Some(sequences);
    let mut plan = assembly.finish(options)?;
    courses.finish(&mut plan);
    Ok(Planned { plan, files: vec![path] })
}

/// The number of rows of a Parquet file.
fn rows_of(path: &Path) -> Result<u64> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let reader = SerializedFileReader::new(file);
    let reader = reader.map_err(|error| Error::Table { path: path.to_path_buf(), message: error.to_string() })?;
    Ok(reader.metadata().file_metadata().num_rows().max(0) as u64)
}

fn study_index(
    assembly: &mut Assembly,
    row: &Row,
    folder: &Path,
    patient: &str,
    study: &str,
    image: &str,
    dataset: &str,
) -> Result<usize> {
    let study = StudyId(study.to_string());
    if let Some(index) = assembly.index_of(&study) {
        return Ok(index);
    }
    let plain = folder.join(image.trim_start_matches('/'));
    // CheXpert Plus has .png or .dcm where tables write .jpg.
    let candidates = std::iter::once(plain.clone()).chain(["png", "jpg", "dcm"].map(|end| plain.with_extension(end)));
    let path = candidates.into_iter().find(|path| path.exists()).unwrap_or(plain);
    let subject = SubjectId(patient.to_string());
    let image =
        FoundImage { subject, study, view: View::Ap, path, row: row.number, acquired: None, split: Some(Split::Test) };
    let index = assembly.add(image)?;
    assembly.label(index, "dataset", dataset.to_string());
    Ok(index)
}
