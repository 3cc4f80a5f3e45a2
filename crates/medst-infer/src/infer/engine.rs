//! The inference engine: a model that is loaded once; it is independent of files, requests and
//! commands.
//!
//! Decoded studies and texts come in, vectors go out, computed in batches within [`Limits`]. What comes out for an input
//! does not depend on the others of its batch (but for the last bits of float32): `tests/inference.rs` holds it to that.
//!
//! Letters: `B` studies, `L` lateral views, `S` side in pixels, `P` patches per view, `W` words,
//! `D` embedding width, `H` encoder width.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use medst_data::image::Decoding;
use tch::{Device, Kind, Tensor};

use super::align::{Aligned, Alignment, PatchGrid};
use super::batch;
use super::sight::{Radiograph, Sight, Views};
use super::text::{Reader, Text};
use crate::device::send;
use crate::embed::{Embedder, check_finite};
use crate::eval::Vectors;
use crate::eval::encode::Origin;
use crate::model::card::ModelCard;
use crate::model::input::ImageInput;
use crate::model::lanes::Lanes;
use crate::model::open::{OpenedModel, open_model};
use crate::model::view_experts::View;
use crate::model::vit::ImageFeatures;
use crate::model::{MedSt, Mode};
use crate::{Error, Result};

/// How much is computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pictures, laterals counted.
    pub images: usize,
    /// Tokens, padding counted.
    pub tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { images: 16, tokens: 2048 }
    }
}

/// A model in use.
pub struct Engine {
    model: MedSt,
    reader: Arc<Reader>,
    sight: Sight,
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

/// The image side of `B` studies.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageVectors {
    /// `[B, D]`, unit vectors.
    pub embeddings: Vectors,
    /// `[B, H]`: the image encoder's `[CLS]` state before projection.
    pub features: Vectors,
}

impl Engine {
    /// Loads a run, a checkpoint or a weight file.
    ///
    /// # Errors
    /// Files that are missing or do not fit, by name.
    pub fn open(path: &Path, device: Device) -> Result<Engine> {
        Engine::new(open_model(path, device)?)
    }

    /// # Errors
    /// Weights that cannot be read again for their checksum; a card whose numbers contradict each other.
    pub fn new(opened: OpenedModel) -> Result<Engine> {
        let (sight, origin) = (Sight::of(&opened.card)?, Origin::of_model(&opened)?);
        let OpenedModel { model, card, pieces, path, checksum: _ } = opened;
        let reader = Arc::new(Reader::new(pieces, &model.config));
        Ok(Engine { model, reader, sight, card, origin, path, limits: Limits::default() })
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
        Lanes::of(&self.model)
    }

    pub fn sight(&self) -> Sight {
        self.sight
    }

    /// Reads files another way from now on.
    pub fn set_decoding(&mut self, decoding: Decoding) {
        self.sight.decoding = decoding;
    }

    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Embedding width, `D`.
    pub fn width(&self) -> usize {
        self.model.config.projection.embedding as usize
    }

    /// The embedder of corpora with the same model.
    pub fn embedder(&self) -> Embedder<'_> {
        Embedder { model: &self.model, pieces: self.reader.pieces() }
    }

    /// Embeds the pictures of studies.
    ///
    /// # Errors
    /// A picture of another size than the model reads.
    pub fn images(&self, studies: &[&Views]) -> Result<ImageVectors> {
        let _guard = tch::no_grad_guard();
        let width = self.model.config.image.hidden_size as usize;
        let mut embeddings = vec![0.0; studies.len() * self.width()];
        let mut features = vec![0.0; studies.len() * width];
        for group in groups(studies, self.limits.images) {
            let own: Vec<&Views> = group.iter().map(|&n| studies[n]).collect();
            let state = self.whole_states(&own)?;
            scatter(&self.model.project_image(&state, Mode::Evaluate), &group, self.width(), &mut embeddings)?;
            scatter(&state, &group, width, &mut features)?;
        }
        Ok(ImageVectors {
            embeddings: Vectors::new(embeddings, self.width())?,
            features: Vectors::new(features, width)?,
        })
    }

    /// Embeds texts: `[n, D]` unit vectors.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn texts(&self, texts: &[&Text]) -> Result<Vectors> {
        let _guard = tch::no_grad_guard();
        let mut values = vec![0.0; texts.len() * self.width()];
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        for group in batch::by_tokens(&lengths, self.limits.tokens) {
            let own: Vec<&Text> = group.iter().map(|&n| texts[n]).collect();
            let input = self.reader.input(&own).to_device(self.model.device());
            scatter(&self.model.embed_whole_reports(&input)?, &group, self.width(), &mut values)?;
        }
        Vectors::new(values, self.width())
    }

    /// Aligns the words of texts with the patches of studies' pictures, one text per study (paper,
    /// section 3.3).
    ///
    /// # Errors
    /// As [`Engine::images`]; as many texts as studies are expected.
    pub fn align(&self, studies: &[&Views], texts: &[&Text]) -> Result<Vec<Alignment>> {
        if studies.len() != texts.len() {
            return Err(Error::Input(format!("got {} texts for {} studies", texts.len(), studies.len())));
        }
        let _guard = tch::no_grad_guard();
        let config = &self.model.config.image;
        let grid = PatchGrid { side: (config.size / config.patch) as usize, pixels: config.size as usize };
        let mut aligned: Vec<Option<Alignment>> = studies.iter().map(|_| None).collect();
        self.in_batches(studies, |group, patches| {
            let own: Vec<&Text> = group.iter().map(|&n| texts[n]).collect();
            let input = self.reader.input(&own).to_device(self.model.device());
            let reports = self.model.embed_reports(&input, Mode::Evaluate)?;
            for (place, &n) in group.iter().enumerate() {
                let count = input.word_counts[place];
                let words = reports.words.get(place as i64).narrow(0, 0, count);
                let (model, patches) = (&self.model, &patches[place]);
                let matrix = Aligned { model, words: &words, patches };
                aligned[n] = Some(matrix.alignment(self.reader.spelled(texts[n], count as usize), studies[n], grid)?);
            }
            Ok(())
        })?;
        Ok(aligned.into_iter().flatten().collect())
    }

    /// As [`Engine::align`], many texts with the pictures of one study, which are encoded once.
    ///
    /// # Errors
    /// As [`Engine::images`].
    pub fn align_texts(&self, study: &Views, texts: &[&Text]) -> Result<Vec<Alignment>> {
        let _guard = tch::no_grad_guard();
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let mut aligned: Vec<Option<Alignment>> = texts.iter().map(|_| None).collect();
        self.in_batches(&[study], |_, patches| {
            for group in batch::by_tokens(&lengths, self.limits.tokens) {
                let own: Vec<&Text> = group.iter().map(|&n| texts[n]).collect();
                for (&n, alignment) in group.iter().zip(self.align_encoded(study, &patches[0], &own)?) {
                    aligned[n] = Some(alignment);
                }
            }
            Ok(())
        })?;
        Ok(aligned.into_iter().flatten().collect())
    }

    /// Texts with the patches `[K, D]` of one study.
    fn align_encoded(&self, study: &Views, patches: &Tensor, texts: &[&Text]) -> Result<Vec<Alignment>> {
        let config = &self.model.config.image;
        let grid = PatchGrid { side: (config.size / config.patch) as usize, pixels: config.size as usize };
        let input = self.reader.input(texts).to_device(self.model.device());
        let reports = self.model.embed_reports(&input, Mode::Evaluate)?;
        let one = |(place, text): (usize, &&Text)| {
            let count = input.word_counts[place];
            let words = reports.words.get(place as i64).narrow(0, 0, count);
            let matrix = Aligned { model: &self.model, words: &words, patches };
            matrix.alignment(self.reader.spelled(text, count as usize), study, grid)
        };
        texts.iter().enumerate().map(one).collect()
    }

    /// Encodes groups of studies; `visit` gets the numbers of a group and its patches' embeddings.
    fn in_batches(&self, studies: &[&Views], mut visit: impl FnMut(&[usize], &[Tensor]) -> Result<()>) -> Result<()> {
        for group in groups(studies, self.limits.images) {
            let own: Vec<&Views> = group.iter().map(|&n| studies[n]).collect();
            visit(&group, &self.patches(&own)?)?;
        }
        Ok(())
    }

    /// The patches' embeddings of one batch, for each study `[P or 2P, D]`: frontal ones, then lateral ones. Studies with a frontal view, or
    /// lateral views alone.
    fn patches(&self, studies: &[&Views]) -> Result<Vec<Tensor>> {
        let images = self.model.project_images(self.states(studies)?, Mode::Evaluate)?;
        let mut patches: Vec<Tensor> = (0..studies.len() as i64).map(|row| images.frontal_patches.get(row)).collect();
        for (place, row) in images.features.lateral_rows.iter().enumerate() {
            // Reference semantics gives patches of views that are not there.
            if matches!(studies[*row as usize], Views::Both { .. }) {
                let own = &mut patches[*row as usize];
                *own = Tensor::cat(&[own.shallow_clone(), images.lateral_patches.get(place as i64)], 0);
            }
        }
        Ok(patches)
    }

    /// The encoder's states of one batch.
    fn states(&self, studies: &[&Views]) -> Result<ImageFeatures> {
        Ok(match self.input(studies)? {
            Pictures::Studies(input) => self.model.encode_images(&input)?,
            Pictures::Laterals(pixels) => {
                let (image, patches) = self.model.image_encoder.forward_single(&pixels, View::Lateral);
                let none = patches.narrow(0, 0, 0);
                ImageFeatures { image, frontal_patches: patches, lateral_patches: none, lateral_rows: Vec::new() }
            }
        })
    }

    /// As [`Engine::states`], `[CLS]` alone, `[B, H]`.
    fn whole_states(&self, studies: &[&Views]) -> Result<Tensor> {
        match self.input(studies)? {
            Pictures::Studies(input) => self.model.encode_whole_images(&input),
            Pictures::Laterals(pixels) => Ok(self.model.image_encoder.class_states_single(&pixels, View::Lateral)),
        }
    }

    /// One batch on the device.
    fn input(&self, studies: &[&Views]) -> Result<Pictures> {
        let (mut frontal, mut lateral, mut single, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (row, views) in studies.iter().enumerate() {
            match views {
                Views::Frontal(own) => frontal.push(own),
                Views::Lateral(own) => single.push(own),
                Views::Both { frontal: own, lateral: other } => {
                    frontal.push(own);
                    lateral.push(other);
                    rows.push(row as i64);
                }
            }
        }
        let device = self.model.device();
        if !single.is_empty() {
            return Ok(Pictures::Laterals(send(&self.pixels(&single)?, device)));
        }
        let input = ImageInput { frontal: self.pixels(&frontal)?, lateral: self.pixels(&lateral)?, lateral_rows: rows };
        Ok(Pictures::Studies(input.to_device(device)))
    }

    /// `[n, S, S]` uint8.
    fn pixels(&self, pictures: &[&Radiograph]) -> Result<Tensor> {
        let side = self.sight.side();
        let mut all = Vec::with_capacity(pictures.len() * side * side);
        for picture in pictures {
            if picture.side() != side {
                let found = picture.side();
                return Err(Error::Input(format!("the model reads images of {side} pixels, not {found}")));
            }
            all.extend_from_slice(picture.pixels());
        }
        let shape = [pictures.len() as i64, side as i64, side as i64];
        Ok(Tensor::from_data_size(&all, &shape, Kind::Uint8))
    }
}

/// Pictures that are encoded together.
enum Pictures {
    /// Of studies with a frontal view.
    Studies(ImageInput),
    /// Lateral views alone, `[B, S, S]` uint8.
    Laterals(Tensor),
}

/// Groups of studies, by number, that are computed together: at most so many pictures, and lateral views alone among themselves.
fn groups(studies: &[&Views], pictures: usize) -> Vec<Vec<usize>> {
    let alone = |n: &usize| matches!(studies[*n], Views::Lateral(_));
    let (lateral, frontal): (Vec<usize>, Vec<usize>) = (0..studies.len()).partition(alone);
    let of_kind = |numbers: Vec<usize>| {
        let costs: Vec<usize> = numbers.iter().map(|&n| studies[n].count()).collect();
        let groups = batch::by_cost(&costs, pictures);
        groups.into_iter().map(move |places| places.iter().map(|&place| numbers[place]).collect())
    };
    of_kind(frontal).chain(of_kind(lateral)).collect()
}

/// Copies rows of a batch to their places.
fn scatter(rows: &Tensor, places: &[usize], width: usize, target: &mut [f32]) -> Result<()> {
    let values = rows.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    let values = Vec::<f32>::try_from(values)?;
    check_finite(&values)?;
    for (row, &place) in values.chunks_exact(width).zip(places) {
        target[place * width..(place + 1) * width].copy_from_slice(row);
    }
    Ok(())
}
