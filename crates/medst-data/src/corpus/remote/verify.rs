//! Checks the objects of a corpus against the recorded checksums.

use std::path::PathBuf;

use rayon::prelude::*;

use crate::corpus::manifest::{self, FileRecord, Manifest};
use crate::files::sums::Fault;
use crate::files::{Hash, sha256_of};
use crate::progress::Progress;
use crate::storage::Address;
use crate::storage::client::Client;
use crate::{Error, Result};

const RETRIES: usize = 8;

/// Reads every object of a corpus from the storage, not from the cache of this machine.
///
/// Returns the number of objects with a checksum, and what is wrong with them. The checksum of the
/// manifest is the one that `medst prepare` gave the object as metadata; a manifest that another
/// program copied there has none.
///
/// # Errors
/// No corpus there, a storage that cannot be reached, a stop request.
pub fn faults(address: &Address, progress: &dyn Progress) -> Result<(usize, Vec<Fault>)> {
    let client = Client::open(address, RETRIES)?;
    let path = |name: &str| PathBuf::from(format!("s3://{}/{}", address.bucket, address.key(name)));
    let key = address.key(manifest::FILE);
    let text = client.get(&key)?.ok_or_else(|| Error::Corpus {
        path: address.to_string().into(),
        message: format!("it has no {}; give the address of a corpus", manifest::FILE),
    })?;
    let recorded = client.state(&key)?.and_then(|(_, checksum)| checksum);
    let changed = recorded.as_ref().is_some_and(|recorded| *recorded != sha256_of(&text));
    let parsed = Manifest::parse(&text, &path(manifest::FILE));
    let message = match &parsed {
        _ if changed => Some("damaged, or changed since it was written: its SHA-256 is not the recorded one"),
        Err(_) => Some("not a manifest"),
        Ok(_) => None,
    };
    let mut faults: Vec<Fault> =
        message.into_iter().map(|text| Fault { path: path(manifest::FILE), message: text.into() }).collect();
    let checked = usize::from(recorded.is_some() || !faults.is_empty());
    // A manifest that cannot be trusted does not describe the other files.
    let Some(manifest) = parsed.ok().filter(|_| faults.is_empty()) else { return Ok((checked, faults)) };

    let fault = |(name, record): (&String, &FileRecord)| -> Option<Result<Fault>> {
        if progress.stop_requested() {
            return Some(Err(Error::Stopped));
        }
        let found = fault_of(&client, &address.key(name), record);
        progress.advance(1);
        match found {
            Ok(message) => message.map(|message| Ok(Fault { path: path(name), message })),
            Err(error @ Error::Storage { unreachable: true, .. }) => Some(Err(error)),
            Err(Error::Storage { message, .. }) => Some(Ok(Fault { path: path(name), message })),
            Err(error) => Some(Err(error)),
        }
    };
    progress.begin("verifying", Some(manifest.files.len() as u64));
    faults.extend(manifest.files.par_iter().filter_map(fault).collect::<Result<Vec<Fault>>>()?);
    progress.end();
    Ok((checked + manifest.files.len(), faults))
}

/// The reason why an object is damaged or missing, if it is.
fn fault_of(client: &Client, key: &str, record: &FileRecord) -> Result<Option<String>> {
    let Some((bytes, _)) = client.state(key)? else { return Ok(Some("missing".into())) };
    if bytes != record.bytes {
        return Ok(Some(format!("damaged: it has {bytes} bytes, expected {}", record.bytes)));
    }
    let mut hash = Hash::default();
    client.pieces(key, record.bytes, |piece| {
        hash.update(piece);
        Ok(true)
    })?;
    let damaged = "damaged, or changed since it was written: its SHA-256 is not the recorded one";
    Ok((hash.finish() != record.sha256).then(|| damaged.into()))
}
