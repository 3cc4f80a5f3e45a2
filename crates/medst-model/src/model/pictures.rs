//! The pictures of a corpus as the input of a model.

use medst_data::corpus::Corpus;
use medst_data::image::crop::{Corner, crop};
use medst_data::study::{ImageIndex, Study};
use rand::Rng;
use tch::{Kind, Tensor};

use super::input::ImageInput;
use crate::Result;

/// The pictures that were selected for a study, and the corners at which frontal and lateral are
/// cropped.
pub struct ImageSelection {
    pub frontal: ImageIndex,
    pub lateral: Option<ImageIndex>,
    pub corners: [Corner; 2],
}

impl ImageSelection {
    /// The first frontal picture, both views cropped in the middle.
    pub fn centre(study: &Study, stored: usize, side: usize) -> ImageSelection {
        ImageSelection { frontal: study.frontal, lateral: study.lateral, corners: [Corner::centre(stored, side); 2] }
    }

    /// One of the frontal pictures, both views cropped at random.
    ///
    /// * `choices`: alternative frontal pictures that may be drawn.
    pub fn random(study: &Study, choices: usize, stored: usize, side: usize, random: &mut impl Rng) -> ImageSelection {
        let choice = random.random_range(0..=choices);
        ImageSelection {
            frontal: choice.checked_sub(1).map_or(study.frontal, |n| study.alternative_frontals[n]),
            lateral: study.lateral,
            corners: [(); 2].map(|()| Corner::random(stored, side, random)),
        }
    }
}

/// Reads the pictures of studies, crops of `side` pixels.
///
/// # Errors
/// A picture that cannot be read.
pub fn image_input(corpus: &Corpus, selections: &[ImageSelection], side: usize) -> Result<ImageInput> {
    let (stored, size) = (corpus.image_size(), side * side);
    let lateral_rows: Vec<i64> = selections
        .iter()
        .enumerate()
        .filter(|(_, selection)| selection.lateral.is_some())
        .map(|(row, _)| row as i64)
        .collect();
    let mut frontal = vec![0; selections.len() * size];
    let mut lateral = vec![0; lateral_rows.len() * size];
    let mut lateral_slots = lateral.chunks_exact_mut(size);
    for (selection, slot) in selections.iter().zip(frontal.chunks_exact_mut(size)) {
        crop(&corpus.image(selection.frontal)?, stored, selection.corners[0], side, slot);
        if let Some((index, slot)) = selection.lateral.and_then(|index| Some((index, lateral_slots.next()?))) {
            crop(&corpus.image(index)?, stored, selection.corners[1], side, slot);
        }
    }
    let tensor = |pixels: &[u8], count: usize| {
        Tensor::from_data_size(pixels, &[count as i64, side as i64, side as i64], Kind::Uint8)
    };
    let lateral = tensor(&lateral, lateral_rows.len());
    Ok(ImageInput { frontal: tensor(&frontal, selections.len()), lateral, lateral_rows })
}
