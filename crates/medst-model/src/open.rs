//! Opening a model for use: one that is part of the program, a run, a checkpoint, or a file of
//! weights.

use std::path::{Path, PathBuf};

use medst_data::files::sums::{Sums, check_found};
use medst_data::report::WordPiece;
use tch::Device;

use crate::convert::reference;
use crate::model::card::{CARD, MODEL, ModelCard, VOCABULARY};
use crate::model::config::Precision;
use crate::model::weights::TensorFile;
use crate::model::{MedSt, builtin};
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
    let path = &*builtin::local(path)?;
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

/// Opens a model for use: a built-in model or a model of a hub ([`medst_data::hub`]) by its name; a
/// run or a checkpoint; a file of medst's weights, with its folder or with the card in its head
/// alone; or a checkpoint with the reference's names (which gets its sizes from its shapes and the
/// reference's semantics).
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
        let (file, card, pieces) = builtin.open()?;
        let mut model = MedSt::unwritten(&card.model, device, precision.kind())?;
        model.load_tensors(&file)?;
        return Ok(OpenedModel { model, card, pieces, path: path.to_path_buf(), checksum: builtin::checksum(path)? });
    }
    let path = &*builtin::local(path)?;
    if path.is_file() && !has_card_beside(path) {
        return open_file(path, device, precision);
    }
    let (folder, card) = read_card(path)?;
    let weights = folder.join(MODEL);
    let checksum = builtin::checksum(&weights)?;
    let sums = Sums::read(&folder)?;
    if let Some(recorded) = sums.as_ref().and_then(|sums| sums.0.get(MODEL)) {
        check_found(&weights, &checksum, recorded)?;
    }
    let pieces = vocabulary(&folder, &folder, sums.as_ref(), &card)?;
    let mut model = MedSt::unwritten(&card.model, device, precision.kind())?;
    model.load(&weights)?;
    Ok(OpenedModel { model, card, pieces, path: folder, checksum })
}

/// Whether a file is the weights of a folder with their card.
fn has_card_beside(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == MODEL) && file.with_file_name(CARD).exists()
}

/// Opens a file of weights without a folder: medst's own as the card in its head says, or those of
/// a checkpoint with the reference's names.
fn open_file(path: &Path, device: Device, precision: Precision) -> Result<OpenedModel> {
    let file = TensorFile::read(path)?;
    let head = file.metadata.get(ModelCard::KEY).filter(|_| !reference::is_reference(&file.tensors));
    let (model, card, pieces) = match head {
        Some(text) => {
            let card = ModelCard::parse_from(text, path)?;
            let folder = path.parent().unwrap_or(path);
            let pieces = vocabulary(path, folder, Sums::read(folder)?.as_ref(), &card)?;
            let mut model = MedSt::unwritten(&card.model, device, precision.kind())?;
            model.load_tensors(&file)?;
            (model, card, pieces)
        }
        None => {
            let (model, _) = reference::load(&file, device, precision.kind())?;
            let pieces = WordPiece::bert_cased();
            let card = ModelCard::new(&model.config, &pieces, 0, "unknown".into());
            (model, card, pieces)
        }
    };
    Ok(OpenedModel { model, card, pieces, path: path.to_path_buf(), checksum: builtin::checksum(path)? })
}

/// The vocabulary in a folder, else the built-in one.
///
/// * `model`: the path of the model, which errors name; * `sums`: the checksums of the folder.
///
/// # Errors
/// A vocabulary that is damaged, or is not that of the card.
fn vocabulary(model: &Path, folder: &Path, sums: Option<&Sums>, card: &ModelCard) -> Result<WordPiece> {
    if let Some(sums) = sums {
        sums.check(folder, VOCABULARY)?;
    }
    let file = folder.join(VOCABULARY);
    let (pieces, whose) = match file.exists() {
        true => (WordPiece::from_file(&file)?, "the one next to it"),
        false => (WordPiece::bert_cased(), "the built-in one"),
    };
    if pieces.checksum() == card.vocabulary_sha256 {
        return Ok(pieces);
    }
    let message =
        format!("the model was trained with another vocabulary than {whose}; put its {VOCABULARY} next to the weights");
    Err(Error::Checkpoint { path: model.to_path_buf(), message })
}
