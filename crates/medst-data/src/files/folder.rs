//! Publishes folders atomically: a new folder appears, or replaces an old one, as a whole or not at
//! all, and files that this program did not write are never removed.
//!
//! A new folder is written next to its target and *sealed*: it gets checksums of all its files
//! ([`super::sums`]), and everything is flushed to the disk. It is then exchanged with the old one
//! in one step (`renameat2` with `RENAME_EXCHANGE`). On file systems without that call, the old
//! folder is first renamed to `.medst-replaced-NAME`; after a crash between the two renames,
//! [`recover`] moves it back. From the old folder, only files in its list of checksums or its
//! manifest are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::lock::LOCK;
use super::sums::{SUMS, Sums, files};
use super::{TEMPORARY, entries, parent, sync_folder};
use crate::{Error, Result};

/// The manifest of a corpus.
pub const CORPUS_MANIFEST: &str = "corpus.json";
/// Manifests of this program whose key `files` names the files of their folder.
const MANIFESTS: [&str; 2] = [CORPUS_MANIFEST, "index.json"];

/// A folder next to its target, to be filled and then [`publish_folder`]ed; removed if that does
/// not happen.
///
/// * `mode`: its permissions, before the umask is applied.
///
/// # Errors
/// A place in which no folder can be made.
pub fn stage_folder(out: &Path, mode: u32) -> Result<tempfile::TempDir> {
    let folder = parent(out);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    recover(out)?;
    let permissions = PermissionsExt::from_mode(mode);
    tempfile::Builder::new().prefix(TEMPORARY).permissions(permissions).tempdir_in(folder).map_err(Error::io(folder))
}

/// Writes the checksums of a folder's files, and makes all of it durable.
///
/// * `known`: checksums that need not be computed again.
///
/// # Errors
/// A file that cannot be read or written.
pub fn seal(folder: &Path, known: &BTreeMap<String, String>) -> Result<()> {
    let sums = Sums::of_folder(folder, known, &[LOCK])?;
    let mut folders = BTreeSet::from([folder.to_path_buf()]);
    for name in sums.0.keys() {
        let path = folder.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
        folders.extend(path.parent().map(Path::to_path_buf));
    }
    sums.write(folder)?;
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

/// Refuses to replace a folder that contains files that this program did not write.
///
/// * `also`: names of files that earlier versions wrote without listing them.
///
/// # Errors
/// Names such files; a path that is not a folder.
pub fn check_replaceable(out: &Path, also: &[&str]) -> Result<()> {
    let there = out.display();
    if out.is_symlink() {
        return Err(Error::Usage(format!("{there} is a symbolic link; pass the folder it points to")));
    }
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return Err(Error::Usage(format!("{there} is a file and is not replaced by a folder; choose another path")));
    }
    let ours = own_files(out, also);
    let mut foreign: Vec<String> = files(out)?.into_iter().filter(|name| !ours.contains(name)).collect();
    foreign.extend(empty_folders(out)?);
    if foreign.is_empty() {
        return Ok(());
    }
    let (count, shown) = (foreign.len(), foreign.iter().take(4).cloned().collect::<Vec<_>>().join(", "));
    let more = if count > 4 { format!(" and {} more", count - 4) } else { String::new() };
    Err(Error::Usage(format!(
        "{there} is not replaced, because it holds files that medst did not write: {shown}{more}; move them away"
    )))
}

/// How to treat files in an old folder that this program did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The folder is not replaced.
    Refuse,
    /// They are moved to the new folder.
    Keep,
}

/// Puts a sealed folder in the place of a target, which may be replaced.
///
/// * `also`: as of [`check_replaceable`].
///
/// # Errors
/// Like [`check_replaceable`]; also a folder that cannot be renamed, in which case the old one is
/// restored.
pub fn publish_folder(sealed: &Path, out: &Path, also: &[&str], foreign: Foreign) -> Result<()> {
    recover(out)?;
    if foreign == Foreign::Refuse {
        check_replaceable(out, also)?;
    }
    let old = match replace(sealed, out) {
        Ok(old) => old,
        Err(error) => return Err(Error::io(out)(error)),
    };
    sync_folder(parent(out))?;
    let Some(old) = old else { return Ok(()) };
    remove_own(&old, also)?;
    if foreign == Foreign::Keep && old.exists() {
        for path in entries(&old)? {
            let to = out.join(path.file_name().unwrap_or_default());
            if !to.exists() {
                fs::rename(&path, &to).map_err(Error::io(&path))?;
            }
        }
        remove_if_empty(&old)?;
    }
    if !old.exists() {
        return Ok(());
    }
    // Not under a temporary name, which may be removed.
    let mut kept = (1..).map(|number| sibling(out, &format!("kept-{number}")));
    let kept = kept.find(|path| !path.exists()).unwrap_or_default();
    fs::rename(&old, &kept).map_err(Error::io(&old))?;
    Err(Error::Usage(format!(
        "{} was replaced; files that other programs wrote into the old folder in the meantime were moved to {}",
        out.display(),
        kept.display()
    )))
}

/// Renames; returns where the old folder is now, if there was one.
fn replace(sealed: &Path, out: &Path) -> std::io::Result<Option<PathBuf>> {
    if !out.exists() {
        return fs::rename(sealed, out).map(|()| None);
    }
    match exchange(sealed, out) {
        Ok(()) => return Ok(Some(sealed.to_path_buf())),
        // ENOSYS, EINVAL: a kernel or file system without it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ENOTSUP)) => {}
        Err(error) => return Err(error),
    }
    let replaced = replaced(out);
    fs::rename(out, &replaced)?;
    if let Err(error) = fs::rename(sealed, out) {
        fs::rename(&replaced, out)?;
        return Err(error);
    }
    Ok(Some(replaced))
}

/// Two paths change places in one step.
fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    let [one, other] = [one, other].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (one, other) = (one?, other?);
    // SAFETY: both are strings that end with a zero and live until the call returns.
    let done =
        unsafe { libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `OUT.SUFFIX`: a path in the same folder, and so on the same file system.
pub fn sibling(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    out.with_file_name(name)
}

/// The name of an old folder between the two renames.
fn replaced(out: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(format!("{TEMPORARY}replaced-"));
    name.push(out.file_name().unwrap_or_default());
    out.with_file_name(name)
}

/// Repairs the state after a crash between or after the renames of [`publish_folder`]: the old
/// folder is moved back, or removed if the new one is already in place.
///
/// # Errors
/// A folder that cannot be renamed or removed.
pub fn recover(out: &Path) -> Result<()> {
    let replaced = replaced(out);
    if !replaced.exists() {
        return Ok(());
    }
    if !out.exists() {
        fs::rename(&replaced, out).map_err(Error::io(&replaced))?;
        return sync_folder(parent(out));
    }
    remove_own(&replaced, &[])
}

/// Removes those files of a folder that this program wrote, and the folders that are empty
/// afterwards, including the folder itself. Other files are kept.
///
/// * `also`: as of [`check_replaceable`].
///
/// # Errors
/// A file that cannot be removed.
pub fn remove_own(folder: &Path, also: &[&str]) -> Result<()> {
    // The lists go last: a removal that is interrupted can be taken up again.
    let ours = own_files(folder, also);
    let is_list = |name: &&String| name.as_str() == SUMS || MANIFESTS.contains(&name.as_str());
    for name in ours.iter().filter(|name| !is_list(name)).chain(ours.iter().filter(is_list)) {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(Error::io(&path))?,
        }
    }
    for path in entries(folder)? {
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMPORARY.as_bytes())) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io(&path))?;
        }
    }
    remove_if_empty(folder)
}

/// Removes a folder whose folders hold no file.
fn remove_if_empty(folder: &Path) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() && !path.is_symlink() {
            remove_if_empty(&path)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.map_err(Error::io(folder)),
    }
}

/// Names of the files that this program wrote into a folder: those in its list of checksums, in its
/// manifest or in `also`, and temporary ones.
fn own_files(folder: &Path, also: &[&str]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = also.iter().map(ToString::to_string).collect();
    if let Ok(Some(sums)) = Sums::read(folder) {
        names.extend(sums.0.into_keys());
        names.insert(SUMS.into());
    }
    for name in MANIFESTS {
        let manifest = fs::read(folder.join(name)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let manifest: serde_json::Value = manifest.unwrap_or_default();
        if let Some(files) = manifest["files"].as_object() {
            names.insert(name.into());
            // Only plain names, so that a foreign manifest cannot make this program remove files
            // elsewhere.
            names.extend(files.keys().filter(|name| !name.contains('/')).cloned());
        }
    }
    names
}

/// Folders below a folder that hold nothing at all; no conversion makes one.
fn empty_folders(folder: &Path) -> Result<Vec<String>> {
    let mut empty = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        if entries(&path)?.is_empty() {
            empty.push(format!("{}/", path.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    Ok(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.join("part")).unwrap();
        fs::write(path.join("part/a"), text).unwrap();
        seal(&path, &BTreeMap::new()).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            entries(folder).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_replaces_another_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        for text in ["one", "two"] {
            publish_folder(&sealed(folder.path(), "new", text), &out, &[], Foreign::Refuse).unwrap();
            assert_eq!(fs::read_to_string(out.join("part/a")).unwrap(), text);
            assert_eq!(names(folder.path()), ["out"]);
        }
    }

    #[test]
    fn what_others_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let out = sealed(folder.path(), "out", "one");
        fs::write(out.join("notes.txt"), "mine").unwrap();
        let new = sealed(folder.path(), "new", "two");
        let error = publish_folder(&new, &out, &[], Foreign::Refuse).unwrap_err().to_string();
        assert!(error.contains("did not write: notes.txt"), "{error}");
        assert_eq!(fs::read_to_string(out.join("part/a")).unwrap(), "one");
        publish_folder(&new, &out, &[], Foreign::Keep).unwrap();
        assert_eq!(fs::read_to_string(out.join("part/a")).unwrap(), "two");
        assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
        let new = sealed(folder.path(), "new", "three");
        // Even where a folder is removed, and in folders below.
        fs::write(out.join("part/notes"), "mine").unwrap();
        remove_own(&out, &[]).unwrap();
        assert_eq!(names(&out), ["notes.txt", "part"]);
        assert_eq!(names(&out.join("part")), ["notes"]);
        for other in ["file", "link"] {
            match other {
                "file" => fs::write(folder.path().join(other), "mine").unwrap(),
                _ => std::os::unix::fs::symlink(&out, folder.path().join(other)).unwrap(),
            }
            assert!(publish_folder(&new, &folder.path().join(other), &[], Foreign::Refuse).is_err());
        }
    }

    #[test]
    fn a_crash_between_or_after_the_renames_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        // Between: the old folder has its other name, the new one is not yet in place.
        let old = sealed(folder.path(), ".medst-replaced-out", "old");
        recover(&out).unwrap();
        assert_eq!((fs::read_to_string(out.join("part/a")).unwrap().as_str(), old.exists()), ("old", false));
        // After the rename: both exist.
        sealed(folder.path(), ".medst-replaced-out", "old");
        publish_folder(&sealed(folder.path(), "new", "new"), &out, &[], Foreign::Refuse).unwrap();
        assert_eq!(fs::read_to_string(out.join("part/a")).unwrap(), "new");
        assert_eq!(names(folder.path()), ["out"]);
    }
}
