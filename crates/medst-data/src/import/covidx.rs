//! COVIDx: `train/` and `test/` with images, and lists that name patient, file, label and source
//! (`train_COVIDx6.txt`, `test_COVIDx6.txt`; later ones `train.txt`, `val.txt`, `test.txt`).
//!
//! The reference (after MGCA) draws 80 % of the training *images* for training and the rest for
//! validation, with scikit-learn's `train_test_split(train_size=0.8, random_state=0)`; images of
//! one patient fall into both parts. By default the same draw is made over patients here;
//! [`SplitRule::Reference`] reproduces the reference's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::assemble::{Assembly, FoundImage};
use super::ids::image_name;
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::permutation::{rest_count, train_test_split};
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Result};

/// How validation images are drawn from the training list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitRule {
    /// By patient: no patient is in two splits.
    #[default]
    Patient,
    /// By image, as in the reference implementation. Every image then becomes a separate subject,
    /// and `patient_id` a label.
    Reference,
}

/// The folder of the collection, and how to read it.
#[derive(Clone, Debug, Default)]
pub struct Covidx {
    /// The folder with the lists, `train/` and `test/`.
    pub root: PathBuf,
    pub rule: SplitRule,
    /// A part of the lists' names, such as `COVIDx6`, where there are several versions.
    pub version: Option<String>,
}

const LABELS: [&str; 7] = ["normal", "pneumonia", "COVID-19", "covid-19", "covid", "positive", "negative"];

struct Entry {
    row: u64,
    patient: String,
    file: String,
    label: String,
    source: Option<String>,
}

/// Reads the lists.
///
/// # Errors
/// Lists that are missing, ambiguous or cannot be understood.
pub fn plan(source: &Covidx, options: &PrepareOptions) -> Result<Planned> {
    let train = find_list(source, "train")?.ok_or_else(|| missing(source, "train"))?;
    let validate = find_list(source, "val")?;
    let test = find_list(source, "test")?.ok_or_else(|| missing(source, "test"))?;
    let (training, tested) = (read_list(&train)?, read_list(&test)?);
    let validated = validate.as_deref().map(read_list).transpose()?;
    let drawn = match (&validated, source.rule) {
        (Some(_), _) => HashSet::new(),
        (None, SplitRule::Reference) => {
            let (_, rest) = train_test_split(training.len(), rest_count(training.len(), 0.8), 0);
            rest.into_iter().map(|index| training[index].file.clone()).collect()
        }
        (None, SplitRule::Patient) => {
            let patients: Vec<&str> =
                training.iter().map(|entry| entry.patient.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
            let (_, rest) = train_test_split(patients.len(), rest_count(patients.len(), 0.8), 0);
            rest.into_iter().map(|index| patients[index].to_string()).collect()
        }
    };
    let mut assembly = Assembly::new(&train, options)?;
    assembly.plan.warn("the lists do not state views: all images are assumed to be frontal");
    let mut taken: HashMap<String, Split> = HashMap::new();
    let lists = [("test", Some(&tested)), ("val", validated.as_ref()), ("train", Some(&training))];
    for (folder, entries) in lists {
        for entry in entries.into_iter().flatten() {
            let unit = match source.rule {
                SplitRule::Patient => &entry.patient,
                SplitRule::Reference => &entry.file,
            };
            let split = match folder {
                "test" => Split::Test,
                "val" => Split::Validate,
                _ if drawn.contains(unit) => Split::Validate,
                _ => Split::Train,
            };
            let path = image(&source.root, folder, &entry.file);
            let study = StudyId(image_name(Path::new(&entry.file)));
            let subject = SubjectId(if source.rule == SplitRule::Patient { unit.clone() } else { study.0.clone() });
            let known = *taken.entry(unit.clone()).or_insert(split);
            if known != split {
                assembly.know(&subject.0, &study.0, &path);
                let reason = format!("patient of the {folder} list is already in {known}");
                assembly.plan.skip(path.display().to_string(), entry.row, reason);
                continue;
            }
            let (view, row) = (View::Pa, entry.row);
            let found = FoundImage { subject, study, view, path, row, acquired: None, split: Some(split) };
            let index = assembly.add(found)?;
            assembly.label(index, "label", entry.label.clone());
            assembly.label(index, "patient_id", entry.patient.clone());
            if let Some(origin) = &entry.source {
                assembly.label(index, "source", origin.clone());
            }
        }
    }
    let files = [Some(train), validate, Some(test)].into_iter().flatten().collect();
    Ok(Planned { plan: assembly.finish(options)?, files })
}

/// The file of an image: next to the lists, or in a folder `data`, where the construction scripts
/// put it.
fn image(root: &Path, folder: &str, file: &str) -> PathBuf {
    let nested = root.join("data").join(folder).join(file);
    let plain = root.join(folder).join(file);
    if !plain.exists() && nested.exists() { nested } else { plain }
}

/// Reads `patient file label source` lines. Early versions lack the source; file names may hold
/// blanks.
fn read_list(path: &Path) -> Result<Vec<Entry>> {
    let mut rows = Rows::open_list(path)?;
    let mut entries = Vec::new();
    rows.each(|row| {
        let cells: Vec<&str> = (0..row.len()).filter_map(|column| row.cell(column)).collect();
        let label = cells.iter().rposition(|cell| LABELS.contains(cell));
        let Some(label) = label.filter(|&label| label >= 2 && label + 2 >= cells.len()) else {
            let line = cells.join(" ");
            let message = format!("`{line}` is not `patient file label source`, or its label is unknown");
            return Err(Error::Row { path: path.to_path_buf(), row: row.number, message });
        };
        let source = cells.get(label + 1).map(|source| source.to_string());
        // Numbers of different sources are different patients.
        let patient = match &source {
            Some(source) => format!("{source}:{}", cells[0]),
            None => cells[0].to_string(),
        };
        let file = cells[1..label].join(" ");
        entries.push(Entry { row: row.number, patient, file, label: cells[label].to_string(), source });
        Ok(())
    })?;
    Ok(entries)
}

fn find_list(source: &Covidx, part: &str) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(&source.root).map_err(Error::io(&source.root))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(part)
            && name.ends_with(".txt")
            && source.version.as_ref().is_none_or(|version| name.contains(version.as_str()))
    });
    paths.sort();
    match paths.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let names: Vec<_> = several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            Err(Error::Usage(format!(
                "{}: several lists for {part}: {}; choose with --list-version",
                source.root.display(),
                names.join(", ")
            )))
        }
    }
}

fn missing(source: &Covidx, part: &str) -> Error {
    Error::Usage(format!("{} is not a COVIDx folder: it has no list {part}*.txt", source.root.display()))
}
