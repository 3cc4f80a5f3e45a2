//! `corpus.json`: the description of a corpus. It is written last, so a folder without it is not a
//! corpus.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shards;
use crate::files::sums::Sums;
use crate::files::{folder, sha256_of_file};
use crate::image::Decoding;
use crate::report::Rule;
use crate::sequence::{Sequence, SequenceUnit};
use crate::split::Split;
use crate::storage::objects;
use crate::study::Study;
use crate::{Error, Result, json};

/// The format this program writes; readers refuse others.
pub const FORMAT: &str = "medst-corpus";
pub const VERSION: u32 = 1;
/// The manifest's file name.
pub const FILE: &str = folder::CORPUS_MANIFEST;
/// Sides of stored pictures, in pixels.
pub const IMAGE_SIZES: RangeInclusive<usize> = 1..=4096;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// Side of the stored pictures in pixels.
    pub image_size: usize,
    /// Studies of a full sequence, and between the beginnings of two.
    pub sequence_length: usize,
    pub sequence_stride: usize,
    pub sequence_unit: SequenceUnit,
    pub decoding: Decoding,
    /// How its reports became plain sentences. A corpus that does not record this was made with the
    /// reference's rule.
    #[serde(default = "Rule::of_old")]
    pub report_rule: Rule,
    pub source: Provenance,
    pub counts: Counts,
    /// Rows and files left out, by reason; `skipped.csv` lists them.
    pub skipped: BTreeMap<String, u64>,
    pub warnings: BTreeMap<String, u64>,
    /// Size and SHA-256 of every other file.
    pub files: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// Reads the text of a manifest; * `corpus`: what errors name.
    ///
    /// # Errors
    /// Not a manifest, or of another version of the format.
    pub fn parse(text: &[u8], corpus: &Path) -> Result<Manifest> {
        let fail = |message: String| Error::Corpus { path: corpus.to_path_buf(), message };
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| fail(format!("{FILE}: {error}")))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let (format, version) = (&manifest.format, manifest.version);
            return Err(fail(format!("its format is `{format}` version {version}; this program reads version 1")));
        }
        let side = manifest.image_size;
        if !IMAGE_SIZES.contains(&side) {
            let (least, most) = (IMAGE_SIZES.start(), IMAGE_SIZES.end());
            return Err(fail(format!("{FILE}: image_size is {side}; expected {least} to {most} pixels")));
        }
        let shards = (0..manifest.shards()).map(|number| shards::name(shards::IMAGES, number));
        if let Some(missing) = shards.into_iter().find(|name| !manifest.files.contains_key(name)) {
            return Err(fail(format!("{FILE} lists {} shards of pictures, but not {missing}", manifest.shards())));
        }
        Ok(manifest)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        json::indented(self).into_bytes()
    }

    /// The checksums alone.
    pub fn sums(&self) -> Sums {
        Sums(self.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect())
    }

    /// How many shards of pictures there are.
    pub fn shards(&self) -> usize {
        self.files.keys().filter(|name| name.starts_with("images-")).count()
    }
}

/// The source of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The importer's name.
    pub kind: String,
    /// The files that were read (pictures apart), the main one first.
    pub files: Vec<SourceFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    pub name: String,
    pub sha256: String,
}

impl Provenance {
    /// Names and checksums of the files that a source was read from.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn from_files(kind: &str, files: &[PathBuf]) -> Result<Provenance> {
        let record = |path: &PathBuf| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            Ok(SourceFile { name, sha256: sha256_of_file(&objects::file(path)?)? })
        };
        Ok(Provenance { kind: kind.to_string(), files: files.iter().map(record).collect::<Result<_>>()? })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub subjects: usize,
    pub studies: usize,
    pub images: usize,
    pub with_report: usize,
    pub with_lateral: usize,
    pub sequences: usize,
    /// Sequences of the full length.
    pub full_sequences: usize,
    pub by_split: BTreeMap<Split, usize>,
}

impl Counts {
    /// Counts studies and sequences; `length` is that of a full sequence.
    pub fn new(studies: &[Study], sequences: &[Sequence], images: usize, length: usize) -> Counts {
        let mut by_split = BTreeMap::new();
        for study in studies {
            *by_split.entry(study.split).or_default() += 1;
        }
        Counts {
            subjects: studies.iter().map(|study| &study.subject).collect::<BTreeSet<_>>().len(),
            studies: studies.len(),
            images,
            with_report: studies.iter().filter(|study| study.report.is_some()).count(),
            with_lateral: studies.iter().filter(|study| study.lateral.is_some()).count(),
            sequences: sequences.len(),
            full_sequences: sequences.iter().filter(|sequence| sequence.studies.len() == length).count(),
            by_split,
        }
    }
}
