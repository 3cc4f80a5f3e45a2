//! Uploads a prepared corpus: its files first, in any order and by any process, its manifest last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::corpus::manifest::{self, FileRecord, Manifest};
use crate::progress::Progress;
use crate::storage::Address;
use crate::storage::client::Client;
use crate::{Error, Result};

const RETRIES: usize = 8;

/// Only a corpus may be replaced, and only when asked to; what an interrupted upload left counts as
/// nothing.
///
/// # Errors
/// Something already exists at the address, or the bucket does not.
pub fn check_target(address: &Address, overwrite: bool) -> Result<()> {
    let client = Client::open(address, RETRIES)?;
    let keys = client.list(&address.prefix)?;
    let is_ours = |key: &String| {
        let name = key.strip_prefix(&address.key("")).unwrap_or(key);
        let of = |start: &str, end: &str| name.starts_with(start) && name.ends_with(end);
        !name.contains('/') && (of("images-", ".npy") || of("", ".parquet") || of("", ".csv"))
    };
    if keys.contains(&address.key(manifest::FILE)) {
        let message = format!("{address} is already a corpus; pass --overwrite to replace it");
        return if overwrite { Ok(()) } else { Err(Error::Usage(message)) };
    }
    match keys.iter().find(|key| !is_ours(key)) {
        None => Ok(()),
        Some(key) => Err(Error::Usage(format!(
            "{address} contains other objects ({key}) and is not a corpus; choose another prefix"
        ))),
    }
}

/// Takes a corpus that is to be replaced out of use: from here on it cannot be opened.
///
/// # Errors
/// Names the cause of the failure.
pub fn retract(address: &Address) -> Result<()> {
    Client::open(address, RETRIES)?.delete(&address.key(manifest::FILE))
}

/// Writes files of a corpus, except those that an interrupted upload has already written.
///
/// # Errors
/// Names the cause of the failure.
pub fn files(
    address: &Address,
    folder: &Path,
    files: &BTreeMap<String, FileRecord>,
    progress: &dyn Progress,
) -> Result<()> {
    let client = Client::open(address, RETRIES)?;
    progress.begin("uploading", Some(files.len() as u64));
    for (name, record) in files {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let key = address.key(name);
        if client.state(&key)? != Some((record.bytes, Some(record.sha256.clone()))) {
            let path = folder.join(name);
            let mut file = File::open(&path).map_err(Error::io(&path))?;
            client.put(&key, record.bytes, &record.sha256, |most| {
                let mut bytes = Vec::with_capacity(most);
                file.by_ref().take(most as u64).read_to_end(&mut bytes).map_err(Error::io(&path))?;
                Ok(bytes)
            })?;
        }
        progress.advance(1);
    }
    progress.end();
    Ok(())
}

/// Writes the manifest, which completes the corpus, and removes objects that only the earlier
/// corpus had.
///
/// # Errors
/// Names the cause of the failure.
pub fn publish(address: &Address, manifest: &Manifest) -> Result<()> {
    let client = Client::open(address, RETRIES)?;
    let text = manifest.to_bytes();
    client
        .put(&address.key(manifest::FILE), text.len() as u64, &crate::files::sha256_of(&text), |_| Ok(text.clone()))?;
    for key in client.list(&address.prefix)? {
        let name = key.strip_prefix(&address.key("")).unwrap_or(&key);
        if name != manifest::FILE && !name.contains('/') && !manifest.files.contains_key(name) {
            client.delete(&key)?;
        }
    }
    Ok(())
}
