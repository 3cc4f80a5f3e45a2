//! Heat maps: where a picture resembles a phrase.
//!
//! The cosine of every patch's embedding and every word's, averaged over the words (the similarity that the local loss
//! compares; paper, section 3.3), on the patch grid, then bilinear between patch centres.

use medst_data::corpus::Corpus;
use medst_data::study::Study;
use tch::Tensor;

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

/// What of a phrase the patches are compared with, and what is done to the map before it is drawn in the size of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Likeness {
    pub query: Query,
    /// A Gaussian of 1.5 patches over the patch grid, as BioViL smooths.
    pub smooth: bool,
}

/// The side of a phrase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// Its words, each against the local embeddings of the patches, as the local loss compares them.
    #[default]
    Words,
    /// Its embedding as a whole, against the patches' states in the projection of whole images (BioViL has one projection for both).
    Sentence,
}

impl Embedder<'_> {
    /// Heat maps of phrases in the frontal pictures of studies, one phrase per study.
    ///
    /// # Errors
    /// A phrase without words; pictures smaller than the model's input.
    pub fn heat_maps<S: AsRef<str>>(&self, corpus: &Corpus, studies: &[&Study], phrases: &[S]) -> Result<Vec<HeatMap>> {
        let mut all = self.heat_maps_by(corpus, studies, phrases, &[Likeness::default()])?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Heat maps by each of several likenesses: for each a map of every study.
    ///
    /// # Errors
    /// As [`Embedder::heat_maps`].
    pub fn heat_maps_by<S: AsRef<str>>(
        &self,
        corpus: &Corpus,
        studies: &[&Study],
        phrases: &[S],
        likenesses: &[Likeness],
    ) -> Result<Vec<Vec<HeatMap>>> {
        let _guard = tch::no_grad_guard();
        if studies.is_empty() {
            return Ok(vec![Vec::new(); likenesses.len()]);
        }
        let images = self.model.embed_images(&self.pictures(corpus, studies)?, Mode::Evaluate)?;
        let reports = self.read(&words_of(phrases)?)?;
        let config = &self.model.config.image;
        let (grid, side) = (config.size / config.patch, config.size);
        let cosines = |query: Query| match query {
            Query::Words => images.frontal_patches.bmm(&reports.mean_words().unsqueeze(2)).squeeze_dim(2),
            Query::Sentence => {
                let states = &images.features.frontal_patches;
                let (studies, patches) = (states.size()[0], states.size()[1]);
                let rows = states.reshape([studies * patches, -1]);
                let patches = self.model.project_image(&rows, Mode::Evaluate).view([studies, patches, -1]);
                patches.bmm(&reports.global.unsqueeze(2)).squeeze_dim(2)
            }
        };
        let maps_of = |likeness: &Likeness| -> Result<Vec<HeatMap>> {
            let mut map = cosines(likeness.query).view([-1, grid, grid]);
            if likeness.smooth {
                let blur = Tensor::from_slice(&blur(grid as usize)).view([grid, grid]).to_device(map.device());
                map = blur.matmul(&map).matmul(&blur.tr());
            }
            let maps = map.unsqueeze(1).upsample_bilinear2d([side, side], false, None, None);
            let map = |map: Tensor| -> Result<HeatMap> {
                Ok(HeatMap { side: side as usize, values: Vec::<f32>::try_from(host(&map).view([-1]))? })
            };
            maps.unbind(0).into_iter().map(map).collect()
        };
        likenesses.iter().map(maps_of).collect()
    }
}

/// `[side, side]`, row by row: a Gaussian of 1.5 places along one axis, cut off at four deviations, the places beyond an edge mirrored
/// (`scipy.ndimage.gaussian_filter`).
fn blur(side: usize) -> Vec<f32> {
    let deviation = 1.5f64;
    let reach = (4.0 * deviation + 0.5) as i64;
    let weight = |away: i64| (-0.5 * (away as f64 / deviation).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let mut matrix = vec![0.0f64; side * side];
    for place in 0..side as i64 {
        for away in -reach..=reach {
            let other = (place + away).rem_euclid(2 * side as i64);
            let other = other.min(2 * side as i64 - 1 - other);
            matrix[(place * side as i64 + other) as usize] += weight(away) / total;
        }
    }
    matrix.into_iter().map(|x| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blur_is_scipys() {
        // gaussian_filter(m, 1.5) of 5 × 5 zeros with a one at row 1, column 3; the places (0, 4), (1, 3) and (4, 0).
        let blur = blur(5);
        let at = |row: usize, column: usize| f64::from(blur[row * 5 + 1]) * f64::from(blur[column * 5 + 3]);
        for (found, expected) in
            [(at(0, 4), 0.103_882_900_353_388), (at(1, 3), 0.091_178_999_275_333), (at(4, 0), 0.001_908_027_257_113)]
        {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }
}
