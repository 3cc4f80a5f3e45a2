//! Writing a corpus: `pictures` fills a working folder next to the target (`staging`), `join` makes
//! shards, this module adds the tables and the manifest, and the folder is renamed when everything
//! is there.
//!
//! With several processes, the first one reads the sources, sends the others the list of pictures,
//! and writes everything but the shards.
//!
//! Bytes do not depend on the number of threads and processes, or on interruptions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::copies;
use super::journal::{Stretch, add_counts};
use super::manifest::{self, Counts, FileRecord, Manifest, Provenance};
use super::options::PrepareOptions;
use super::plan::{ImageSource, LOST_A_STUDY, Plan, Skipped, StudyPlan, TextTable};
#[cfg(feature = "s3")]
use super::remote::upload;
use super::staging::Staging;
pub use super::staging::check_target;
use super::summary::Summary;
use super::tables::{self, SEQUENCES, SKIPPED, SPLITS, STUDIES};
use super::together::{self, Work};
use crate::files::sha256_of_file;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::sequence::{Sequence, build_sequences};
#[cfg(feature = "s3")]
use crate::storage::Address;
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

/// A preparation that can be shared out.
pub struct Begun {
    plan: Plan,
    source: Provenance,
    staging: Staging,
    work: Work,
    /// The pictures that an interrupted run has decoded.
    known: Vec<Stretch>,
}

/// Takes the working folder and finds out what is left to do.
///
/// # Errors
/// A plan without studies; a working folder that cannot be had.
pub fn begin(
    plan: Plan,
    source: Provenance,
    out: &Path,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<Begun> {
    if plan.studies.is_empty() {
        return Err(Error::Usage(nothing_usable(&plan)));
    }
    let staging = Staging::take(out)?;
    let images = images(&plan);
    let identity = together::identity(&plan, &images, options);
    let known = together::known(&staging, &identity, images.len(), progress)?;
    let work = Work {
        identity,
        images: images.iter().map(|image| image.path.clone()).collect(),
        known: known.iter().map(Stretch::extent).collect(),
    };
    Ok(Begun { plan, source, staging, work, known })
}

/// The pictures of a plan, in the order in which they are stored.
fn images(plan: &Plan) -> Vec<&ImageSource> {
    plan.studies.iter().flat_map(|study| study.frontals.iter().chain(&study.laterals)).collect()
}

/// Decodes and writes the pictures of a plan, as the leading process.
///
/// # Errors
/// Names the file that cannot be written. With a stop request the working folder stays for the next
/// run.
pub fn write(
    begun: Begun,
    out: &Path,
    options: &PrepareOptions,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<Summary> {
    let Begun { plan, source, staging, work, known } = begun;
    let folder = staging.folder.clone();
    if ranks.size() > 1 {
        ranks.gather_bytes(&work.to_bytes());
    }
    let (news, files) = together::shards(&folder, &work, options, ranks, progress)?;
    together::send(out, &folder, &files, ranks, progress)?;
    let images = images(&plan);
    let mut warnings = plan.warnings.clone();
    known.iter().chain(&news).for_each(|stretch| add_counts(&mut warnings, &stretch.notes));
    let failures = together::failures(images.len(), known, news);
    let (stored, mut places) = resolve(&failures);
    let mut skipped = plan.skipped.clone();
    for (image, reason) in images.iter().zip(&failures) {
        skipped.extend(reason.clone().map(|reason| Skipped {
            file: image.path.display().to_string(),
            row: image.row,
            reason,
        }));
    }
    let side = options.image_size;
    copies::find(&folder, side, &plan.studies, &mut places, &mut skipped, &mut warnings, progress)?;
    let (studies, rows) = studies(plan.studies, places, &mut skipped, &mut warnings);
    if studies.is_empty() {
        let reasons = Plan { skipped, ..Plan::default() };
        return Err(Error::Usage(nothing_usable(&reasons)));
    }
    let sequences = match plan.sequences {
        None => build_sequences(&studies, options.chunks),
        Some(given) => given_sequences(&given, &studies, &rows, &mut warnings),
    };

    tables::write_studies(&folder.join(STUDIES), &studies)?;
    tables::write_sequences(&folder.join(SEQUENCES), &sequences)?;
    skipped.sort_by(|a, b| (a.row, &a.file).cmp(&(b.row, &b.file)));
    write_csv(
        &folder.join(SKIPPED),
        &["file", "row", "reason"],
        skipped.iter().map(|row| [row.file.clone(), row.row.to_string(), row.reason.clone()]),
    )?;
    write_csv(
        &folder.join(SPLITS),
        &["subject_id", "study_id", "split"],
        studies.iter().map(|study| [study.subject.0.clone(), study.study.0.clone(), study.split.name().into()]),
    )?;
    let mut names = [STUDIES, SEQUENCES, SKIPPED, SPLITS].map(String::from).to_vec();
    for TextTable { name, columns, rows } in &plan.tables {
        let name = format!("{name}.csv");
        write_csv(&folder.join(&name), columns, rows.iter())?;
        names.push(name);
    }
    let length = options.chunks.length;
    let manifest = Manifest {
        format: manifest::FORMAT.into(),
        version: manifest::VERSION,
        image_size: options.image_size,
        sequence_length: length,
        sequence_stride: options.chunks.stride,
        sequence_unit: options.sequence_unit,
        decoding: options.decoding,
        report_rule: options.report_rule,
        source,
        counts: Counts::new(&studies, &sequences, stored, length),
        skipped: count(skipped.iter().map(|skipped| skipped.reason.as_str())),
        warnings,
        files: records(&folder, names.into_iter())?.into_iter().chain(files.clone()).collect(),
    };
    let summary = Summary {
        corpus: out.to_path_buf(),
        counts: manifest.counts.clone(),
        skipped: manifest.skipped.clone(),
        warnings: manifest.warnings.clone(),
    };
    #[cfg(feature = "s3")]
    if let Some(address) = Address::from_path(out)? {
        let is_table = |(name, _): &(&String, &FileRecord)| !files.contains_key(*name);
        let tables = manifest.files.iter().filter(is_table).map(|(name, file)| (name.clone(), file.clone())).collect();
        upload::files(&address, &folder, &tables, progress)?;
    }
    staging.publish(&manifest, options.overwrite)?;
    Ok(summary)
}

/// Sequences that the source defines, those that lost a study left out.
fn given_sequences(
    given: &[Vec<usize>],
    studies: &[Study],
    rows: &[Option<u32>],
    warnings: &mut BTreeMap<String, u64>,
) -> Vec<Sequence> {
    let mut sequences = Vec::with_capacity(given.len());
    for places in given {
        let members: Option<Vec<u32>> = places.iter().map(|&study| rows[study]).collect();
        match members {
            Some(members) if !members.is_empty() => {
                let first = &studies[members[0] as usize];
                let (subject, split) = (first.subject.clone(), first.split);
                sequences.push(Sequence { subject, split, studies: members });
            }
            _ => *warnings.entry(LOST_A_STUDY.into()).or_default() += 1,
        }
    }
    sequences
}

fn nothing_usable(plan: &Plan) -> String {
    let reasons = count(plan.skipped.iter().map(|skipped| skipped.reason.as_str()));
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    format!("no study is usable; rows were left out because: {}", reasons.join("; "))
}

pub(crate) fn count<'a>(reasons: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason.to_string()).or_default() += 1;
    }
    counts
}

/// The number of stored pictures, and the index of each source image in them.
fn resolve(failures: &[Option<String>]) -> (usize, Vec<Option<ImageIndex>>) {
    let mut next = 0;
    let places = failures
        .iter()
        .map(|failure| {
            failure.is_none().then(|| {
                next += 1;
                ImageIndex(next - 1)
            })
        })
        .collect();
    (next as usize, places)
}

/// Studies whose frontal image could be read, and for each plan its study's row; the first readable
/// image of each kind counts.
fn studies(
    plans: Vec<StudyPlan>,
    places: Vec<Option<ImageIndex>>,
    skipped: &mut Vec<Skipped>,
    warnings: &mut BTreeMap<String, u64>,
) -> (Vec<Study>, Vec<Option<u32>>) {
    let mut places = places.into_iter();
    let mut studies = Vec::with_capacity(plans.len());
    let mut rows = Vec::with_capacity(plans.len());
    for plan in plans {
        let frontals: Vec<ImageIndex> = places.by_ref().take(plan.frontals.len()).flatten().collect();
        let laterals: Vec<ImageIndex> = places.by_ref().take(plan.laterals.len()).flatten().collect();
        let Some((&frontal, alternatives)) = frontals.split_first() else {
            let first = plan.frontals.first().or(plan.laterals.first());
            skipped.push(Skipped {
                file: format!("study {}", plan.study),
                row: first.map_or(0, |image| image.row),
                reason: "study has no readable frontal image".into(),
            });
            rows.push(None);
            continue;
        };
        if laterals.len() > 1 {
            let what = "lateral images beyond the first of their study, not used".to_string();
            *warnings.entry(what).or_default() += laterals.len() as u64 - 1;
        }
        rows.push(Some(studies.len() as u32));
        studies.push(Study {
            subject: plan.subject,
            study: plan.study,
            acquired: plan.acquired,
            split: plan.split,
            frontal,
            alternative_frontals: alternatives.to_vec(),
            lateral: laterals.first().copied(),
            report: plan.report,
            labels: plan.labels,
        });
    }
    (studies, rows)
}

fn write_csv<R>(path: &Path, columns: &[impl AsRef<[u8]>], rows: impl Iterator<Item = R>) -> Result<()>
where
    R: IntoIterator,
    R::Item: AsRef<[u8]>,
{
    let fail = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::io(path)(error),
        kind => Error::Corpus { path: path.to_path_buf(), message: format!("{kind:?}") },
    };
    let mut writer = csv::Writer::from_path(path).map_err(fail)?;
    writer.write_record(columns).map_err(fail)?;
    for row in rows {
        writer.write_record(row).map_err(fail)?;
    }
    writer.flush().map_err(Error::io(path))
}

fn records(folder: &Path, names: impl Iterator<Item = String>) -> Result<BTreeMap<String, FileRecord>> {
    names
        .map(|name| {
            let path = folder.join(&name);
            let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
            Ok((name, FileRecord { bytes, sha256: sha256_of_file(&path)? }))
        })
        .collect()
}
