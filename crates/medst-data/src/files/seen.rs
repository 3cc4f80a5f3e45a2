//! Remembers which large files this user has already checked, so that a corpus of many gigabytes is
//! not read again at every start. Each has a small file under `checked/` of the cache
//! ([`crate::cache::root`]) with properties that change when the file changes.
//!
//! These are device, inode, size and both times of the file; any write to it changes the time of
//! its inode. Silent corruption on the disk does not change them, so `--resume` and `medst verify`
//! read everything.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{sha256_of, sha256_of_file};
use crate::{Error, Result, cache, owner_only};

/// Bytes from which on remembering is worth a file.
const WORTHWHILE: u64 = 1 << 20;
/// A file that changed a moment ago may change again within the resolution of its times.
const SETTLED: Duration = Duration::from_secs(2);

/// SHA-256 of a file; `sha256` where the file was found to have it before and has not been written
/// to since.
pub fn sha256_unless_seen(path: &Path, sha256: &str) -> Result<String> {
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    // Held while the file is read, so that processes that start together read it once.
    let note = if meta.len() < WORTHWHILE { None } else { note(path) };
    let Some(mut note) = note else { return sha256_of_file(path) };
    let stamp = stamp(&meta, sha256);
    let mut before = String::new();
    if note.read_to_string(&mut before).is_ok() && before == stamp {
        return Ok(sha256.to_string());
    }
    let found = sha256_of_file(path)?;
    let after = std::fs::metadata(path).map_err(Error::io(path))?;
    if found == sha256 && self::stamp(&after, sha256) == stamp && is_settled(&after) {
        // A note that is cut short matches no stamp.
        let _ = note.rewind().and_then(|()| note.set_len(0)).and_then(|()| note.write_all(stamp.as_bytes()));
    }
    Ok(found)
}

/// The note of a file, locked; `None` where notes cannot be kept.
fn note(path: &Path) -> Option<File> {
    let folder = cache::root().ok()?.join("checked");
    owner_only::create_folder(&folder).ok()?;
    let path = path.canonicalize().ok()?;
    let name = &sha256_of(path.as_os_str().as_encoded_bytes())[..32];
    let note = File::options().create(true).truncate(false).read(true).write(true).open(folder.join(name)).ok()?;
    note.lock().ok()?;
    Some(note)
}

fn stamp(meta: &Metadata, sha256: &str) -> String {
    let (changed, of_inode) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    format!("{} {} {} {changed:?} {of_inode:?} {sha256}", meta.dev(), meta.ino(), meta.len())
}

fn is_settled(meta: &Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    now - meta.mtime().max(meta.ctime()) >= SETTLED.as_secs() as i64
}
