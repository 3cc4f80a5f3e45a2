//! The share of one of several processes in a preparation (decoding pictures, assembling shards,
//! sending them to object storage), and the messages between the processes.

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
use super::journal::{self, Extent, JOURNAL, JournalState, Stretch};
use super::manifest::FileRecord;
use super::options::PrepareOptions;
use super::pictures::{self, Decoded};
use super::plan::{ImageSource, Plan};
#[cfg(feature = "s3")]
use super::remote::upload;
use super::staging::{self, Staging};
use crate::files::whole;
use crate::progress::Progress;
#[cfg(feature = "s3")]
use crate::ranks::part;
use crate::ranks::{self, Ranks};
#[cfg(feature = "s3")]
use crate::storage::Address;
use crate::storage::objects;
use crate::{Error, Result, json};

/// Decodes and writes this process's share of the plan that the leading process has made.
///
/// # Errors
/// Like [`super::write::write`]; also if this process does not see the working folder of the other
/// processes.
pub fn run_worker(out: &Path, options: &PrepareOptions, ranks: &dyn Ranks, progress: &dyn Progress) -> Result<()> {
    let work = Work::from_bytes(&ranks::wait(ranks))?;
    let folder = staging::folder(out)?;
    if !fs::read_to_string(folder.join(JOURNAL)).is_ok_and(|text| text.trim_end() == work.identity) {
        return Err(Error::Usage(format!(
            "{}: this process cannot see the files that process 0 wrote there; the corpus folder (for object \
             storage: MEDST_CACHE) must be on a file system that all machines share",
            folder.display()
        )));
    }
    let (_, files) = shards(&folder, &work, options, ranks, progress)?;
    send(out, &folder, &files, ranks, progress)
}

/// Sends this process' share of the shards to object storage, where the corpus is to be there.
#[cfg(feature = "s3")]
pub(super) fn send(
    out: &Path,
    folder: &Path,
    files: &BTreeMap<String, FileRecord>,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<()> {
    let Some(address) = Address::from_path(out)? else { return Ok(()) };
    if ranks.leads() {
        upload::retract(&address)?;
    }
    ranks.gather_bytes(&[]);
    let share = part(files.len(), ranks.rank(), ranks.size());
    let share =
        files.iter().skip(share.start).take(share.len()).map(|(name, file)| (name.clone(), file.clone())).collect();
    let sent = upload::files(&address, folder, &share, progress);
    let stopped = matches!(sent, Err(Error::Stopped));
    if !stopped {
        sent?;
    }
    let stops: Vec<bool> = gather(ranks, &stopped)?;
    if stops.contains(&true) { Err(Error::Stopped) } else { Ok(()) }
}

#[cfg(not(feature = "s3"))]
pub(super) fn send(
    _: &Path,
    _: &Path,
    _: &BTreeMap<String, FileRecord>,
    _: &dyn Ranks,
    _: &dyn Progress,
) -> Result<()> {
    Ok(())
}

/// The state of a preparation that every process knows.
#[derive(Debug, PartialEq)]
pub(super) struct Work {
    pub identity: String,
    pub images: Vec<PathBuf>,
    /// The pictures that an interrupted run has decoded.
    pub known: Vec<Extent>,
}

impl Work {
    /// Paths are any bytes but zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = json::text(&(&self.identity, &self.known)).into_bytes();
        let paths = self.images.iter().map(|path| path.as_os_str().as_bytes());
        std::iter::once(&head[..]).chain(paths).collect::<Vec<_>>().join(&0)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Work> {
        let mut parts = bytes.split(|&byte| byte == 0);
        let (identity, known) = sent(0, parts.next().unwrap_or_default())?;
        Ok(Work { identity, known, images: parts.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect() })
    }
}

/// Reads what an interrupted run of this preparation has left in the working folder, and claims the
/// folder.
pub(super) fn known(staging: &Staging, identity: &str, images: usize, progress: &dyn Progress) -> Result<Vec<Stretch>> {
    match journal::read(&staging.folder, identity, images)? {
        JournalState::ThisPreparation(stretches) => return Ok(stretches),
        JournalState::OtherPreparation => {
            progress.note("the sources or settings have changed since the interrupted run; starting from the beginning")
        }
        JournalState::Absent => {}
    }
    staging.empty()?;
    whole::write(&staging.folder.join(JOURNAL), format!("{identity}\n").as_bytes())?;
    Ok(Vec::new())
}

/// The message of a process to the others after decoding its share.
#[derive(Serialize, Deserialize)]
struct DecodedShare {
    news: Vec<Stretch>,
    /// How far its stretches reach.
    extents: Vec<Extent>,
    stopped: bool,
}

/// Decodes and joins this process' share; returns what all processes have decoded now, and the
/// records of all shards.
pub(super) fn shards(
    folder: &Path,
    work: &Work,
    options: &PrepareOptions,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<(Vec<Stretch>, BTreeMap<String, FileRecord>)> {
    let Decoded { news, extents, stopped } =
        pictures::decode(folder, &work.images, &work.known, options, ranks, progress)?;
    let shares: Vec<DecodedShare> = gather(ranks, &DecodedShare { news, extents, stopped })?;
    if shares.iter().any(|share| share.stopped) {
        return Err(Error::Stopped);
    }
    let mut stretches: BTreeMap<usize, Extent> = work.known.iter().map(|known| (known.first, *known)).collect();
    stretches.extend(shares.iter().flat_map(|share| &share.extents).map(|extent| (extent.first, *extent)));
    let stretches: Vec<Extent> = stretches.into_values().collect();
    let files = join::join(folder, options.image_size, &stretches, ranks)?;
    let files: Vec<BTreeMap<String, FileRecord>> = gather(ranks, &files)?;
    Ok((shares.into_iter().flat_map(|share| share.news).collect(), files.into_iter().flatten().collect()))
}

/// Gathers a value from every process, in rank order.
fn gather<T: Serialize + DeserializeOwned>(ranks: &dyn Ranks, value: &T) -> Result<Vec<T>> {
    let all = ranks.gather_bytes(json::text(value).as_bytes());
    all.iter().enumerate().map(|(rank, bytes)| sent(rank, bytes)).collect()
}

/// Parses the message of a process.
fn sent<T: DeserializeOwned>(rank: usize, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::Usage(format!(
            "cannot read what process {rank} sent ({error}); start the same version of medst everywhere"
        ))
    })
}

/// For every picture of the plan, the reason why it was left out, if it was.
pub(super) fn failures(images: usize, known: Vec<Stretch>, news: Vec<Stretch>) -> Vec<Option<String>> {
    let mut failures = vec![None; images];
    for Stretch { first, failures: reasons, .. } in known.into_iter().chain(news) {
        for (slot, failure) in failures[first..].iter_mut().zip(reasons) {
            *slot = failure;
        }
    }
    failures
}

/// Fingerprint of everything that must be unchanged for an interrupted run to be continued: the
/// program, the settings, the contents of the sources, and the size and modification time of every
/// picture file.
pub(super) fn identity(plan: &Plan, images: &[&ImageSource], options: &PrepareOptions) -> String {
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

        fn gather_bytes(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
            vec![self.0.clone(), bytes.to_vec()]
        }
    }

    #[test]
    fn a_machine_without_the_working_folder_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("corpus");
        let name = OsStr::from_bytes(b"\xff not UTF-8\n");
        let known = vec![Extent { first: 3, decoded: 2, stored: 1 }];
        let work = Work { identity: "mine".into(), images: vec!["a b.png".into(), name.into()], known };
        assert_eq!(Work::from_bytes(&work.to_bytes()).unwrap(), work);
        let none = Work { images: Vec::new(), ..Work::from_bytes(&work.to_bytes()).unwrap() };
        assert_eq!(Work::from_bytes(&none.to_bytes()).unwrap(), none);
        // A message from another version is an error, not an empty preparation.
        for bytes in [&b""[..], b"{\"other\":1}\0a.png"] {
            let said = Work::from_bytes(bytes).unwrap_err().to_string();
            assert!(said.contains("process 0") && said.contains("same version"), "{said}");
        }
        let refusal =
            || run_worker(&out, &PrepareOptions::default(), &Elsewhere(work.to_bytes()), &Silent).unwrap_err();
        assert!(refusal().to_string().contains("cannot see the files that process 0 wrote"));
        // Another preparation's folder is not the first one's either.
        let other = staging::folder(&out).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join(JOURNAL), "another's\n").unwrap();
        assert!(refusal().to_string().contains("cannot see the files that process 0 wrote"));
    }
}
