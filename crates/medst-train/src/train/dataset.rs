//! Turns studies of a corpus into typed batches.
//!
//! A lateral picture is read together with its study, so it cannot be paired with the frontal
//! picture of another one (the reference's collate function puts full sequences first and leaves
//! the laterals in the old order). Crops are drawn by a separate generator per study, so batches do
//! not depend on which thread makes them.

use medst_data::corpus::Corpus;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_data::study::Study;
use rand::Rng;
use rayon::prelude::*;
use tch::Tensor;

use super::sampler::{self, Purpose};
use super::sentences::Sentences;
use super::statements;
use super::truth::{Frame, Known, Statement, truth};
use crate::config::{DataConfig, SentenceChoice};
use crate::model::config::ModelConfig;
use crate::model::input::{Batch, Relations, ReportInput, Truth};
use crate::model::pictures::{ImageSelection, image_input};
use crate::{Error, Result};

/// Studies of one split that have a report, as sequences.
pub struct Dataset<'a> {
    corpus: &'a Corpus,
    pieces: &'a WordPiece,
    model: &'a ModelConfig,
    short_sequences: bool,
    /// Rows of the corpus, by sequence, studies without a report left out.
    pub sequences: Vec<Vec<u32>>,
    /// Studies left out because they have no report.
    pub without_report: usize,
    /// Reports by row of the corpus; empty for studies of other splits or without report.
    reports: Vec<Sentences>,
    draw_sentences: bool,
    statements: f64,
    /// Whether a study's visit before comes before it in its sequence, by row of the corpus.
    follows: Vec<bool>,
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
    /// When the model's input is larger than the corpus' pictures, or its vocabulary smaller than
    /// the tokenizer's.
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
                "model.image.size = {asked}: the pictures of the corpus have only {stored} pixels; prepare it with --image-size {asked} or more"
            )));
        }
        if pieces.size() as i64 != model.text.vocabulary {
            let (asked, found) = (model.text.vocabulary, pieces.size());
            return Err(Error::Config(format!("the model has {asked} word pieces, but the vocabulary has {found}")));
        }
        let studies = corpus.studies();
        let cut = |study: &Study| match &study.report {
            Some(report) if study.split == split => Sentences::new(report, pieces),
            _ => Sentences::default(),
        };
        let reports: Vec<Sentences> = studies.par_iter().map(cut).collect();
        let has_report = |row: &u32| !reports[*row as usize].is_empty();
        let all: Vec<&Vec<u32>> = corpus.sequences_of(split).map(|sequence| &sequence.studies).collect();
        let mut follows = vec![false; studies.len()];
        for pair in all.iter().flat_map(|rows| rows.windows(2)) {
            follows[pair[1] as usize] = has_report(&pair[0]);
        }
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
            short_sequences: data.short_sequences,
            without_report: all.iter().map(|rows| rows.len()).sum::<usize>() - kept,
            sequences,
            reports,
            draw_sentences: data.sentences == SentenceChoice::Drawn,
            statements: data.statements,
            follows,
            full: corpus.manifest().sequence_length,
        })
    }

    /// Studies of each of some sequences.
    pub fn lengths(&self, numbers: &[usize]) -> Vec<usize> {
        numbers.iter().map(|&number| self.sequences[number].len()).collect()
    }

    /// Number of studies.
    pub fn studies(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Makes a batch of sequences (numbers into `self.sequences`). Those of full length take part
    /// in the temporal loss; where shorter ones may as well, all of two studies or more.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn batch(&self, numbers: &[usize], crop: Crop) -> Result<Batch> {
        self.share(numbers, 0..numbers.len(), crop)
    }

    /// Like [`Dataset::batch`], but reads the pictures and reports of some of its sequences only:
    /// the range `share` of `numbers`. The relations are those of the whole batch.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn share(&self, numbers: &[usize], share: std::ops::Range<usize>, crop: Crop) -> Result<Batch> {
        let rows_of = |numbers: &[usize]| -> Vec<u32> {
            numbers.iter().flat_map(|&n| self.sequences[n].iter().copied()).collect()
        };
        let rows = rows_of(&numbers[share]);
        let studies: Vec<&Study> = rows.iter().map(|&row| &self.corpus.studies()[row as usize]).collect();
        let drawn = self.draw(&rows, &studies, crop);
        let statements: Vec<Option<Statement>> = rows.iter().map(|&row| self.statement(row, crop)).collect();
        let tokens = self.tokens(&rows, &statements, crop);
        Ok(Batch {
            truth: self.truth(&rows, &studies, &drawn, statements)?,
            images: image_input(self.corpus, &drawn, self.model.image.size as usize)?,
            reports: ReportInput::new(
                &tokens,
                |id| self.pieces.is_continuation(id),
                self.pieces.separator(),
                self.model.text.max_tokens,
                self.model.semantics,
            ),
            relations: self.relations(numbers),
        })
    }

    /// The statement that is read in place of the report, if any.
    fn statement(&self, row: u32, crop: Crop) -> Option<Statement> {
        let Crop::Random { seed, epoch } = crop else { return None };
        if self.statements <= 0.0 {
            return None;
        }
        let mut random = sampler::random(seed, [epoch, u64::from(row)], Purpose::Statements);
        let chosen = random.random_bool(self.statements.min(1.0));
        let study = &self.corpus.studies()[row as usize];
        chosen.then(|| statements::draw(study, &self.model.findings, &mut random)).flatten()
    }

    /// Word pieces of reports; drawn sentences and statements where crops are drawn too and the
    /// configuration asks for it.
    fn tokens(&self, rows: &[u32], statements: &[Option<Statement>], crop: Crop) -> Vec<Vec<u32>> {
        let window = self.model.text.max_tokens as usize;
        let text = |(&row, statement): (&u32, &Option<Statement>)| {
            let sentences = &self.reports[row as usize];
            match (statement, crop) {
                (Some(statement), _) => self.pieces.encode(&statement.text, window),
                (None, Crop::Random { seed, epoch }) if self.draw_sentences => {
                    let mut random = sampler::random(seed, [epoch, u64::from(row)], Purpose::Sentences);
                    sentences.drawn(self.pieces, window, &mut random)
                }
                _ => sentences.whole(self.pieces, window),
            }
        };
        rows.iter().zip(statements).map(text).collect()
    }

    /// How the studies of the sequences `numbers` belong together.
    fn relations(&self, numbers: &[usize]) -> Relations {
        let least = if self.short_sequences { 2 } else { self.full };
        let (mut steps, mut first) = (Vec::new(), 0);
        for sequence in numbers.iter().map(|&n| &self.sequences[n]) {
            if sequence.len() >= least {
                let study_of = |step: usize| if step < sequence.len() { (first + step) as i64 } else { -1 };
                steps.extend((0..self.full).map(study_of));
            }
            first += sequence.len();
        }
        Relations::of_sequences(Tensor::from_slice(&steps).view([-1, self.full as i64]))
    }

    /// Draws pictures and crops for each study.
    fn draw(&self, rows: &[u32], studies: &[&Study], crop: Crop) -> Vec<ImageSelection> {
        let (stored, side) = (self.corpus.image_size(), self.model.image.size as usize);
        let draw = |(&row, study): (&u32, &&Study)| match crop {
            Crop::Centre => ImageSelection::centre(study, stored, side),
            Crop::Random { seed, epoch } => {
                // A further frontal image of a visit as often as the first.
                let choices = study.alternative_frontals.len();
                let mut random = sampler::random(seed, [epoch, u64::from(row)], Purpose::Pictures);
                ImageSelection::random(study, choices, stored, side, &mut random)
            }
        };
        rows.iter().zip(studies).map(draw).collect()
    }

    /// Labels and boxes, where the model has heads for findings. Boxes are those of the first
    /// frontal picture.
    fn truth(
        &self,
        rows: &[u32],
        studies: &[&Study],
        drawn: &[ImageSelection],
        statements: Vec<Option<Statement>>,
    ) -> Result<Option<Truth>> {
        let (image, findings) = (&self.model.image, &self.model.findings);
        if findings.is_empty() {
            return Ok(None);
        }
        let (side, grid) = (image.size as usize, (image.size / image.patch) as usize);
        let known =
            rows.iter().zip(studies).zip(drawn).zip(statements).map(|(((&row, &study), drawn), statement)| Known {
                study,
                frame: Frame { stored: self.corpus.image_size(), corner: drawn.corners[0], side, grid },
                statement,
                follows: self.follows[row as usize],
            });
        truth(&known.collect::<Vec<_>>(), findings, grid).map(Some)
    }
}
