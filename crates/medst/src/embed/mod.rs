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
use tch::{Kind, Tensor};

use crate::model::input::{ImageInput, ReportInput};
use crate::model::{MedSt, Mode, ReportEmbeddings};
use crate::train::checkpoint::OpenedModel;
use crate::train::dataset::{Drawn, image_input};
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

impl OpenedModel {
    pub fn embedder(&self) -> Embedder<'_> {
        Embedder { model: &self.model, pieces: &self.pieces }
    }
}

impl Embedder<'_> {
    /// Embeds studies of a corpus, pictures cropped in the middle.
    ///
    /// # Errors
    /// When the corpus' pictures are smaller than the model's input.
    pub fn studies(&self, corpus: &Corpus, studies: &[&Study]) -> Result<Embeddings> {
        let _guard = tch::no_grad_guard();
        let images = self.model.embed_images(&self.pictures(corpus, studies)?, Mode::Evaluate)?;
        let texts: Vec<&str> = studies.iter().filter_map(|study| study.report.as_deref()).collect();
        Ok(Embeddings {
            images: host(&images.global),
            features: host(&images.features.image),
            reports: self.reports(&texts)?,
        })
    }

    /// Embeds texts: `[n, D]` unit vectors on the CPU. Case and punctuation do not matter, as in cleaned reports.
    ///
    /// # Errors
    /// Names a text without words.
    pub fn texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let cleaned = words_of(texts)?;
        self.reports(&cleaned)
    }

    /// Cleaned texts.
    fn reports<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        if texts.is_empty() {
            return Ok(Tensor::zeros([0, self.model.config.projection.embedding], (Kind::Float, tch::Device::Cpu)));
        }
        Ok(host(&self.read(texts)?.global))
    }

    fn read<S: AsRef<str>>(&self, texts: &[S]) -> Result<ReportEmbeddings> {
        let (config, pieces) = (&self.model.config, self.pieces);
        let window = config.text.max_tokens as usize;
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| pieces.encode(text.as_ref(), window)).collect();
        let continues = |id| pieces.is_continuation(id);
        let input = ReportInput::new(&tokens, continues, pieces.separator(), window as i64, config.report_rules());
        self.model.embed_reports(&input.to_device(self.model.device()), Mode::Evaluate)
    }

    /// What the model sees of studies.
    fn pictures(&self, corpus: &Corpus, studies: &[&Study]) -> Result<ImageInput> {
        let side = self.model.config.image.size;
        if side > corpus.image_size() as i64 {
            let stored = corpus.image_size();
            return Err(Error::Config(format!("the model reads {side} pixels, the corpus holds pictures of {stored}")));
        }
        let draw = |_: usize, study: &Study, stored: usize, side: usize| Drawn::centre(study, stored, side);
        Ok(image_input(corpus, studies, side as usize, draw)?.to_device(self.model.device()))
    }
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
    x.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous()
}
