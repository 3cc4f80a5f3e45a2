//! Folders of patient data belong to their owner: others can neither list nor enter them.
//!
//! Permissions are only ever removed, never added, so that a stricter umask stays in force.
//! Sharing a corpus with a group takes a deliberate `chmod`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::{Error, Result};

/// The permission bits of the group and of others.
const SHARED: u32 = 0o077;

/// Makes a folder that only its owner can enter (mode 0700 less the umask); the folders above it
/// are made as usual. An existing folder loses the permissions of others.
///
/// # Errors
/// A folder that cannot be made or is another user's.
pub fn create_folder(folder: &Path) -> Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(Error::io(folder))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => take_away(folder),
        other => other.map_err(Error::io(folder)),
    }
}

/// Takes the permissions of the group and of others away from a file or folder.
///
/// # Errors
/// A file that does not exist or belongs to another user.
pub fn take_away(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).map_err(Error::io(path))?.permissions().mode();
    if mode & SHARED == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & !SHARED)).map_err(Error::io(path))
}
