//! Writing a corpus: pictures are decoded in parallel and appended in order to a staging folder beside the target; the
//! folder is renamed when everything, the manifest last, is there.
//!
//! Memory does not grow with the number of pictures. A journal in the staging folder tells an interrupted run where it
//! was; bytes do not depend on the number of threads or on interruptions.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::{self, Counts, FileRecord, Manifest};
use super::shards::{self, ShardWriter};
use super::tables::{self, SEQUENCES, STUDIES};
use crate::image::{decode, resize};
use crate::import::assemble::{ImageSource, Plan, Skipped, StudyPlan};
use crate::import::{PrepareOptions, Summary};
use crate::progress::Progress;
use crate::sequence::build_sequences;
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

const SKIPPED: &str = "skipped.csv";
const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = "lock";
/// Pictures decoded between two entries of the journal.
const BLOCK: usize = 128;

/// Where a corpus came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub kind: String,
    pub name: String,
    pub sha256: String,
}

/// One line of the journal: for each picture of a block, why it was left out, if it was.
#[derive(Serialize, Deserialize)]
struct Block {
    failures: Vec<Option<String>>,
}

/// Decodes and writes what a plan holds.
///
/// # Errors
/// Names the file that cannot be written. With a stop request the staging folder stays for the next run.
pub fn write(
    plan: Plan,
    source: Source,
    out: &Path,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    if plan.studies.is_empty() {
        return Err(Error::Usage(nothing_usable(&plan)));
    }
    check_target(out, options.overwrite)?;
    let staging = beside(out, "partial");
    fs::create_dir_all(&staging).map_err(Error::io(&staging))?;
    check_staging(&staging)?;
    let lock = File::create(staging.join(LOCK)).map_err(Error::io(&staging))?;
    lock.try_lock().map_err(|_| Error::Usage(format!("{} is being written by another program", out.display())))?;

    let images: Vec<&ImageSource> =
        plan.studies.iter().flat_map(|study| study.frontals.iter().chain(&study.laterals)).collect();
    let failures = write_images(&images, &staging, &source, options, progress)?;
    let (shards, outcome) = resolve(&failures);
    let mut skipped = plan.skipped;
    for (image, reason) in images.iter().zip(&failures) {
        skipped.extend(reason.clone().map(|reason| Skipped {
            file: image.path.display().to_string(),
            row: image.row,
            reason,
        }));
    }
    let mut warnings = plan.warnings;
    let studies = studies(plan.studies, outcome, &mut skipped, &mut warnings);
    if studies.is_empty() {
        let reasons = Plan { skipped, ..Plan::default() };
        return Err(Error::Usage(nothing_usable(&reasons)));
    }
    let sequences = build_sequences(&studies, options.sequence_length);

    tables::write_studies(&staging.join(STUDIES), &studies)?;
    tables::write_sequences(&staging.join(SEQUENCES), &sequences)?;
    skipped.sort_by(|a, b| (a.row, &a.file).cmp(&(b.row, &b.file)));
    write_skipped(&staging.join(SKIPPED), &skipped)?;
    let shards = shards.div_ceil(shards::CAPACITY);
    let names = [STUDIES, SEQUENCES, SKIPPED].map(String::from).into_iter().chain((0..shards).map(shards::name));
    let manifest = Manifest {
        format: manifest::FORMAT.into(),
        version: manifest::VERSION,
        image_size: options.image_size,
        sequence_length: options.sequence_length,
        sequence_unit: options.sequence_unit,
        source,
        counts: Counts::of(
            &studies,
            &sequences,
            failures.iter().filter(|f| f.is_none()).count(),
            options.sequence_length,
        ),
        skipped: count(skipped.iter().map(|skipped| skipped.reason.as_str())),
        warnings,
        files: records(&staging, names)?,
    };
    let summary = Summary {
        corpus: out.to_path_buf(),
        counts: manifest.counts.clone(),
        skipped: manifest.skipped.clone(),
        warnings: manifest.warnings.clone(),
    };
    write_whole(&staging.join(manifest::FILE), &serde_json::to_vec_pretty(&manifest).unwrap_or_default())?;
    drop(lock);
    for leftover in [JOURNAL, LOCK] {
        fs::remove_file(staging.join(leftover)).map_err(Error::io(&staging))?;
    }
    publish(&staging, out)?;
    Ok(summary)
}

fn nothing_usable(plan: &Plan) -> String {
    let reasons = count(plan.skipped.iter().map(|skipped| skipped.reason.as_str()));
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    format!("no study is usable; rows were left out because: {}", reasons.join("; "))
}

fn count<'a>(reasons: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason.to_string()).or_default() += 1;
    }
    counts
}

/// `OUT.partial`, `OUT.replaced`: neighbours of the target, on the same file system.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    out.with_file_name(name)
}

/// Only a corpus may be replaced, and only when asked to.
fn check_target(out: &Path, overwrite: bool) -> Result<()> {
    let there = out.display();
    if !out.exists() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    if !out.join(manifest::FILE).exists() {
        return Err(Error::Usage(format!("{there} exists and is no corpus; choose another place")));
    }
    if overwrite { Ok(()) } else { Err(Error::Usage(format!("{there} is a corpus already; --overwrite replaces it"))) }
}

/// Refuses a folder in the staging folder's place that holds another's files: they would move into the corpus.
fn check_staging(staging: &Path) -> Result<()> {
    let ours = [JOURNAL, manifest::FILE].iter().any(|name| staging.join(name).exists());
    let foreign = entries(staging)?.iter().any(|path| !path.ends_with(LOCK));
    if ours || !foreign {
        return Ok(());
    }
    let place = staging.display();
    Err(Error::Usage(format!("{place} is needed as a working folder but holds other files; move it away")))
}

/// Removes what an earlier run left for another source or other settings; the journal goes last, for it tells the folder.
fn empty_staging(staging: &Path) -> Result<()> {
    let stale = entries(staging)?.into_iter().filter(|path| !path.ends_with(LOCK) && !path.ends_with(JOURNAL));
    for path in stale.chain(Some(staging.join(JOURNAL)).filter(|journal| journal.exists())) {
        fs::remove_file(&path).map_err(Error::io(&path))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(Error::io(folder))
}

/// Decodes and appends all pictures; returns why each was left out.
fn write_images(
    images: &[&ImageSource],
    staging: &Path,
    source: &Source,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<Vec<Option<String>>> {
    let identity = identity(images, source, options);
    let journal = staging.join(JOURNAL);
    let mut failures = resume(&journal, &identity)?.unwrap_or_default();
    if failures.is_empty() {
        empty_staging(staging)?;
        write_whole(&journal, format!("{identity}\n").as_bytes())?;
    }
    let written = failures.iter().filter(|failure| failure.is_none()).count();
    let mut shards = ShardWriter::new(staging, options.image_size, written)?;
    let mut lines = OpenOptions::new().append(true).open(&journal).map_err(Error::io(&journal))?;
    progress.begin("preparing images", Some(images.len() as u64));
    progress.advance(failures.len() as u64);
    while failures.len() < images.len() {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let block = &images[failures.len()..(failures.len() + BLOCK).min(images.len())];
        let pictures: Vec<Result<Vec<u8>, String>> =
            block.par_iter().map(|image| picture(image, options.image_size)).collect();
        let mut entry = Block { failures: Vec::with_capacity(block.len()) };
        for picture in pictures {
            match picture {
                Ok(pixels) => {
                    shards.push(&pixels)?;
                    entry.failures.push(None);
                }
                Err(reason) => entry.failures.push(Some(reason)),
            }
        }
        // The journal never runs ahead of the pictures it speaks of.
        shards.sync()?;
        let line = serde_json::to_string(&entry).unwrap_or_default();
        lines.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&journal))?;
        progress.advance(block.len() as u64);
        failures.extend(entry.failures);
    }
    shards.finish()?;
    progress.end();
    Ok(failures)
}

/// Reads a picture as it is stored; the error is a short reason fit for counting.
fn picture(image: &ImageSource, side: usize) -> Result<Vec<u8>, String> {
    if !image.path.exists() {
        return Err("image file does not exist".into());
    }
    let decoded = decode::read(&image.path).map_err(|error| match error {
        Error::Image { message, .. } => message,
        Error::Io { source, .. } => format!("image file is unreadable: {}", source.kind()),
        other => other.to_string(),
    })?;
    resize::to_square(&decoded, side)
}

/// What a run must share with an interrupted one to continue it: the source, the settings, and every file's size and
/// time of change.
fn identity(images: &[&ImageSource], source: &Source, options: &PrepareOptions) -> String {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{}\0{}\0{}\0{:?}\n",
        env!("CARGO_PKG_VERSION"),
        source.sha256,
        options.image_size,
        options.sequence_unit
    ));
    for image in images {
        let state = fs::metadata(&image.path).map(|meta| (meta.len(), meta.modified().ok())).ok();
        hash.update(format!("{}\0{state:?}\n", image.path.display()));
    }
    format!("{:x}", hash.finalize())
}

/// The outcomes that an interrupted run noted, if it was this one's.
fn resume(journal: &Path, identity: &str) -> Result<Option<Vec<Option<String>>>> {
    let Ok(file) = File::open(journal) else { return Ok(None) };
    let mut lines = BufReader::new(file).lines();
    if lines.next().transpose().map_err(Error::io(journal))?.as_deref() != Some(identity) {
        return Ok(None);
    }
    let mut failures = Vec::new();
    for line in lines {
        // A last line that was cut off speaks of pictures that are decoded again.
        let Ok(block) = serde_json::from_str::<Block>(&line.map_err(Error::io(journal))?) else { break };
        failures.extend(block.failures);
    }
    rewrite(journal, identity, &failures)?;
    Ok(Some(failures))
}

/// Rewrites the journal without the line that was cut off.
fn rewrite(journal: &Path, identity: &str, failures: &[Option<String>]) -> Result<()> {
    let entry = serde_json::to_string(&Block { failures: failures.to_vec() }).unwrap_or_default();
    let text = if failures.is_empty() { format!("{identity}\n") } else { format!("{identity}\n{entry}\n") };
    write_whole(journal, text.as_bytes())
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

/// Studies whose frontal image could be read; the first readable image of each kind counts.
fn studies(
    plans: Vec<StudyPlan>,
    places: Vec<Option<ImageIndex>>,
    skipped: &mut Vec<Skipped>,
    warnings: &mut BTreeMap<String, u64>,
) -> Vec<Study> {
    let mut places = places.into_iter();
    let mut studies = Vec::with_capacity(plans.len());
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
            continue;
        };
        if laterals.len() > 1 {
            let what = "lateral images beyond the first of their study, not used".to_string();
            *warnings.entry(what).or_default() += laterals.len() as u64 - 1;
        }
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
    studies
}

fn write_skipped(path: &Path, skipped: &[Skipped]) -> Result<()> {
    let fail = |error: csv::Error| Error::Corpus { path: path.to_path_buf(), message: error.to_string() };
    let mut writer = csv::Writer::from_path(path).map_err(fail)?;
    writer.write_record(["file", "row", "reason"]).map_err(fail)?;
    for row in skipped {
        writer.write_record([&row.file, &row.row.to_string(), &row.reason]).map_err(fail)?;
    }
    writer.flush().map_err(Error::io(path))
}

fn records(folder: &Path, names: impl Iterator<Item = String>) -> Result<BTreeMap<String, FileRecord>> {
    names
        .map(|name| {
            let path = folder.join(&name);
            let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
            Ok((name, FileRecord { bytes, sha256: checksum(&path)? }))
        })
        .collect()
}

/// SHA-256 of a file, in hexadecimal.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(Error::io(path))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Writes a small file; it appears whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = path.with_extension("writing");
    let mut file = File::create(&staged).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))?;
    fs::rename(&staged, path).map_err(Error::io(path))
}

/// Puts the staging folder in the target's place.
fn publish(staging: &Path, out: &Path) -> Result<()> {
    let replaced = beside(out, "replaced");
    let had = out.exists();
    if had {
        fs::rename(out, &replaced).map_err(Error::io(out))?;
    }
    if let Err(error) = fs::rename(staging, out) {
        if had {
            fs::rename(&replaced, out).map_err(Error::io(&replaced))?;
        }
        return Err(Error::io(out)(error));
    }
    if had { fs::remove_dir_all(&replaced).map_err(Error::io(&replaced)) } else { Ok(()) }
}
