//! Where this machine keeps what it has read of corpora in object storage: checked by the checksums
//! of their manifests, shared by all processes, bounded in size.
//!
//! ```text
//! MEDST_CACHE/                       default: ~/.cache/medst
//!   corpora/ID/                      ID: the checksum of corpus.json, so that another version of a
//!                                    corpus is another folder
//!     corpus.json, studies.parquet, images-00000.npy, …     as in the corpus; appear whole
//!     used                           changed when the corpus is opened, locked by those who use it
//!     fetch/                         what is arriving, and the locks of those who fetch
//!   addresses/…                      which corpus an address meant last, for when it cannot be
//!                                    reached
//!   preparing/…                      working folders of `medst prepare --out s3://…`
//!   checked/…                        files that need no second look (`crate::files`)
//!   lock                             held while corpora are opened or evicted
//! ```
//!
//! `MEDST_CACHE_GIB` bounds its size.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::corpus::manifest::{self, FileRecord, Manifest};
use crate::files::{Hash, entries, sha256_of, sha256_of_file, whole};
use crate::storage::Address;
use crate::storage::client::Client;
use crate::{Error, Result, cache, owner_only, warning};

/// GiB that corpora may take, where `MEDST_CACHE_GIB` does not say.
const LIMIT_GIB: f64 = 100.0;
/// Attempts of a request, with pauses that grow to ten seconds.
const RETRIES: usize = 8;
/// Attempts to learn whether a corpus has changed, where the cache has a copy.
const RETRIES_IF_CACHED: usize = 2;

/// A corpus in object storage, with the part of it that the cache has.
#[derive(Debug)]
pub struct Cached {
    pub address: Address,
    pub client: Client,
    pub manifest: Manifest,
    /// Laid out like the corpus; complete once every file has been requested.
    folder: PathBuf,
    /// Files that this process has checked.
    checked: Mutex<std::collections::BTreeSet<String>>,
    /// Locked while the corpus is in use.
    _used: File,
}

/// Bytes that corpora may take.
fn limit() -> Result<u64> {
    let Ok(text) = std::env::var("MEDST_CACHE_GIB") else { return Ok((LIMIT_GIB * GIB) as u64) };
    match text.parse::<f64>() {
        Ok(gib) if gib >= 0.0 => Ok((gib * GIB) as u64),
        _ => Err(Error::Usage(format!("MEDST_CACHE_GIB={text}: expected a number of GiB"))),
    }
}

const GIB: f64 = (1u64 << 30) as f64;

/// The working folder of a preparation for an address.
///
/// # Errors
/// As [`cache::root`].
pub fn workplace(address: &Address) -> Result<PathBuf> {
    let endpoint = Client::open(address, 0)?.endpoint().to_string();
    Ok(cache::root()?.join("preparing").join(short(format!("{endpoint}\0{address}").as_bytes())))
}

fn short(bytes: &[u8]) -> String {
    sha256_of(bytes)[..32].to_string()
}

impl Cached {
    /// Finds a corpus and makes room for it. Its tables and pictures are read when they are asked
    /// for.
    ///
    /// If the storage cannot be reached, the corpus that was last found at the address is used.
    ///
    /// # Errors
    /// Names the cause: no corpus there, no access, a corpus that is larger than the cache may be.
    pub fn open(address: &Address) -> Result<Cached> {
        let root = cache::root()?;
        let limit = limit()?;
        let client = Client::open(address, RETRIES)?;
        let known = root.join("addresses").join(short(format!("{}\0{address}", client.endpoint()).as_bytes()));
        let corpora = root.join("corpora");
        let cached = fs::read_to_string(&known).ok().map(|id| corpora.join(id.trim()).join(manifest::FILE));
        let cached = cached.and_then(|path| fs::read(path).ok());
        let retries = if cached.is_some() { RETRIES_IF_CACHED } else { RETRIES };
        let text = match (Client::open(address, retries)?.get(&address.key(manifest::FILE)), cached) {
            (Ok(Some(text)), _) => text,
            (Ok(None), _) => {
                let message = format!("it has no {}; create a corpus with `medst prepare`", manifest::FILE);
                return Err(Error::Corpus { path: address.to_string().into(), message });
            }
            (Err(Error::Storage { unreachable: true, message, .. }), Some(text)) => {
                warning::warn(&format!("{address}: {message}; continuing with the copy in {}", root.display()));
                text
            }
            (Err(error), _) => return Err(error),
        };
        let manifest = Manifest::parse(&text, Path::new(&address.to_string()))?;
        let id = short(&text);
        let folder = corpora.join(&id);

        owner_only::create_folder(&root)?;
        fs::create_dir_all(folder.join("fetch")).map_err(Error::io(&folder))?;
        let lock = open_lock(&root.join("lock"))?;
        lock.lock().map_err(Error::io(&root))?;
        // Again, because another process may have evicted it before this one had the lock.
        fs::create_dir_all(folder.join("fetch")).map_err(Error::io(&folder))?;
        let used = open_lock(&folder.join("used"))?;
        used.lock_shared().and_then(|()| used.set_modified(SystemTime::now())).map_err(Error::io(&folder))?;
        make_room(&corpora, &id, manifest.files.values().map(|file| file.bytes).sum(), limit)?;
        whole::write(&folder.join(manifest::FILE), &text)?;
        fs::create_dir_all(root.join("addresses")).map_err(Error::io(&root))?;
        whole::write(&known, id.as_bytes())?;
        drop(lock);
        Ok(Cached { address: address.clone(), client, manifest, folder, checked: Mutex::default(), _used: used })
    }

    /// Whether a file is here, checked or not.
    pub fn is_here(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// The path of a file of the corpus, which is read if it is not here and read again if it is
    /// damaged.
    ///
    /// # Errors
    /// As [`Cached::fetch`].
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let never = AtomicBool::new(false);
        loop {
            if let Some(path) = self.fetch(name, &never)? {
                return Ok(path);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Like [`Cached::file`]; `None` if another process is fetching the file, or if `stop` was set
    /// in the meantime.
    ///
    /// # Errors
    /// Names the cause: an object that is missing, truncated, or different from what the manifest
    /// records.
    pub fn fetch(&self, name: &str, stop: &AtomicBool) -> Result<Option<PathBuf>> {
        let path = self.folder.join(name);
        let record = self.manifest.files.get(name).ok_or_else(|| self.fail(name, "it is not in the manifest"))?;
        if self.is_whole(name, &path, record)? {
            return Ok(Some(path));
        }
        let fetching = self.folder.join("fetch");
        let lock = open_lock(&fetching.join(format!("{name}.lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io(&fetching)(error)),
        }
        // The previous holder of the lock may have fetched the file.
        if self.is_whole(name, &path, record)? {
            return Ok(Some(path));
        }
        let arriving = fetching.join(name);
        // Once more, because a corpus may be replaced while it is read, and lines garble.
        for attempt in 0..2 {
            let mut file = File::create(&arriving).map_err(Error::io(&arriving))?;
            let mut hash = Hash::default();
            self.client.pieces(&self.address.key(name), record.bytes, |piece| {
                hash.write_all(piece).and_then(|()| file.write_all(piece)).map_err(Error::io(&arriving))?;
                Ok(!stop.load(Ordering::Relaxed))
            })?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if hash.finish() == record.sha256 {
                file.sync_all().map_err(Error::io(&arriving))?;
                fs::rename(&arriving, &path).map_err(Error::io(&path))?;
                self.note_checked(name);
                return Ok(Some(path));
            }
            if attempt == 1 {
                break;
            }
        }
        let _ = fs::remove_file(&arriving);
        Err(self.fail(
            name,
            "its checksum differs from corpus.json: the object is damaged, or the corpus has been \
                             replaced (then start again)",
        ))
    }

    /// Whether a file exists locally and matches the manifest. Checked once per process.
    fn is_whole(&self, name: &str, path: &Path, record: &FileRecord) -> Result<bool> {
        if self.checked.lock().is_ok_and(|checked| checked.contains(name)) {
            return Ok(true);
        }
        let whole = path.exists()
            && fs::metadata(path).map_err(Error::io(path))?.len() == record.bytes
            && sha256_of_file(path)? == record.sha256;
        if whole {
            self.note_checked(name);
        }
        Ok(whole)
    }

    fn note_checked(&self, name: &str) {
        if let Ok(mut checked) = self.checked.lock() {
            checked.insert(name.to_string());
        }
    }

    fn fail(&self, name: &str, message: &str) -> Error {
        let Address { bucket, .. } = &self.address;
        let address = format!("s3://{bucket}/{}", self.address.key(name));
        Error::Storage { address, message: message.into(), unreachable: false }
    }
}

fn open_lock(path: &Path) -> Result<File> {
    File::options().create(true).truncate(false).write(true).read(true).open(path).map_err(Error::io(path))
}

/// Evicts corpora that no process uses, least recently opened first, until `needed` bytes of corpus
/// `id` fit.
fn make_room(corpora: &Path, id: &str, needed: u64, limit: u64) -> Result<()> {
    let gib = |bytes: u64| bytes as f64 / GIB;
    if needed > limit {
        return Err(Error::Usage(format!(
            "the corpus has {:.2} GiB, but the cache is limited to {:.2} GiB; raise MEDST_CACHE_GIB, or move the \
             cache from MEDST_CACHE={} to a larger disk",
            gib(needed),
            gib(limit),
            corpora.parent().unwrap_or(corpora).display()
        )));
    }
    let mut others = Vec::new();
    for folder in entries(corpora)?.into_iter().filter(|folder| !folder.ends_with(id)) {
        let opened =
            fs::metadata(folder.join("used")).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        others.push((opened, size_of(&folder)?, folder));
    }
    others.sort();
    let mut taken: u64 = others.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, folder) in others {
        if taken + needed <= limit {
            break;
        }
        let used = open_lock(&folder.join("used"))?;
        if used.try_lock().is_err() {
            continue;
        }
        fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        taken -= bytes;
    }
    if taken + needed > limit {
        return Err(Error::Usage(format!(
            "the cache {} is limited to {:.2} GiB: corpora in use take {:.2} GiB, and {:.2} GiB are needed; raise \
             MEDST_CACHE_GIB",
            corpora.display(),
            gib(limit),
            gib(taken),
            gib(needed)
        )));
    }
    Ok(())
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut bytes: u64 = 0;
    for path in entries(folder)? {
        // A file that is being fetched may be renamed in the meantime.
        let Ok(meta) = fs::metadata(&path) else { continue };
        bytes += if meta.is_dir() { size_of(&path)? } else { meta.len() };
    }
    Ok(bytes)
}
