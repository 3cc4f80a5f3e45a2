//! From rows of images to studies.
//!
//! Rows of one subject and one study are one visit. The first frontal image is its frontal view, further ones are
//! alternatives, the first lateral image is its lateral view. Nothing here depends on other subjects' rows, so no
//! unreadable file can move another's data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::table::{Row, Table};
use super::values;
use crate::report;
use crate::sequence::SequenceUnit;
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Result};

/// An image that a study names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    pub path: PathBuf,
    pub row: u64,
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

/// Everything a corpus will be made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub studies: Vec<StudyPlan>,
    pub skipped: Vec<Skipped>,
    /// What was used but should be known, counted by kind.
    pub warnings: BTreeMap<String, u64>,
}

impl Plan {
    fn warn(&mut self, what: impl Into<String>) {
        *self.warnings.entry(what.into()).or_default() += 1;
    }
}

/// Makes studies of the rows of a table; image paths are relative to the table.
///
/// # Errors
/// A subject in two splits, or a study id that two subjects use: both rows are named.
pub fn assemble(table: Table, path: &Path, unit: SequenceUnit) -> Result<Plan> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let has_splits = table.columns.iter().any(|column| column == "split");
    let mut plan = Plan::default();
    for (row, reason) in table.unreadable {
        plan.skipped.push(Skipped { file: path.display().to_string(), row, reason });
    }
    let mut places: HashMap<(SubjectId, StudyId), usize> = HashMap::new();
    let mut owners: HashMap<StudyId, (SubjectId, u64)> = HashMap::new();
    let mut splits: HashMap<SubjectId, (Split, u64)> = HashMap::new();
    let mut images: HashSet<PathBuf> = HashSet::new();
    for row in table.rows {
        let conflict = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
        let (subject, view, image) = match required(&row) {
            Ok(found) => found,
            Err(reason) => {
                let file = row.cell("image").unwrap_or_default().to_string();
                plan.skipped.push(Skipped { file, row: row.number, reason });
                continue;
            }
        };
        let split = match (has_splits, row.cell("split")) {
            (false, _) => split_of(&subject),
            (true, Some(cell)) if Split::parse(cell).is_some() => Split::parse(cell).unwrap_or(Split::Train),
            (true, cell) => {
                let found = cell.unwrap_or("nothing");
                return Err(conflict(format!("split is `{found}`; expected train, validate or test")));
            }
        };
        let (known, first) = *splits.entry(subject.clone()).or_insert((split, row.number));
        if known != split {
            return Err(conflict(format!("subject `{subject}` is in {split} here and in {known} in row {first}")));
        }
        let acquired = acquired(&row, &mut plan);
        let study = match (row.cell("study_id"), row.cell("day").or(row.cell("acquired"))) {
            (Some(study), _) => StudyId(study.to_string()),
            (None, Some(time)) => StudyId(format!("{subject}-{time}")),
            (None, None) => StudyId(format!("{subject}-row{}", row.number)),
        };
        let (owner, first) = owners.entry(study.clone()).or_insert((subject.clone(), row.number));
        if *owner != subject {
            return Err(conflict(format!(
                "study `{study}` belongs to subject `{subject}` here and to `{owner}` in row {first}"
            )));
        }
        let source = ImageSource { path: folder.join(image), row: row.number };
        if !images.insert(source.path.clone()) {
            let reason = "image is listed twice".to_string();
            plan.skipped.push(Skipped { file: source.path.display().to_string(), row: row.number, reason });
            continue;
        }
        let place = *places.entry((subject.clone(), study.clone())).or_insert_with(|| {
            let empty = StudyPlan {
                subject,
                study,
                acquired: None,
                split,
                frontals: Vec::new(),
                laterals: Vec::new(),
                report: None,
                labels: BTreeMap::new(),
            };
            plan.studies.push(empty);
            plan.studies.len() - 1
        });
        add(&mut plan, place, &row, view, source, acquired);
    }
    clean_reports(&mut plan);
    if unit == SequenceUnit::Image {
        plan.studies = plan.studies.into_iter().flat_map(by_image).collect();
    }
    Ok(plan)
}

/// Adds a row to its study; the first row's time, report and labels stand.
fn add(plan: &mut Plan, place: usize, row: &Row, view: View, source: ImageSource, acquired: Option<Day>) {
    let study = &mut plan.studies[place];
    if view.is_frontal() {
        study.frontals.push(source)
    } else {
        study.laterals.push(source)
    }
    let mut differs = Vec::new();
    match (study.acquired, acquired) {
        (None, time) => study.acquired = time,
        (Some(known), Some(time)) if known != time => {
            differs.push("rows of one study differ in time; the first counts")
        }
        _ => {}
    }
    match (&study.report, row.cell("report")) {
        (None, report) => study.report = report.map(str::to_string),
        (Some(known), Some(report)) if known != report => {
            differs.push("rows of one study differ in their report; the first counts")
        }
        _ => {}
    }
    for (column, cell) in row.labels() {
        study.labels.entry(column).or_insert(cell);
    }
    differs.into_iter().for_each(|what| plan.warn(what));
}

fn required(row: &Row) -> Result<(SubjectId, View, PathBuf), String> {
    let cell = |column: &str| row.cell(column).ok_or_else(|| format!("{column} is missing"));
    let view = cell("view")?;
    let view = View::parse(view).ok_or_else(|| format!("view `{view}` is unknown (PA, AP, LATERAL or LL)"))?;
    Ok((SubjectId(cell("subject_id")?.to_string()), view, PathBuf::from(cell("image")?)))
}

fn acquired(row: &Row, plan: &mut Plan) -> Option<Day> {
    let read = match (row.cell("day"), row.cell("acquired")) {
        (Some(cell), _) => values::day(cell),
        (None, Some(cell)) => values::date(cell),
        (None, None) => {
            plan.warn("images without a time, which join no sequence");
            return None;
        }
    };
    if read.is_none() {
        plan.warn("images whose day or date is unreadable, which join no sequence");
    }
    read
}

/// Without a split column: 80 % train, 10 % validate, 10 % test by a hash of the subject, so that the same subject always
/// falls into the same part.
fn split_of(subject: &SubjectId) -> Split {
    match Sha256::digest(subject.0.as_bytes())[0] {
        0..205 => Split::Train,
        205..231 => Split::Validate,
        _ => Split::Test,
    }
}

fn clean_reports(plan: &mut Plan) {
    let mut rejected = Vec::new();
    for study in &mut plan.studies {
        if let Some(text) = study.report.take() {
            match report::prepare(&text, Some(&study.study)) {
                Ok(clean) => study.report = Some(clean),
                Err(reason) => rejected.push(format!("{reason}; the study is kept for image-only jobs")),
            }
        }
    }
    rejected.into_iter().for_each(|what| plan.warn(what));
}

/// The reference's unit: every frontal image is a step of its own.
fn by_image(study: StudyPlan) -> Vec<StudyPlan> {
    if study.frontals.len() < 2 {
        return vec![study];
    }
    let one = |(n, frontal): (usize, &ImageSource)| StudyPlan {
        study: StudyId(format!("{}-image{}", study.study, n + 1)),
        frontals: vec![frontal.clone()],
        ..study.clone()
    };
    study.frontals.iter().enumerate().map(one).collect()
}
