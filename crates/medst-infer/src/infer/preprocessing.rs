//! From pictures to the model's input: the stored square of a corpus, then the middle of it.
//!
//! A model was trained on the middle of squares of its corpus' size (paper: 224 of 256 pixels). A
//! file is treated as `medst prepare` and the centre crop treat it, so its embedding is that of the
//! same picture in a corpus.

use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::image::crop::{Corner, crop};
use medst_data::image::{self, Decoding, GreyImage, ImageError, Notes, load, resize};
use medst_data::study::{ImageIndex, Study};

use crate::model::card::ModelCard;
use crate::{Error, Result};

/// A picture as the model sees it: `side · side` grey values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Radiograph {
    side: usize,
    pixels: Box<[u8]>,
}

impl Radiograph {
    /// # Errors
    /// Pixels that fill no square of that side.
    pub fn new(side: usize, pixels: Vec<u8>) -> Result<Radiograph, ImageError> {
        if side == 0 || pixels.len() != side * side {
            let message = format!("{} pixels do not make a square of side {side}", pixels.len());
            return Err(ImageError::Samples(message.into()));
        }
        Ok(Radiograph { side, pixels: pixels.into() })
    }

    pub fn side(&self) -> usize {
        self.side
    }

    /// Row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// The views of a study. None without any can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Views {
    Frontal(Radiograph),
    Both {
        frontal: Radiograph,
        lateral: Radiograph,
    },
    /// A lateral view alone goes through the lateral expert.
    Lateral(Radiograph),
}

impl Views {
    /// `None` for no view at all.
    pub fn new(frontal: Option<Radiograph>, lateral: Option<Radiograph>) -> Option<Views> {
        match (frontal, lateral) {
            (Some(frontal), Some(lateral)) => Some(Views::Both { frontal, lateral }),
            (Some(frontal), None) => Some(Views::Frontal(frontal)),
            (None, Some(lateral)) => Some(Views::Lateral(lateral)),
            (None, None) => None,
        }
    }

    /// How many pictures it has.
    pub fn count(&self) -> usize {
        match self {
            Views::Both { .. } => 2,
            _ => 1,
        }
    }
}

/// What is done to a picture before the model reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocessing {
    /// Side of the square that a picture is fitted into.
    stored: usize,
    /// Side of its middle, which the model reads.
    side: usize,
    pub decoding: Decoding,
}

impl Preprocessing {
    /// # Errors
    /// A square that is smaller than what the model reads.
    pub fn new(stored: usize, side: usize, decoding: Decoding) -> Result<Preprocessing> {
        if stored < side {
            return Err(Error::Input(format!(
                "the model reads images of {side} pixels; images of {stored} are too small"
            )));
        }
        Ok(Preprocessing { stored, side, decoding })
    }

    /// For pictures of corpora: the middle of what they store.
    pub fn of_corpora(side: usize) -> Preprocessing {
        Preprocessing { stored: side, side, decoding: Decoding::default() }
    }

    /// As the model was trained.
    ///
    /// # Errors
    /// A card whose numbers contradict each other.
    pub fn from_card(card: &ModelCard) -> Result<Preprocessing> {
        let side = card.model.image.size as usize;
        Preprocessing::new(card.stored_side(), side, Decoding::default())
    }

    /// Side in pixels of what the model reads.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Side in pixels of the square whose middle that is.
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// The bytes of a JPEG, PNG or DICOM file.
    ///
    /// # Errors
    /// A reason, without the file's name.
    pub fn decode(&self, bytes: &[u8]) -> Result<Radiograph, ImageError> {
        let square = load::square_of(bytes, self.stored, self.decoding)?;
        Ok(self.middle(&square, self.stored))
    }

    /// A picture that was decoded before, whole.
    ///
    /// # Errors
    /// A reason: too thin.
    pub fn picture(&self, picture: &GreyImage) -> Result<Radiograph, ImageError> {
        Ok(self.middle(&resize::to_square(picture, self.stored)?, self.stored))
    }

    /// A file.
    ///
    /// # Errors
    /// Names the file: not there, damaged, of an unknown format, too large or too thin.
    pub fn open(&self, path: &Path) -> Result<Radiograph> {
        self.open_noting(path, &mut Notes::default())
    }

    /// As [`Preprocessing::open`]; adds what should be known of how the file was read.
    ///
    /// # Errors
    /// As [`Preprocessing::open`].
    pub fn open_noting(&self, path: &Path, notes: &mut Notes) -> Result<Radiograph> {
        let square = image::square_noting(path, self.stored, self.decoding, notes)?;
        Ok(self.middle(&square, self.stored))
    }

    /// The pictures of a corpus' study.
    ///
    /// # Errors
    /// As [`Preprocessing::stored_picture`].
    pub fn stored_views(&self, corpus: &Corpus, study: &Study) -> Result<Views> {
        let frontal = self.stored_picture(corpus, study.frontal)?;
        Ok(match study.lateral {
            Some(index) => Views::Both { frontal, lateral: self.stored_picture(corpus, index)? },
            None => Views::Frontal(frontal),
        })
    }

    /// A picture of a corpus, whatever size it stores.
    ///
    /// # Errors
    /// A corpus whose pictures are smaller than what the model reads.
    pub fn stored_picture(&self, corpus: &Corpus, index: ImageIndex) -> Result<Radiograph> {
        let stored = corpus.image_size();
        if stored < self.side {
            let side = self.side;
            return Err(Error::Input(format!(
                "the model reads images of {side} pixels, but the images of the corpus have only {stored}"
            )));
        }
        Ok(self.middle(&corpus.image(index)?, stored))
    }

    pub(super) fn middle(&self, square: &[u8], stored: usize) -> Radiograph {
        let mut pixels = vec![0; self.side * self.side];
        crop(square, stored, Corner::centre(stored, self.side), self.side, &mut pixels);
        Radiograph { side: self.side, pixels: pixels.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_without_views_cannot_be_built_and_small_squares_are_refused() {
        assert_eq!(Views::new(None, None), None);
        let view = Radiograph::new(2, vec![1, 2, 3, 4]).unwrap();
        assert_eq!(Views::new(Some(view.clone()), Some(view)).unwrap().count(), 2);
        assert!(Radiograph::new(2, vec![0; 5]).is_err() && Radiograph::new(0, Vec::new()).is_err());
        assert!(Preprocessing::new(100, 112, Decoding::default()).unwrap_err().to_string().contains("112"));
    }
}
