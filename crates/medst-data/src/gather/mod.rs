//! Makes studies from the files, folders, tables or corpora that users pass.
//!
//! * a radiograph (JPEG, PNG, DICOM): a study with that image; DICOM files of one study are joined:
//!   the first frontal, the first lateral
//! * a text file (`.txt`): a study with a report; joined to the image of the same path but for its
//!   ending
//! * a folder: its radiographs and text files, at any depth, in the order of their paths
//! * a table of images ([`crate::import::table`]): its studies
//! * any other table: one study per row: columns `image` or `frontal`, `lateral`, `report` or
//!   `text`; `study_id`, `subject_id`, `view`, `day` or `acquired` where there are any, the others
//!   as labels
//! * a corpus: its studies
//!
//! The view of an image comes from its DICOM header, otherwise from the caller, and is otherwise
//! frontal. Unusable inputs are listed with the reason and do not affect the others. No picture is
//! decoded here.

mod files;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use files::{ReportError, check_view, check_view_of, read_report};

use crate::corpus::Corpus;
use crate::report::Rule;
use crate::split::Split;
use crate::storage::Address;
use crate::study::{Day, ImageIndex};
use crate::{Error, Result};

/// Where a picture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureLocation {
    File(PathBuf),
    /// In the corpus that was given.
    Stored(ImageIndex),
}

/// A study before its pictures are decoded; it has an image, a report, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundStudy {
    /// Identifies the study in results: its ID if it has one, otherwise the path of its first file.
    pub id: String,
    pub subject: Option<String>,
    pub acquired: Option<Day>,
    pub split: Option<Split>,
    pub frontal: Option<PictureLocation>,
    pub lateral: Option<PictureLocation>,
    /// Cleaned.
    pub report: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// A file or row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub file: String,
    pub reason: String,
}

/// The studies that were found, and the files that were left out.
#[derive(Debug, Default)]
pub struct Gathered {
    pub studies: Vec<FoundStudy>,
    pub left_out: Vec<LeftOut>,
    /// Files of folders that are neither radiographs nor texts.
    pub ignored: usize,
    /// The corpus, where one was given.
    pub corpus: Option<Corpus>,
}

/// The view to assume for images whose file does not state it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeclaredView {
    /// The view that the file states; frontal where it states none.
    #[default]
    Auto,
    /// All are frontal; an image whose file states another view is left out.
    Frontal,
    /// All are lateral; an image whose file states another view is left out.
    Lateral,
}

impl fmt::Display for PictureLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PictureLocation::File(path) => write!(f, "{}", path.display()),
            PictureLocation::Stored(index) => write!(f, "image {} of the corpus", index.0),
        }
    }
}

impl FoundStudy {
    /// A study with nothing but its name.
    pub fn new(id: String) -> FoundStudy {
        FoundStudy {
            id,
            subject: None,
            acquired: None,
            split: None,
            frontal: None,
            lateral: None,
            report: None,
            labels: BTreeMap::new(),
        }
    }

    /// Whether it has a picture.
    pub fn is_seen(&self) -> bool {
        self.frontal.is_some() || self.lateral.is_some()
    }
}

impl Gathered {
    fn leave_out(&mut self, file: impl fmt::Display, reason: impl Into<String>) {
        self.left_out.push(LeftOut { file: file.to_string(), reason: reason.into() });
    }
}

/// Whether a path is a corpus' folder, or an address in object storage, where nothing but corpora
/// is read from.
pub fn is_corpus(path: &Path) -> bool {
    Address::is(path) || path.join("corpus.json").is_file()
}

/// Finds the studies of files, folders, tables, or of one corpus.
///
/// * `rule`: how reports are cleaned; a model reads those of its own rule. Those of a corpus are
///   clean already.
///
/// # Errors
/// A path that does not exist, a table that cannot be understood, a corpus combined with other
/// inputs, or nothing that can be used. Existing files and folders that cannot be used are left out
/// instead.
pub fn gather(inputs: &[PathBuf], view: DeclaredView, rule: Rule) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    if let Some(corpus) = inputs.iter().find(|path| is_corpus(path)) {
        if inputs.len() > 1 {
            let message = format!("{}: a corpus cannot be combined with other inputs", corpus.display());
            return Err(Error::Usage(message));
        }
        of_corpus(Corpus::open(corpus)?, &mut gathered);
    } else {
        let mut found = files::Files::default();
        for input in inputs {
            if table::is_table(input) {
                table::add(input, view, rule, &mut gathered)?;
            } else {
                found.add(input, &mut gathered)?;
            }
        }
        found.finish(view, rule, &mut gathered);
    }
    if gathered.studies.is_empty() {
        let names: Vec<String> = inputs.iter().map(|path| path.display().to_string()).collect();
        let mut message = format!("{}: no radiographs and no reports found", names.join(", "));
        if let Some(first) = gathered.left_out.first() {
            let count = gathered.left_out.len();
            message = format!("{message}; {count} left out, the first: {}: {}", first.file, first.reason);
        }
        return Err(Error::Usage(message));
    }
    Ok(gathered)
}

fn of_corpus(corpus: Corpus, gathered: &mut Gathered) {
    let studies = corpus.studies().iter().map(|study| FoundStudy {
        subject: Some(study.subject.0.clone()),
        acquired: study.acquired,
        split: Some(study.split),
        frontal: Some(PictureLocation::Stored(study.frontal)),
        lateral: study.lateral.map(PictureLocation::Stored),
        report: study.report.clone(),
        labels: study.labels.clone(),
        ..FoundStudy::new(study.study.0.clone())
    });
    gathered.studies = studies.collect();
    gathered.corpus = Some(corpus);
}
