//! How this program writes and checks files and folders: as a whole or not at all, with checksums,
//! by one writer.
//!
//! | file | what |
//! |---|---|
//! | [`whole`] | a file that appears whole or not at all |
//! | [`sums`] | `SHA256SUMS`: what the files of a folder held when they were written |
//! | `seen` | which large files this user has checked already |
//! | [`folder`] | a folder that appears, or replaces another, whole or not at all |
//! | [`lock`] | a folder with a single writer |

pub mod folder;
pub mod lock;
mod seen;
pub mod sums;
pub mod whole;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result, input};

/// Prefix of the names of this program's temporary files and folders. Anything with this prefix may
/// be removed.
pub const TEMPORARY: &str = ".medst-";

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// A file that cannot be read, as [`input::open`] refuses.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = input::open(path).map_err(Error::io(path))?;
    let mut hash = Hash::default();
    // Large pieces: reading dominates where the processor has instructions for SHA-256.
    let mut piece = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut piece).map_err(Error::io(path))? {
            0 => return Ok(hash.finish()),
            count => hash.0.update(&piece[..count]),
        }
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// SHA-256 of bytes that come one after the other.
#[derive(Default)]
pub struct Hash(Sha256);

impl Hash {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Makes the names in a folder durable: a file that was renamed into it still exists after a loss
/// of power.
///
/// # Errors
/// A folder that cannot be opened.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let file = File::open(folder).map_err(Error::io(folder))?;
    match file.sync_all() {
        // Some network file systems know no such request.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(Error::io(folder)),
    }
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The paths in a folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(Error::io(folder))
}
