//! Reading a corpus.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
#[cfg(feature = "s3")]
use std::sync::Arc;

use super::manifest::{self, Manifest};
use super::shards::{self, Shard};
use super::tables::{self, SEQUENCES, STUDIES};
use crate::import::plan::TextTable;
use crate::input;
use crate::sequence::Sequence;
use crate::split::Split;
use crate::storage::Address;
#[cfg(feature = "s3")]
use crate::storage::{cache::Cached, fetch::Shards};
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

/// A prepared corpus. Studies and sequences are in memory, pictures are memory-mapped.
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
    Here(Vec<Shard>),
    #[cfg(feature = "s3")]
    Stored(Shards),
}

impl Corpus {
    /// Opens a corpus, in a folder or in object storage (`s3://BUCKET/PREFIX`), and checks that its parts fit together.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    pub fn open(path: &Path) -> Result<Corpus> {
        match Address::of(path)? {
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
                fail(format!("it has no {}; `medst prepare` makes a corpus", manifest::FILE))
            }
            _ => Error::Io { path: file.clone(), source: error },
        })?;
        let manifest = Manifest::parse(&text, path)?;
        for (name, record) in &manifest.files {
            let length = std::fs::metadata(path.join(name)).map(|meta| meta.len()).ok();
            if length != Some(record.bytes) {
                return Err(fail(format!("{name} has {length:?} bytes where {} were written", record.bytes)));
            }
        }
        let shards = (0..manifest.shards())
            .map(|n| Shard::open(&path.join(shards::name(shards::IMAGES, n)), manifest.image_size))
            .collect::<Result<Vec<Shard>>>()?;
        Corpus {
            path: path.to_path_buf(),
            images: shards.iter().map(Shard::count).sum(),
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
        self.check().map_err(|message| Error::Corpus { path: self.path.clone(), message })?;
        Ok(self)
    }

    /// Indices in range, sequences within one subject and split.
    fn check(&self) -> Result<(), String> {
        for study in &self.studies {
            let images =
                [study.frontal].into_iter().chain(study.lateral).chain(study.alternative_frontals.iter().copied());
            for image in images {
                if image.0 as usize >= self.images {
                    return Err(format!("study `{}` names image {} of {}", study.study, image.0, self.images));
                }
            }
        }
        for (number, sequence) in self.sequences.iter().enumerate() {
            for &row in &sequence.studies {
                let study = self.studies.get(row as usize);
                let belongs = study.is_some_and(|s| s.subject == sequence.subject && s.split == sequence.split);
                if !belongs {
                    return Err(format!("sequence {number} names study {row}, which is not its subject's"));
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
    /// Of a corpus in object storage: a picture that cannot be read.
    ///
    /// # Panics
    /// When the index is not one of this corpus' studies.
    pub fn image(&self, index: ImageIndex) -> Result<Cow<'_, [u8]>> {
        let index = index.0 as usize;
        match &self.pictures {
            Pictures::Here(shards) => {
                let picture =
                    shards.get(index / shards::CAPACITY).and_then(|own| own.picture(index % shards::CAPACITY));
                Ok(Cow::Borrowed(picture.expect("indices are checked when a corpus is opened")))
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

    /// A table that a source carries beside its studies, such as the pairs of MS-CXR-T; `None` where the corpus has none of
    /// that name.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn table(&self, name: &str) -> Result<Option<TextTable>> {
        let file = format!("{name}.csv");
        if !self.manifest.files.contains_key(&file) {
            return Ok(None);
        }
        let path = self.file(&file)?;
        let fail = |error: csv::Error| Error::Table { path: path.clone(), message: error.to_string() };
        let mut reader = csv::Reader::from_path(&path).map_err(fail)?;
        let cells = |row: &csv::StringRecord| row.iter().map(str::to_string).collect::<Vec<String>>();
        let columns = cells(reader.headers().map_err(fail)?);
        let rows = reader.records().map(|row| row.map(|row| cells(&row))).collect::<Result<_, _>>().map_err(fail)?;
        Ok(Some(TextTable { name: name.into(), columns, rows }))
    }

    /// Tells corpora apart: changes with any picture, study or sequence.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for (name, record) in self.manifest.files.iter().filter(|(name, _)| name.as_str() != "skipped.csv") {
            hash.update(format!("{name} {}\n", record.sha256));
        }
        format!("{:x}", hash.finalize())
    }
}
