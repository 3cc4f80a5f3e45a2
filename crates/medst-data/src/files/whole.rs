//! Publishes files atomically: a file appears as a whole or not at all.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::{TEMPORARY, parent, sync_folder};
use crate::{Error, Result};

/// A file next to its target, to be written and then [`publish`]ed.
///
/// # Errors
/// A folder in which no file can be made.
pub fn stage(out: &Path) -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        // The usual permissions of a new file; those of temporary files are for their owner only.
        .permissions(PermissionsExt::from_mode(0o666))
        .tempfile_in(parent(out))
        .map_err(Error::io(out))
}

/// Gives a staged file its name, once its bytes are on the disk.
///
/// # Errors
/// A file that cannot be written or renamed.
pub fn publish(staged: NamedTempFile, out: &Path) -> Result<()> {
    staged.as_file().sync_all().map_err(Error::io(out))?;
    staged.persist(out).map_err(|error| Error::io(out)(error.error))?;
    sync_folder(parent(out))
}

/// Writes bytes.
///
/// # Errors
/// A file that cannot be written.
pub fn write(out: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = stage(out)?;
    staged.write_all(bytes).map_err(Error::io(out))?;
    publish(staged, out)
}
