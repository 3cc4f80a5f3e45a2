//! Words and patches of one study, both ways: what the local loss aligned (paper, section 3.3).
//!
//! `similarity` are cosines `q·k`; attention is `softmax(q·k / 0.1)` over patches for each word and
//! over words for each patch; importance is that of the modality-weighted loss, `softmax` over
//! words (or patches) of the aligned `normalise(q ⊙ context)`. `[SEP]` is the last word, as in
//! training.
//!
//! # Shapes
//! `W` words, `P` patches a view, `K` = `P` or `2P` patches of the study (frontal, then lateral),
//! `D` embedding width.

use std::sync::LazyLock;

use tch::{Kind, Tensor};

use super::batch;
use super::forward::{EngineRef, Pictures, check_finite, host_values};
use super::heat::{HeatMap, PatchGrid};
use super::preprocessing::Views;
use super::text::Text;
use super::vectors::Vectors;
use crate::loss::config::LossConfig;
use crate::model::importance::Importance;
use crate::model::projection::unit;
use crate::model::view_experts::View;
use crate::model::vit::ImageFeatures;
use crate::model::{MedSt, Mode};
use crate::{Error, Result};

/// The local loss' temperature.
static TEMPERATURE: LazyLock<f64> = LazyLock::new(|| LossConfig::default().local_temperature);

/// Words against patches.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// `W`, the last is `[SEP]`.
    pub words: Vec<String>,
    pub grid: PatchGrid,
    /// The views whose patches these are, in order.
    pub views: Vec<View>,
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

    /// Where a view resembles the whole text: the mean cosine of its words.
    pub fn heat(&self, view: View) -> Option<HeatMap> {
        let all: Vec<usize> = (0..self.words.len()).collect();
        self.mean(view, &all)
    }

    /// Where a view resembles one word.
    pub fn heat_of(&self, view: View, word: usize) -> Option<HeatMap> {
        (word < self.words.len()).then(|| self.mean(view, &[word])).flatten()
    }

    /// The cosines of a word with the patches of a view, row by row.
    pub fn cells(&self, view: View, word: usize) -> Option<&[f32]> {
        let patches = self.grid.side * self.grid.side;
        let start = self.views.iter().position(|shown| *shown == view)? * patches;
        Some(&self.similarity.row(word)[start..start + patches])
    }

    fn mean(&self, view: View, words: &[usize]) -> Option<HeatMap> {
        let mut cells = vec![0.0; self.grid.side * self.grid.side];
        for &word in words {
            cells.iter_mut().zip(self.cells(view, word)?).for_each(|(sum, cell)| *sum += cell / words.len() as f32);
        }
        Some(HeatMap::from_cells(&cells, self.grid))
    }
}

impl EngineRef<'_> {
    /// Aligns the words of texts with the patches of studies' pictures, one text per study (paper,
    /// section 3.3).
    ///
    /// # Errors
    /// A picture of another size than the model reads, values that are not finite; as many texts as
    /// studies are expected.
    pub fn align(&self, studies: &[&Views], texts: &[&Text]) -> Result<Vec<Alignment>> {
        if studies.len() != texts.len() {
            return Err(Error::Input(format!("got {} texts for {} studies", texts.len(), studies.len())));
        }
        let _guard = tch::no_grad_guard();
        let mut aligned: Vec<Option<Alignment>> = studies.iter().map(|_| None).collect();
        for group in self.image_groups(studies) {
            let group = group?;
            let views: Vec<&Views> = group.rows.iter().map(|&row| studies[row]).collect();
            let patches = self.patches(&views, &group.content)?;
            let group_texts: Vec<&Text> = group.rows.iter().map(|&row| texts[row]).collect();
            let alignments = self.align_encoded(&views, &patches.iter().collect::<Vec<_>>(), &group_texts)?;
            group.rows.iter().zip(alignments).for_each(|(&row, alignment)| aligned[row] = Some(alignment));
        }
        Ok(aligned.into_iter().flatten().collect())
    }

    /// As [`EngineRef::align`], many texts with the pictures of one study, which are encoded once.
    ///
    /// # Errors
    /// As [`EngineRef::align`].
    pub fn align_texts(&self, study: &Views, texts: &[&Text]) -> Result<Vec<Alignment>> {
        let _guard = tch::no_grad_guard();
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let mut aligned: Vec<Option<Alignment>> = texts.iter().map(|_| None).collect();
        for group in self.image_groups(&[study]) {
            let patches = self.patches(&[study], &group?.content)?.remove(0);
            for rows in batch::by_tokens(&lengths, self.limits.tokens) {
                let group_texts: Vec<&Text> = rows.iter().map(|&row| texts[row]).collect();
                let (views, patches) = (vec![study; rows.len()], vec![&patches; rows.len()]);
                let alignments = self.align_encoded(&views, &patches, &group_texts)?;
                rows.iter().zip(alignments).for_each(|(&row, alignment)| aligned[row] = Some(alignment));
            }
        }
        Ok(aligned.into_iter().flatten().collect())
    }

    /// One batch of texts, each with the patches `[K, D]` of its study.
    fn align_encoded(&self, studies: &[&Views], patches: &[&Tensor], texts: &[&Text]) -> Result<Vec<Alignment>> {
        let input = self.reader.input(texts).to_device(self.model.device());
        let reports = self.model.embed_reports(&input, Mode::Evaluate)?;
        let align = |(row, text): (usize, &&Text)| {
            let count = input.word_counts[row];
            let words = reports.words.get(row as i64).narrow(0, 0, count);
            let matrix = Aligned { model: self.model, words: &words, patches: patches[row] };
            matrix.alignment(self.reader.spelled(text, count as usize), studies[row], self.grid())
        };
        texts.iter().enumerate().map(align).collect()
    }

    /// The patches' embeddings of one batch, for each study `[P or 2P, D]`: frontal ones, then
    /// lateral ones. Studies with a frontal view, or lateral views alone.
    fn patches(&self, studies: &[&Views], pictures: &Pictures) -> Result<Vec<Tensor>> {
        let images = self.model.project_images(self.states(pictures)?, Mode::Evaluate)?;
        let mut patches: Vec<Tensor> = (0..studies.len() as i64).map(|row| images.frontal_patches.get(row)).collect();
        for (number, &row) in images.features.lateral_rows.iter().enumerate() {
            // Reference semantics gives patches of views that are not there.
            if matches!(studies[row as usize], Views::Both { .. }) {
                let of_study = &mut patches[row as usize];
                *of_study = Tensor::cat(&[of_study.shallow_clone(), images.lateral_patches.get(number as i64)], 0);
            }
        }
        Ok(patches)
    }

    /// The encoder's states of one batch. Those of lateral views alone are in the place of the
    /// frontal ones.
    pub(super) fn states(&self, pictures: &Pictures) -> Result<ImageFeatures> {
        let input = pictures.input.to_device(self.model.device());
        if !pictures.lateral_alone {
            return self.model.encode_images(&input);
        }
        let (image, patches) = self.model.image_encoder.forward_single(&input.frontal, View::Lateral);
        let none = patches.narrow(0, 0, 0);
        Ok(ImageFeatures { image, frontal_patches: patches, lateral_patches: none, lateral_rows: Vec::new() })
    }
}

/// The embeddings of one study's words `[W, D]` and patches `[K, D]`.
struct Aligned<'a> {
    model: &'a MedSt,
    words: &'a Tensor,
    patches: &'a Tensor,
}

impl Aligned<'_> {
    fn alignment(&self, words: Vec<String>, views: &Views, grid: PatchGrid) -> Result<Alignment> {
        let views = match views {
            Views::Frontal(_) => vec![View::Frontal],
            Views::Lateral(_) => vec![View::Lateral],
            Views::Both { .. } => vec![View::Frontal, View::Lateral],
        };
        let similarity = self.words.matmul(&self.patches.tr());
        let (to_patches, word_importance) =
            self.look(&similarity, self.words, self.patches, &self.model.word_importance);
        let (to_words, patch_importance) =
            self.look(&similarity.tr(), self.patches, self.words, &self.model.patch_importance);
        let values = |x: &Tensor| -> Result<Vec<f32>> {
            let values = host_values(x)?;
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
