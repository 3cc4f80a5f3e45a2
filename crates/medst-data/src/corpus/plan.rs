//! The contents of a corpus before any picture is decoded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId};

/// The table of pairs of images, with the course of findings between them.
pub const PAIRS: &str = "pairs";
/// The table of pairs of sentences.
pub const SENTENCES: &str = "sentences";
/// The table of questions about series of images.
pub const QUESTIONS: &str = "questions";
/// All tables of texts that a corpus may hold. A working folder with a table of another name is
/// taken for another program's.
pub const TABLES: [&str; 3] = [PAIRS, SENTENCES, QUESTIONS];
/// The text in the summary for sequences that lost a study.
pub const LOST_A_STUDY: &str = "sequences with a study that was left out, left out too";

/// An image that a study names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    pub path: PathBuf,
    /// The row of the source that names it, counted from 1.
    pub row: u64,
}

/// The report of a study, as a source gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportText {
    /// The text as written, headers and all.
    Whole(String),
    /// A file of MIMIC-CXR, whose headers have their own rules.
    MimicCxr(String),
    /// Sections that somebody has cut already.
    Sections { impression: Option<String>, findings: Option<String>, last_paragraph: Option<String> },
}

impl ReportText {
    /// The texts that it consists of.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            ReportText::Whole(text) | ReportText::MimicCxr(text) => [Some(text), None, None],
            ReportText::Sections { impression, findings, last_paragraph } => {
                [impression.as_ref(), findings.as_ref(), last_paragraph.as_ref()]
            }
        };
        parts.into_iter().flatten().map(String::as_str)
    }
}

/// A study before its images are decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyPlan {
    pub subject: SubjectId,
    pub study: StudyId,
    pub acquired: Option<Day>,
    pub split: Split,
    pub frontals: Vec<ImageSource>,
    pub laterals: Vec<ImageSource>,
    /// The cleaned report.
    pub report: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// A row or file that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub file: String,
    pub row: u64,
    pub reason: String,
}

impl Skipped {
    /// An image of a study that was skipped.
    pub fn image(image: &ImageSource, reason: impl Into<String>) -> Skipped {
        Skipped { file: image.path.display().to_string(), row: image.row, reason: reason.into() }
    }
}

/// A table that a corpus holds in addition to its studies: texts only, all rows of one length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    /// The file's name in the corpus, without `.csv`: one of [`TABLES`].
    pub name: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// How many subjects and studies a source names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub subjects: usize,
    pub studies: usize,
}

/// Everything a corpus will be made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub studies: Vec<StudyPlan>,
    /// Sequences that the source itself defines, as places in `studies`; without them, time does.
    pub sequences: Option<Vec<Vec<usize>>>,
    pub tables: Vec<TextTable>,
    pub skipped: Vec<Skipped>,
    /// Numbers of subjects and studies that the source names, including those that are left out.
    pub listed: Listed,
    /// Remarks on data that were used nevertheless, counted by kind.
    pub warnings: BTreeMap<String, u64>,
}

impl Plan {
    /// Counts a remark on data that are used nevertheless.
    pub fn warn(&mut self, what: impl Into<String>) {
        *self.warnings.entry(what.into()).or_default() += 1;
    }

    /// Notes a row or file that is left out.
    pub fn skip(&mut self, file: impl Into<String>, row: u64, reason: impl Into<String>) {
        self.skipped.push(Skipped { file: file.into(), row, reason: reason.into() });
    }
}
