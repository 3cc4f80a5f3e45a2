//! Reports what a source contains, without writing anything (`medst prepare … --check`).

use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::{PrepareOptions, Source};
use crate::Result;
use crate::corpus::write::count;
use crate::progress::Progress;
use crate::sequence::Chunks;
use crate::split::Split;
use crate::storage::objects;

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
    /// Size of the image files in bytes, and of the corpus they would give.
    pub bytes: u64,
    pub corpus_bytes: u64,
    pub skipped: BTreeMap<String, u64>,
    pub warnings: BTreeMap<String, u64>,
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
        bytes: sizes.iter().flatten().sum(),
        corpus_bytes: present as u64 * (options.image_size * options.image_size) as u64,
        skipped: count(plan.skipped.iter().map(|skipped| skipped.reason.as_str())),
        warnings: plan.warnings,
    })
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        writeln!(f, "{}, read from {}", self.source, self.files.join(", "))?;
        let Check { subjects, studies, with_report, with_lateral, with_full_sequence, .. } = self;
        writeln!(
            f,
            "  {studies} studies of {subjects} subjects; {with_report} with a report, {with_lateral} with a lateral view"
        )?;
        writeln!(f, "  {with_full_sequence} subjects have a full sequence")?;
        let splits = Split::ALL.map(|split| format!("{split} {}", self.by_split.get(&split).copied().unwrap_or(0)));
        writeln!(f, "  {}", splits.join(", "))?;
        let (present, images) = (self.images_present, self.images);
        writeln!(
            f,
            "  {present} of {images} images exist ({:.1} GiB); the corpus would take {:.1} GiB",
            gib(self.bytes),
            gib(self.corpus_bytes)
        )?;
        for (what, lines) in [("skipped", &self.skipped), ("note", &self.warnings)] {
            for (reason, count) in lines {
                writeln!(f, "  {what:8} {count:>7}  {reason}")?;
            }
        }
        writeln!(f, "  nothing was written")
    }
}
