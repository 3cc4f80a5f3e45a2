//! From the files of stretches ([`super::journal`]) to the shards of a corpus. Every shard but the
//! last is full, regardless of which process decoded which pictures and of which could not be read,
//! so the bytes do not depend on the number of processes.
//!
//! A file that already is a shard is renamed (with one process, all of them are); the others are
//! copied together, each shard by one process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::journal::Extent;
use super::manifest::FileRecord;
use super::shards::{self, CAPACITY, HEADER, header};
use crate::files::{Hash, sha256_of_file};
use crate::ranks::{Ranks, part};
use crate::{Error, Result};

/// A file of a stretch.
struct StretchFile {
    path: PathBuf,
    /// The number of its first picture in the corpus.
    start: usize,
    count: usize,
}

/// Makes this process' share of the shards; returns their records by name. All stretches must be
/// whole and on the disk.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn join(
    folder: &Path,
    side: usize,
    stretches: &[Extent],
    ranks: &dyn Ranks,
) -> Result<BTreeMap<String, FileRecord>> {
    let mut parts = Vec::new();
    let mut stored = 0;
    for stretch in stretches {
        for number in 0..stretch.stored.div_ceil(CAPACITY) {
            let count = CAPACITY.min(stretch.stored - number * CAPACITY);
            parts.push(StretchFile { path: folder.join(shards::name(&stretch.part(), number)), start: stored, count });
            stored += count;
        }
    }
    let numbers = part(stored.div_ceil(CAPACITY), ranks.rank(), ranks.size());
    numbers
        .into_par_iter()
        .map(|number| {
            let places = number * CAPACITY..stored.min((number + 1) * CAPACITY);
            let name = shards::name(shards::IMAGES, number);
            let record = shard(&folder.join(&name), side, places, &parts)?;
            Ok((name, record))
        })
        .collect()
}

/// Makes the shard of the pictures `places`.
fn shard(path: &Path, side: usize, places: std::ops::Range<usize>, parts: &[StretchFile]) -> Result<FileRecord> {
    let size = side * side;
    let bytes = (HEADER + places.len() * size) as u64;
    // An interrupted run got this far: shards appear only when complete.
    if path.exists() {
        return Ok(FileRecord { bytes, sha256: sha256_of_file(path)? });
    }
    let first = parts.partition_point(|part| part.start + part.count <= places.start);
    let last = parts.partition_point(|part| part.start < places.end);
    let parts = &parts[first..last];
    if let [part] = parts
        && part.start == places.start
        && part.count == places.len()
    {
        let io = Error::io(&part.path);
        let close = || {
            let mut file = OpenOptions::new().write(true).open(&part.path)?;
            file.write_all(&header(part.count, side))?;
            // After these pictures the file may hold others that no journal records.
            file.set_len(bytes)?;
            file.sync_all()
        };
        close().map_err(io)?;
        let record = FileRecord { bytes, sha256: sha256_of_file(&part.path)? };
        fs::rename(&part.path, path).map_err(Error::io(path))?;
        return Ok(record);
    }
    let joining = path.with_extension("joining");
    let mut out = Hashed { file: File::create(&joining).map_err(Error::io(&joining))?, hash: Hash::default() };
    out.write_all(&header(places.len(), side)).map_err(Error::io(&joining))?;
    for part in parts {
        let from = places.start.max(part.start);
        let count = places.end.min(part.start + part.count) - from;
        let mut file = File::open(&part.path).map_err(Error::io(&part.path))?;
        file.seek(SeekFrom::Start((HEADER + (from - part.start) * size) as u64)).map_err(Error::io(&part.path))?;
        let wanted = (count * size) as u64;
        let copied = std::io::copy(&mut file.take(wanted), &mut out).map_err(Error::io(&joining))?;
        if copied != wanted {
            let message = format!(
                "has only {copied} of the {wanted} bytes that its journal records; remove {} and start again",
                folder_of(path)
            );
            return Err(Error::Corpus { path: part.path.clone(), message });
        }
    }
    out.file.sync_all().map_err(Error::io(&joining))?;
    fs::rename(&joining, path).map_err(Error::io(path))?;
    Ok(FileRecord { bytes, sha256: out.hash.finish() })
}

fn folder_of(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

/// A file, and the checksum of the bytes written to it.
struct Hashed {
    file: File,
    hash: Hash,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
