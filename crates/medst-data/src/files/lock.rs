//! A folder with a single writer: an advisory lock (`flock`) on a file in it, which ends with the
//! process that holds it, however that process ends.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The lock's file in a folder.
pub const LOCK: &str = "lock";

/// A folder that this process alone writes, until the value is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Locks a folder, which must be there.
    ///
    /// # Errors
    /// Another process holds the lock: the message names it and since when, as far as known. A
    /// folder that cannot be written.
    pub fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(LOCK);
        loop {
            let mut file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    let holder = if holder.is_empty() { String::new() } else { format!(": {}", holder.trim_end()) };
                    let folder = folder.display();
                    return Err(Error::Usage(format!("{folder} is being written by another program{holder}")));
                }
                // A file system without locks, such as Lustre mounted without `flock`.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // The previous holder may have removed the file meanwhile; a lock on an unlinked file
            // excludes no other process.
            if is_at(&file, &path) {
                // Only for the message of others: a full disk does not matter here.
                let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder().as_bytes()));
                return Ok(Lock { file, path });
            }
        }
    }

    /// Removes the lock's file and gives the lock up.
    pub fn remove(self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The same lock after its folder was renamed.
    pub(crate) fn moved(mut self, folder: &Path) -> Lock {
        self.path = folder.join(LOCK);
        self
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

fn holder() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    format!("process {} on {}, since {}\n", std::process::id(), host.trim(), now.format("%Y-%m-%d %H:%M:%S UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_folder_and_others_learn_who() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another program: process ") && error.contains(" UTC"), "{error}");
        drop(first);
        Lock::take(folder.path()).unwrap().remove();
        assert!(!folder.path().join(LOCK).exists());
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        let second = Lock::take(folder.path()).unwrap();
        // The first one's is not at its path any more, and must not take the second one's away.
        first.remove();
        assert!(Lock::take(folder.path()).is_err());
        drop(second);
    }
}
