//! Files that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file beside its target, to be written and then [`publish`]ed.
pub fn stage(out: &Path) -> Result<NamedTempFile> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".medst-")
        // As any new file; temporary ones are for their owner only.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(Error::io(folder))
}

/// Gives a staged file its name.
pub fn publish(staged: NamedTempFile, out: &Path) -> Result<()> {
    staged.as_file().sync_all().map_err(Error::io(out))?;
    staged.persist(out).map_err(|error| Error::Io { path: out.into(), source: error.error })?;
    Ok(())
}

/// Writes bytes.
pub fn write(out: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = stage(out)?;
    staged.write_all(bytes).map_err(Error::io(out))?;
    publish(staged, out)
}
