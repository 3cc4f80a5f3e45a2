//! Describes a path: a corpus, a run, a checkpoint, or a weight file.

use std::fmt;
use std::path::{Path, PathBuf};

use medst_data::corpus::{Corpus, Manifest};
use medst_data::gather::is_corpus;
use serde::Serialize;
use tch::Tensor;

use crate::config;
use crate::convert::{reference, source};
use crate::model::builtin;
use crate::model::card::{ModelCard, TrainingData};
use crate::model::config::ModelConfig;
use crate::model::weights::TensorFile;
use crate::open::read_card;
use crate::train::{CONFIG, Ending, RunSummary};
use crate::{Error, Result};

/// A recognised path.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Inspected {
    Corpus {
        path: PathBuf,
        manifest: Box<Manifest>,
        fingerprint: String,
    },
    Run {
        path: PathBuf,
        summary: Box<RunSummary>,
        checkpoint: Option<Box<ModelCard>>,
    },
    Model {
        path: PathBuf,
        card: Box<ModelCard>,
    },
    /// A file of tensors rather than a model folder; with sizes if its tensors have the reference's
    /// names.
    Weights {
        path: PathBuf,
        tensors: usize,
        values: usize,
        /// The format whose tensor names it has; absent if none matches.
        format: Option<String>,
        reference: Option<Box<ModelConfig>>,
    },
}

/// Recognises a path.
///
/// # Errors
/// A path that is none of these; the message lists what was looked for. A path that does not exist,
/// with the names of the built-in models.
pub fn inspect(path: &Path) -> Result<Inspected> {
    // First, because one in object storage is no path that exists.
    if is_corpus(path) {
        let corpus = Corpus::open(path)?;
        let (manifest, fingerprint) = (Box::new(corpus.manifest().clone()), corpus.fingerprint());
        return Ok(Inspected::Corpus { path: path.to_path_buf(), manifest, fingerprint });
    }
    let path = &*builtin::local(path)?;
    let owned = path.to_path_buf();
    if let Some(builtin) = builtin::named(path) {
        return Ok(Inspected::Model { path: owned, card: Box::new(builtin.card()?) });
    }
    if path.join(CONFIG).exists() {
        // Of any version: what it asks for need not be what this one could go on with.
        config::overridden(&config::read(&path.join(CONFIG))?, &[])
            .map_err(|error| config::in_file(&path.join(CONFIG), error))?;
        let summary = RunSummary::read(path, Ending::Stopped, 0)?;
        let checkpoint = read_card(path).ok().map(|(_, card)| Box::new(card));
        return Ok(Inspected::Run { path: owned, summary: Box::new(summary), checkpoint });
    }
    if let Ok((folder, card)) = read_card(path) {
        return Ok(Inspected::Model { path: folder, card: Box::new(card) });
    }
    if path.is_file() {
        let file = TensorFile::read(path)?;
        let values = file.tensors.values().map(Tensor::numel).sum();
        let reference = if reference::is_reference(&file.tensors) {
            Some(Box::new(reference::configuration(&file)?))
        } else {
            None
        };
        let known = source::recognise(file.tensors.keys().map(String::as_str)).ok();
        let format = known.map(|(dialect, _)| dialect.label().to_string());
        return Ok(Inspected::Weights { path: owned, tensors: file.tensors.len(), values, format, reference });
    }
    let message = "not a corpus (corpus.json), run (config.toml), checkpoint (config.json) or weight file";
    Err(Error::Checkpoint { path: owned, message: message.into() })
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inspected::Corpus { path, manifest, fingerprint } => {
                writeln!(
                    f,
                    "{}: a corpus (version {}), from {} {}",
                    path.display(),
                    manifest.version,
                    manifest.source.kind,
                    manifest.source.files.first().map_or("", |file| &file.name)
                )?;
                write!(f, "{}", manifest.counts)?;
                let (side, length, unit) = (manifest.image_size, manifest.sequence_length, manifest.sequence_unit);
                writeln!(f, "  images of {side}×{side} pixels; a full sequence has {length} steps of one {unit} each")?;
                for (reason, count) in &manifest.skipped {
                    writeln!(f, "  skipped {count:>7}  {reason}")?;
                }
                writeln!(f, "  fingerprint {}", &fingerprint[..16])
            }
            Inspected::Run { summary, checkpoint, .. } => {
                writeln!(f, "{}: a run", summary.folder.display())?;
                writeln!(f, "  {} steps logged, {:.1} studies/s", summary.steps, summary.studies_per_second)?;
                if let (Some(first), Some(last)) = (summary.first, summary.last) {
                    writeln!(f, "  training loss: first {:.3}, last {:.3}", first.total, last.total)?;
                }
                if let Some(best) = summary.best {
                    writeln!(
                        f,
                        "  best validation at step {}: loss {:.3}, recall@1 {:.1} % among {} (chance {:.1} %)",
                        best.step,
                        best.losses.total,
                        100.0 * best.retrieval.recall_at_1,
                        best.retrieval.studies,
                        100.0 * best.retrieval.chance(1)
                    )?;
                }
                match checkpoint {
                    Some(card) => write!(f, "{}", card.model),
                    None => writeln!(f, "  no checkpoint yet"),
                }
            }
            Inspected::Model { path, card } => {
                writeln!(f, "{}: a Med-ST model after {} steps", path.display(), card.step)?;
                write!(f, "{}", card.model)?;
                if let Some(TrainingData { source, counts }) = &card.training {
                    let (subjects, studies) = (counts.subjects, counts.studies);
                    writeln!(f, "  trained on {studies} studies of {subjects} subjects ({source})")?;
                }
                if card.corpus != "unknown" {
                    writeln!(f, "  trained on corpus {}", card.corpus.get(..16).unwrap_or(&card.corpus))?;
                }
                for origin in &card.origin {
                    writeln!(
                        f,
                        "  made from {}, {} (SHA-256 {}…)",
                        origin.file,
                        origin.format,
                        origin.sha256.get(..16).unwrap_or_default()
                    )?;
                }
                writeln!(f, "  vocabulary {}…", card.vocabulary_sha256.get(..16).unwrap_or_default())?;
                writeln!(f, "  licence: {}", card.licence.as_deref().unwrap_or("not stated"))
            }
            Inspected::Weights { path, tensors, values, format, reference } => {
                writeln!(f, "{}: {tensors} tensors, {:.1} million values", path.display(), *values as f64 / 1e6)?;
                match (reference, format) {
                    (Some(config), _) => {
                        writeln!(f, "  a checkpoint of the reference implementation")?;
                        write!(f, "{}", config)
                    }
                    (None, Some(format)) => {
                        writeln!(f, "  tensors are named as in {format}; convert it with medst convert")
                    }
                    (None, None) => {
                        writeln!(f, "  unknown model: neither a Med-ST model nor weights that medst convert can read")
                    }
                }
            }
        }
    }
}
