//! Example patients that the page offers: one folder per patient, with radiographs and texts.
//!
//! The folder is looked through once, at the start; afterwards names are looked up among those
//! found, so that no request can name another file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Files that are offered, by their ending.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "dcm", "dicom", "txt"];

/// Patients and their files, by name.
#[derive(Debug, Default)]
pub struct Examples {
    patients: BTreeMap<String, BTreeMap<String, PathBuf>>,
}

impl Examples {
    /// # Errors
    /// A folder that cannot be read, or contains no patient.
    pub fn open(folder: &Path) -> Result<Examples> {
        let fail = |path: &Path, reason: String| Error::Config(format!("{}: {reason}", path.display()));
        let entries = |path: &Path| -> Result<Vec<PathBuf>> {
            let read = fs::read_dir(path).map_err(|error| fail(path, error.to_string()))?;
            read.map(|entry| Ok(entry.map_err(|error| fail(path, error.to_string()))?.path())).collect()
        };
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_string);
        let mut patients = BTreeMap::new();
        for patient in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
            let mut files = BTreeMap::new();
            for file in entries(&patient)?.into_iter().filter(|path| path.is_file()) {
                let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
                if let Some(name_of_file) = name(&file).filter(|_| ENDINGS.contains(&ending.as_str())) {
                    files.insert(name_of_file, file);
                }
            }
            if let Some(name_of_patient) = name(&patient).filter(|_| !files.is_empty()) {
                patients.insert(name_of_patient, files);
            }
        }
        match patients.is_empty() {
            true => Err(fail(
                folder,
                "contains no example patients; expected one sub-folder per patient with PNG, JPEG or DICOM files"
                    .into(),
            )),
            false => Ok(Examples { patients }),
        }
    }

    /// Patients with the names of their files.
    pub fn list(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.patients.iter().map(|(name, files)| (name.as_str(), files.keys().map(String::as_str).collect()))
    }

    /// The path of a file.
    pub fn file(&self, patient: &str, file: &str) -> Option<&Path> {
        self.patients.get(patient)?.get(file).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_found_is_given() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Examples::open(folder.path()).unwrap_err().to_string().contains("contains no example patients"));
        fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["x.PNG", "x.txt", "secret.key"] {
            fs::write(folder.path().join("a").join(name), "x").unwrap();
        }
        fs::write(folder.path().join("b.png"), "x").unwrap();
        let examples = Examples::open(folder.path()).unwrap();
        assert_eq!(examples.list().collect::<Vec<_>>(), [("a", vec!["x.PNG", "x.txt"])]);
        assert!(examples.file("a", "x.txt").is_some());
        for (patient, file) in [("a", "secret.key"), ("a", "../b.png"), ("..", "b.png"), ("a/..", "b.png"), ("a", "")] {
            assert_eq!(examples.file(patient, file), None);
        }
        assert!(Examples::open(&folder.path().join("none")).is_err());
    }
}
