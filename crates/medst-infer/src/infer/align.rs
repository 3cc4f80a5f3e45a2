//! Words and patches of one study, both ways: what the local loss aligned (paper, section 3.3).
//!
//! `similarity` are cosines `q·k`; attention is `softmax(q·k / 0.1)` over patches for each word and over words for each
//! patch; importance is that of the modality-weighted loss, `softmax` over words (or patches) of the aligned
//! `normalise(q ⊙ context)`. `[SEP]` is the last word, as in training.
//!
//! # Shapes
//! `W` words, `P` patches a view, `K` = `P` or `2P` patches of the study (frontal, then lateral), `D` embedding width.

use std::sync::LazyLock;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::sight::Views;
use crate::Result;
use crate::embed::check_finite;
use crate::embed::heat::HeatMap;
use crate::eval::Vectors;
use crate::loss::config::LossConfig;
use crate::model::MedSt;
use crate::model::importance::Importance;
use crate::model::projection::unit;

/// The local loss' temperature.
static TEMPERATURE: LazyLock<f64> = LazyLock::new(|| LossConfig::default().local_temperature);

/// The grid of patches of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PatchGrid {
    /// Patches per row and per column.
    pub side: usize,
    /// Side in pixels of what the model reads.
    pub pixels: usize,
}

/// Which picture of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    Frontal,
    Lateral,
}

/// Words against patches.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// `W`, the last is `[SEP]`.
    pub words: Vec<String>,
    pub grid: PatchGrid,
    /// The views whose patches these are, in order.
    pub views: Vec<Shown>,
    /// `[W, K]` cosines.
    pub similarity: Vectors,
    /// `[W, K]`: how much a word looks at each patch; rows sum to 1.
    pub words_to_patches: Vectors,
    /// `[K, W]`: how much a patch looks at each word; rows sum to 1.
    pub patches_to_words: Vectors,
    /// `W`, sums to 1.
    pub word_importance: Vec<f32>,
    /// `K`, sums to 1.
    pub patch_importance: Vec<f32>,
}

impl Alignment {
    /// Words that are words.
    pub fn spoken(&self) -> impl Iterator<Item = (usize, &str)> {
        self.words.iter().enumerate().map(|(n, word)| (n, word.as_str())).filter(|(_, word)| *word != "[SEP]")
    }

    /// Where a view resembles the whole text: the mean cosine of its words, as [`crate::embed::heat`] has it.
    pub fn heat(&self, view: Shown) -> Option<HeatMap> {
        let all: Vec<usize> = (0..self.words.len()).collect();
        self.mean(view, &all)
    }

    /// Where a view resembles one word.
    pub fn heat_of(&self, view: Shown, word: usize) -> Option<HeatMap> {
        (word < self.words.len()).then(|| self.mean(view, &[word])).flatten()
    }

    /// The cosines of a word with the patches of a view, row by row.
    pub fn cells(&self, view: Shown, word: usize) -> Option<&[f32]> {
        let patches = self.grid.side * self.grid.side;
        let start = self.views.iter().position(|own| *own == view)? * patches;
        Some(&self.similarity.row(word)[start..start + patches])
    }

    fn mean(&self, view: Shown, words: &[usize]) -> Option<HeatMap> {
        let mut cells = vec![0.0; self.grid.side * self.grid.side];
        for &word in words {
            cells.iter_mut().zip(self.cells(view, word)?).for_each(|(sum, own)| *sum += own / words.len() as f32);
        }
        Some(HeatMap { side: self.grid.pixels, values: enlarge(&cells, self.grid.side, self.grid.pixels) })
    }
}

/// The embeddings of one study's words `[W, D]` and patches `[K, D]`.
pub(super) struct Aligned<'a> {
    pub model: &'a MedSt,
    pub words: &'a Tensor,
    pub patches: &'a Tensor,
}

impl Aligned<'_> {
    pub fn alignment(&self, words: Vec<String>, views: &Views, grid: PatchGrid) -> Result<Alignment> {
        let views = match views {
            Views::Frontal(_) => vec![Shown::Frontal],
            Views::Lateral(_) => vec![Shown::Lateral],
            Views::Both { .. } => vec![Shown::Frontal, Shown::Lateral],
        };
        let similarity = self.words.matmul(&self.patches.tr());
        let (to_patches, word_importance) =
            self.look(&similarity, self.words, self.patches, &self.model.word_importance);
        let (to_words, patch_importance) =
            self.look(&similarity.tr(), self.patches, self.words, &self.model.patch_importance);
        let values = |x: &Tensor| -> Result<Vec<f32>> {
            let values = Vec::<f32>::try_from(x.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]))?;
            check_finite(&values)?;
            Ok(values)
        };
        let vectors = |x: &Tensor| -> Result<Vectors> { Vectors::new(values(x)?, x.size2()?.1 as usize) };
        Ok(Alignment {
            words,
            grid,
            views,
            similarity: vectors(&similarity)?,
            words_to_patches: vectors(&to_patches)?,
            patches_to_words: vectors(&to_words)?,
            word_importance: values(&word_importance)?,
            patch_importance: values(&patch_importance)?,
        })
    }

    /// Attention `[Q, K]` of queries over keys, and the importance `[Q]` of the queries.
    fn look(&self, scores: &Tensor, queries: &Tensor, keys: &Tensor, importance: &Importance) -> (Tensor, Tensor) {
        let attention = (scores / *TEMPERATURE).softmax(-1, None::<Kind>);
        let aligned = unit(&(queries * unit(&attention.matmul(keys)))).unsqueeze(0);
        let weights = importance.weights(&aligned, None).squeeze_dim(0);
        (attention, weights)
    }
}

/// Bilinear between the centres of cells, as libtorch does it (`align_corners` false): `[side, side]` to `[pixels, pixels]`.
pub fn enlarge(cells: &[f32], side: usize, pixels: usize) -> Vec<f32> {
    let scale = side as f32 / pixels as f32;
    let place = |n: usize| {
        let at = ((n as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (at as usize).min(side - 1);
        (low, (low + 1).min(side - 1), at - low as f32)
    };
    let mut values = Vec::with_capacity(pixels * pixels);
    for (top, bottom, down) in (0..pixels).map(place) {
        for (left, right, along) in (0..pixels).map(place) {
            let row = |y: usize| cells[y * side + left] * (1.0 - along) + cells[y * side + right] * along;
            values.push(row(top) * (1.0 - down) + row(bottom) * down);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_is_libtorchs() {
        let cells: Vec<f32> = (0..9).map(|n| (n * n % 7) as f32).collect();
        let expected = Tensor::from_slice(&cells).view([1, 1, 3, 3]).upsample_bilinear2d([8, 8], false, None, None);
        let expected = Vec::<f32>::try_from(expected.view([-1])).unwrap();
        let own = enlarge(&cells, 3, 8);
        assert!(own.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{own:?} {expected:?}");
    }
}
