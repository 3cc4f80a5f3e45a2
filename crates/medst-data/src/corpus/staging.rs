//! The folder next to the target in which a corpus is built before it is moved into place. Only its
//! owner can enter it or read its files ([`crate::owner_only`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::journal::JOURNAL;
use super::manifest::{self, Manifest};
use super::plan::TABLES;
#[cfg(feature = "s3")]
use super::remote::{cache, upload};
use super::tables::{SEQUENCES, SKIPPED, SPLITS, STUDIES};
use crate::files::folder::{Foreign, check_replaceable, publish_folder, recover, seal, sibling};
use crate::files::lock::{LOCK, Lock};
use crate::files::sums::SUMS;
use crate::files::{TEMPORARY, entries, whole};
use crate::owner_only;
use crate::storage::Address;
use crate::{Error, Result};

/// Files that the manifest does not list: the lock is moved together with the folder.
const ALSO: &[&str] = &[LOCK];

/// A working folder that this program alone writes, until the value is dropped.
pub struct Staging {
    pub folder: PathBuf,
    out: PathBuf,
    lock: Lock,
}

impl Staging {
    /// Takes the working folder of a target, new or of an interrupted run.
    ///
    /// # Errors
    /// When another program is using it, or when it contains files that this program did not write.
    pub fn take(out: &Path) -> Result<Staging> {
        let folder = folder(out)?;
        owner_only::create_folder(&folder)?;
        check_staging(&folder)?;
        let lock = Lock::take(&folder)?;
        Ok(Staging { folder, out: out.to_path_buf(), lock })
    }

    /// Removes what an earlier run left for another source or other settings. The journal is
    /// removed last, because it identifies the folder.
    pub fn empty(&self) -> Result<()> {
        let stale = entries(&self.folder)?.into_iter().filter(|path| !path.ends_with(LOCK) && !path.ends_with(JOURNAL));
        for path in stale.chain(Some(self.folder.join(JOURNAL)).filter(|journal| journal.exists())) {
            if is_own(&path) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// Writes the manifest, the last file of a corpus but for the list of checksums, and puts the
    /// folder in the target's place.
    ///
    /// # Errors
    /// A target that another program created in the meantime; files that cannot be written.
    pub fn publish(self, manifest: &Manifest, overwrite: bool) -> Result<()> {
        #[cfg(feature = "s3")]
        if let Some(address) = Address::from_path(&self.out)? {
            upload::publish(&address, manifest)?;
            return fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder));
        }
        whole::write(&self.folder.join(manifest::FILE), &manifest.to_bytes())?;
        for path in entries(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let kept = [manifest::FILE, LOCK].contains(&&*name) || manifest.files.contains_key(&*name);
            if !kept && is_own(&path) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        let known: BTreeMap<String, String> =
            manifest.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect();
        seal(&self.folder, &known)?;
        for path in entries(&self.folder)? {
            owner_only::take_away(&path)?;
        }
        check_target(&self.out, overwrite)?;
        publish_folder(&self.folder, &self.out, ALSO, Foreign::Refuse)?;
        self.lock.moved(&self.out).remove();
        Ok(())
    }
}

/// Whether a file in a working folder has a name that a preparation gives.
fn is_own(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [STUDIES, SEQUENCES, SKIPPED, SPLITS, manifest::FILE, SUMS, LOCK].contains(&&*name)
        || ["part-", "images-", "journal", TEMPORARY].iter().any(|start| name.starts_with(start))
        || name.strip_suffix(".csv").is_some_and(|name| TABLES.contains(&name))
}

/// The working folder of a target: next to it, or in the cache where the target is in object
/// storage.
///
/// # Errors
/// No place for a cache, or a build without object storage.
pub fn folder(out: &Path) -> Result<PathBuf> {
    match Address::from_path(out)? {
        None => Ok(sibling(out, "partial")),
        #[cfg(feature = "s3")]
        Some(address) => cache::workplace(&address),
        #[cfg(not(feature = "s3"))]
        Some(address) => Err(address.unsupported()),
    }
}

/// The folder of pictures taken from an archive, next to the working folder.
///
/// # Errors
/// As [`folder`].
pub fn pictures_folder(out: &Path) -> Result<PathBuf> {
    Ok(sibling(&folder(out)?, "pictures"))
}

/// Only a corpus may be replaced, and only when asked to.
pub fn check_target(out: &Path, overwrite: bool) -> Result<()> {
    if let Some(address) = Address::from_path(out)? {
        #[cfg(feature = "s3")]
        return upload::check_target(&address, overwrite);
        #[cfg(not(feature = "s3"))]
        return Err(address.unsupported());
    }
    recover(out)?;
    let there = out.display();
    if !out.exists() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    if !out.join(manifest::FILE).exists() {
        return Err(Error::Usage(format!("{there} exists and is not a corpus; choose another path")));
    }
    if !overwrite {
        return Err(Error::Usage(format!("{there} is already a corpus; pass --overwrite to replace it")));
    }
    check_replaceable(out, ALSO)
}

/// Refuses a folder in the staging folder's place that holds another's files: they would move into
/// the corpus.
fn check_staging(staging: &Path) -> Result<()> {
    match entries(staging)?.iter().find(|path| !is_own(path)) {
        None => Ok(()),
        Some(path) => Err(Error::Usage(format!(
            "{} is needed as a working folder but holds other files ({}); move them away",
            staging.display(),
            path.file_name().unwrap_or_default().display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_of_one_corpus_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("corpus");
        let first = Staging::take(&out).unwrap();
        let error = Staging::take(&out).err().unwrap().to_string();
        assert!(error.contains("is being written by another program"), "{error}");
        drop(first);
        assert!(Staging::take(&out).is_ok());
    }

    #[test]
    fn a_working_folder_with_any_table_of_a_corpus_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("corpus");
        let working = Staging::take(&out).unwrap().folder.clone();
        for name in [
            "studies.parquet",
            "sequences.parquet",
            "skipped.csv",
            "splits.csv",
            "pairs.csv",
            "sentences.csv",
            "questions.csv",
        ] {
            let table = working.join(name);
            fs::write(&table, "a,b\n").unwrap();
            Staging::take(&out).unwrap().empty().unwrap();
            assert!(!table.exists(), "{name} is removed before a new run");
        }
        fs::write(working.join("answers.csv"), "a,b\n").unwrap();
        let error = Staging::take(&out).err().unwrap().to_string();
        assert!(error.contains("other files (answers.csv)"), "{error}");
    }
}
