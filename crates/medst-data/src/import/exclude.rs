//! Keeping the subjects of a benchmark out of a corpus.
//!
//! Models that have seen a benchmark's patients in training score too well on it. An exclusion list
//! is any table that names subjects, studies or images, such as those of MS-CXR-T; all images of
//! every subject that it names in any of these ways are left out. Ids are matched by the rule of
//! [`super::ids`]. A list that excludes no subject is an error: nothing else would show that its
//! ids are written in a form that the source does not use.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::ids::Lookup;
use super::known::Known;
use super::rows::Rows;
use crate::Result;

/// Exclusion lists as read from their files.
#[derive(Debug, Default)]
pub struct Exclusions {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// The IDs in one row; at least one is present.
#[derive(Debug, PartialEq, Eq, Hash, Clone)]
struct Entry {
    subject: Option<String>,
    study: Option<String>,
    images: Vec<String>,
}

/// The subjects of a source that are kept out, with the place of the list that names them first.
#[derive(Debug, Default)]
pub struct KeptOut {
    lists: Vec<String>,
    by_subject: HashMap<String, usize>,
    /// Remarks for the summary on IDs that were matched in another form.
    pub notes: Vec<(String, u64)>,
}

impl Exclusions {
    /// Reads exclusion lists.
    ///
    /// # Errors
    /// A list that cannot be read, that has none of the columns `subject_id`, `study_id`,
    /// `dicom_id`, or that names nothing.
    pub fn read(paths: &[PathBuf]) -> Result<Exclusions> {
        Ok(Exclusions { lists: paths.iter().map(|path| List::read(path)).collect::<Result<_>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether a list names images.
    pub fn name_images(&self) -> bool {
        self.lists.iter().any(|list| list.entries.iter().any(|entry| !entry.images.is_empty()))
    }

    /// Finds the subjects that the lists name among those of a source.
    ///
    /// # Errors
    /// A list that names none of them, or an id that may mean several: list, row and the forms of
    /// the id are shown.
    pub fn resolve(&self, known: &Known) -> Result<KeptOut> {
        let mut kept_out = KeptOut::default();
        for (index, list) in self.lists.iter().enumerate() {
            let [mut subjects, mut studies, mut images] = [(); 3].map(|()| Lookup::new(&list.path));
            let mut any = false;
            for (row, entry) in list.rows() {
                let mut named: Vec<&str> = Vec::new();
                if let Some(subject) = &entry.subject {
                    named.extend(subjects.find(&known.subjects, subject, row)?);
                }
                if let Some(study) = entry.study.as_ref().filter(|_| named.is_empty()) {
                    let found = studies.find(&known.studies, study, row)?;
                    named.extend(found.and_then(|study| known.owner_of_study(study)));
                }
                if named.is_empty() {
                    for image in &entry.images {
                        let found = known.images.find(&mut images, image, row)?;
                        named.extend(found.into_iter().filter_map(|image| known.owner_of_image(image)));
                    }
                }
                any |= !named.is_empty();
                for subject in named {
                    kept_out.by_subject.entry(subject.to_string()).or_insert(index);
                }
            }
            if !any {
                let what = "excludes no subject";
                subjects.check_any(what, &known.subjects)?;
                studies.check_any(what, &known.studies)?;
                images.check_any(what, known.images.names())?;
            }
            kept_out.lists.push(list.path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            kept_out.notes.extend([subjects, studies, images].iter().filter_map(Lookup::note));
        }
        Ok(kept_out)
    }
}

impl KeptOut {
    /// Why the images of a subject are left out, if they are.
    pub fn reason(&self, subject: &str) -> Option<String> {
        let list = *self.by_subject.get(subject)?;
        Some(format!("subject is excluded by {}", self.lists[list]))
    }

    /// The subjects that are kept out.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.by_subject.keys().map(String::as_str)
    }

    /// For the summary: the number of images that each list excluded.
    ///
    /// * `left_out`: the subject of every image that was left out.
    pub fn summary<'a>(&self, left_out: impl Iterator<Item = &'a str>) -> Vec<(String, u64)> {
        let mut images = vec![0; self.lists.len()];
        left_out.filter_map(|subject| self.by_subject.get(subject)).for_each(|&list| images[list] += 1);
        let subjects = |index: usize| self.by_subject.values().filter(|&&list| list == index).count();
        let line = |(index, (list, count)): (usize, (&String, u64))| {
            (format!("images excluded by {list} ({} subjects)", subjects(index)), count)
        };
        self.lists.iter().zip(images).enumerate().map(line).collect()
    }
}

impl List {
    fn read(path: &Path) -> Result<List> {
        let mut rows = Rows::open(path)?;
        let [subject, study, image, previous] =
            [rows.find("subject_id")?, rows.find("study_id")?, rows.find("dicom_id")?, rows.find("previous_dicom_id")?];
        if subject.or(study).or(image).is_none() {
            let found = rows.columns().join(", ");
            let message = format!("needs one of the columns subject_id, study_id, dicom_id (columns: {found})");
            return Err(rows.fail_in_header(&message));
        }
        let mut list = List { path: path.to_path_buf(), entries: Vec::new() };
        rows.each(|row| {
            let cell = |column: Option<usize>| column.and_then(|column| row.cell(column)).map(str::to_string);
            let images = [image, previous].into_iter().filter_map(cell).collect();
            list.entries.push(Entry { subject: cell(subject), study: cell(study), images });
            Ok(())
        })?;
        if list.rows().next().is_none() {
            return Err(rows.fail("lists no subject, study or image to exclude".into()));
        }
        Ok(list)
    }

    /// Rows that name something, each once, with their numbers.
    fn rows(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let mut seen = HashSet::new();
        let numbered = self.entries.iter().enumerate().map(|(index, entry)| (index as u64 + 1, entry));
        let says = |entry: &Entry| entry.subject.is_some() || entry.study.is_some() || !entry.images.is_empty();
        numbered.filter(move |(_, entry)| says(entry) && seen.insert(*entry))
    }
}
