//! Heat maps: where a picture resembles a text.
//!
//! The cosine of every patch's embedding and every word's, averaged over the words (the similarity
//! that the local loss compares; paper, section 3.3), on the patch grid, then bilinear between
//! patch centres.

use serde::Serialize;
use tch::Tensor;

use super::forward::{EngineRef, host_values};
use super::preprocessing::Views;
use super::text::Text;
use crate::model::Mode;
use crate::{Error, Result};

/// Deviation of the smoothing, in patches; as BioViL's.
const DEVIATION: f64 = 1.5;

/// The grid of patches of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PatchGrid {
    /// Patches per row and per column.
    pub side: usize,
    /// Side in pixels of what the model reads.
    pub pixels: usize,
}

/// A square map, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// In pixels of the model's input.
    pub side: usize,
    /// Mean cosines, -1 to 1.
    pub values: Vec<f32>,
}

/// What of a text the patches are compared with, and what is done to the map before it is drawn in
/// the size of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Likeness {
    pub query: Query,
    /// A Gaussian of 1.5 patches over the patch grid, as BioViL smooths.
    pub smooth: bool,
}

/// The side of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// Its words, each against the local embeddings of the patches, as the local loss compares
    /// them.
    #[default]
    Words,
    /// Its embedding as a whole, against the patches' states in the projection of whole images
    /// (BioViL has one projection for both).
    Sentence,
}

impl HeatMap {
    /// * `cells`: values of the patches, row by row.
    pub fn from_cells(cells: &[f32], grid: PatchGrid) -> HeatMap {
        HeatMap { side: grid.pixels, values: enlarge(cells, grid.side, grid.pixels) }
    }
}

impl EngineRef<'_> {
    pub(super) fn grid(&self) -> PatchGrid {
        let config = &self.model.config.image;
        PatchGrid { side: (config.size / config.patch) as usize, pixels: config.size as usize }
    }

    /// Heat maps of texts in the first views of studies (the frontal one where there is one), one
    /// text per study: for each likeness a map of every study.
    ///
    /// # Errors
    /// A picture of another size than the model reads; as many texts as studies are expected.
    pub fn heat_maps(&self, studies: &[&Views], texts: &[&Text], likenesses: &[Likeness]) -> Result<Vec<Vec<HeatMap>>> {
        if studies.len() != texts.len() {
            return Err(Error::Input(format!("got {} texts for {} studies", texts.len(), studies.len())));
        }
        let _guard = tch::no_grad_guard();
        let grid = self.grid();
        let patches = grid.side * grid.side;
        let blank = HeatMap { side: 0, values: Vec::new() };
        let mut maps = vec![vec![blank; studies.len()]; likenesses.len()];
        for group in self.image_groups(studies) {
            let group = group?;
            let images = self.model.project_images(self.states(&group.content)?, Mode::Evaluate)?;
            let group_texts: Vec<&Text> = group.rows.iter().map(|&row| texts[row]).collect();
            let input = self.reader.input(&group_texts).to_device(self.model.device());
            let reports = self.model.embed_reports(&input, Mode::Evaluate)?;
            // `[n, P]`.
            let cosines = |query: Query| -> Result<Vec<f32>> {
                let (patches, text) = match query {
                    Query::Words => (images.frontal_patches.shallow_clone(), reports.mean_words()),
                    Query::Sentence => {
                        let states = &images.features.frontal_patches;
                        let (studies, patches, width) = states.size3()?;
                        let rows = states.reshape([studies * patches, width]);
                        let projected = self.model.project_image(&rows, Mode::Evaluate);
                        (projected.view([studies, patches, -1]), reports.global.shallow_clone())
                    }
                };
                host_values(&patches.bmm(&text.unsqueeze(2)).squeeze_dim(2))
            };
            for (maps, likeness) in maps.iter_mut().zip(likenesses) {
                let cells = cosines(likeness.query)?;
                for (cells, &row) in cells.chunks_exact(patches).zip(&group.rows) {
                    maps[row] = match likeness.smooth {
                        false => HeatMap::from_cells(cells, grid),
                        true => HeatMap::from_cells(&blurred(cells, grid.side), grid),
                    };
                }
            }
        }
        Ok(maps)
    }
}

/// Bilinear between the centres of cells, as libtorch does it (`align_corners` false):
/// `[side, side]` to `[pixels, pixels]`.
fn enlarge(cells: &[f32], side: usize, pixels: usize) -> Vec<f32> {
    let scale = side as f32 / pixels as f32;
    let neighbours = |n: usize| {
        let at = ((n as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (at as usize).min(side - 1);
        (low, (low + 1).min(side - 1), at - low as f32)
    };
    let mut values = Vec::with_capacity(pixels * pixels);
    for (top, bottom, down) in (0..pixels).map(neighbours) {
        for (left, right, along) in (0..pixels).map(neighbours) {
            let row = |y: usize| cells[y * side + left] * (1.0 - along) + cells[y * side + right] * along;
            values.push(row(top) * (1.0 - down) + row(bottom) * down);
        }
    }
    values
}

/// A Gaussian over a square of cells.
fn blurred(cells: &[f32], side: usize) -> Vec<f32> {
    let shape = [side as i64, side as i64];
    let blur = Tensor::from_slice(&blur(side)).view(shape);
    let smooth = blur.matmul(&Tensor::from_slice(cells).view(shape)).matmul(&blur.tr());
    Vec::<f32>::try_from(smooth.contiguous().view([-1])).expect("float32 on the CPU")
}

/// `[side, side]`, row by row: a Gaussian along one axis, cut off at four deviations, the places
/// beyond an edge mirrored (`scipy.ndimage.gaussian_filter`).
fn blur(side: usize) -> Vec<f32> {
    let reach = (4.0 * DEVIATION + 0.5) as i64;
    let weight = |away: i64| (-0.5 * (away as f64 / DEVIATION).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let mut matrix = vec![0.0f64; side * side];
    for at in 0..side as i64 {
        for away in -reach..=reach {
            let other = (at + away).rem_euclid(2 * side as i64);
            let other = other.min(2 * side as i64 - 1 - other);
            matrix[(at * side as i64 + other) as usize] += weight(away) / total;
        }
    }
    matrix.into_iter().map(|x| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blur_is_scipys() {
        // gaussian_filter(m, 1.5) of 5 × 5 zeros with a one at row 1, column 3; the places (0, 4),
        // (1, 3) and (4, 0).
        let mut cells = vec![0.0; 25];
        cells[5 + 3] = 1.0;
        let smooth = blurred(&cells, 5);
        for (row, column, expected) in
            [(0, 4, 0.103_882_900_353_388), (1, 3, 0.091_178_999_275_333), (4, 0, 0.001_908_027_257_113)]
        {
            let found = f64::from(smooth[row * 5 + column]);
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }

    #[test]
    fn enlarging_is_libtorchs() {
        let cells: Vec<f32> = (0..9).map(|n| (n * n % 7) as f32).collect();
        let expected = Tensor::from_slice(&cells).view([1, 1, 3, 3]).upsample_bilinear2d([8, 8], false, None, None);
        let expected = Vec::<f32>::try_from(expected.view([-1])).unwrap();
        let enlarged = enlarge(&cells, 3, 8);
        assert!(enlarged.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{enlarged:?} {expected:?}");
    }
}
