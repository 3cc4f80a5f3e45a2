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
pub struct Drawn {
    pub frontal: ImageIndex,
    pub lateral: Option<ImageIndex>,
    pub corners: [Corner; 2],
}

impl Drawn {
    /// The first frontal picture, both views cropped in the middle.
    pub fn centre(study: &Study, stored: usize, side: usize) -> Drawn {
        Drawn { frontal: study.frontal, lateral: study.lateral, corners: [Corner::centre(stored, side); 2] }
    }

    /// One of the frontal pictures, both views cropped at random.
    ///
    /// * `choices`: alternative frontal pictures that may be drawn.
    pub fn random(study: &Study, choices: usize, stored: usize, side: usize, random: &mut impl Rng) -> Drawn {
        let choice = random.random_range(0..=choices);
        Drawn {
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
pub fn image_input(corpus: &Corpus, drawn: &[Drawn], side: usize) -> Result<ImageInput> {
    let (stored, size) = (corpus.image_size(), side * side);
    let lateral_rows: Vec<i64> =
        drawn.iter().enumerate().filter(|(_, drawn)| drawn.lateral.is_some()).map(|(place, _)| place as i64).collect();
    let mut frontal = vec![0; drawn.len() * size];
    let mut lateral = vec![0; lateral_rows.len() * size];
    let mut lateral_slots = lateral.chunks_exact_mut(size);
    for (drawn, slot) in drawn.iter().zip(frontal.chunks_exact_mut(size)) {
        crop(&corpus.image(drawn.frontal)?, stored, drawn.corners[0], side, slot);
        if let Some((index, slot)) = drawn.lateral.and_then(|index| Some((index, lateral_slots.next()?))) {
            crop(&corpus.image(index)?, stored, drawn.corners[1], side, slot);
        }
    }
    let tensor = |pixels: &[u8], count: usize| {
        Tensor::from_data_size(pixels, &[count as i64, side as i64, side as i64], Kind::Uint8)
    };
    let lateral = tensor(&lateral, lateral_rows.len());
    Ok(ImageInput { frontal: tensor(&frontal, drawn.len()), lateral, lateral_rows })
}
