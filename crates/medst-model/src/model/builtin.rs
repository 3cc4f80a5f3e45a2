//! Models that are part of the program. They are found by name wherever a path to a model is
//! accepted: `--model phantom`.
//!
//! Their weights (`models/NAME` in the repository, 16 bits each) are compiled in, so that a name
//! works from any folder, with nothing to download, in the command and in the Python package alike.
//! They are checked against the `SHA256SUMS` of that folder whenever they are read: a damaged
//! program would otherwise answer with wrong numbers.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use medst_data::files::sums::{Fault, Sums};
use medst_data::files::{sha256_of, sha256_of_file};
use medst_data::hub;
use medst_data::report::WordPiece;

use super::card::{MODEL, ModelCard, VOCABULARY};
use super::weights::TensorFile;
use crate::{Error, Result};

/// A model that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// `model.safetensors`, with the card in its head.
    pub weights: &'static [u8],
    vocabulary: &'static str,
    /// The list of checksums of its folder.
    sums: &'static str,
}

/// All built-in models.
pub const MODELS: [Builtin; 1] = [Builtin {
    name: "phantom",
    weights: include_bytes!("../../../../models/phantom/model.safetensors"),
    vocabulary: include_str!("../../../../models/phantom/vocab.txt"),
    sums: include_str!("../../../../models/phantom/SHA256SUMS"),
}];

/// The model that a path names. A file or folder of that name comes first.
pub fn named(path: &Path) -> Option<&'static Builtin> {
    let name = path.to_str()?;
    if path.exists() { None } else { MODELS.iter().find(|model| model.name == name) }
}

/// Where the model is that a path names: the path itself if it exists or is the name of a built-in
/// model, or the folder of a model on a hub ([`medst_data::hub`]).
///
/// # Errors
/// A path that does not exist, with the names of the built-in models; as [`hub::local`].
pub fn local(path: &Path) -> Result<Cow<'_, Path>> {
    if named(path).is_some() {
        return Ok(Cow::Borrowed(path));
    }
    let found = hub::local(path)?;
    if found.try_exists().map_err(Error::io(path))? {
        return Ok(found);
    }
    let message = format!("no such file or folder; built-in models: {}", names());
    Err(Error::io(path)(std::io::Error::new(ErrorKind::NotFound, message)))
}

/// The names of the built-in models, for error messages.
pub fn names() -> String {
    MODELS.map(|model| format!("`{}`", model.name)).join(", ")
}

/// The weights of an opened model: `path` itself if it is a file or a name, otherwise the file in
/// that folder.
pub fn weights_of(path: &Path) -> PathBuf {
    if path.is_file() || named(path).is_some() { path.to_path_buf() } else { path.join(MODEL) }
}

/// SHA-256 of a file of weights, or of the weights of a built-in model by its name, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn checksum(weights: &Path) -> Result<String> {
    match named(weights) {
        Some(builtin) => Ok(sha256_of(builtin.weights)),
        None => Ok(sha256_of_file(weights)?),
    }
}

impl Builtin {
    /// Its vocabulary, one word piece per line.
    pub fn vocabulary(&self) -> &'static str {
        self.vocabulary
    }

    /// Its files that are compiled in, by their names in its folder.
    pub fn files(&self) -> [(&'static str, &'static [u8]); 2] {
        [(MODEL, self.weights), (VOCABULARY, self.vocabulary.as_bytes())]
    }

    /// What is wrong with its files.
    pub fn faults(&self) -> Vec<Fault> {
        // A list that is damaged itself has the checksum of no file.
        let Sums(recorded) = Sums::parse(self.sums).unwrap_or_default();
        let fault = |(file, bytes): (&str, &[u8])| {
            let (found, expected) = (sha256_of(bytes), recorded.get(file).map_or("none", String::as_str));
            (found != expected).then(|| Fault {
                path: self.name.into(),
                message: format!(
                    "the built-in model is damaged: its {file} has the SHA-256 {found}, expected {expected}; \
                     install medst again"
                ),
            })
        };
        self.files().into_iter().filter_map(fault).collect()
    }

    /// # Errors
    /// As [`Builtin::tensors`]; a card of another version than this program reads, by the model's
    /// name.
    pub fn card(&self) -> Result<ModelCard> {
        self.card_in(&self.tensors()?)
    }

    fn card_in(&self, file: &TensorFile) -> Result<ModelCard> {
        let text = file.metadata.get(ModelCard::KEY).ok_or_else(|| self.unusable("it has no card"))?;
        ModelCard::parse(text).map_err(|error| self.unusable(error))
    }

    /// # Errors
    /// Files that are damaged, and weights that are not safetensors, by the model's name.
    pub fn tensors(&self) -> Result<TensorFile> {
        if let Some(fault) = self.faults().into_iter().next() {
            return Err(fault.error().into());
        }
        TensorFile::from_bytes(Path::new(self.name), self.weights)
    }

    /// # Errors
    /// As [`Builtin::card`]; a vocabulary that is not one, or is not that of the weights.
    pub fn pieces(&self) -> Result<WordPiece> {
        Ok(self.open()?.2)
    }

    /// Weights, card and vocabulary, of files that are checked once.
    ///
    /// # Errors
    /// As [`Builtin::pieces`].
    pub fn open(&self) -> Result<(TensorFile, ModelCard, WordPiece)> {
        let file = self.tensors()?;
        let card = self.card_in(&file)?;
        let pieces =
            WordPiece::from_text(self.vocabulary, Path::new(self.name)).map_err(|error| self.unusable(error))?;
        match pieces.checksum() == card.vocabulary_sha256 {
            true => Ok((file, card, pieces)),
            false => Err(self.unusable("its vocabulary differs from that of its card")),
        }
    }

    fn unusable(&self, message: impl std::fmt::Display) -> Error {
        Error::Checkpoint { path: self.name.into(), message: format!("the built-in model cannot be used: {message}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_a_card_weights_and_the_vocabulary_of_its_card() {
        for model in MODELS {
            assert!(model.card().unwrap().licence.is_some(), "{}: no licence", model.name);
            model.pieces().unwrap();
            assert!(model.weights.len() <= 16 << 20, "{}: more than 16 MiB", model.name);
            let values: usize = model.tensors().unwrap().tensors.values().map(tch::Tensor::numel).sum();
            assert!(values <= 8_000_000, "{}: {values} parameters", model.name);
        }
    }

    #[test]
    fn a_name_is_found_and_a_path_that_exists_comes_first() {
        assert_eq!(named(Path::new("phantom")).unwrap().name, "phantom");
        assert!(named(Path::new("Cargo.toml")).is_none());
        assert!(named(Path::new("phantoms")).is_none());
        assert!(names().contains("`phantom`"));
        assert_eq!(local(Path::new("phantom")).unwrap(), Path::new("phantom"));
        assert_eq!(local(Path::new("Cargo.toml")).unwrap(), Path::new("Cargo.toml"));
        let error = local(Path::new("fantom")).unwrap_err().to_string();
        assert_eq!(error, "fantom: no such file or folder; built-in models: `phantom`");
    }

    #[test]
    fn one_wrong_bit_is_refused_with_the_models_name_and_both_checksums() {
        let whole = MODELS[0];
        let mut weights = whole.weights.to_vec();
        let middle = weights.len() / 2;
        weights[middle] ^= 1;
        let damaged = Builtin { weights: weights.leak(), ..whole };
        let (expected, found) = (sha256_of(whole.weights), sha256_of(damaged.weights));
        for error in [damaged.tensors().err(), damaged.card().err(), damaged.pieces().err()] {
            let error = error.unwrap().to_string();
            assert!(error.starts_with("phantom: the built-in model is damaged: its model.safetensors"), "{error}");
            assert!(error.contains(&found) && error.contains(&format!("expected {expected}")), "{error}");
        }
        let damaged = Builtin { vocabulary: "[PAD]\n", ..whole };
        let error = damaged.pieces().err().unwrap().to_string();
        assert!(error.starts_with("phantom: the built-in model is damaged: its vocab.txt"), "{error}");
        assert_eq!(Builtin { sums: "", ..whole }.faults().len(), 2);
    }
}
