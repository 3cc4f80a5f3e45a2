//! The inference engine: a model that is loaded once; it is independent of files, requests and
//! commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use medst_data::image::Decoding;
use tch::Device;

use super::align::Alignment;
use super::batch::Limits;
use super::forward::{EngineRef, ImageVectors, check_finite};
use super::origin::Origin;
use super::preprocessing::{Preprocessing, Views};
use super::text::{Reader, Text};
use super::vectors::Vectors;
use crate::Result;
use crate::model::MedSt;
use crate::model::card::ModelCard;
use crate::model::config::Precision;
use crate::model::lanes::Lanes;
use crate::open::{OpenedModel, open_model_in};

/// A model in use.
pub struct Engine {
    model: MedSt,
    reader: Arc<Reader>,
    preprocessing: Preprocessing,
    card: ModelCard,
    origin: Origin,
    path: PathBuf,
    pub limits: Limits,
}

// SAFETY: the layers of a shared engine only read their tensors (the engine has evaluation mode
// only), which libtorch allows from any number of threads, and references to tensors are counted
// atomically. (Code that writes to tensors from several threads does not need this impl for it:
// handles are `Send`.)
unsafe impl Sync for Engine {}

impl<'a> From<&'a Engine> for EngineRef<'a> {
    fn from(engine: &'a Engine) -> EngineRef<'a> {
        EngineRef {
            model: engine.model(),
            reader: engine.reader(),
            preprocessing: engine.preprocessing(),
            limits: engine.limits,
        }
    }
}

impl Engine {
    /// Loads a run, a checkpoint or a weight file.
    ///
    /// # Errors
    /// Files that are missing or do not fit, by name.
    pub fn open(path: &Path, device: Device) -> Result<Engine> {
        Engine::open_in(path, device, Precision::Float32)
    }

    /// As [`Engine::open`], to compute in `precision`.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_in(path: &Path, device: Device, precision: Precision) -> Result<Engine> {
        Engine::new(open_model_in(path, device, precision)?)
    }

    /// # Errors
    /// A card whose numbers contradict each other.
    pub fn new(opened: OpenedModel) -> Result<Engine> {
        let (preprocessing, origin) = (Preprocessing::from_card(&opened.card)?, Origin::of_model(&opened)?);
        let OpenedModel { model, card, pieces, path, checksum: _ } = opened;
        let reader = Arc::new(Reader::new(pieces, &model.config));
        Ok(Engine { model, reader, preprocessing, card, origin, path, limits: Limits::default() })
    }

    pub fn model(&self) -> &MedSt {
        &self.model
    }

    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model is, for readers of a result.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// SHA-256 of the weights: only vectors of models with the same checksum are comparable.
    pub fn checksum(&self) -> &str {
        self.origin.files.values().next().map_or("", String::as_str)
    }

    /// How many threads should compute batches with it at the same time.
    pub fn lanes(&self) -> Lanes {
        Lanes::new(&self.model)
    }

    pub fn preprocessing(&self) -> Preprocessing {
        self.preprocessing
    }

    /// Reads files another way from now on.
    pub fn set_decoding(&mut self, decoding: Decoding) {
        self.preprocessing.decoding = decoding;
    }

    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Embedding width, `D`.
    pub fn width(&self) -> usize {
        EngineRef::from(self).width()
    }

    /// Embeds the pictures of studies.
    ///
    /// # Errors
    /// A picture of another size than the model reads, values that are not finite.
    pub fn images(&self, studies: &[&Views]) -> Result<ImageVectors> {
        let images = EngineRef::from(self).images(studies)?;
        check_finite(images.embeddings.values())?;
        check_finite(images.features.values())?;
        Ok(images)
    }

    /// Embeds texts: `[n, D]` unit vectors.
    ///
    /// # Errors
    /// Values that are not finite, an error of libtorch.
    pub fn texts(&self, texts: &[&Text]) -> Result<Vectors> {
        let vectors = EngineRef::from(self).texts(texts)?;
        check_finite(vectors.values())?;
        Ok(vectors)
    }

    /// As [`EngineRef::align`].
    ///
    /// # Errors
    /// As [`EngineRef::align`].
    pub fn align(&self, studies: &[&Views], texts: &[&Text]) -> Result<Vec<Alignment>> {
        EngineRef::from(self).align(studies, texts)
    }

    /// As [`EngineRef::align_texts`].
    ///
    /// # Errors
    /// As [`EngineRef::align_texts`].
    pub fn align_texts(&self, study: &Views, texts: &[&Text]) -> Result<Vec<Alignment>> {
        EngineRef::from(self).align_texts(study, texts)
    }
}
