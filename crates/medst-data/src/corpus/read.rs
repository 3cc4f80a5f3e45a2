//! Reading a corpus.

use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use super::shards::{self, Shard};
use super::tables::{self, SEQUENCES, STUDIES};
use crate::import::plan::TextTable;
use crate::sequence::Sequence;
use crate::split::Split;
use crate::study::{ImageIndex, Study};
use crate::{Error, Result};

/// A prepared corpus. Studies and sequences are in memory, pictures are memory-mapped.
#[derive(Debug)]
pub struct Corpus {
    path: PathBuf,
    manifest: Manifest,
    studies: Vec<Study>,
    sequences: Vec<Sequence>,
    shards: Vec<Shard>,
}

impl Corpus {
    /// Opens a corpus and checks that its parts fit together.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    pub fn open(path: &Path) -> Result<Corpus> {
        let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
        let file = path.join(manifest::FILE);
        let text = std::fs::read(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                fail(format!("it has no {}; `medst prepare` makes a corpus", manifest::FILE))
            }
            _ => Error::Io { path: file.clone(), source: error },
        })?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| fail(format!("{}: {error}", manifest::FILE)))?;
        if manifest.format != manifest::FORMAT || manifest.version != manifest::VERSION {
            let (format, version) = (&manifest.format, manifest.version);
            return Err(fail(format!("its format is `{format}` version {version}; this program reads version 1")));
        }
        for (name, record) in &manifest.files {
            let length = std::fs::metadata(path.join(name)).map(|meta| meta.len()).ok();
            if length != Some(record.bytes) {
                return Err(fail(format!("{name} has {length:?} bytes where {} were written", record.bytes)));
            }
        }
        let count = manifest.files.keys().filter(|name| name.starts_with("images-")).count();
        let shards = (0..count).map(|n| Shard::open(&path.join(shards::name(shards::IMAGES, n)), manifest.image_size));
        let corpus = Corpus {
            path: path.to_path_buf(),
            shards: shards.collect::<Result<_>>()?,
            studies: tables::read_studies(&path.join(STUDIES))?,
            sequences: tables::read_sequences(&path.join(SEQUENCES))?,
            manifest,
        };
        corpus.check().map_err(fail)?;
        Ok(corpus)
    }

    /// Indices in range, sequences within one subject and split.
    fn check(&self) -> Result<(), String> {
        for study in &self.studies {
            let images =
                [study.frontal].into_iter().chain(study.lateral).chain(study.alternative_frontals.iter().copied());
            for image in images {
                self.find(image)
                    .ok_or_else(|| format!("study `{}` names image {} of {}", study.study, image.0, self.images()))?;
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
        self.shards.iter().map(Shard::count).sum()
    }

    /// The pixels of a picture, row by row.
    ///
    /// # Panics
    /// When the index is not one of this corpus' studies.
    pub fn image(&self, index: ImageIndex) -> &[u8] {
        self.find(index).expect("indices are checked when a corpus is opened")
    }

    fn find(&self, index: ImageIndex) -> Option<&[u8]> {
        let index = index.0 as usize;
        self.shards.get(index / shards::CAPACITY)?.picture(index % shards::CAPACITY)
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
        let path = self.path.join(&file);
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
