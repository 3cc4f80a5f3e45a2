//! Heat maps: where a picture resembles a phrase.
//!
//! The cosine of every patch's embedding and every word's, averaged over the words (the similarity that the local loss
//! compares; paper, section 3.3), on the patch grid, then bilinear between patch centres.

use medst_data::corpus::Corpus;
use medst_data::study::Study;
use tch::{Kind, Tensor};

use super::{Embedder, host, words_of};
use crate::Result;
use crate::model::Mode;

/// A square map, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// In pixels of the model's input.
    pub side: usize,
    /// Mean cosines, -1 to 1.
    pub values: Vec<f32>,
}

impl Embedder<'_> {
    /// Heat maps of phrases in the frontal pictures of studies, one phrase a study.
    ///
    /// # Errors
    /// A phrase without words; pictures smaller than the model's input.
    pub fn heat_maps<S: AsRef<str>>(&self, corpus: &Corpus, studies: &[&Study], phrases: &[S]) -> Result<Vec<HeatMap>> {
        let _guard = tch::no_grad_guard();
        if studies.is_empty() {
            return Ok(Vec::new());
        }
        let images = self.model.embed_images(&self.pictures(corpus, studies)?, Mode::Evaluate)?;
        let reports = self.read(&words_of(phrases)?)?;
        let exists = reports.word_exists.to_kind(Kind::Float).unsqueeze(2);
        let count = exists.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).clamp_min(1.0);
        // The mean of cosines is the product with the mean of the unit vectors.
        let mean = (&reports.words * &exists).sum_dim_intlist([1i64].as_slice(), false, Kind::Float) / count;
        let patches = images.frontal_patches.bmm(&mean.unsqueeze(2)).squeeze_dim(2);
        let config = &self.model.config.image;
        let (grid, side) = (config.size / config.patch, config.size);
        let maps = patches.view([-1, 1, grid, grid]).upsample_bilinear2d([side, side], false, None, None);
        let map = |map: Tensor| -> Result<HeatMap> {
            Ok(HeatMap { side: side as usize, values: Vec::<f32>::try_from(host(&map).view([-1]))? })
        };
        maps.unbind(0).into_iter().map(map).collect()
    }
}
