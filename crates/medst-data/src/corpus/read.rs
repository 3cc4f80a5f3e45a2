//! Reading a corpus.

use std::path::{Path, PathBuf};
#[cfg(feature = "s3")]
use std::sync::Arc;
use std::sync::OnceLock;

use super::manifest::{self, FileRecord, Manifest};
use super::plan::TextTable;
#[cfg(feature = "s3")]
use super::remote::{cache::Cached, fetch::Shards};
use super::shards::{self, Shard};
use super::tables::{self, SEQUENCES, STUDIES};
use crate::files::sha256_of;
use crate::files::sums::{Sums, check_found, check_seen};
use crate::input;
use crate::progress::Progress;
use crate::sequence::Sequence;
use crate::split::Split;
use crate::storage::Address;
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

/// A prepared corpus. Studies and sequences are in memory, pictures are read when they are asked
/// for.
///
/// Every file is checked against its SHA-256 in the manifest before anything of it is used: tables
/// when the corpus is opened, shards when the first of their pictures is read (once, see
/// [`crate::files`]).
#[derive(Debug)]
pub struct Corpus {
    path: PathBuf,
    manifest: Manifest,
    studies: Vec<Study>,
    sequences: Vec<Sequence>,
    images: usize,
    pictures: Pictures,
    #[cfg(feature = "s3")]
    cached: Option<Arc<Cached>>,
}

#[derive(Debug)]
enum Pictures {
    Here(Vec<Checked>),
    #[cfg(feature = "s3")]
    Stored(Shards),
}

/// A shard with the result of its checksum, which is computed when one of its pictures is first
/// requested.
#[derive(Debug)]
struct Checked {
    shard: Shard,
    record: FileRecord,
    fault: OnceLock<Option<String>>,
}

impl Checked {
    fn picture(&self, index: usize) -> Result<Vec<u8>> {
        let check = || match check_seen(self.shard.path(), &self.record.sha256) {
            Ok(()) => None,
            Err(Error::Damaged { message, .. }) => Some(message),
            Err(error) => Some(error.to_string()),
        };
        match self.fault.get_or_init(check) {
            None => self.shard.picture(index),
            Some(message) => Err(Error::Damaged { path: self.shard.path().to_path_buf(), message: message.clone() }),
        }
    }
}

impl Corpus {
    /// Opens a corpus, in a folder or in object storage (`s3://BUCKET/PREFIX`), and checks that its
    /// parts fit together.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    pub fn open(path: &Path) -> Result<Corpus> {
        match Address::from_path(path)? {
            None => Corpus::open_folder(path),
            #[cfg(feature = "s3")]
            Some(address) => Corpus::open_stored(path, &address),
            #[cfg(not(feature = "s3"))]
            Some(address) => Err(address.unsupported()),
        }
    }

    fn open_folder(path: &Path) -> Result<Corpus> {
        let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
        let file = path.join(manifest::FILE);
        let text = input::read(&file, input::TEXT).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                fail(format!("it has no {}; create a corpus with `medst prepare`", manifest::FILE))
            }
            _ => Error::Io { path: file.clone(), source: error },
        })?;
        if let Some(sum) = Sums::read(path)?.and_then(|sums| sums.0.get(manifest::FILE).cloned()) {
            check_found(&file, &sha256_of(&text), &sum)?;
        }
        let manifest = Manifest::parse(&text, path)?;
        for (name, record) in &manifest.files {
            let length = std::fs::metadata(path.join(name)).map(|meta| meta.len()).ok();
            if length != Some(record.bytes) {
                return Err(fail(format!(
                    "{name} is missing or damaged: {} bytes, expected {}",
                    length.unwrap_or(0),
                    record.bytes
                )));
            }
        }
        let shards = (0..manifest.shards())
            .map(|n| {
                let name = shards::name(shards::IMAGES, n);
                let shard = Shard::open(&path.join(&name), manifest.image_size)?;
                let record = manifest.files.get(&name).cloned();
                let record = record.ok_or_else(|| fail(format!("its manifest does not name {name}")))?;
                Ok(Checked { shard, record, fault: OnceLock::new() })
            })
            .collect::<Result<Vec<Checked>>>()?;
        for table in [STUDIES, SEQUENCES] {
            if let Some(record) = manifest.files.get(table) {
                check_seen(&path.join(table), &record.sha256)?;
            }
        }
        Corpus {
            path: path.to_path_buf(),
            images: shards.iter().map(|open| open.shard.count()).sum(),
            pictures: Pictures::Here(shards),
            studies: tables::read_studies(&path.join(STUDIES))?,
            sequences: tables::read_sequences(&path.join(SEQUENCES))?,
            manifest,
            #[cfg(feature = "s3")]
            cached: None,
        }
        .checked()
    }

    #[cfg(feature = "s3")]
    fn open_stored(path: &Path, address: &Address) -> Result<Corpus> {
        let cached = Arc::new(Cached::open(address)?);
        let manifest = cached.manifest.clone();
        let size = (manifest.image_size * manifest.image_size) as u64;
        let pictures = |number| {
            let bytes = manifest.files.get(&shards::name(shards::IMAGES, number)).map_or(0, |file| file.bytes);
            (bytes.saturating_sub(shards::HEADER as u64) / size) as usize
        };
        let images = (0..manifest.shards()).map(pictures).sum();
        Corpus {
            path: path.to_path_buf(),
            images,
            pictures: Pictures::Stored(Shards::new(Arc::clone(&cached))),
            studies: tables::read_studies(&cached.file(STUDIES)?)?,
            sequences: tables::read_sequences(&cached.file(SEQUENCES)?)?,
            manifest,
            cached: Some(cached),
        }
        .checked()
    }

    fn checked(self) -> Result<Corpus> {
        self.check()?;
        Ok(self)
    }

    /// Indices in range, sequences within one subject and split.
    fn check(&self) -> Result<()> {
        let fail = |message| Err(Error::Corpus { path: self.path.clone(), message });
        for study in &self.studies {
            let images =
                [study.frontal].into_iter().chain(study.lateral).chain(study.alternative_frontals.iter().copied());
            for image in images {
                if image.0 as usize >= self.images {
                    return fail(format!("study `{}` refers to image {} of {}", study.study, image.0, self.images));
                }
            }
        }
        for (number, sequence) in self.sequences.iter().enumerate() {
            for &row in &sequence.studies {
                let study = self.studies.get(row as usize);
                let belongs = study.is_some_and(|s| s.subject == sequence.subject && s.split == sequence.split);
                if !belongs {
                    return fail(format!(
                        "sequence {number} contains study {row}, which belongs to another subject or split"
                    ));
                }
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn studies(&self) -> &[Study] {
        &self.studies
    }

    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Sequences of one split.
    pub fn sequences_of(&self, split: Split) -> impl Iterator<Item = &Sequence> {
        self.sequences.iter().filter(move |sequence| sequence.split == split)
    }

    /// Side of the stored pictures in pixels.
    pub fn image_size(&self) -> usize {
        self.manifest.image_size
    }

    /// Number of stored pictures.
    pub fn images(&self) -> usize {
        self.images
    }

    /// The pixels of a picture, row by row.
    ///
    /// # Errors
    /// A picture that cannot be read, or whose shard is damaged.
    ///
    /// # Panics
    /// When the index is not one of this corpus' studies.
    pub fn image(&self, index: ImageIndex) -> Result<Vec<u8>> {
        let index = index.0 as usize;
        match &self.pictures {
            Pictures::Here(shards) => {
                assert!(index < self.images, "indices are checked when a corpus is opened");
                shards[index / shards::CAPACITY].picture(index % shards::CAPACITY)
            }
            #[cfg(feature = "s3")]
            Pictures::Stored(shards) => shards.picture(index),
        }
    }

    /// The path of a file of the corpus on this machine.
    fn file(&self, name: &str) -> Result<PathBuf> {
        #[cfg(feature = "s3")]
        if let Some(cached) = &self.cached {
            return cached.file(name);
        }
        Ok(self.path.join(name))
    }

    /// A table that a source adds to its studies, such as the pairs of MS-CXR-T; `None` where the
    /// corpus has none of that name.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn table(&self, name: &str) -> Result<Option<TextTable>> {
        let file = format!("{name}.csv");
        if !self.manifest.files.contains_key(&file) {
            return Ok(None);
        }
        let path = self.file(&file)?;
        if let Some(record) = self.manifest.files.get(&file) {
            check_seen(&path, &record.sha256)?;
        }
        let fail = |error: csv::Error| Error::Table { path: path.clone(), message: error.to_string() };
        let mut reader = csv::Reader::from_path(&path).map_err(fail)?;
        let cells = |row: &csv::StringRecord| row.iter().map(str::to_string).collect::<Vec<String>>();
        let columns = cells(reader.headers().map_err(fail)?);
        let rows = reader.records().map(|row| row.map(|row| cells(&row))).collect::<Result<_, _>>().map_err(fail)?;
        Ok(Some(TextTable { name: name.into(), columns, rows }))
    }

    /// Reads every file of a corpus in a folder and checks it. (Of one in object storage files are
    /// checked when they arrive, and again by every process that finds them in the cache.)
    ///
    /// # Errors
    /// A file that is missing, unreadable or damaged; a stop request.
    pub fn check_files(&self, progress: &dyn Progress) -> Result<()> {
        #[cfg(feature = "s3")]
        if self.cached.is_some() {
            return Ok(());
        }
        let bytes = self.manifest.files.values().map(|file| file.bytes).sum();
        progress.begin("checking the corpus", Some(bytes));
        let done = self.manifest.sums().check_all(&self.path, &|bytes| progress.advance(bytes));
        progress.end();
        done
    }

    /// Identifies the corpus: changes with any picture, study or sequence.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for (name, record) in self.manifest.files.iter().filter(|(name, _)| name.as_str() != "skipped.csv") {
            text += &format!("{name} {}\n", record.sha256);
        }
        sha256_of(text.as_bytes())
    }
}
