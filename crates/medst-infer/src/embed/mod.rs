//! A model in use: embeddings of studies and texts, heat maps of phrases.
//!
//! | file | what |
//! |---|---|
//! | [`heat`] | where a picture resembles a phrase |
//! | [`table`] | Parquet files of embeddings |

pub mod heat;
pub mod table;

use medst_data::corpus::Corpus;
use medst_data::report::{WordPiece, clean};
use medst_data::study::Study;
use tch::{Device, Kind, Tensor};

use crate::model::config::ModelConfig;
use crate::model::input::{ImageInput, ReportInput};
use crate::model::open::OpenedModel;
use crate::model::pictures::{Drawn, image_input};
use crate::model::{MedSt, Mode, ReportEmbeddings};
use crate::{Error, Result};

/// Embeds with a model, in evaluation mode. What comes out for a study or text does not depend on the others of its batch.
#[derive(Clone, Copy)]
pub struct Embedder<'a> {
    pub model: &'a MedSt,
    pub pieces: &'a WordPiece,
}

/// The vectors of some studies, float32 on the CPU. Embeddings are unit vectors.
#[derive(Debug)]
pub struct Embeddings {
    /// `[B, D]`.
    pub images: Tensor,
    /// `[B, H]`: the image encoder's `[CLS]` state before projection, which linear probes are trained on.
    pub features: Tensor,
    /// One row for each study that has a report, in order: `[R, D]`.
    pub reports: Tensor,
}

impl<'a> From<&'a OpenedModel> for Embedder<'a> {
    fn from(opened: &'a OpenedModel) -> Embedder<'a> {
        Embedder { model: &opened.model, pieces: &opened.pieces }
    }
}

/// What a model is given of studies, made on the host: another thread may do it while the model computes.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    config: &'a ModelConfig,
    pieces: &'a WordPiece,
}

/// Pictures and reports of some studies, on the host.
pub struct Given {
    images: ImageInput,
    reports: Option<ReportInput>,
}

impl Given {
    /// The same with pictures [ready](ImageInput::ready_for) for a device.
    #[must_use]
    pub fn ready_for(self, device: Device) -> Given {
        Given { images: self.images.ready_for(device), ..self }
    }
}

impl Reader<'_> {
    /// Pictures of a corpus, cropped in the middle, and reports.
    ///
    /// # Errors
    /// When the corpus' pictures are smaller than the model's input.
    pub fn studies(&self, corpus: &Corpus, studies: &[&Study]) -> Result<Given> {
        let texts: Vec<&str> = studies.iter().filter_map(|study| study.report.as_deref()).collect();
        let reports = (!texts.is_empty()).then(|| self.reports(&texts));
        Ok(Given { images: self.pictures(corpus, studies)?, reports })
    }

    /// Cleaned texts.
    fn reports<S: AsRef<str>>(&self, texts: &[S]) -> ReportInput {
        let window = self.config.text.max_tokens as usize;
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.pieces.encode(text.as_ref(), window)).collect();
        let continues = |id| self.pieces.is_continuation(id);
        ReportInput::new(&tokens, continues, self.pieces.separator(), window as i64, self.config.semantics)
    }

    fn pictures(&self, corpus: &Corpus, studies: &[&Study]) -> Result<ImageInput> {
        let side = self.config.image.size;
        if side > corpus.image_size() as i64 {
            let stored = corpus.image_size();
            return Err(Error::Config(format!(
                "the model reads images of {side} pixels, but the images of the corpus have only {stored}"
            )));
        }
        let (stored, side) = (corpus.image_size(), side as usize);
        let drawn: Vec<Drawn> = studies.iter().map(|study| Drawn::centre(study, stored, side)).collect();
        image_input(corpus, &drawn, side)
    }
}

impl<'a> Embedder<'a> {
    /// What makes this model's input.
    pub fn reader(&self) -> Reader<'a> {
        Reader { config: &self.model.config, pieces: self.pieces }
    }
}

impl Embedder<'_> {
    /// Embeds studies of a corpus, pictures cropped in the middle.
    ///
    /// # Errors
    /// When the corpus' pictures are smaller than the model's input.
    pub fn studies(&self, corpus: &Corpus, studies: &[&Study]) -> Result<Embeddings> {
        Ok(self.begin(&self.reader().studies(corpus, studies)?)?.finish())
    }

    /// Has the device compute, and does not wait for it.
    ///
    /// # Errors
    /// Pictures that are not of the model's size, an error of libtorch.
    pub fn begin(&self, given: &Given) -> Result<Begun> {
        let _guard = tch::no_grad_guard();
        let states = self.model.encode_whole_images(&given.images.to_device(self.model.device()))?;
        let reports = match &given.reports {
            Some(reports) => self.model.embed_whole_reports(&reports.to_device(self.model.device()))?,
            None => Tensor::zeros([0, self.model.config.projection.embedding], (Kind::Float, Device::Cpu)),
        };
        Ok(Begun(Embeddings { images: self.model.project_image(&states, Mode::Evaluate), features: states, reports }))
    }

    /// Embeds texts: `[n, D]` unit vectors on the CPU. Case and punctuation do not matter, as in cleaned reports.
    ///
    /// # Errors
    /// Names a text without words.
    pub fn texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let cleaned = words_of(texts)?;
        if cleaned.is_empty() {
            return Ok(Tensor::zeros([0, self.model.config.projection.embedding], (Kind::Float, Device::Cpu)));
        }
        let input = self.reader().reports(&cleaned).to_device(self.model.device());
        Ok(host(&self.model.embed_whole_reports(&input)?))
    }

    /// Reports and each of their words.
    fn read<S: AsRef<str>>(&self, texts: &[S]) -> Result<ReportEmbeddings> {
        let input = self.reader().reports(texts);
        self.model.embed_reports(&input.to_device(self.model.device()), Mode::Evaluate)
    }

    fn pictures(&self, corpus: &Corpus, studies: &[&Study]) -> Result<ImageInput> {
        Ok(self.reader().pictures(corpus, studies)?.to_device(self.model.device()))
    }
}

/// Embeddings that a device may still be computing.
pub struct Begun(Embeddings);

impl Begun {
    /// Waits for them.
    pub fn finish(self) -> Embeddings {
        let Embeddings { images, features, reports } = self.0;
        Embeddings { images: host(&images), features: host(&features), reports: host(&reports) }
    }
}

/// Refuses what would be printed or indexed as NaN.
///
/// # Errors
/// A number that is not finite.
pub(crate) fn check_finite(values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::Evaluation("the model gives values that are not finite; its weights may be damaged".into()))
}

/// Texts in the words of cleaned reports.
fn words_of<S: AsRef<str>>(texts: &[S]) -> Result<Vec<String>> {
    texts
        .iter()
        .map(|text| match clean::query(text.as_ref()) {
            words if words.is_empty() => Err(Error::Evaluation(format!("the text “{}” has no words", text.as_ref()))),
            words => Ok(words),
        })
        .collect()
}

fn host(x: &Tensor) -> Tensor {
    x.to_device(Device::Cpu).to_kind(Kind::Float).contiguous()
}
