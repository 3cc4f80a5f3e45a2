//! Phrases on pictures: boxes, where each word looks, which words each patch looks at.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::align::Alignment;
use super::boxes::{HotBox, hot_boxes};
use super::draw::Canvas;
use super::heat::HeatMap;
use super::vectors::Vectors;
use crate::model::view_experts::View;

/// Number of patches that are reported with their words.
const PATCHES: usize = 5;
/// Number of words that are reported per patch.
const WORDS: usize = 3;

/// A phrase on the pictures of a study.
#[derive(Clone, Debug, Serialize)]
pub struct Grounded {
    pub phrase: String,
    pub views: Vec<GroundedView>,
    /// `[SEP]`, where a text ends, is a word to the model.
    pub words: Vec<GroundedWord>,
    /// The patches that matter most, with the words they look at.
    pub patches: Vec<GroundedPatch>,
    pub matrices: Option<Matrices>,
}

/// A phrase on one picture.
#[derive(Clone, Debug, Serialize)]
pub struct GroundedView {
    pub view: View,
    /// Width and height of the picture in pixels.
    pub size: [usize; 2],
    /// In pixels of the picture, the hottest first.
    pub boxes: Vec<HotBox>,
    /// Lowest, mean and highest cosine of the heat map.
    pub heat: [f32; 3],
    /// Where the picture was written.
    pub picture: Option<PathBuf>,
}

/// A word, and where it looks.
#[derive(Clone, Debug, Serialize)]
pub struct GroundedWord {
    pub word: String,
    /// Share in the modality-weighted loss, all words together 1.
    pub importance: f32,
    pub view: View,
    /// The box in pixels of the picture of the patch it resembles most.
    pub bounds: [f64; 4],
    /// Cosine with that patch.
    pub similarity: f32,
}

/// A patch, and the words it looks at.
#[derive(Clone, Debug, Serialize)]
pub struct GroundedPatch {
    pub view: View,
    pub row: usize,
    pub column: usize,
    pub bounds: [f64; 4],
    pub importance: f32,
    /// Words with the share of attention each gets.
    pub words: Vec<(String, f32)>,
}

/// All of the alignment: rows of words (the last is `[SEP]`) and columns of patches, frontal then
/// lateral, row by row.
#[derive(Clone, Debug, Serialize)]
pub struct Matrices {
    pub words: Vec<String>,
    /// Patches per row of a view.
    pub grid: usize,
    pub similarity: Vec<Vec<f32>>,
    pub words_to_patches: Vec<Vec<f32>>,
    /// One row per patch.
    pub patches_to_words: Vec<Vec<f32>>,
}

/// A view with the canvas that maps its patches to the picture.
pub type Shows<'a> = (View, &'a Canvas);

/// Expresses an alignment in pixels of the pictures.
///
/// * `canvases`: of the views of the alignment, in its order; `share`: of [`hot_boxes`].
pub fn ground(phrase: &str, alignment: &Alignment, canvases: &[Shows<'_>], share: f32, matrices: bool) -> Grounded {
    let patch = alignment.grid.pixels / alignment.grid.side;
    let views = canvases.iter().filter_map(|&(view, canvas)| {
        let map = alignment.heat(view)?;
        let boxes = hot_boxes(&map, share, patch).into_iter().map(|found| canvas.in_original(found)).collect();
        Some(GroundedView { view, size: canvas.original, boxes, heat: extent(&map), picture: None })
    });
    let word = |(n, word): (usize, &str)| {
        let (number, similarity) = highest(alignment.similarity.row(n))?;
        let PatchPosition { view, bounds, .. } = patch_position(alignment, canvases, number)?;
        Some(GroundedWord {
            word: word.to_string(),
            importance: alignment.word_importance[n],
            view,
            bounds,
            similarity,
        })
    };
    let mut order: Vec<usize> = (0..alignment.patch_importance.len()).collect();
    order.sort_by(|&a, &b| alignment.patch_importance[b].total_cmp(&alignment.patch_importance[a]));
    let describe = |&number: &usize| {
        let PatchPosition { view, row, column, bounds } = patch_position(alignment, canvases, number)?;
        let shares = alignment.patches_to_words.row(number).iter().copied();
        let mut words: Vec<(String, f32)> = alignment.words.iter().cloned().zip(shares).collect();
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        words.truncate(WORDS);
        Some(GroundedPatch { view, row, column, bounds, importance: alignment.patch_importance[number], words })
    };
    let rows = |vectors: &Vectors| vectors.rows().map(<[f32]>::to_vec).collect();
    Grounded {
        phrase: phrase.to_string(),
        views: views.collect(),
        words: alignment.words.iter().map(String::as_str).enumerate().filter_map(word).collect(),
        patches: order.iter().take(PATCHES).filter_map(describe).collect(),
        matrices: matrices.then(|| Matrices {
            words: alignment.words.clone(),
            grid: alignment.grid.side,
            similarity: rows(&alignment.similarity),
            words_to_patches: rows(&alignment.words_to_patches),
            patches_to_words: rows(&alignment.patches_to_words),
        }),
    }
}

/// Where a patch is.
struct PatchPosition {
    view: View,
    row: usize,
    column: usize,
    /// In pixels of the picture.
    bounds: [f64; 4],
}

/// The position of a patch by its number among those of all views.
fn patch_position(alignment: &Alignment, canvases: &[Shows<'_>], number: usize) -> Option<PatchPosition> {
    let side = alignment.grid.side;
    let view = *alignment.views.get(number / (side * side))?;
    let canvas = canvases.iter().find(|shown| shown.0 == view)?.1;
    let (row, column) = (number % (side * side) / side, number % side);
    let pixels = (alignment.grid.pixels / side) as f64;
    let (left, top) = (column as f64 * pixels, row as f64 * pixels);
    let found = HotBox { bounds: [left, top, left + pixels, top + pixels], mean: 0.0, peak: 0.0 };
    Some(PatchPosition { view, row, column, bounds: canvas.in_original(found).bounds })
}

fn highest(values: &[f32]) -> Option<(usize, f32)> {
    values.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
}

fn extent(map: &HeatMap) -> [f32; 3] {
    let low = map.values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    [low, map.values.iter().sum::<f32>() / map.values.len().max(1) as f32, high]
}

impl fmt::Display for Grounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |view: View| format!("{view:?}").to_lowercase();
        let bounds =
            |corners: &[f64; 4]| format!("{:.0},{:.0} – {:.0},{:.0}", corners[0], corners[1], corners[2], corners[3]);
        writeln!(f, "“{}”", self.phrase)?;
        for view in &self.views {
            let ([low, mean, high], [width, height]) = (view.heat, view.size);
            let name = shown(view.view);
            writeln!(f, "{name} ({width}×{height}): cosine {low:.3} to {high:.3}, mean {mean:.3}")?;
            if view.boxes.is_empty() {
                writeln!(f, "  no region above the threshold")?;
            }
            for found in &view.boxes {
                writeln!(f, "  box {}  mean {:.3}, peak {:.3}", bounds(&found.bounds), found.mean, found.peak)?;
            }
            if let Some(picture) = &view.picture {
                writeln!(f, "  {}", picture.display())?;
            }
        }
        let width = self.words.iter().map(|word| word.word.chars().count()).max().unwrap_or(0);
        writeln!(f, "words, and the most similar patch of each")?;
        for word in &self.words {
            let (similarity, importance) = (word.similarity, 100.0 * word.importance);
            let (view, bounds) = (shown(word.view), bounds(&word.bounds));
            writeln!(f, "  {:width$}  {similarity:.3}  {view} {bounds}  importance {importance:.0} %", word.word)?;
        }
        writeln!(f, "most important patches, and the words that each attends to")?;
        for patch in &self.patches {
            let words: Vec<String> =
                patch.words.iter().map(|(word, share)| format!("{word} {:.0} %", 100.0 * share)).collect();
            writeln!(f, "  {} {}  {}", shown(patch.view), bounds(&patch.bounds), words.join(", "))?;
        }
        Ok(())
    }
}
