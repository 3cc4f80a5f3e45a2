//! `SHA256SUMS`: the checksums of all other files of a folder, as `sha256sum -c SHA256SUMS` reads
//! them. Every folder that this program publishes has one; those of earlier versions have none.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::{TEMPORARY, entries, seen, sha256_of_file, whole};
use crate::{Error, Result};

/// The file of checksums in a folder.
pub const SUMS: &str = "SHA256SUMS";

/// Names of files, relative to their folder, with their SHA-256 in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub BTreeMap<String, String>);

/// A file that is damaged or missing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub path: PathBuf,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl Fault {
    /// The same as an error, where the file is about to be used.
    pub fn error(self) -> Error {
        Error::Damaged { path: self.path, message: self.message }
    }
}

impl Sums {
    /// The checksums of a folder; `None` where none were recorded.
    ///
    /// # Errors
    /// A file of checksums that is unreadable or damaged.
    pub fn read(folder: &Path) -> Result<Option<Sums>> {
        let path = folder.join(SUMS);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(&path))?,
        };
        let sums = std::str::from_utf8(&bytes).ok().and_then(Sums::parse);
        sums.map(Some).ok_or_else(|| Error::Damaged { path, message: "not a list of SHA-256 checksums".into() })
    }

    /// Reads a list; `None` for text with a line in another format.
    pub fn parse(text: &str) -> Option<Sums> {
        if !text.ends_with('\n') {
            return None;
        }
        let line = |line: &str| {
            let (sum, name) = line.split_once("  ")?;
            let is_sum = sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            // A name that points elsewhere would have that file read, or removed.
            let is_name = !name.is_empty() && Path::new(name).components().all(is_plain);
            (is_sum && is_name).then(|| (name.to_string(), sum.to_string()))
        };
        text.lines().map(line).collect::<Option<_>>().map(Sums)
    }

    /// Reads all files of a folder but the list itself and those that `except` names.
    ///
    /// * `known`: checksums that need not be computed again.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_folder(folder: &Path, known: &BTreeMap<String, String>, except: &[&str]) -> Result<Sums> {
        let names: Vec<String> = files(folder)?.into_iter().filter(|name| !except.contains(&name.as_str())).collect();
        let sum = |name: String| match known.get(&name) {
            Some(sum) => Ok((name, sum.clone())),
            None => sha256_of_file(&folder.join(&name)).map(|sum| (name, sum)),
        };
        names.into_par_iter().filter(|name| name != SUMS).map(sum).collect::<Result<_>>().map(Sums)
    }

    /// Writes the list into a folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut text = String::new();
        for (name, sum) in &self.0 {
            let _ = writeln!(text, "{sum}  {name}");
        }
        whole::write(&folder.join(SUMS), text.as_bytes())
    }

    /// Checks a file that is about to be used, if it is listed. Large files are read once and
    /// remembered (`seen.rs`).
    ///
    /// # Errors
    /// A file that is missing, unreadable or damaged.
    pub fn check(&self, folder: &Path, name: &str) -> Result<()> {
        match self.0.get(name) {
            Some(sum) => check_seen(&folder.join(name), sum),
            None => Ok(()),
        }
    }

    /// Reads every file and reports what is wrong with it.
    ///
    /// * `done`: called after each file with its size in bytes.
    pub fn faults(&self, folder: &Path, done: &(dyn Fn(u64) + Sync)) -> Vec<Fault> {
        let fault = |(name, sum): (&String, &String)| {
            let path = folder.join(name);
            let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let found = sha256_of_file(&path);
            done(bytes);
            compare(&path, found, sum).err()
        };
        self.0.par_iter().filter_map(fault).collect()
    }

    /// Reads every file.
    ///
    /// * `done`: as of [`Sums::faults`].
    ///
    /// # Errors
    /// The first file that is missing, unreadable or damaged, and how many more there are.
    pub fn check_all(&self, folder: &Path, done: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let faults = self.faults(folder, done);
        let count = faults.len();
        let Some(mut first) = faults.into_iter().next() else { return Ok(()) };
        if count > 1 {
            let _ = write!(first.message, "; {} more of its folder are as well (medst verify lists them)", count - 1);
        }
        Err(first.error())
    }
}

/// Checks a file against its SHA-256, unless it was found to be right before.
///
/// # Errors
/// As [`Sums::check`].
pub fn check_seen(path: &Path, sha256: &str) -> Result<()> {
    compare(path, seen::sha256_unless_seen(path, sha256), sha256).map_err(Fault::error)
}

/// Checks a file whose SHA-256 was computed for another purpose.
///
/// # Errors
/// A file that is damaged.
pub fn check_found(path: &Path, found: &str, sha256: &str) -> Result<()> {
    compare(path, Ok(found.to_string()), sha256).map_err(Fault::error)
}

fn compare(path: &Path, found: Result<String>, sha256: &str) -> Result<(), Fault> {
    let message = match found {
        Ok(found) if found == sha256 => return Ok(()),
        Ok(found) => format!(
            "damaged, or changed since it was written: its SHA-256 is not the recorded one (found {found}, \
             expected {sha256})"
        ),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => "missing".into(),
        Err(Error::Io { source, .. }) => format!("unreadable: {source}"),
        Err(error) => error.to_string(),
    };
    Err(Fault { path: path.to_path_buf(), message })
}

fn is_plain(component: std::path::Component) -> bool {
    matches!(component, std::path::Component::Normal(_))
}

/// The names of all files below a folder, relative to it, temporary ones left out. Links count as
/// files.
pub(super) fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(TEMPORARY) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            names.extend(files(&path)?.into_iter().map(|below| format!("{name}/{below}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_written_and_refused_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        assert_eq!(Sums::read(at).unwrap(), None);
        std::fs::create_dir(at.join("part")).unwrap();
        std::fs::write(at.join("part/b"), "abc").unwrap();
        std::fs::write(at.join("a"), "").unwrap();
        let sums = Sums::of_folder(at, &BTreeMap::new(), &[]).unwrap();
        sums.write(at).unwrap();
        assert_eq!(Sums::read(at).unwrap().unwrap(), sums);
        // FIPS 180-2, appendix B.1.
        assert!(sums.0["part/b"].starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c"));
        sums.check_all(at, &|_| {}).unwrap();
        std::fs::write(at.join("part/b"), "abd").unwrap();
        std::fs::remove_file(at.join("a")).unwrap();
        let faults: Vec<String> = sums.faults(at, &|_| {}).iter().map(ToString::to_string).collect();
        assert!(faults[0].contains("a: missing") && faults[1].contains("part/b: damaged"), "{faults:?}");
        // What was expected and what was found (the SHA-256 of "abd").
        assert!(faults[1].contains(&format!("expected {}", sums.0["part/b"])), "{faults:?}");
        assert!(faults[1].contains(&format!("found {}", crate::files::sha256_of(b"abd"))), "{faults:?}");
        let line = std::fs::read_to_string(at.join(SUMS)).unwrap();
        for damaged in
            ["", "nonsense\n", line.trim_end(), &line.replace("part/b", "../b"), &line.replace("  a", "  /a")]
        {
            std::fs::write(at.join(SUMS), damaged).unwrap();
            assert!(Sums::read(at).is_err(), "{damaged:?}");
        }
    }
}
