//! Decoded studies and texts in, vectors out: what the engine computes, on a model that is
//! borrowed.
//!
//! An [`Engine`](super::Engine) owns its model; training evaluates the model that it trains. Both
//! compute through an [`EngineRef`], in batches within [`Limits`]. What comes out for an input does
//! not depend on the others of its batch (but for the last bits of float32): `tests/inference.rs`
//! holds it to that.
//!
//! Letters: `B` studies, `S` side in pixels, `D` embedding width, `H` encoder width.

use tch::{Device, Kind, Tensor};

use super::batch::{self, Limits};
use super::preprocessing::{Preprocessing, Radiograph, Views};
use super::text::{Reader, Text};
use super::vectors::Vectors;
use crate::model::input::{ImageInput, ReportInput};
use crate::model::view_experts::View;
use crate::model::{MedSt, Mode};
use crate::{Error, Result};

/// A model in use that something else owns.
#[derive(Clone, Copy)]
pub struct EngineRef<'a> {
    pub model: &'a MedSt,
    pub reader: &'a Reader,
    pub preprocessing: Preprocessing,
    pub limits: Limits,
}

// SAFETY: as for [`Engine`]: what is computed only reads the model's tensors. While an `EngineRef`
// is alive the model is borrowed, and the owner's thread computes with it or waits for the threads
// that do.
unsafe impl Send for EngineRef<'_> {}
unsafe impl Sync for EngineRef<'_> {}

/// The image side of `B` studies.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageVectors {
    /// `[B, D]`, unit vectors.
    pub embeddings: Vectors,
    /// `[B, H]`: the image encoder's `[CLS]` state before projection.
    pub features: Vectors,
}

/// What is computed together, and the rows of its inputs among all that were given.
pub(super) struct Group<T> {
    pub rows: Vec<usize>,
    pub content: T,
}

/// Pictures of studies with a frontal view, or lateral views alone (in place of the frontal ones).
pub(super) struct Pictures {
    pub input: ImageInput,
    pub lateral_alone: bool,
}

/// Batches on the host: another thread may make them while the model computes.
pub(super) struct Prepared {
    images: Vec<Group<Pictures>>,
    texts: Vec<Group<ReportInput>>,
}

/// Vectors that the device may still be computing.
#[derive(Default)]
pub(super) struct Begun {
    /// `[B, D]` and `[B, H]` of each group.
    images: Vec<Group<[Tensor; 2]>>,
    /// `[B, D]` of each group.
    texts: Vec<Group<Tensor>>,
}

impl<'a> EngineRef<'a> {
    /// A model that its owner goes on to use, for pictures of corpora (which have the size that it
    /// was trained with).
    pub fn new(model: &'a MedSt, reader: &'a Reader) -> EngineRef<'a> {
        let preprocessing = Preprocessing::of_corpora(model.config.image.size as usize);
        EngineRef { model, reader, preprocessing, limits: Limits::default() }
    }

    /// Embedding width, `D`.
    pub fn width(&self) -> usize {
        self.model.config.projection.embedding as usize
    }

    /// Encoder width, `H`.
    pub fn feature_width(&self) -> usize {
        self.model.config.image.hidden_size as usize
    }

    /// Embeds the pictures of studies. Values may not be finite where weights are damaged.
    ///
    /// # Errors
    /// A picture of another size than the model reads.
    pub fn images(&self, studies: &[&Views]) -> Result<ImageVectors> {
        let mut begun = Begun::default();
        for group in self.image_groups(studies) {
            begun.images.push(self.begin_images(group?)?);
        }
        Ok(self.finish(begun)?.0)
    }

    /// Embeds texts: `[n, D]` unit vectors. Values may not be finite where weights are damaged.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn texts(&self, texts: &[&Text]) -> Result<Vectors> {
        let mut begun = Begun::default();
        for group in self.text_groups(texts) {
            begun.texts.push(self.begin_texts(group)?);
        }
        Ok(self.finish(begun)?.1)
    }

    /// Puts inputs into batches, where they are quickly sent to the model's device from.
    ///
    /// # Errors
    /// As [`EngineRef::images`].
    pub(super) fn prepare(&self, studies: &[&Views], texts: &[&Text]) -> Result<Prepared> {
        let device = self.model.device();
        let ready = |group: Result<Group<Pictures>>| -> Result<Group<Pictures>> {
            let Group { rows, content } = group?;
            Ok(Group { rows, content: Pictures { input: content.input.ready_for(device), ..content } })
        };
        let images = self.image_groups(studies).map(ready).collect::<Result<_>>()?;
        Ok(Prepared { images, texts: self.text_groups(texts).collect() })
    }

    /// Has the device compute, and does not wait for it.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(super) fn begin(&self, prepared: Prepared) -> Result<Begun> {
        Ok(Begun {
            images: prepared.images.into_iter().map(|group| self.begin_images(group)).collect::<Result<_>>()?,
            texts: prepared.texts.into_iter().map(|group| self.begin_texts(group)).collect::<Result<_>>()?,
        })
    }

    /// Waits for vectors: of the studies, and of the texts.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(super) fn finish(&self, begun: Begun) -> Result<(ImageVectors, Vectors)> {
        let studies = begun.images.iter().map(|group| group.rows.len()).sum::<usize>();
        let texts = begun.texts.iter().map(|group| group.rows.len()).sum::<usize>();
        let (width, feature_width) = (self.width(), self.feature_width());
        let mut embeddings = vec![0.0; studies * width];
        let mut features = vec![0.0; studies * feature_width];
        for Group { rows, content: [embedded, states] } in &begun.images {
            scatter(embedded, rows, width, &mut embeddings)?;
            scatter(states, rows, feature_width, &mut features)?;
        }
        let mut of_texts = vec![0.0; texts * width];
        for Group { rows, content } in &begun.texts {
            scatter(content, rows, width, &mut of_texts)?;
        }
        let images = ImageVectors {
            embeddings: Vectors::new(embeddings, width)?,
            features: Vectors::new(features, feature_width)?,
        };
        Ok((images, Vectors::new(of_texts, width)?))
    }

    fn begin_images(&self, group: Group<Pictures>) -> Result<Group<[Tensor; 2]>> {
        let _guard = tch::no_grad_guard();
        let input = group.content.input.to_device(self.model.device());
        let states = match group.content.lateral_alone {
            false => self.model.encode_whole_images(&input)?,
            true => self.model.image_encoder.class_states_single(&input.frontal, View::Lateral),
        };
        Ok(Group { rows: group.rows, content: [self.model.project_image(&states, Mode::Evaluate), states] })
    }

    fn begin_texts(&self, group: Group<ReportInput>) -> Result<Group<Tensor>> {
        let _guard = tch::no_grad_guard();
        let input = group.content.to_device(self.model.device());
        Ok(Group { rows: group.rows, content: self.model.embed_whole_reports(&input)? })
    }

    /// Pictures that are computed together: at most so many, and lateral views alone among
    /// themselves.
    pub(super) fn image_groups(&self, studies: &[&Views]) -> impl Iterator<Item = Result<Group<Pictures>>> {
        let is_lateral = |row: &usize| matches!(studies[*row], Views::Lateral(_));
        let (lateral, frontal): (Vec<usize>, Vec<usize>) = (0..studies.len()).partition(is_lateral);
        let groups = [frontal, lateral].into_iter().flat_map(move |rows| {
            let costs: Vec<usize> = rows.iter().map(|&row| studies[row].count()).collect();
            let groups = batch::by_cost(&costs, self.limits.images);
            groups.into_iter().map(move |numbers| numbers.iter().map(|&n| rows[n]).collect::<Vec<usize>>())
        });
        groups.map(move |rows| {
            let group: Vec<&Views> = rows.iter().map(|&row| studies[row]).collect();
            Ok(Group { content: self.pictures(&group)?, rows })
        })
    }

    fn text_groups(&self, texts: &[&Text]) -> impl Iterator<Item = Group<ReportInput>> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        batch::by_tokens(&lengths, self.limits.tokens).into_iter().map(move |rows| {
            let group: Vec<&Text> = rows.iter().map(|&row| texts[row]).collect();
            Group { content: self.reader.input(&group), rows }
        })
    }

    fn pictures(&self, studies: &[&Views]) -> Result<Pictures> {
        let (mut first, mut lateral, mut lateral_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (row, views) in studies.iter().enumerate() {
            match views {
                Views::Frontal(picture) | Views::Lateral(picture) => first.push(picture),
                Views::Both { frontal: picture, lateral: other } => {
                    first.push(picture);
                    lateral.push(other);
                    lateral_rows.push(row as i64);
                }
            }
        }
        let input = ImageInput { frontal: self.pixels(&first)?, lateral: self.pixels(&lateral)?, lateral_rows };
        Ok(Pictures { input, lateral_alone: matches!(studies, [Views::Lateral(_), ..]) })
    }

    /// `[n, S, S]` uint8.
    fn pixels(&self, pictures: &[&Radiograph]) -> Result<Tensor> {
        let side = self.preprocessing.side();
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

/// Refuses what would be printed or indexed as NaN.
///
/// # Errors
/// A number that is not finite.
pub(super) fn check_finite(values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::Evaluation("the model gives values that are not finite; its weights may be damaged".into()))
}

/// All values of a tensor as float32 on the host.
pub(super) fn host_values(x: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::<f32>::try_from(x.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]))?)
}

/// Copies the rows of a group to where they belong.
fn scatter(values: &Tensor, rows: &[usize], width: usize, target: &mut [f32]) -> Result<()> {
    for (values, &row) in host_values(values)?.chunks_exact(width).zip(rows) {
        target[row * width..(row + 1) * width].copy_from_slice(values);
    }
    Ok(())
}
