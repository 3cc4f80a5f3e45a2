//! Keeping the subjects of a benchmark out of a corpus.
//!
//! Models that have seen a benchmark's patients in training score too well on it. An exclusion list is any CSV (gzipped or
//! not) that names subjects, studies or images, such as the tables of MS-CXR-T; all images of every subject it touches are
//! left out.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::rows::Rows;
use super::splits::stem;
use crate::Result;
use crate::study::{StudyId, SubjectId};

/// The subjects, studies and images of exclusion lists.
#[derive(Debug, Default)]
pub struct Exclusions {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    name: String,
    subjects: HashSet<String>,
    studies: HashSet<String>,
    images: HashSet<String>,
    /// Images that were left out because of it.
    left_out: Cell<u64>,
}

impl Exclusions {
    /// Reads exclusion lists. Where a list names subjects they decide; otherwise its studies and images do, and
    /// [`Exclusions::resolve`] finds their subjects.
    ///
    /// # Errors
    /// A list that cannot be read, or that has none of the columns `subject_id`, `study_id`, `dicom_id`.
    pub fn read(paths: &[PathBuf]) -> Result<Exclusions> {
        Ok(Exclusions { lists: paths.iter().map(|path| List::read(path)).collect::<Result<_>>()? })
    }

    /// Whether an image's subject has to be found through its study or file name.
    pub fn needs_resolving(&self) -> bool {
        self.lists.iter().any(|list| list.subjects.is_empty())
    }

    /// Tells which subject an image belongs to, so that lists which name images keep out whole subjects.
    pub fn resolve(&mut self, subject: &str, study: &str, image: &str) {
        for list in self.lists.iter_mut().filter(|list| !list.studies.is_empty() || !list.images.is_empty()) {
            if list.studies.contains(study) || list.images.contains(image) {
                list.subjects.insert(subject.to_string());
            }
        }
    }

    /// Why an image is left out, if it is.
    pub fn reason(&self, subject: &SubjectId, study: &StudyId, image: &Path) -> Option<String> {
        let list = self.lists.iter().find(|list| {
            list.subjects.contains(&subject.0)
                || list.studies.contains(&study.0)
                || (!list.images.is_empty() && list.images.contains(&stem(image)))
        })?;
        list.left_out.set(list.left_out.get() + 1);
        Some(format!("subject is of the excluded {}", list.name))
    }

    /// For the summary: how many images each list kept out.
    pub fn summary(&self) -> BTreeMap<String, u64> {
        let said = |list: &List| {
            let what = format!("images kept out by {} (of {} excluded subjects)", list.name, list.subjects.len());
            (what, list.left_out.get())
        };
        self.lists.iter().map(said).collect()
    }
}

impl List {
    fn read(path: &Path) -> Result<List> {
        let mut rows = Rows::open(path)?;
        let [subject, study, image, previous] =
            ["subject_id", "study_id", "dicom_id", "previous_dicom_id"].map(|name| rows.find(name));
        if subject.or(study).or(image).is_none() {
            return Err(rows.fail("needs one of the columns subject_id, study_id, dicom_id".into()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut list = List {
            name,
            subjects: HashSet::new(),
            studies: HashSet::new(),
            images: HashSet::new(),
            left_out: Cell::new(0),
        };
        rows.each(|row| {
            let cell = |column: Option<usize>| column.and_then(|column| row.cell(column)).map(str::to_string);
            match cell(subject) {
                Some(subject) => _ = list.subjects.insert(subject.trim_start_matches('p').to_string()),
                None => {
                    list.studies.extend(cell(study).map(|study| study.trim_start_matches('s').to_string()));
                    list.images.extend([image, previous].into_iter().filter_map(cell));
                }
            }
            Ok(())
        })?;
        Ok(list)
    }
}
