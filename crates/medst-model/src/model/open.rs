//! Opening a model for use: one that is part of the program, a run, a checkpoint, or a file of
//! weights.

use std::path::{Path, PathBuf};

use medst_data::files::sums::{Sums, check_found};
use medst_data::hub;
use medst_data::report::WordPiece;
use tch::Device;

use super::card::{CARD, MODEL, ModelCard, VOCABULARY};
use super::config::Precision;
use super::weights::TensorFile;
use super::{MedSt, builtin};
use crate::convert::reference;
use crate::{Error, Result};

/// A model that is ready for use, together with its tokeniser.
pub struct OpenedModel {
    pub model: MedSt,
    pub card: ModelCard,
    pub pieces: WordPiece,
    /// The folder or file it was read from.
    pub path: PathBuf,
    /// SHA-256 of the weights.
    pub checksum: String,
}

/// Reads only what a model is: `path` may be a run (its best checkpoint, else its last), a
/// checkpoint, or a `model.safetensors` in one; or a name at a model hub ([`medst_data::hub`]).
///
/// # Errors
/// A path that is not a model; the message names the files it lacks.
pub fn read_card(path: &Path) -> Result<(PathBuf, ModelCard)> {
    if let Some(builtin) = builtin::named(path) {
        return Ok((path.to_path_buf(), builtin.card()?));
    }
    let path = &*hub::local(path)?;
    let candidates =
        [path.join("best"), path.join("last"), path.to_path_buf(), path.parent().unwrap_or(path).to_path_buf()];
    let folder = candidates.into_iter().find(|folder| folder.join(CARD).exists() && folder.join(MODEL).exists());
    let folder = folder.ok_or_else(|| Error::Checkpoint {
        path: path.to_path_buf(),
        message: format!(
            "not a run or checkpoint: it has no {MODEL} and {CARD}; built-in models: {}",
            builtin::names()
        ),
    })?;
    if let Some(sums) = Sums::read(&folder)? {
        sums.check(&folder, CARD)?;
    }
    let card = ModelCard::read(&folder.join(CARD))?;
    Ok((folder, card))
}

/// Opens a model for use: a built-in model or a model of a hub ([`medst_data::hub`]) by its name;
/// a run, a checkpoint or a model file of medst; or a checkpoint with the reference's names (which
/// gets its sizes from its shapes and the reference's semantics).
///
/// Files that the folder has checksums of are checked.
///
/// # Errors
/// Files that are missing, damaged or do not fit, and values that are not finite, by name.
pub fn open_model(path: &Path, device: Device) -> Result<OpenedModel> {
    open_model_in(path, device, Precision::Float32)
}

/// Like [`open_model`], for computing in `precision`.
///
/// # Errors
/// As [`open_model`].
pub fn open_model_in(path: &Path, device: Device, precision: Precision) -> Result<OpenedModel> {
    if let Some(builtin) = builtin::named(path) {
        let (card, pieces) = (builtin.card()?, builtin.pieces()?);
        let mut model = MedSt::unwritten(&card.model, device, precision.kind())?;
        model.load_tensors(&builtin.tensors()?)?;
        return Ok(OpenedModel { model, card, pieces, path: path.to_path_buf(), checksum: builtin::checksum(path)? });
    }
    let path = &*hub::local(path)?;
    if path.is_file() && path.file_name().is_none_or(|name| name != MODEL) {
        let file = TensorFile::read(path)?;
        let (model, _) = reference::load(&file, device, precision.kind())?;
        let pieces = WordPiece::bert_cased();
        let card = ModelCard::new(&model.config, &pieces, 0, "unknown".into());
        return Ok(OpenedModel { model, card, pieces, path: path.to_path_buf(), checksum: builtin::checksum(path)? });
    }
    let (folder, card) = read_card(path)?;
    let weights = folder.join(MODEL);
    let checksum = builtin::checksum(&weights)?;
    if let Some(sums) = Sums::read(&folder)? {
        if let Some(recorded) = sums.0.get(MODEL) {
            check_found(&weights, &checksum, recorded)?;
        }
        sums.check(&folder, VOCABULARY)?;
    }
    let vocabulary = folder.join(VOCABULARY);
    let pieces = if vocabulary.exists() { WordPiece::from_file(&vocabulary)? } else { WordPiece::bert_cased() };
    if pieces.checksum() != card.vocabulary_sha256 {
        let message = "the model was trained with another vocabulary than the built-in one; put its vocab.txt next to the weights".to_string();
        return Err(Error::Checkpoint { path: folder, message });
    }
    let mut model = MedSt::unwritten(&card.model, device, precision.kind())?;
    model.load(&weights)?;
    Ok(OpenedModel { model, card, pieces, path: folder, checksum })
}
