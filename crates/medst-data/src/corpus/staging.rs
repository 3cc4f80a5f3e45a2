//! The folder beside the target in which a corpus grows, and its move into place. Only its owner
//! can enter it, and its files are readable for their owner only ([`crate::owner_only`]).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::journal::JOURNAL;
use super::manifest::{self, Manifest};
use crate::owner_only;
#[cfg(feature = "s3")]
use crate::storage;
use crate::storage::Address;
use crate::{Error, Result};

const LOCK: &str = "lock";

/// A working folder that this program alone writes, until the value is dropped.
pub struct Staging {
    pub folder: PathBuf,
    out: PathBuf,
    _lock: File,
}

impl Staging {
    /// Takes the working folder of a target, new or of an interrupted run.
    ///
    /// # Errors
    /// When another program has it, or when files of others stand in its place.
    pub fn take(out: &Path) -> Result<Staging> {
        let folder = folder(out)?;
        owner_only::create_folder(&folder)?;
        check_staging(&folder)?;
        let lock = File::create(folder.join(LOCK)).map_err(Error::io(&folder))?;
        lock.try_lock().map_err(|_| Error::Usage(format!("{} is being written by another program", out.display())))?;
        Ok(Staging { folder, out: out.to_path_buf(), _lock: lock })
    }

    /// Removes what an earlier run left for another source or other settings; the journal goes
    /// last, for it tells the folder.
    pub fn empty(&self) -> Result<()> {
        let stale = entries(&self.folder)?.into_iter().filter(|path| !path.ends_with(LOCK) && !path.ends_with(JOURNAL));
        for path in stale.chain(Some(self.folder.join(JOURNAL)).filter(|journal| journal.exists())) {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Writes the manifest, the last file of a corpus, and puts the folder in the target's place.
    pub fn publish(self, manifest: &Manifest) -> Result<()> {
        #[cfg(feature = "s3")]
        if let Some(address) = Address::of(&self.out)? {
            storage::upload::publish(&address, manifest)?;
            return fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder));
        }
        write_whole(&self.folder.join(manifest::FILE), &manifest.to_bytes())?;
        for path in entries(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name != manifest::FILE && !manifest.files.contains_key(&*name) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            } else {
                owner_only::take_away(&path)?;
            }
        }
        publish(&self.folder, &self.out)
    }
}

/// The working folder of a target: beside it, or in the cache where the target is in object
/// storage.
///
/// # Errors
/// No place for a cache; a program without object storage.
pub fn folder(out: &Path) -> Result<PathBuf> {
    match Address::of(out)? {
        None => Ok(beside(out, "partial")),
        #[cfg(feature = "s3")]
        Some(address) => storage::cache::workplace(&address),
        #[cfg(not(feature = "s3"))]
        Some(address) => Err(address.unsupported()),
    }
}

/// The folder of pictures taken from an archive, beside the working folder.
///
/// # Errors
/// As [`folder`].
pub fn pictures_folder(out: &Path) -> Result<PathBuf> {
    Ok(beside(&folder(out)?, "pictures"))
}

/// `OUT.partial`, `OUT.replaced`: neighbours of the target, on the same file system.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    out.with_file_name(name)
}

/// Only a corpus may be replaced, and only when asked to.
pub fn check_target(out: &Path, overwrite: bool) -> Result<()> {
    if let Some(address) = Address::of(out)? {
        #[cfg(feature = "s3")]
        return storage::upload::check_target(&address, overwrite);
        #[cfg(not(feature = "s3"))]
        return Err(address.unsupported());
    }
    let there = out.display();
    if !out.exists() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    if !out.join(manifest::FILE).exists() {
        return Err(Error::Usage(format!("{there} exists and is no corpus; choose another place")));
    }
    if overwrite { Ok(()) } else { Err(Error::Usage(format!("{there} is a corpus already; --overwrite replaces it"))) }
}

/// Refuses a folder in the staging folder's place that holds another's files: they would move into
/// the corpus.
fn check_staging(staging: &Path) -> Result<()> {
    let ours = [JOURNAL, manifest::FILE].iter().any(|name| staging.join(name).exists());
    let foreign = entries(staging)?.iter().any(|path| !path.ends_with(LOCK));
    if ours || !foreign {
        return Ok(());
    }
    let place = staging.display();
    Err(Error::Usage(format!("{place} is needed as a working folder but holds other files; move it away")))
}

pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(Error::io(folder))
}

/// SHA-256 of a file, in hexadecimal.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(Error::io(path))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// SHA-256 of bytes, in hexadecimal.
#[cfg(feature = "s3")]
pub fn checksum_of(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Writes a small file; it appears whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by(path, &path.with_extension("writing"), bytes)
}

/// As [`write_whole`], under the name `staged` until it is whole.
pub fn write_by(path: &Path, staged: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(staged).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))?;
    fs::rename(staged, path).map_err(Error::io(path))
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
}
