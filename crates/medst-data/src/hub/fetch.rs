//! From the name of a model to the folder of its files, in the cache that all programs for the hub
//! share:
//!
//! ```text
//! HF_HUB_CACHE/
//!   models--OWNER--NAME/
//!     refs/REVISION            the commit that a branch or tag meant last
//!     snapshots/COMMIT/FILE    links into blobs
//!     blobs/ETAG               contents, by checksum; ETAG.incomplete while they arrive
//!   .locks/models--OWNER--NAME/ETAG.lock
//! ```
//!
//! The crate `hf-hub` gives the paths. It makes no requests here: its requests verify no checksum,
//! support neither offline use nor time limits, append to a broken download at the wrong place, and
//! send the hub's token to the storage that the hub redirects to.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sha1::{Digest, Sha1};

use super::request::{Client, Listed, MEGABYTE, Settings};
use super::{Name, WEIGHTS};
use crate::files::sha256_of_file;
use crate::progress::Progress;
use crate::{Error, Result};

/// Files that are read in addition to the weights: of each group, the first that exists.
const COMPANIONS: [&[&str]; 3] = [&["config.json"], &["preprocessor_config.json"], &["vocab.txt", "tokenizer.json"]];
/// How many files an error message lists at most.
const SHOWN: usize = 12;

/// The folder of a model's files.
///
/// # Errors
/// As [`super::local_with`].
pub fn folder(name: &Name, progress: &dyn Progress) -> Result<PathBuf> {
    let settings = Settings::of_environment()?;
    let revision = name.revision.as_deref().unwrap_or("main");
    let repository = Repo::with_revision(name.repository.clone(), RepoType::Model, revision.into());
    let cache = Cache::new(settings.cache.clone()).repo(repository);
    let cached = cached_folder(&cache, revision);
    if settings.offline {
        return cached.ok_or_else(|| {
            let cache = settings.cache.display();
            name.error(format!("HF_HUB_OFFLINE is set, and the cache {cache} does not have it"), false)
        });
    }
    let client = Client::new(name, &settings, progress)?;
    let list = match (client.list(revision), cached) {
        (Err(Error::Storage { unreachable: true, message, .. }), Some(folder)) => {
            progress.note(&format!("{name}: {message}; continuing with the copy in {}", folder.display()));
            return Ok(folder);
        }
        (list, _) => list?,
    };
    let snapshot = cache.pointer_path(&list.commit);
    let mut fetched = false;
    // Weights come last, so that a folder with weights has everything.
    for file in wanted(&list.files).map_err(|reason| name.error(reason.to_string(), false))? {
        if !snapshot.join(file).exists() {
            fetch(name, &client, &list.commit, file, &snapshot, progress)?;
            fetched = true;
        }
    }
    match cache.create_ref(&list.commit) {
        // If everything was cached, the cache may well be read-only.
        Err(error) if fetched => Err(client.disk(error)),
        _ => Ok(snapshot),
    }
}

/// The cached folder of the commit that a revision last referred to, if it has weights.
fn cached_folder(cache: &CacheRepo, revision: &str) -> Option<PathBuf> {
    let commit = cache.pointer_path(revision);
    let file = WEIGHTS.iter().find_map(|file| {
        let direct = commit.join(file);
        if direct.exists() { Some(direct) } else { cache.get(file) }
    });
    file.and_then(|file| file.parent().map(Path::to_path_buf))
}

/// Why a model has no weights that can be read.
#[derive(Debug, thiserror::Error)]
enum NoWeights {
    #[error(
        "its weights are split into several files, which is not supported; save them as one with save_pretrained(…, \
         max_shard_size=\"50GB\"), and pass that folder"
    )]
    Split,
    /// The files that it has.
    #[error("it has neither {weights}; its files: {0}", weights = WEIGHTS.join(" nor "))]
    Other(String),
}

/// The files that medst reads of a model, weights last.
fn wanted(files: &[Listed]) -> Result<Vec<&'static str>, NoWeights> {
    let has = |name: &&&str| files.iter().any(|file| file.name == **name);
    let Some(weights) = WEIGHTS.iter().find(|name| has(name)) else {
        if files.iter().any(|file| file.name == "model.safetensors.index.json") {
            return Err(NoWeights::Split);
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let (shown, more) = names.split_at(names.len().min(SHOWN));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        return Err(NoWeights::Other(format!("{}{more}", shown.join(", "))));
    };
    let companions = COMPANIONS.iter().filter_map(|names| names.iter().find(|name| has(name)));
    Ok(companions.chain([weights]).copied().collect())
}

/// Brings a file into the folder of its commit.
fn fetch(
    name: &Name,
    client: &Client<'_>,
    commit: &str,
    file: &str,
    snapshot: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let about = client.about(commit, file)?;
    let disk = |error| client.disk(error);
    let model = snapshot.parent().and_then(Path::parent).expect("snapshots are in the folder of a model");
    let blobs = model.join("blobs");
    let locks = model.with_file_name(".locks").join(model.file_name().expect("a folder has a name"));
    for folder in [&blobs, &locks, &snapshot.to_path_buf()] {
        fs::create_dir_all(folder).map_err(disk)?;
    }
    let _lock = lock(&locks.join(format!("{}.lock", about.etag)), progress)?.map_err(disk)?;
    let blob = blobs.join(&about.etag);
    if !blob.exists() {
        let part = blobs.join(format!("{}.incomplete", about.etag));
        let out = File::options().create(true).append(true).open(&part).map_err(disk)?;
        if out.metadata().map_err(disk)?.len() > about.size {
            out.set_len(0).map_err(disk)?;
        }
        let shown = about.size >= MEGABYTE;
        if shown {
            progress.begin(&format!("downloading {file} of {name} (MB)"), Some(about.size / MEGABYTE));
        }
        let downloaded = client.download(commit, file, about.size, &out);
        if shown {
            progress.end();
        }
        downloaded?;
        out.sync_all().map_err(disk)?;
        let (kind, found) = match about.etag.len() {
            64 => ("SHA-256", sha256_of_file(&part)?),
            40 => ("git's SHA-1", sha1_of_git(&part, about.size).map_err(disk)?),
            // A hub that uses another kind of checksum.
            _ => ("", about.etag.clone()),
        };
        if found != about.etag {
            fs::remove_file(&part).map_err(disk)?;
            return Err(name.error(
                format!(
                    "{file} is not the file that the hub describes ({kind} differs), and was removed from the cache. Try again; if this \
                     persists, contact the operator of the hub or of the proxy"
                ),
                false,
            ));
        }
        fs::rename(&part, &blob).map_err(disk)?;
    }
    let link = snapshot.join(file);
    if !link.exists() {
        // One whose blob was removed.
        let _ = fs::remove_file(&link);
        let target = Path::new("../../blobs").join(&about.etag);
        // Not every file system has symbolic links.
        symlink(target, &link).or_else(|_| fs::hard_link(&blob, &link)).map_err(disk)?;
    }
    Ok(())
}

/// The checksum by which git names a file, which hubs state for small ones.
fn sha1_of_git(path: &Path, size: u64) -> std::io::Result<String> {
    let mut hash = Sha1::new_with_prefix(format!("blob {size}\0"));
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Waits until no other process fetches the same. The outer error is a stop request.
fn lock(path: &Path, progress: &dyn Progress) -> Result<std::io::Result<File>> {
    let file = match File::options().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match file.try_lock() {
            // A file system without locks, such as Lustre mounted without `flock`.
            Ok(()) => return Ok(Ok(file)),
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(Ok(file)),
            Err(TryLockError::Error(error)) => return Ok(Err(error)),
            Err(TryLockError::WouldBlock) if progress.stop_requested() => return Err(Error::Stopped),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_have_gits_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "what is up, doc?").unwrap();
        assert_eq!(sha1_of_git(&path, 16).unwrap(), "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
    }

    #[test]
    fn of_a_repository_what_is_read_is_fetched() {
        let files = |names: &[&str]| names.iter().map(|name| Listed { name: name.to_string() }).collect::<Vec<_>>();
        let found =
            wanted(&files(&["README.md", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "vocab.txt"]));
        assert_eq!(found.unwrap(), ["vocab.txt", "model.safetensors"]);
        let found = wanted(&files(&["pytorch_model.bin", "tokenizer.json", "config.json", "preprocessor_config.json"]));
        assert_eq!(found.unwrap(), ["config.json", "preprocessor_config.json", "tokenizer.json", "pytorch_model.bin"]);
        let error = wanted(&files(&["README.md", "tf_model.h5"])).unwrap_err().to_string();
        assert!(
            error.contains("neither model.safetensors nor pytorch_model.bin; its files: README.md, tf_model.h5"),
            "{error}"
        );
        let error = wanted(&files(&["model.safetensors.index.json", "model-00001-of-00002.safetensors"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("split into several files"), "{error}");
    }
}
