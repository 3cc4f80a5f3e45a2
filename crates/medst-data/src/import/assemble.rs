//! From images to studies: what every importer shares.
//!
//! Images of one subject and one study are one visit. The first frontal image is its frontal view,
//! further ones are alternatives, and the first lateral image is its lateral view. Importers add
//! images, reports and labels. [`Assembly::finish`] then makes the decisions that need all of them:
//! which subjects are excluded, which split each subject belongs to, and which rows refer to the
//! same patient or file under two names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::PrepareOptions;
use super::exclude::{Exclusions, KeptOut};
use super::ids::{self, Lookup};
use super::known::Known;
use super::plan::{ImageSource, LOST_A_STUDY, Listed, Plan, ReportText, Skipped, StudyPlan};
use super::same_file::{FileId, file_ids};
use super::splits::{Parts, SplitFile};
use crate::report::{self, Rule};
use crate::sequence::SequenceUnit;
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Result};

/// The label with the projection of a study's frontal image, PA or AP.
pub const VIEW: &str = "view";

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
    /// The part that the source puts it in; `None` leaves that to the split file or to the
    /// subject's hash.
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
    stated: HashMap<SubjectId, Stated>,
    reports: HashMap<usize, ReportText>,
    known: Known,
    split_file: Option<SplitFile>,
    exclusions: Exclusions,
}

/// The part that a source puts a subject in.
#[derive(Debug)]
struct Stated {
    split: Split,
    row: u64,
    /// The first row that contradicts it.
    contradiction: Option<(Split, u64)>,
}

impl Assembly {
    /// * `source`: the file that errors name.
    ///
    /// # Errors
    /// Exclusion lists or a split file that cannot be understood.
    pub fn new(source: &Path, options: &PrepareOptions) -> Result<Assembly> {
        let split_file = options.splits.as_deref().map(SplitFile::read).transpose()?;
        let exclusions = Exclusions::read(&options.exclude)?;
        let with_images = exclusions.name_images() || split_file.as_ref().is_some_and(SplitFile::names_images);
        Ok(Assembly {
            source: source.to_path_buf(),
            plan: Plan::default(),
            places: HashMap::new(),
            first_rows: Vec::new(),
            stated: HashMap::new(),
            reports: HashMap::new(),
            known: Known::new(with_images),
            split_file,
            exclusions,
        })
    }

    /// Notes ids of a row that cannot be used: an exclusion list may name the subject by them.
    pub fn know(&mut self, subject: &str, study: &str, image: &Path) {
        self.known.insert(subject, study, image);
    }

    /// Adds an image; returns the index of its study in the plan.
    ///
    /// # Errors
    /// A study that two subjects use.
    pub fn add(&mut self, image: FoundImage) -> Result<usize> {
        let FoundImage { subject, study, view, path, row, acquired, split } = image;
        self.know(&subject.0, &study.0, &path);
        if let Some(split) = split {
            let first = || Stated { split, row, contradiction: None };
            let stated = self.stated.entry(subject.clone()).or_insert_with(first);
            if stated.split != split && stated.contradiction.is_none() {
                stated.contradiction = Some((split, row));
            }
        }
        let known = self.places.get(&study).copied();
        if let Some(index) = known
            && self.plan.studies[index].subject != subject
        {
            let (owner, first) = (&self.plan.studies[index].subject, self.first_rows[index]);
            let message =
                format!("study `{study}` belongs to subject `{subject}` here and to `{owner}` in row {first}");
            return Err(self.conflict(row, message));
        }
        let index = known.unwrap_or_else(|| self.begin(subject, study, row));
        let planned = &mut self.plan.studies[index];
        let views = if view.is_frontal() { &mut planned.frontals } else { &mut planned.laterals };
        views.push(ImageSource { path, row });
        match (planned.acquired, acquired) {
            (None, time) => planned.acquired = time,
            (Some(known), Some(time)) if known != time => {
                self.plan.warn("rows of the same study differ in time; the first one is used");
            }
            _ => {}
        }
        Ok(index)
    }

    fn conflict(&self, row: u64, message: String) -> Error {
        Error::Row { path: self.source.clone(), row, message }
    }

    fn begin(&mut self, subject: SubjectId, study: StudyId, row: u64) -> usize {
        self.places.insert(study.clone(), self.plan.studies.len());
        self.first_rows.push(row);
        self.plan.studies.push(StudyPlan {
            subject,
            study,
            acquired: None,
            split: Split::Train,
            frontals: Vec::new(),
            laterals: Vec::new(),
            report: None,
            labels: BTreeMap::new(),
        });
        self.plan.studies.len() - 1
    }

    /// The index of a study in the plan, if it has an image.
    pub fn index_of(&self, study: &StudyId) -> Option<usize> {
        self.places.get(study).copied()
    }

    /// The index of the study that another table names, by the rule of [`super::ids`].
    ///
    /// # Errors
    /// An id that may mean several studies.
    pub fn index_by(&self, lookup: &mut Lookup, study: &str, row: u64) -> Result<Option<usize>> {
        let known_id = lookup.find(&self.known.studies, study, row)?;
        Ok(known_id.and_then(|known_id| self.places.get(&StudyId(known_id.to_string())).copied()))
    }

    /// Says of a table that names studies in which forms it did.
    ///
    /// # Errors
    /// A table that names none of the studies.
    pub fn looked_up(&mut self, lookup: &Lookup, what: &str) -> Result<()> {
        lookup.check_any(what, &self.known.studies)?;
        self.plan.warnings.extend(lookup.note());
        Ok(())
    }

    /// Gives a study its report; the first one wins.
    pub fn report(&mut self, index: usize, text: ReportText) {
        match self.reports.get(&index) {
            None => _ = self.reports.insert(index, text),
            Some(known) if *known != text => {
                self.plan.warn("rows of the same study differ in their report; the first one is used")
            }
            Some(_) => {}
        }
    }

    /// Gives a study a label; the first value of a name wins.
    pub fn label(&mut self, index: usize, name: &str, value: String) {
        self.plan.studies[index].labels.entry(name.to_string()).or_insert(value);
    }

    /// Notes whether the frontal image of a study is PA or AP, in the label [`VIEW`], for sources
    /// that state it. The first frontal image wins.
    pub fn label_view(&mut self, index: usize, view: View) {
        if view.is_frontal() {
            self.label(index, VIEW, view.name().to_string());
        }
    }

    /// Decides who is kept out, the parts, and which images are one; cleans the reports. Studies
    /// keep their order; the indices in `plan.sequences` are renewed where studies went.
    ///
    /// # Errors
    /// Exclusion lists and split files that do not fit the source; a subject, or one file, in two
    /// parts.
    pub fn finish(mut self, options: &PrepareOptions) -> Result<Plan> {
        let mut kept: Vec<bool> = vec![true; self.plan.studies.len()];
        self.plan.listed = Listed { subjects: self.known.subjects.len(), studies: self.known.studies.len() };
        self.keep_out(&mut kept)?;
        self.divide(&mut kept)?;
        self.drop_repeated_files(&mut kept)?;
        let mut reports = std::mem::take(&mut self.reports);
        let texts: Vec<Option<ReportText>> = (0..kept.len()).map(|index| reports.remove(&index)).collect();
        let studies = std::mem::take(&mut self.plan.studies);
        let (studies, texts): (Vec<StudyPlan>, Vec<Option<ReportText>>) =
            studies.into_iter().zip(texts).zip(&kept).filter(|(_, kept)| **kept).map(|(study, _)| study).unzip();
        let mut plan = self.plan;
        plan.studies = studies;
        renew_sequences(&mut plan, &kept);
        clean_reports(&mut plan, texts, options.report_rule);
        if options.sequence_unit == SequenceUnit::Image {
            plan.studies = plan.studies.into_iter().flat_map(by_image).collect();
        }
        Ok(plan)
    }

    /// Leaves out the subjects of exclusion lists.
    fn keep_out(&mut self, kept: &mut [bool]) -> Result<()> {
        if self.exclusions.is_empty() {
            return Ok(());
        }
        let kept_out: KeptOut = self.exclusions.resolve(&self.known)?;
        let mut subjects = Vec::new();
        for (study, kept) in self.plan.studies.iter().zip(kept.iter_mut()) {
            let Some(reason) = kept_out.reason(&study.subject.0) else { continue };
            *kept = false;
            for image in images_of(study) {
                subjects.push(study.subject.0.as_str());
                self.plan.skipped.push(Skipped::image(image, reason.as_str()));
            }
        }
        let mut warnings = kept_out.summary(subjects.into_iter());
        let names: HashSet<String> = kept_out.subjects().map(ids::key).collect();
        let stay: HashSet<&SubjectId> = self
            .plan
            .studies
            .iter()
            .zip(kept.iter())
            .filter(|(_, kept)| **kept)
            .map(|(study, _)| &study.subject)
            .collect();
        let alike = stay.iter().filter(|subject| names.contains(&ids::key(&subject.0))).count() as u64;
        if alike > 0 {
            warnings
                .push(("subjects kept whose IDs differ only in form from those of excluded subjects".into(), alike));
        }
        warnings.extend(kept_out.notes);
        self.plan.warnings.extend(warnings);
        Ok(())
    }

    /// Gives every subject its part: the split file's, else the source's, else by hash.
    fn divide(&mut self, kept: &mut [bool]) -> Result<()> {
        let parts = self.split_file.as_ref().map(|file| file.resolve(&self.known)).transpose()?;
        if let Some(parts) = &parts {
            self.leave_undivided_out(parts, kept);
            self.plan.warnings.extend(parts.note.clone());
        }
        let mut of_subject: HashMap<SubjectId, (Split, u64)> = HashMap::new();
        // The first subject whose id has the key.
        let mut by_key: HashMap<String, (SubjectId, Split, u64)> = HashMap::new();
        for index in (0..self.plan.studies.len()).filter(|&index| kept[index]) {
            let study = &self.plan.studies[index];
            let (subject, row) = (study.subject.clone(), self.first_rows[index]);
            let stated = match &parts {
                None => self.stated_split(&subject)?,
                Some(parts) => {
                    let mut images = study.frontals.iter().chain(&study.laterals);
                    let part =
                        |image: &ImageSource| Some((parts.find(&subject.0, &study.study.0, &image.path)?, image.row));
                    let first = images.find_map(part);
                    for (split, row) in images.filter_map(part) {
                        if let Some((other, other_row)) = first.filter(|(other, _)| *other != split) {
                            return Err(self.conflict(row, two_parts(&subject, split, other, other_row)));
                        }
                    }
                    first.map(|(split, _)| split)
                }
            };
            let split = match of_subject.get(&subject) {
                Some(&(known, first)) => match stated {
                    Some(split) if split != known => {
                        return Err(self.conflict(row, two_parts(&subject, split, known, first)));
                    }
                    _ => known,
                },
                None => {
                    let split = match by_key.get(&ids::key(&subject.0)) {
                        None => stated.unwrap_or_else(|| split_of(&subject)),
                        Some((other, known, first)) => {
                            let split = stated.unwrap_or(*known);
                            if split != *known {
                                let message = format!(
                                    "subject `{subject}` is in {split} here and `{other}` in {known} in row \
                                     {first}; IDs that differ only in form may belong to the same patient: write \
                                     them alike, or put both into the same split"
                                );
                                return Err(self.conflict(row, message));
                            }
                            self.plan.warn(format!(
                                "subjects whose IDs differ only in form (such as `{other}` and `{subject}`), kept \
                                 apart, but in the same split"
                            ));
                            split
                        }
                    };
                    by_key.entry(ids::key(&subject.0)).or_insert_with(|| (subject.clone(), split, row));
                    of_subject.insert(subject, (split, row));
                    split
                }
            };
            self.plan.studies[index].split = split;
        }
        Ok(())
    }

    fn stated_split(&self, subject: &SubjectId) -> Result<Option<Split>> {
        let Some(stated) = self.stated.get(subject) else { return Ok(None) };
        match stated.contradiction {
            Some((split, row)) => Err(self.conflict(row, two_parts(subject, split, stated.split, stated.row))),
            None => Ok(Some(stated.split)),
        }
    }

    /// Images that a split file does not name are left out.
    fn leave_undivided_out(&mut self, parts: &Parts, kept: &mut [bool]) {
        let Plan { studies, skipped, .. } = &mut self.plan;
        for (study, kept) in studies.iter_mut().zip(kept).filter(|(_, kept)| **kept) {
            let StudyPlan { subject, study, frontals, laterals, .. } = study;
            for images in [&mut *frontals, &mut *laterals] {
                images.retain(|image| {
                    let named = parts.find(&subject.0, &study.0, &image.path).is_some();
                    if !named {
                        skipped.push(Skipped::image(image, "not in the split file"));
                    }
                    named
                });
            }
            *kept = !(frontals.is_empty() && laterals.is_empty());
        }
    }

    /// One file counts once, however its path is written.
    fn drop_repeated_files(&mut self, kept: &mut [bool]) -> Result<()> {
        let paths: Vec<&Path> =
            self.plan.studies.iter().flat_map(images_of).map(|image| image.path.as_path()).collect();
        let mut files = file_ids(&paths).into_iter();
        // The order of rows, not of studies, determines which is the first.
        let mut by_row: Vec<Image> = Vec::with_capacity(paths.len());
        for (study, planned) in self.plan.studies.iter().enumerate() {
            let images = images_of(planned).zip(files.by_ref()).enumerate();
            by_row.extend(images.map(|(number, (image, file))| Image { row: image.row, study, number, file }));
        }
        by_row.retain(|image| kept[image.study]);
        by_row.sort_by_key(|image| image.row);
        let mut first: HashMap<&FileId, &Image> = HashMap::with_capacity(by_row.len());
        let mut repeated: HashMap<usize, HashSet<usize>> = HashMap::new();
        for image in &by_row {
            let Some(known) = first.get(&image.file) else {
                first.insert(&image.file, image);
                continue;
            };
            let (study, other) = (&self.plan.studies[image.study], &self.plan.studies[known.study]);
            if study.split != other.split {
                let message = format!(
                    "the same image file belongs to subject `{1}` in {2} in row {0}, and to subject `{3}` in {4} \
                     here; an image must belong to one patient",
                    known.row, other.subject, other.split, study.subject, study.split
                );
                return Err(self.conflict(image.row, message));
            }
            repeated.entry(image.study).or_default().insert(image.number);
        }
        let Plan { studies, skipped, .. } = &mut self.plan;
        for (index, numbers) in repeated {
            let StudyPlan { frontals, laterals, .. } = &mut studies[index];
            let mut number = 0;
            for images in [&mut *frontals, &mut *laterals] {
                images.retain(|image| {
                    let again = numbers.contains(&number);
                    number += 1;
                    if again {
                        skipped.push(Skipped::image(image, "image is listed twice"));
                    }
                    !again
                });
            }
            kept[index] = !(frontals.is_empty() && laterals.is_empty());
        }
        Ok(())
    }
}

/// An image of a plan, and its position there.
struct Image {
    row: u64,
    study: usize,
    /// Its place in [`images_of`] the study.
    number: usize,
    file: FileId,
}

fn images_of(study: &StudyPlan) -> impl Iterator<Item = &ImageSource> {
    study.frontals.iter().chain(&study.laterals)
}

fn two_parts(subject: &SubjectId, split: Split, other: Split, row: u64) -> String {
    format!("subject `{subject}` is in {split} here and in {other} in row {row}")
}

/// Sequences that a source defines, with the indices that studies have now; those that lost one are
/// left out and counted.
fn renew_sequences(plan: &mut Plan, kept: &[bool]) {
    let Some(sequences) = plan.sequences.take() else { return };
    let mut next = 0;
    let places: Vec<Option<usize>> = kept
        .iter()
        .map(|kept| {
            next += usize::from(*kept);
            kept.then(|| next - 1)
        })
        .collect();
    let renewed: Vec<Option<Vec<usize>>> =
        sequences.iter().map(|sequence| sequence.iter().map(|&index| places[index]).collect()).collect();
    let lost = renewed.iter().filter(|sequence| sequence.is_none()).count();
    (0..lost).for_each(|_| plan.warn(LOST_A_STUDY));
    plan.sequences = Some(renewed.into_iter().flatten().collect());
}

fn clean_reports(plan: &mut Plan, texts: Vec<Option<ReportText>>, rule: Rule) {
    let cleaned: Vec<Option<Result<(String, bool), report::Rejection>>> = texts
        .into_par_iter()
        .zip(&plan.studies)
        .map(|(text, study)| {
            let text = text?;
            let named = |clean: String| {
                let named = report::names::holds_name(text.parts(), &clean);
                (clean, named)
            };
            Some(clean(&text, &study.study, rule).map(named))
        })
        .collect();
    for (index, report) in cleaned.into_iter().enumerate() {
        match report {
            Some(Ok((clean, named))) => {
                plan.studies[index].report = Some(clean);
                if named {
                    plan.warn("reports with what looks like a person's name (`Dr. …`, `Mr. …`, `Name: …`), kept");
                }
            }
            Some(Err(reason)) => plan.warn(format!("{reason}; the study is kept for image-only jobs")),
            None => {}
        }
    }
}

fn clean(text: &ReportText, study: &StudyId, rule: Rule) -> Result<String, report::Rejection> {
    match text {
        ReportText::Whole(text) => report::prepare(text, Some(study), rule),
        ReportText::MimicCxr(text) => report::prepare_mimic_cxr(text, Some(study), rule),
        ReportText::Sections { impression, findings, last_paragraph } => {
            report::of_sections(impression.as_deref(), findings.as_deref(), last_paragraph.as_deref(), rule)
        }
    }
}

/// The split where the source has none: 80 % train, 10 % validate, 10 % test by a hash of the
/// subject, so that a subject always falls into the same part.
pub fn split_of(subject: &SubjectId) -> Split {
    match Sha256::digest(subject.0.as_bytes())[0] {
        0..205 => Split::Train,
        205..231 => Split::Validate,
        _ => Split::Test,
    }
}

/// The reference's unit: every frontal image is a separate step.
fn by_image(study: StudyPlan) -> Vec<StudyPlan> {
    if study.frontals.len() < 2 {
        return vec![study];
    }
    let step = |(n, frontal): (usize, &ImageSource)| StudyPlan {
        study: StudyId(format!("{}-image{}", study.study, n + 1)),
        frontals: vec![frontal.clone()],
        ..study.clone()
    };
    study.frontals.iter().enumerate().map(step).collect()
}
