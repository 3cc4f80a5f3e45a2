//! From studies of a corpus to a typed batch.
//!
//! A lateral picture is read together with its study, so it can meet no other study's frontal (the reference's collate
//! function puts full sequences first and leaves the laterals in the old order). Crops come from a generator of the study's
//! own, so batches do not depend on which thread makes them.

use medst_data::corpus::Corpus;
use medst_data::image::crop::{Corner, crop};
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_data::study::{ImageIndex, Study};
use rand::Rng;
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::sampler;
use crate::config::DataConfig;
use crate::model::config::ModelConfig;
use crate::model::input::{Batch, ImageInput, ReportInput};
use crate::{Error, Result};

/// Studies of one split that have a report, as sequences.
pub struct Dataset<'a> {
    corpus: &'a Corpus,
    pieces: &'a WordPiece,
    model: &'a ModelConfig,
    alternative_frontals: bool,
    /// Rows of the corpus, by sequence, studies without a report left out.
    pub sequences: Vec<Vec<u32>>,
    /// Studies left out because they have no report.
    pub silent: usize,
    /// Token ids by row of the corpus; empty for studies of other splits or without report.
    tokens: Vec<Vec<u32>>,
    full: usize,
}

/// How pictures are cropped.
#[derive(Clone, Copy, Debug)]
pub enum Crop {
    Centre,
    /// Random, decided by these numbers and the study.
    Random {
        seed: u64,
        epoch: u64,
    },
}

impl<'a> Dataset<'a> {
    /// Tokenises the reports of a split.
    ///
    /// # Errors
    /// When the model's input is larger than the corpus' pictures, or its vocabulary smaller than the tokenizer's.
    pub fn new(
        corpus: &'a Corpus,
        pieces: &'a WordPiece,
        split: Split,
        model: &'a ModelConfig,
        data: &DataConfig,
    ) -> Result<Dataset<'a>> {
        if model.image.size > corpus.image_size() as i64 {
            let (asked, stored) = (model.image.size, corpus.image_size());
            return Err(Error::Config(format!(
                "model.image.size = {asked}: the corpus holds pictures of {stored} pixels"
            )));
        }
        if pieces.size() as i64 != model.text.vocabulary {
            let (asked, found) = (model.text.vocabulary, pieces.size());
            return Err(Error::Config(format!("model.text.vocabulary = {asked}: the vocabulary has {found} entries")));
        }
        let studies = corpus.studies();
        let window = model.text.max_tokens as usize;
        let encode = |study: &Study| match &study.report {
            Some(report) if study.split == split => pieces.encode(report, window),
            _ => Vec::new(),
        };
        let tokens: Vec<Vec<u32>> = studies.par_iter().map(encode).collect();
        let has_report = |row: &u32| !tokens[*row as usize].is_empty();
        let all: Vec<&Vec<u32>> = corpus.sequences_of(split).map(|sequence| &sequence.studies).collect();
        let sequences: Vec<Vec<u32>> = all
            .iter()
            .map(|rows| rows.iter().copied().filter(has_report).collect::<Vec<u32>>())
            .filter(|rows| !rows.is_empty())
            .collect();
        let kept: usize = sequences.iter().map(Vec::len).sum();
        Ok(Dataset {
            corpus,
            pieces,
            model,
            alternative_frontals: data.alternative_frontals,
            silent: all.iter().map(|rows| rows.len()).sum::<usize>() - kept,
            sequences,
            tokens,
            full: corpus.manifest().sequence_length,
        })
    }

    /// Number of studies.
    pub fn studies(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Makes a batch of sequences (numbers into `self.sequences`). Those of full length take part in the temporal loss.
    pub fn batch(&self, numbers: &[usize], crop: Crop) -> Batch {
        let rows: Vec<u32> = numbers.iter().flat_map(|&n| self.sequences[n].iter().copied()).collect();
        let mut full = Vec::new();
        let mut first = 0i64;
        for length in numbers.iter().map(|&n| self.sequences[n].len()) {
            if length == self.full {
                full.extend((first..).take(length));
            }
            first += length as i64;
        }
        let reports: Vec<Vec<u32>> = rows.iter().map(|&row| self.tokens[row as usize].clone()).collect();
        Batch {
            images: self.images(&rows, crop),
            reports: ReportInput::new(
                &reports,
                |id| self.pieces.is_continuation(id),
                self.pieces.separator(),
                self.model.text.max_tokens,
                self.model.semantics,
            ),
            sequences: Tensor::from_slice(&full).view([-1, self.full as i64]),
        }
    }

    fn images(&self, rows: &[u32], crop: Crop) -> ImageInput {
        let studies: Vec<&Study> = rows.iter().map(|&row| &self.corpus.studies()[row as usize]).collect();
        image_input(self.corpus, &studies, self.model.image.size as usize, |place, study, stored, side| match crop {
            Crop::Centre => Drawn::centre(study, stored, side),
            Crop::Random { seed, epoch } => {
                let mut random = sampler::random([seed, epoch, u64::from(rows[place]), 2]);
                let choices = if self.alternative_frontals { study.alternative_frontals.len() } else { 0 };
                let choice = random.random_range(0..=choices);
                Drawn {
                    frontal: choice.checked_sub(1).map_or(study.frontal, |n| study.alternative_frontals[n]),
                    corners: [(); 2].map(|()| Corner::random(stored, side, &mut random)),
                }
            }
        })
    }
}

/// What is read of a study: which frontal picture, and where frontal and lateral are cropped.
pub struct Drawn {
    frontal: ImageIndex,
    corners: [Corner; 2],
}

impl Drawn {
    /// The first frontal picture, both views cropped in the middle.
    pub fn centre(study: &Study, stored: usize, side: usize) -> Drawn {
        Drawn { frontal: study.frontal, corners: [Corner::centre(stored, side); 2] }
    }
}

/// Reads the pictures of studies; `draw` gets the study's place, the study, the stored and the cropped side.
pub fn image_input(
    corpus: &Corpus,
    studies: &[&Study],
    side: usize,
    draw: impl Fn(usize, &Study, usize, usize) -> Drawn,
) -> ImageInput {
    let (stored, size) = (corpus.image_size(), side * side);
    let lateral_rows: Vec<i64> = studies
        .iter()
        .enumerate()
        .filter(|(_, study)| study.lateral.is_some())
        .map(|(place, _)| place as i64)
        .collect();
    let mut frontal = vec![0; studies.len() * size];
    let mut lateral = vec![0; lateral_rows.len() * size];
    let mut lateral_slots = lateral.chunks_exact_mut(size);
    for ((place, study), slot) in studies.iter().enumerate().zip(frontal.chunks_exact_mut(size)) {
        let drawn = draw(place, study, stored, side);
        crop(corpus.image(drawn.frontal), stored, drawn.corners[0], side, slot);
        if let Some((index, slot)) = study.lateral.and_then(|index| Some((index, lateral_slots.next()?))) {
            crop(corpus.image(index), stored, drawn.corners[1], side, slot);
        }
    }
    let tensor = |pixels: &[u8], count: usize| {
        Tensor::from_data_size(pixels, &[count as i64, side as i64, side as i64], Kind::Uint8)
    };
    ImageInput { frontal: tensor(&frontal, studies.len()), lateral: tensor(&lateral, lateral_rows.len()), lateral_rows }
}
