//! Models that are part of the program. They are found by name wherever a path to a model is
//! accepted: `--model phantom`.
//!
//! Their weights (`models/NAME` in the repository, 16 bits each) are compiled in, so that a name
//! works from any folder, with nothing to download, in the command and in the Python package alike.

use std::path::{Path, PathBuf};

use medst_data::files::{sha256_of, sha256_of_file};
use medst_data::report::WordPiece;

use super::card::{MODEL, ModelCard};
use super::weights::TensorFile;
use crate::{Error, Result};

/// A model that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// `model.safetensors`, with the card in its head.
    pub weights: &'static [u8],
    vocabulary: &'static str,
}

/// All built-in models.
pub const MODELS: [Builtin; 1] = [Builtin {
    name: "phantom",
    weights: include_bytes!("../../../../models/phantom/model.safetensors"),
    vocabulary: include_str!("../../../../models/phantom/vocab.txt"),
}];

/// The model that a path names. A file or folder of that name comes first.
pub fn named(path: &Path) -> Option<&'static Builtin> {
    let name = path.to_str()?;
    if path.exists() { None } else { MODELS.iter().find(|model| model.name == name) }
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

    /// # Errors
    /// A card of another version than this program reads, by the model's name.
    pub fn card(&self) -> Result<ModelCard> {
        let file = self.tensors()?;
        let text = file.metadata.get(ModelCard::KEY).ok_or_else(|| self.unusable("it has no card"))?;
        ModelCard::parse(text).map_err(|error| self.unusable(error))
    }

    /// # Errors
    /// Weights that are not safetensors, by the model's name.
    pub fn tensors(&self) -> Result<TensorFile> {
        TensorFile::from_bytes(Path::new(self.name), self.weights)
    }

    /// # Errors
    /// A vocabulary that is not one, or is not that of the weights.
    pub fn pieces(&self) -> Result<WordPiece> {
        let pieces =
            WordPiece::from_text(self.vocabulary, Path::new(self.name)).map_err(|error| self.unusable(error))?;
        match pieces.checksum() == self.card()?.vocabulary_sha256 {
            true => Ok(pieces),
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
    }
}
