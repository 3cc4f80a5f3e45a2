//! Where vectors come from: a model, or files.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Result;
use crate::model::builtin;
use crate::open::OpenedModel;

/// The model or file that the vectors come from, for readers of the results.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Origin {
    /// In a few words.
    pub name: String,
    /// Properties by name, in the order in which they are shown.
    pub properties: Vec<(String, String)>,
    /// SHA-256 of every file, by path.
    pub files: BTreeMap<String, String>,
}

impl Origin {
    /// Describes a model that was opened from a path.
    ///
    /// # Errors
    /// Weights that cannot be read again for their checksum.
    pub fn of_model(opened: &OpenedModel) -> Result<Origin> {
        let (card, path) = (&opened.card, &opened.path);
        let config = &opened.model.config;
        let values: i64 = opened.model.parameters().iter().map(|parameter| parameter.tensor.numel() as i64).sum();
        let weights = builtin::weights_of(path);
        let text = |name: &str, value: String| (name.to_string(), value);
        Ok(Origin {
            name: path.display().to_string(),
            properties: vec![
                text("parameters", format!("{:.1} million", values as f64 / 1e6)),
                text("image", format!("{0}×{0} pixels, patches of {1}", config.image.size, config.image.patch)),
                text("embedding width", config.projection.embedding.to_string()),
                text("semantics", format!("{:?}", config.semantics).to_lowercase()),
                text("optimiser steps", card.step.to_string()),
                text("trained on corpus", card.corpus.chars().take(12).collect()),
                text("device", format!("{:?}", opened.model.device()).to_uppercase()),
            ],
            files: [(weights.display().to_string(), opened.checksum.clone())].into(),
        })
    }
}
