//! From images to studies: what every importer shares.
//!
//! Images of one subject and one study are one visit. The first frontal image is its frontal view, further ones are
//! alternatives, the first lateral image is its lateral view. Nothing here depends on other subjects' rows, so no
//! unreadable file can move another's data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::exclude::Exclusions;
use super::plan::{ImageSource, Plan, ReportText, StudyPlan};
use super::splits::SplitFile;
use crate::report;
use crate::sequence::SequenceUnit;
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Result};

/// One image as an importer found it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundImage {
    pub subject: SubjectId,
    pub study: StudyId,
    pub view: View,
    pub path: PathBuf,
    /// The row of the source that names it, counted from 1.
    pub row: u64,
    pub acquired: Option<Day>,
    /// The part that the source puts it in; `None` leaves that to the split file or to the subject's hash.
    pub split: Option<Split>,
}

/// Collects images into studies.
#[derive(Debug)]
pub struct Assembly {
    /// The file that errors name.
    source: PathBuf,
    pub plan: Plan,
    places: HashMap<StudyId, usize>,
    first_rows: Vec<u64>,
    splits: HashMap<SubjectId, (Split, u64)>,
    images: HashSet<PathBuf>,
    reports: HashMap<usize, ReportText>,
    split_file: Option<SplitFile>,
    exclusions: Exclusions,
}

impl Assembly {
    /// * `source`: the file that errors name.
    /// * `split_file`: decides the split of every image, whatever the source says.
    pub fn new(source: &Path, split_file: Option<SplitFile>, exclusions: Exclusions) -> Assembly {
        Assembly {
            source: source.to_path_buf(),
            plan: Plan::default(),
            places: HashMap::new(),
            first_rows: Vec::new(),
            splits: HashMap::new(),
            images: HashSet::new(),
            reports: HashMap::new(),
            split_file,
            exclusions,
        }
    }

    /// Adds an image to its study; returns the study's place, or `None` when the image is left out (and noted).
    ///
    /// # Errors
    /// A subject in two splits, or a study id that two subjects use: both rows are named.
    pub fn add(&mut self, image: FoundImage) -> Result<Option<usize>> {
        let FoundImage { subject, study, view, path, row, acquired, split } = image;
        let conflict = |message: String| Error::Row { path: self.source.clone(), row, message };
        if let Some(reason) = self.exclusions.reason(&subject, &study, &path) {
            self.plan.skip(path.display().to_string(), row, reason);
            return Ok(None);
        }
        let split = match &self.split_file {
            None => split.unwrap_or_else(|| split_of(&subject)),
            Some(file) => match file.find(&subject, &study, &path) {
                Some(split) => split,
                None => {
                    self.plan.skip(path.display().to_string(), row, "not in the split file");
                    return Ok(None);
                }
            },
        };
        match self.splits.get(&subject) {
            Some(&(known, first)) if known != split => {
                return Err(conflict(format!("subject `{subject}` is in {split} here and in {known} in row {first}")));
            }
            Some(_) => {}
            None => _ = self.splits.insert(subject.clone(), (split, row)),
        }
        let known = self.places.get(&study).copied();
        if let Some(place) = known
            && self.plan.studies[place].subject != subject
        {
            let (owner, first) = (&self.plan.studies[place].subject, self.first_rows[place]);
            return Err(conflict(format!(
                "study `{study}` belongs to subject `{subject}` here and to `{owner}` in row {first}"
            )));
        }
        if !self.images.insert(path.clone()) {
            self.plan.skip(path.display().to_string(), row, "image is listed twice");
            return Ok(None);
        }
        let place = known.unwrap_or_else(|| self.begin(subject, study, split, row));
        let planned = &mut self.plan.studies[place];
        let views = if view.is_frontal() { &mut planned.frontals } else { &mut planned.laterals };
        views.push(ImageSource { path, row });
        match (planned.acquired, acquired) {
            (None, time) => planned.acquired = time,
            (Some(known), Some(time)) if known != time => {
                self.plan.warn("rows of one study differ in time; the first counts");
            }
            _ => {}
        }
        Ok(Some(place))
    }

    fn begin(&mut self, subject: SubjectId, study: StudyId, split: Split, row: u64) -> usize {
        self.places.insert(study.clone(), self.plan.studies.len());
        self.first_rows.push(row);
        self.plan.studies.push(StudyPlan {
            subject,
            study,
            acquired: None,
            split,
            frontals: Vec::new(),
            laterals: Vec::new(),
            report: None,
            labels: BTreeMap::new(),
        });
        self.plan.studies.len() - 1
    }

    /// The place of a study, if it has an image.
    pub fn place(&self, study: &StudyId) -> Option<usize> {
        self.places.get(study).copied()
    }

    /// Gives a study its report; the first one stands.
    pub fn report(&mut self, place: usize, text: ReportText) {
        match self.reports.get(&place) {
            None => _ = self.reports.insert(place, text),
            Some(known) if *known != text => {
                self.plan.warn("rows of one study differ in their report; the first counts")
            }
            Some(_) => {}
        }
    }

    /// Gives a study a label; the first value of a name stands.
    pub fn label(&mut self, place: usize, name: &str, value: String) {
        self.plan.studies[place].labels.entry(name.to_string()).or_insert(value);
    }

    /// Cleans the reports and gives what was collected.
    pub fn finish(self, unit: SequenceUnit) -> Plan {
        let Assembly { mut plan, mut reports, exclusions, .. } = self;
        plan.warnings.extend(exclusions.summary());
        let texts = (0..plan.studies.len()).map(|place| reports.remove(&place)).collect::<Vec<_>>();
        let cleaned: Vec<Option<Result<String, report::Rejection>>> = texts
            .into_par_iter()
            .zip(&plan.studies)
            .map(|(text, study)| text.map(|text| clean(&text, &study.study)))
            .collect();
        for (place, report) in cleaned.into_iter().enumerate() {
            match report {
                Some(Ok(clean)) => plan.studies[place].report = Some(clean),
                Some(Err(reason)) => plan.warn(format!("{reason}; the study is kept for image-only jobs")),
                None => {}
            }
        }
        if unit == SequenceUnit::Image {
            plan.studies = plan.studies.into_iter().flat_map(by_image).collect();
        }
        plan
    }
}

fn clean(text: &ReportText, study: &StudyId) -> Result<String, report::Rejection> {
    match text {
        ReportText::Whole(text) => report::prepare(text, Some(study)),
        ReportText::Sections { impression, findings, last_paragraph } => {
            report::of_sections(impression.as_deref(), findings.as_deref(), last_paragraph.as_deref())
        }
    }
}

/// Without a split of its own: 80 % train, 10 % validate, 10 % test by a hash of the subject, so that the same subject
/// always falls into the same part.
pub fn split_of(subject: &SubjectId) -> Split {
    match Sha256::digest(subject.0.as_bytes())[0] {
        0..205 => Split::Train,
        205..231 => Split::Validate,
        _ => Split::Test,
    }
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
