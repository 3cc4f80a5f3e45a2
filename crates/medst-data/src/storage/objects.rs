//! Sources in object storage: a table, and the pictures it names. Paths that are not addresses are
//! files.

use std::path::{Path, PathBuf};

use super::Address;
#[cfg(feature = "s3")]
use super::client::Client;
use crate::{Error, Result, input};

/// The bytes of a file or object.
///
/// # Errors
/// A file or object that does not exist (`NotFound`, as for a file) or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    match Address::from_path(path)? {
        None => input::read(path, input::PICTURE).map_err(Error::io(path)),
        Some(address) => stored(path, &address),
    }
}

/// A file with the bytes of a file or object, for what reads files only.
///
/// # Errors
/// Like [`read`]; also if the cache has no location.
pub fn file(path: &Path) -> Result<PathBuf> {
    match Address::from_path(path)? {
        None => Ok(path.to_path_buf()),
        #[cfg(feature = "s3")]
        Some(address) => {
            let bytes = stored(path, &address)?;
            let folder = crate::cache::root()?.join("sources");
            crate::owner_only::create_folder(&folder)?;
            // Named by content.
            let file = folder.join(crate::files::sha256_of(&bytes));
            if !file.exists() {
                crate::files::whole::write(&file, &bytes)?;
            }
            Ok(file)
        }
        #[cfg(not(feature = "s3"))]
        Some(address) => Err(address.unsupported()),
    }
}

/// A value that changes when a file or object changes, with its size in bytes; `None` if it does
/// not exist.
pub fn state(path: &Path) -> Option<(u64, String)> {
    if !Address::is(path) {
        let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        return Some((meta.len(), format!("{:?}", meta.modified().ok())));
    }
    #[cfg(feature = "s3")]
    {
        let address = Address::from_path(path).ok().flatten()?;
        let client = Client::of_bucket(&address).ok()?;
        client.version(&address.prefix).ok().flatten()
    }
    #[cfg(not(feature = "s3"))]
    None
}

#[cfg(feature = "s3")]
fn stored(path: &Path, address: &Address) -> Result<Vec<u8>> {
    let found = Client::of_bucket(address)?.get(&address.prefix)?;
    found.ok_or_else(|| Error::io(path)(std::io::ErrorKind::NotFound.into()))
}

#[cfg(not(feature = "s3"))]
fn stored(_: &Path, address: &Address) -> Result<Vec<u8>> {
    Err(address.unsupported())
}
