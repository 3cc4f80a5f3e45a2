//! The description of a model: `config.json` next to the weights, and a copy in the header of
//! `model.safetensors`. Even a file that is separated from its folder states how the model
//! computes, its vocabulary, its training data and its licence.

use std::collections::HashMap;
use std::path::Path;

use medst_data::corpus::{Corpus, Counts};
use medst_data::input;
use medst_data::report::WordPiece;
use serde::{Deserialize, Serialize};

use super::config::ModelConfig;
use crate::{Error, Result, former};

const FORMAT: &str = "medst-model";
const VERSION: u32 = 1;

/// The file of weights in a model's folder.
pub const MODEL: &str = "model.safetensors";
/// The card in a model's folder.
pub const CARD: &str = "config.json";
/// A vocabulary that is not the built-in one, in a model's folder.
pub const VOCABULARY: &str = "vocab.txt";

/// `config.json`: what a model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    pub format: String,
    pub version: u32,
    pub model: ModelConfig,
    /// SHA-256 of the vocabulary the model was trained with.
    pub vocabulary_sha256: String,
    /// Optimiser steps that it was trained for.
    pub step: u64,
    /// Fingerprint of the corpus it was trained on.
    pub corpus: String,
    /// Side in pixels of that corpus' pictures, of which the model sees the middle; older cards do
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<usize>,
    /// The data that it was trained on; absent where this program did not train it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingData>,
    /// The licence of the weights, as stated by their maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Files that it was converted or started from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origin: Vec<Origin>,
}

/// The corpus that a model was trained on, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingData {
    /// The importer: `table`, `mimic-cxr`, …
    pub source: String,
    /// Counts over all splits.
    pub counts: Counts,
}

impl TrainingData {
    pub fn from_corpus(corpus: &Corpus) -> TrainingData {
        let manifest = corpus.manifest();
        TrainingData { source: manifest.source.kind.clone(), counts: manifest.counts.clone() }
    }
}

/// A file that weights came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub file: String,
    /// The program whose format it has.
    pub format: String,
    pub sha256: String,
}

impl ModelCard {
    /// The key of the card in the head of a safetensors file, and in a file with the reference's
    /// names.
    pub const KEY: &str = "medst";

    /// A card without training data, licence and origin.
    pub fn new(model: &ModelConfig, pieces: &WordPiece, step: u64, corpus: String) -> ModelCard {
        let vocabulary_sha256 = pieces.checksum().to_string();
        ModelCard {
            format: FORMAT.into(),
            version: VERSION,
            model: model.clone(),
            vocabulary_sha256,
            step,
            corpus,
            stored_size: None,
            training: None,
            licence: None,
            origin: Vec::new(),
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// A file that is missing, is not a card, or is a card of another version.
    pub fn read(path: &Path) -> Result<ModelCard> {
        let text = input::read_to_string(path, input::TEXT).map_err(Error::io(path))?;
        ModelCard::parse_from(&text, path)
    }

    /// Like [`ModelCard::parse`], for text from the file `path`, which errors name.
    ///
    /// # Errors
    /// As [`ModelCard::parse`].
    pub fn parse_from(text: &str, path: &Path) -> Result<ModelCard> {
        ModelCard::parse(text).map_err(|error| match error {
            Error::Checkpoint { message, .. } => Error::Checkpoint { path: path.to_path_buf(), message },
            other => other,
        })
    }

    /// Reads a card.
    ///
    /// # Errors
    /// Text that is not a card, or a card of another version.
    pub fn parse(text: &str) -> Result<ModelCard> {
        let fail = |message: String| Error::Checkpoint { path: CARD.into(), message };
        let mut card: serde_json::Value = serde_json::from_str(text).map_err(|error| fail(error.to_string()))?;
        if let Some(model) = card.get_mut("model").and_then(serde_json::Value::as_object_mut) {
            former::upgrade_model(model).map_err(|removed| fail(removed.to_string()))?;
        }
        let card: ModelCard = serde_json::from_value(card).map_err(|error| fail(error.to_string()))?;
        if card.format != FORMAT || card.version != VERSION {
            let (format, version) = (&card.format, card.version);
            return Err(fail(format!(
                "its format is `{format}` version {version}; this program reads version {VERSION}"
            )));
        }
        Ok(card)
    }

    /// Side in pixels of the square whose middle the model sees; for cards that do not say, in the
    /// paper's proportion (256 to 224).
    pub fn stored_side(&self) -> usize {
        self.stored_size.unwrap_or_else(|| (self.model.image.size as usize * 256).div_ceil(224))
    }

    /// Serialises the card.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a card has no keys but text, and no writer that fails")
    }

    /// The head of a safetensors file. One key: the order of several would differ from file to
    /// file.
    pub fn metadata(&self) -> HashMap<String, String> {
        HashMap::from([(ModelCard::KEY.to_string(), self.to_json())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped model's, as version 0.1 wrote it.
    const EARLIER: &str = include_str!("../../tests/fixtures/earlier/config.json");

    #[test]
    fn cards_of_earlier_versions_have_the_same_meaning() {
        let card = ModelCard::parse(EARLIER).unwrap();
        let (image, text) = (&card.model.image, &card.model.text);
        assert_eq!((image.hidden_size, image.num_layers, image.num_heads, image.intermediate_size), (128, 3, 4, 256));
        assert_eq!((text.hidden_size, text.num_layers, text.num_heads, text.intermediate_size), (128, 2, 4, 256));
        assert_eq!((text.vocabulary, text.max_positions), (377, 112));
        assert_eq!(ModelCard::parse(&card.to_json()).unwrap(), card);
        assert!(!card.to_json().contains("\"depth\""), "{}", card.to_json());
        let odd = EARLIER.replacen("\"depth\": 3", "\"depth\": \"three\"", 1);
        assert!(ModelCard::parse(&odd).is_err());
        let single = EARLIER.replacen("\"lost_word\": null", "\"lost_word\": true", 1);
        assert!(ModelCard::parse(&single).unwrap_err().to_string().contains("model.semantics"));
    }
}
