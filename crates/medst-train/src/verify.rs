//! Checks the files of a corpus, run, checkpoint, model or index against the recorded checksums;
//! for a corpus, also in object storage; for a model that is part of the program, what is compiled
//! in.

use std::fmt;
use std::path::{Path, PathBuf};

use medst_data::corpus::manifest::{self, Manifest};
use medst_data::corpus::remote;
use medst_data::files::entries;
use medst_data::files::sums::{Fault, SUMS, Sums};
use medst_data::progress::Progress;
use medst_data::storage::Address;
use serde::Serialize;

use crate::model::builtin;
use crate::{Error, Result};

/// The result of the check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub path: PathBuf,
    /// Files with a checksum.
    pub files: usize,
    pub faults: Vec<Fault>,
    /// Folders without checksums, as earlier versions wrote them.
    pub unrecorded: Vec<PathBuf>,
}

impl Verified {
    /// Whether every file was checked and none is wrong.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.unrecorded.is_empty()
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        for folder in &self.unrecorded {
            writeln!(f, "{}: no checksums recorded (written by an earlier version)", folder.display())?;
        }
        let (path, files) = (self.path.display(), self.files);
        match self.faults.len() {
            0 => writeln!(f, "{path}: {files} files are intact"),
            wrong => writeln!(f, "{path}: {wrong} of {files} files are damaged or missing"),
        }
    }
}

/// Reads every file that has a checksum.
///
/// * `path`: a folder that this program wrote, or a file in one, or the address of a corpus in
///   object storage, or the name of a model.
///
/// # Errors
/// A path that does not exist, with the names of the built-in models; a path that this program did
/// not write; unreachable storage; a stop request.
pub fn verify(path: &Path, progress: &dyn Progress) -> Result<Verified> {
    let mut verified = Verified { path: path.to_path_buf(), files: 0, faults: Vec::new(), unrecorded: Vec::new() };
    if let Some(address) = Address::from_path(path)? {
        (verified.files, verified.faults) = remote::faults(&address, progress).map_err(|error| match error {
            medst_data::Error::Stopped => Error::Stopped,
            error => error.into(),
        })?;
        return Ok(verified);
    }
    let path = &*builtin::local(path)?;
    if let Some(builtin) = builtin::named(path) {
        (verified.files, verified.faults) = (builtin.files().len(), builtin.faults());
        return Ok(verified);
    }
    let mut work: Vec<(PathBuf, Sums)> = Vec::new();
    for folder in folders(path)? {
        match sums(&folder) {
            Ok(Some(mut sums)) => {
                if path.is_file() {
                    sums.0.retain(|name, _| folder.join(name) == path);
                }
                work.push((folder, sums));
            }
            Ok(None) => verified.unrecorded.push(folder),
            Err(medst_data::Error::Damaged { path, message }) => {
                verified.files += 1;
                verified.faults.push(Fault { path, message });
            }
            Err(error) => return Err(error.into()),
        }
    }
    verified.files += work.iter().map(|(_, sums)| sums.0.len()).sum::<usize>();
    if path.is_file() && verified.files == 0 {
        verified.unrecorded = vec![path.to_path_buf()];
    }
    progress.begin("verifying", Some(verified.files as u64));
    for (folder, sums) in work {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        verified.faults.extend(sums.faults(&folder, &|_| progress.advance(1)));
    }
    progress.end();
    Ok(verified)
}

/// The folders to verify for a path: a run's and those of its checkpoints, or the folder itself.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        return Ok(vec![parent.unwrap_or(Path::new(".")).to_path_buf()]);
    }
    let found = entries(path)?;
    let checkpoints = path.join("checkpoints");
    if !checkpoints.is_dir() {
        if found.is_empty() {
            return Err(Error::Checkpoint { path: path.to_path_buf(), message: "an empty folder".into() });
        }
        return Ok(vec![path.to_path_buf()]);
    }
    let mut folders = entries(&checkpoints)?;
    folders.retain(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")));
    folders.sort();
    folders.extend(Some(path.to_path_buf()).filter(|run| run.join(SUMS).exists()));
    Ok(folders)
}

/// The checksums of a folder; those of a corpus of an earlier version are in its manifest.
fn sums(folder: &Path) -> medst_data::Result<Option<Sums>> {
    let sums = Sums::read(folder)?;
    let path = folder.join(manifest::FILE);
    match (sums, path.exists()) {
        (None, true) => {
            let text = std::fs::read(&path).map_err(medst_data::Error::io(&path))?;
            let damaged = |_| medst_data::Error::Damaged { path: path.clone(), message: "not a manifest".into() };
            Ok(Some(Manifest::parse(&text, folder).map_err(damaged)?.sums()))
        }
        (sums, _) => Ok(sums),
    }
}
