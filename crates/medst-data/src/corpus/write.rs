//! Writing a corpus: [`super::pictures`] fills a working folder beside the target ([`super::staging`]), [`super::join`] makes shards, this adds the
//! tables and the manifest, and the folder is renamed when everything is there.
//!
//! Of several processes the first reads the sources, tells the others which pictures there are, and writes everything but the shards.
//!
//! Bytes do not depend on the number of threads and processes, or on interruptions.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::join;
use super::journal::{self, Extent, Found, JOURNAL, Stretch};
use super::manifest::{self, Counts, FileRecord, Manifest};
use super::pictures::{self, Decoded};
pub use super::staging::check_target;
use super::staging::{self, Staging, checksum, write_whole};
use super::tables::{self, SEQUENCES, STUDIES};
use crate::import::plan::{ImageSource, Plan, Skipped, StudyPlan, TextTable};
use crate::import::{PrepareOptions, Summary};
use crate::progress::Progress;
#[cfg(feature = "s3")]
use crate::ranks::part;
use crate::ranks::{self, Ranks};
use crate::sequence::{Sequence, build_sequences};
use crate::storage::objects;
#[cfg(feature = "s3")]
use crate::storage::{Address, upload};
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

/// Rows and files that were left out.
pub const SKIPPED: &str = "skipped.csv";
/// The part of every study, to be published and read again with `--splits`.
pub const SPLITS: &str = "splits.csv";

/// Where a corpus came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The importer's name.
    pub kind: String,
    /// The files that were read (pictures apart), the main one first.
    pub files: Vec<SourceFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    pub name: String,
    pub sha256: String,
}

impl Provenance {
    /// Names and checksums of the files that a source was read from.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(kind: &str, files: &[PathBuf]) -> Result<Provenance> {
        let record = |path: &PathBuf| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            Ok(SourceFile { name, sha256: checksum(&objects::file(path)?)? })
        };
        Ok(Provenance { kind: kind.to_string(), files: files.iter().map(record).collect::<Result<_>>()? })
    }
}

/// A preparation that can be shared out.
pub struct Begun {
    plan: Plan,
    source: Provenance,
    staging: Staging,
    work: Work,
    /// What an interrupted run has decoded.
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
    let identity = identity(&plan, &images, options);
    let known = known(&staging, &identity, images.len(), progress)?;
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

/// Decodes and writes what a plan holds, as the process that leads.
///
/// # Errors
/// Names the file that cannot be written. With a stop request the working folder stays for the next run.
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
    let (news, files) = shards(&folder, &work, options, ranks, progress)?;
    send(out, &folder, &files, ranks, progress)?;
    let images = images(&plan);
    let failures = failures(images.len(), known, news);
    let (stored, places) = resolve(&failures);
    let mut skipped = plan.skipped.clone();
    for (image, reason) in images.iter().zip(&failures) {
        skipped.extend(reason.clone().map(|reason| Skipped {
            file: image.path.display().to_string(),
            row: image.row,
            reason,
        }));
    }
    let mut warnings = plan.warnings;
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
        source,
        counts: Counts::of(&studies, &sequences, stored, length),
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
    if let Some(address) = Address::of(out)? {
        let is_table = |(name, _): &(&String, &FileRecord)| !files.contains_key(*name);
        let tables = manifest.files.iter().filter(is_table).map(|(name, file)| (name.clone(), file.clone())).collect();
        upload::files(&address, &folder, &tables, progress)?;
    }
    staging.publish(&manifest)?;
    Ok(summary)
}

/// Decodes and writes a share of what the process that leads has planned.
///
/// # Errors
/// As [`write`]; and where the working folder is not the one that the other processes see.
pub fn help(out: &Path, options: &PrepareOptions, ranks: &dyn Ranks, progress: &dyn Progress) -> Result<()> {
    let work = Work::of_bytes(&ranks::wait(ranks));
    let folder = staging::folder(out)?;
    if !fs::read_to_string(folder.join(JOURNAL)).is_ok_and(|text| text.trim_end() == work.identity) {
        return Err(Error::Usage(format!(
            "{}: this process does not see what the first one wrote there; several machines need a corpus folder (for object storage: \
             MEDST_CACHE) on a file system that they share",
            folder.display()
        )));
    }
    let (_, files) = shards(&folder, &work, options, ranks, progress)?;
    send(out, &folder, &files, ranks, progress)
}

/// Sends this process' share of the shards to object storage, where the corpus is to be there.
#[cfg(feature = "s3")]
fn send(
    out: &Path,
    folder: &Path,
    files: &BTreeMap<String, FileRecord>,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<()> {
    let Some(address) = Address::of(out)? else { return Ok(()) };
    if ranks.leads() {
        upload::retract(&address)?;
    }
    ranks.gather_bytes(&[]);
    let own = part(files.len(), ranks.rank(), ranks.size());
    let own = files.iter().skip(own.start).take(own.len()).map(|(name, file)| (name.clone(), file.clone())).collect();
    let sent = upload::files(&address, folder, &own, progress);
    let stopped = matches!(sent, Err(Error::Stopped));
    if !stopped {
        sent?;
    }
    let told: Vec<bool> = gather(ranks, &stopped);
    if told.contains(&true) { Err(Error::Stopped) } else { Ok(()) }
}

#[cfg(not(feature = "s3"))]
fn send(_: &Path, _: &Path, _: &BTreeMap<String, FileRecord>, _: &dyn Ranks, _: &dyn Progress) -> Result<()> {
    Ok(())
}

/// What all processes know of a preparation.
#[derive(Debug, PartialEq)]
struct Work {
    identity: String,
    images: Vec<PathBuf>,
    /// What an interrupted run has decoded.
    known: Vec<Extent>,
}

impl Work {
    /// Paths are any bytes but zero.
    fn to_bytes(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&(&self.identity, &self.known)).unwrap_or_default();
        let paths = self.images.iter().map(|path| path.as_os_str().as_bytes());
        std::iter::once(&head[..]).chain(paths).collect::<Vec<_>>().join(&0)
    }

    fn of_bytes(bytes: &[u8]) -> Work {
        let mut parts = bytes.split(|&byte| byte == 0);
        let (identity, known) = serde_json::from_slice(parts.next().unwrap_or_default()).unwrap_or_default();
        Work { identity, known, images: parts.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect() }
    }
}

/// What an interrupted run has left in the working folder, which belongs to this preparation from here on.
fn known(staging: &Staging, identity: &str, images: usize, progress: &dyn Progress) -> Result<Vec<Stretch>> {
    match journal::read(&staging.folder, identity, images)? {
        Found::These(stretches) => return Ok(stretches),
        Found::Another => progress.note("the sources or settings changed since the interrupted run: it begins anew"),
        Found::Nothing => {}
    }
    staging.empty()?;
    write_whole(&staging.folder.join(JOURNAL), format!("{identity}\n").as_bytes())?;
    Ok(Vec::new())
}

/// What a process tells the others once it has decoded its share: its outcomes, how far its stretches go, whether it was stopped.
type Told = (Vec<Stretch>, Vec<Extent>, bool);

/// Decodes and joins this process' share; returns what all processes have decoded now, and the records of all shards.
fn shards(
    folder: &Path,
    work: &Work,
    options: &PrepareOptions,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<(Vec<Stretch>, BTreeMap<String, FileRecord>)> {
    let Decoded { news, extents, stopped } =
        pictures::decode(folder, &work.images, &work.known, options, ranks, progress)?;
    let told: Vec<Told> = gather(ranks, &(news, extents, stopped));
    if told.iter().any(|(.., stopped)| *stopped) {
        return Err(Error::Stopped);
    }
    let mut stretches: BTreeMap<usize, Extent> = work.known.iter().map(|known| (known.first, *known)).collect();
    stretches.extend(told.iter().flat_map(|(_, extents, _)| extents).map(|extent| (extent.first, *extent)));
    let stretches: Vec<Extent> = stretches.into_values().collect();
    let files = join::join(folder, options.image_size, &stretches, ranks)?;
    let files: Vec<BTreeMap<String, FileRecord>> = gather(ranks, &files);
    Ok((told.into_iter().flat_map(|(news, ..)| news).collect(), files.into_iter().flatten().collect()))
}

/// What every process has to say, by rank.
fn gather<T: Serialize + DeserializeOwned + Default>(ranks: &dyn Ranks, own: &T) -> Vec<T> {
    let all = ranks.gather_bytes(&serde_json::to_vec(own).unwrap_or_default());
    all.iter().map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()).collect()
}

/// Of every picture of the plan, why it was left out, if it was.
fn failures(images: usize, known: Vec<Stretch>, news: Vec<Stretch>) -> Vec<Option<String>> {
    let mut failures = vec![None; images];
    for Stretch { first, failures: own } in known.into_iter().chain(news) {
        for (slot, failure) in failures[first..].iter_mut().zip(own) {
            *slot = failure;
        }
    }
    failures
}

/// What a run must share with an interrupted one to continue it: the program, the settings, everything the sources say,
/// and every picture file's size and time of change.
fn identity(plan: &Plan, images: &[&ImageSource], options: &PrepareOptions) -> String {
    let mut hash = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    hash.update(format!("{version}\0{}\0{:?}\0{:?}\n", options.image_size, options.decoding, options.chunks));
    for study in &plan.studies {
        let acquired = study.acquired.map(|day| day.0.to_bits());
        let (subject, id, split) = (&study.subject, &study.study, study.split);
        hash.update(format!("{subject}\0{id}\0{acquired:?}\0{split}\0{:?}\0{:?}\n", study.report, study.labels));
    }
    hash.update(format!("{:?}\0{:?}\n", plan.sequences, plan.tables));
    let states: Vec<String> = images
        .par_iter()
        .map(|image| {
            let state = objects::state(&image.path);
            format!("{}\0{state:?}\n", image.path.display())
        })
        .collect();
    states.iter().for_each(|state| hash.update(state));
    format!("stretches {:x}", hash.finalize())
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
        let members: Option<Vec<u32>> = places.iter().map(|&place| rows[place]).collect();
        match members {
            Some(members) if !members.is_empty() => {
                let first = &studies[members[0] as usize];
                let (subject, split) = (first.subject.clone(), first.split);
                sequences.push(Sequence { subject, split, studies: members });
            }
            _ => *warnings.entry("sequences that lost a study, left out".into()).or_default() += 1,
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

/// Studies whose frontal image could be read, and for each plan its study's row; the first readable image of each kind counts.
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
            Ok((name, FileRecord { bytes, sha256: checksum(&path)? }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// The second of two processes, on a machine that does not share the first one's disk.
    struct Elsewhere(Vec<u8>);

    impl Ranks for Elsewhere {
        fn rank(&self) -> usize {
            1
        }

        fn size(&self) -> usize {
            2
        }

        fn gather_bytes(&self, own: &[u8]) -> Vec<Vec<u8>> {
            vec![self.0.clone(), own.to_vec()]
        }
    }

    #[test]
    fn a_machine_without_the_working_folder_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("corpus");
        let name = OsStr::from_bytes(b"\xff not UTF-8\n");
        let known = vec![Extent { first: 3, decoded: 2, stored: 1 }];
        let work = Work { identity: "mine".into(), images: vec!["a b.png".into(), name.into()], known };
        assert_eq!(Work::of_bytes(&work.to_bytes()), work);
        let none = Work { images: Vec::new(), ..Work::of_bytes(&work.to_bytes()) };
        assert_eq!(Work::of_bytes(&none.to_bytes()), none);
        let help = || help(&out, &PrepareOptions::default(), &Elsewhere(work.to_bytes()), &Silent).unwrap_err();
        assert!(help().to_string().contains("does not see what the first one wrote"));
        // Another preparation's folder is not the first one's either.
        let other = staging::folder(&out).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join(JOURNAL), "another's\n").unwrap();
        assert!(help().to_string().contains("does not see what the first one wrote"));
    }
}
