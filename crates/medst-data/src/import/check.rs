//! Reports what a source contains, without writing anything (`medst prepare … --check`): a table
//! to compare with the publisher's counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::plan::{Plan, TextTable};
use super::{PrepareOptions, Source, mi_cxr, ms_cxr_t, published};
use crate::Result;
use crate::boxes::{self, Boxes};
use crate::corpus::write::count;
use crate::progress::Progress;
use crate::sequence::Chunks;
use crate::split::Split;
use crate::storage::objects;

pub const IMAGES: &str = "images";
pub const STUDIES: &str = "studies";
pub const SUBJECTS: &str = "subjects";
pub const REPORTS: &str = "studies with a report";
pub const LATERALS: &str = "studies with a lateral view";
pub const BOXES: &str = "boxes";
pub const PHRASES: &str = "phrases with boxes";
pub const PAIRS: &str = "pairs of studies";
pub const COURSES: &str = "courses of findings of pairs";
pub const SENTENCES: &str = "pairs of sentences";
pub const QUESTIONS: &str = "questions";
/// The label that names the data set of a study (CheXTemporal).
const DATASET: &str = "dataset";

/// The name of a count for one group.
pub fn of_group(what: &str, group: &str) -> String {
    format!("{what}, {group}")
}

/// Counts of a source.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub source: &'static str,
    pub files: Vec<String>,
    pub subjects: usize,
    pub studies: usize,
    pub by_split: BTreeMap<Split, usize>,
    pub with_report: usize,
    pub with_lateral: usize,
    /// Subjects with enough studies for a full sequence.
    pub with_full_sequence: usize,
    pub images: usize,
    pub images_present: usize,
    /// The images are in an archive, which a check does not read: none counts as present.
    pub in_archive: bool,
    /// Sequences that the source itself defines; without them, time does.
    pub sequences: Option<usize>,
    /// Size of the image files in bytes, and of the corpus they would give.
    pub bytes: u64,
    pub corpus_bytes: u64,
    /// The counts in the order of the table.
    pub counts: Vec<Count>,
    /// Labels that are 1, 0 or −1 (uncertain): studies with each value.
    pub findings: BTreeMap<String, [u64; 3]>,
    pub skipped: BTreeMap<String, u64>,
    pub warnings: BTreeMap<String, u64>,
}

/// A count, to be compared with the publisher's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    pub what: String,
    /// In the corpus that would be written.
    pub used: u64,
    /// Including those that are left out, if they are counted.
    pub listed: Option<u64>,
    /// Of the whole archive.
    pub published: Option<u64>,
    /// The published number is rounded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub about: bool,
}

/// Reads everything but the pixels.
///
/// # Errors
/// Those of the importer.
pub fn check(source: &Source, options: &PrepareOptions, progress: &dyn Progress) -> Result<Check> {
    let planned = source.plan(options, progress)?;
    let plan = planned.plan;
    progress.begin("looking for images", None);
    let sizes: Vec<Option<u64>> = plan
        .studies
        .par_iter()
        .flat_map_iter(|study| study.frontals.iter().chain(&study.laterals))
        .map(|image| {
            progress.advance(1);
            objects::state(&image.path).map(|(bytes, _)| bytes)
        })
        .collect();
    progress.end();
    let mut of_subject: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_split: BTreeMap<Split, usize> = BTreeMap::new();
    for study in &plan.studies {
        *by_split.entry(study.split).or_default() += 1;
        *of_subject.entry(&study.subject.0).or_default() += usize::from(study.acquired.is_some());
    }
    let Chunks { length, .. } = options.chunks;
    let present = sizes.iter().flatten().count();
    let (counts, findings) = (counts(source.kind(), &plan, sizes.len()), findings(&plan));
    let in_archive = match source {
        Source::Rexgradient(source) => !source.parts()?.is_empty(),
        _ => false,
    };
    let stored = if in_archive { sizes.len() } else { present };
    Ok(Check {
        source: source.kind(),
        files: planned.files.iter().take(8).map(|path| path.display().to_string()).collect(),
        subjects: of_subject.len(),
        studies: plan.studies.len(),
        by_split,
        with_report: plan.studies.iter().filter(|study| study.report.is_some()).count(),
        with_lateral: plan.studies.iter().filter(|study| !study.laterals.is_empty()).count(),
        with_full_sequence: of_subject.values().filter(|&&count| count >= length).count(),
        images: sizes.len(),
        images_present: present,
        in_archive,
        sequences: plan.sequences.as_ref().map(Vec::len),
        bytes: sizes.iter().flatten().sum(),
        corpus_bytes: stored as u64 * (options.image_size * options.image_size) as u64,
        counts,
        findings,
        skipped: count(plan.skipped.iter().map(|skipped| skipped.reason.as_str())),
        warnings: plan.warnings,
    })
}

fn counts(kind: &str, plan: &Plan, images: usize) -> Vec<Count> {
    let mut published: HashMap<String, u64> = published::counts(kind).into_iter().collect();
    let is_about = |what: &str| published::is_about(kind, what);
    let mut counts = Vec::new();
    let mut add = |what: String, used: usize, listed: Option<usize>| {
        let published = published.remove(&what);
        let about = published.is_some() && is_about(&what);
        // A count that is neither found nor published gets no line.
        if used > 0 || listed.is_some() || published.is_some() {
            counts.push(Count { what, used: used as u64, listed: listed.map(|count| count as u64), published, about });
        }
    };
    let subjects: BTreeSet<&str> = plan.studies.iter().map(|study| study.subject.0.as_str()).collect();
    // Rows of sources that define sequences are pairs or series, not images.
    add(IMAGES.into(), images, plan.sequences.is_none().then_some(images + plan.skipped.len()));
    add(STUDIES.into(), plan.studies.len(), Some(plan.listed.studies));
    add(SUBJECTS.into(), subjects.len(), Some(plan.listed.subjects));
    let with_report = plan.studies.iter().filter(|study| study.report.is_some()).count();
    let with_lateral = plan.studies.iter().filter(|study| !study.laterals.is_empty()).count();
    add(REPORTS.into(), with_report, None);
    add(LATERALS.into(), with_lateral, None);
    let labels = plan.studies.iter().filter_map(|study| Boxes::parse(study.labels.get(boxes::LABEL)?).ok());
    let (mut all, mut phrases) = (0, 0);
    for boxes in labels {
        all += boxes.regions.len();
        phrases += boxes.regions.iter().map(|region| &region.phrase).collect::<BTreeSet<_>>().len();
    }
    let table = |name: &str| plan.tables.iter().find(|table| table.name == name);
    add(PHRASES.into(), phrases, None);
    add(BOXES.into(), all, None);
    if let Some(pairs) = table(ms_cxr_t::PAIRS) {
        add(PAIRS.into(), pairs.rows.len(), None);
        let (all, of_dataset) = courses(pairs, plan);
        add(COURSES.into(), all, None);
        for (dataset, count) in of_dataset {
            add(of_group(COURSES, dataset), count, None);
        }
    }
    if let Some(sentences) = table(ms_cxr_t::SENTENCES) {
        add(SENTENCES.into(), sentences.rows.len(), None);
    }
    if let Some(questions) = table(mi_cxr::QUESTIONS) {
        add(QUESTIONS.into(), questions.rows.len(), None);
        // qid, group_type, qtype
        for column in [1, 2] {
            let mut of_kind: BTreeMap<&str, usize> = BTreeMap::new();
            questions.rows.iter().for_each(|row| *of_kind.entry(row[column].as_str()).or_default() += 1);
            of_kind.into_iter().for_each(|(kind, count)| add(of_group(QUESTIONS, kind), count, None));
        }
    }
    // Published counts of which nothing was found.
    let mut missing: Vec<(String, u64)> = published.into_iter().collect();
    missing.sort();
    counts.extend(missing.into_iter().map(|(what, published)| {
        let about = is_about(&what);
        Count { what, used: 0, listed: None, published: Some(published), about }
    }));
    counts
}

/// Findings whose course is known, over all pairs and by the data set of the pair.
fn courses<'a>(pairs: &TextTable, plan: &'a Plan) -> (usize, BTreeMap<&'a str, usize>) {
    let labels = plan.studies.iter().map(|study| (study.study.0.as_str(), study.labels.get(DATASET)));
    let datasets: HashMap<&str, Option<&String>> = labels.collect();
    let (mut all, mut of_dataset) = (0, BTreeMap::new());
    for row in &pairs.rows {
        let known = row[2..].iter().filter(|course| !course.is_empty()).count();
        all += known;
        if let Some(dataset) = datasets.get(row[1].as_str()).copied().flatten() {
            *of_dataset.entry(dataset.as_str()).or_default() += known;
        }
    }
    (all, of_dataset)
}

/// Labels of which every value is 1, 0 or −1.
fn findings(plan: &Plan) -> BTreeMap<String, [u64; 3]> {
    let mut findings: BTreeMap<&str, Option<[u64; 3]>> = BTreeMap::new();
    for (name, value) in plan.studies.iter().flat_map(|study| &study.labels) {
        let counts = findings.entry(name).or_insert(Some([0; 3]));
        let index = ["1", "0", "-1"].iter().position(|known| known == value);
        match (counts.as_mut(), index) {
            (Some(counts), Some(index)) => counts[index] += 1,
            _ => *counts = None,
        }
    }
    findings.into_iter().filter_map(|(name, counts)| Some((name.to_string(), counts?))).collect()
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        writeln!(f, "{}, read from {}\n", self.source, self.files.join(", "))?;
        let names = self.counts.iter().map(|count| &count.what).chain(self.findings.keys());
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).max(20);
        let published = self.counts.iter().any(|count| count.published.is_some());
        let title = if published { "published" } else { "" };
        let line = |cells: [&str; 4]| {
            let [what, used, listed, published] = cells;
            format!("  {what:width$} {used:>10} {listed:>10} {published:>10}").trim_end().to_string()
        };
        writeln!(f, "{}", line(["", "used", "listed", title]))?;
        let cell = |number: Option<u64>| number.map(grouped).unwrap_or_default();
        for Count { what, used, listed, published, about } in &self.counts {
            let published = format!("{}{}", if *about { "about " } else { "" }, cell(*published));
            writeln!(f, "{}", line([what, &grouped(*used), &cell(*listed), &published]))?;
        }
        if !self.findings.is_empty() {
            writeln!(f, "\n  {:width$} {:>10} {:>10} {:>10}", "studies with a label of", "1", "0", "-1")?;
            for (name, counts) in &self.findings {
                let [yes, no, uncertain] = counts.map(grouped);
                writeln!(f, "  {name:width$} {yes:>10} {no:>10} {uncertain:>10}")?;
            }
        }
        let splits = Split::ALL.map(|split| {
            let count = self.by_split.get(&split).copied().unwrap_or(0);
            format!("{split} {}", grouped(count as u64))
        });
        writeln!(f, "\n  studies by split: {}", splits.join(", "))?;
        match self.sequences {
            Some(count) => writeln!(f, "  sequences that the source defines: {}", grouped(count as u64))?,
            None => writeln!(f, "  subjects with a full sequence: {}", grouped(self.with_full_sequence as u64))?,
        }
        let [present, images] = [self.images_present, self.images].map(|count| grouped(count as u64));
        let found = match self.in_archive {
            true => format!("{images} images are in an archive, which --check does not read"),
            false => format!("{present} of {images} images exist ({:.1} GiB)", gib(self.bytes)),
        };
        writeln!(f, "  {found}; the corpus would take {:.1} GiB", gib(self.corpus_bytes))?;
        for (what, lines) in [("skipped", &self.skipped), ("note", &self.warnings)] {
            for (reason, count) in lines {
                writeln!(f, "  {what:8} {count:>7}  {reason}")?;
            }
        }
        if published {
            writeln!(
                f,
                "  listed: with those left out; published: of the whole archive, as its publisher or paper says"
            )?;
        }
        writeln!(f, "  nothing was written")
    }
}
