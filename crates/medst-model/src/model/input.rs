//! The model's input: typed batches that cannot pair a lateral view with the frontal view of
//! another study.
//!
//! Letters: `B` studies, `L` lateral views among them, `S` side in pixels, `N` tokens of the
//! longest report, `W` words of the longest report (without `[CLS]`), `Q` full sequences, `T` steps
//! of a sequence.

use tch::{Device, Kind, Tensor};

use super::config::Semantics;
use crate::device::{send, send_rows};
use crate::ops::pinned;

/// Radiographs of `B` studies. Pixels stay 8-bit with one channel until they are on the device.
#[derive(Debug)]
pub struct ImageInput {
    /// `[B, S, S]` uint8.
    pub frontal: Tensor,
    /// `[L, S, S]` uint8, only the lateral views that exist (`L` may be 0).
    pub lateral: Tensor,
    /// For each of the `L` lateral views, the row of its study in `frontal`; strictly ascending.
    pub lateral_rows: Vec<i64>,
}

impl ImageInput {
    /// Number of studies, `B`.
    pub fn studies(&self) -> i64 {
        self.frontal.size()[0]
    }

    /// Studies `start … start + count`.
    pub fn part(&self, start: i64, count: i64) -> ImageInput {
        let inside = |row: &&i64| (start..start + count).contains(*row);
        let before = self.lateral_rows.iter().filter(|&&row| row < start).count() as i64;
        let lateral_rows: Vec<i64> = self.lateral_rows.iter().filter(inside).map(|row| row - start).collect();
        ImageInput {
            frontal: self.frontal.narrow(0, start, count),
            lateral: self.lateral.narrow(0, before, lateral_rows.len() as i64),
            lateral_rows,
        }
    }

    /// Another handle to the same pictures.
    pub fn handle(&self) -> ImageInput {
        self.part(0, self.studies())
    }

    /// The same studies without their lateral views.
    pub fn frontal_only(&self) -> ImageInput {
        let (frontal, lateral) = (self.frontal.shallow_clone(), self.lateral.narrow(0, 0, 0));
        ImageInput { frontal, lateral, lateral_rows: Vec::new() }
    }

    /// The same pictures in pinned memory, from which a GPU fetches them itself while the host
    /// continues.
    #[must_use]
    pub fn ready_for(self, device: Device) -> ImageInput {
        match device {
            Device::Cpu => self,
            _ => ImageInput { frontal: pinned(&self.frontal), lateral: pinned(&self.lateral), ..self },
        }
    }

    /// The same batch on another device.
    pub fn to_device(&self, device: Device) -> ImageInput {
        ImageInput {
            frontal: send(&self.frontal, device),
            lateral: send(&self.lateral, device),
            lateral_rows: self.lateral_rows.clone(),
        }
    }
}

/// Reports of `B` studies as word pieces.
#[derive(Debug)]
pub struct ReportInput {
    /// `[B, N]` int64, padded with 0 (`[PAD]`).
    pub ids: Tensor,
    /// `[B, N]` bool, true where a token exists.
    pub exists: Tensor,
    /// `[B, N]` int64: the word a token belongs to, counted from 0 = `[CLS]`; -1 for tokens of no
    /// word.
    pub word_of_token: Tensor,
    /// Words of each report, `[CLS]` not counted.
    pub word_counts: Vec<i64>,
    /// Columns `W` of the word features.
    pub words: i64,
    /// For each report, the seed that decides which of its units are dropped; the report's number
    /// in the batch until [`ReportInput::draw`] sets it.
    pub seeds: Vec<i64>,
}

impl ReportInput {
    /// Pads encoded reports into a batch.
    ///
    /// * `reports`: token ids of each report with `[CLS]` and `[SEP]`, unpadded; none may be empty.
    /// * `continues`: whether a token id is a continuation piece (`##…`) and so joins the word
    ///   before it.
    /// * `window`: the configured maximum number of tokens. In [`Semantics::Reference`] every
    ///   report is padded to it and the last token of a full window is not walked (its word is
    ///   lost); in [`Semantics::Corrected`] the batch is padded to its longest report and every
    ///   word is kept.
    pub fn new(
        reports: &[Vec<u32>],
        continues: impl Fn(u32) -> bool,
        separator: u32,
        window: i64,
        semantics: Semantics,
    ) -> ReportInput {
        let reference = semantics == Semantics::Reference;
        // A process may have no report of a batch; its column is then meaningless.
        let longest = reports.iter().map(Vec::len).max().unwrap_or(1) as i64;
        let tokens = if reference { window } else { longest };
        let layouts: Vec<Vec<i64>> = reports
            .iter()
            .map(|ids| match reference {
                true => {
                    let walked = ids.len().min((window - 1) as usize);
                    let mut words = words_of_tokens(&ids[..walked], &continues);
                    // The reference adds a word to its list when the next one begins or `[SEP]`
                    // comes. Where the window ends before `[SEP]`, the word being collected is
                    // never added.
                    if ids[..walked].last() != Some(&separator) {
                        let open = words.last().copied().unwrap_or(-1);
                        words.iter_mut().filter(|word| **word == open).for_each(|word| *word = -1);
                    }
                    words
                }
                false => words_of_tokens(ids, &continues),
            })
            .collect();
        let word_counts: Vec<i64> =
            layouts.iter().map(|layout| layout.iter().copied().max().unwrap_or(0).max(0)).collect();
        let words = match reference {
            true => tokens - 1,
            false => word_counts.iter().copied().max().unwrap_or(0),
        };
        let pad = |row: &mut Vec<i64>, value: i64| row.resize(tokens as usize, value);
        let (mut ids, mut word_of_token) = (Vec::new(), Vec::new());
        for (report, mut layout) in reports.iter().zip(layouts) {
            let mut row: Vec<i64> = report.iter().map(|&id| i64::from(id)).collect();
            pad(&mut row, 0);
            pad(&mut layout, -1);
            ids.extend(row);
            word_of_token.extend(layout);
        }
        let lengths: Vec<i64> = reports.iter().map(|report| report.len() as i64).collect();
        let shape = [reports.len() as i64, tokens];
        let exists = Tensor::arange(tokens, (Kind::Int64, Device::Cpu))
            .unsqueeze(0)
            .lt_tensor(&Tensor::from_slice(&lengths).unsqueeze(1));
        ReportInput {
            ids: Tensor::from_slice(&ids).view(shape),
            exists,
            word_of_token: Tensor::from_slice(&word_of_token).view(shape),
            word_counts,
            words,
            seeds: (0..shape[0]).collect(),
        }
    }

    /// Other units for dropout to take.
    ///
    /// * `first`: the place of the first report in the whole batch, of which this may be a part.
    pub fn draw(&mut self, seed: i64, first: i64) {
        self.seeds = (0..self.ids.size()[0]).map(|row| seed.wrapping_add(first + row)).collect();
    }

    /// `[B, W]` bool, true where a word exists.
    pub fn word_exists(&self) -> Tensor {
        Tensor::arange(self.words, (Kind::Int64, self.ids.device()))
            .unsqueeze(0)
            .lt_tensor(&send_rows(&self.word_counts, self.ids.device()).unsqueeze(1))
    }

    /// Reports `start … start + count`, padded like the whole batch.
    pub fn part(&self, start: i64, count: i64) -> ReportInput {
        let (first, end) = (start as usize, (start + count) as usize);
        let narrow = |x: &Tensor| x.narrow(0, start, count);
        ReportInput {
            ids: narrow(&self.ids),
            exists: narrow(&self.exists),
            word_of_token: narrow(&self.word_of_token),
            word_counts: self.word_counts[first..end].to_vec(),
            words: self.words,
            seeds: self.seeds[first..end].to_vec(),
        }
    }

    /// The same batch on another device.
    pub fn to_device(&self, device: Device) -> ReportInput {
        ReportInput {
            ids: send(&self.ids, device),
            exists: send(&self.exists, device),
            word_of_token: send(&self.word_of_token, device),
            word_counts: self.word_counts.clone(),
            words: self.words,
            seeds: self.seeds.clone(),
        }
    }
}

/// The word number of each token: a continuation piece joins the word before it.
fn words_of_tokens(ids: &[u32], continues: &impl Fn(u32) -> bool) -> Vec<i64> {
    let mut word = -1;
    ids.iter()
        .map(|&id| {
            if word < 0 || !continues(id) {
                word += 1;
            }
            word
        })
        .collect()
}

/// How the studies of a batch belong together.
#[derive(Debug)]
pub struct Relations {
    /// `[Q, T]` int64: rows of the studies that form sequences, in time order, -1 where a sequence
    /// has ended; `Q` may be 0. On the host, whatever device the rest is on.
    pub sequences: Tensor,
}

impl Relations {
    /// Sequences `[Q, T]`.
    pub fn of_sequences(sequences: Tensor) -> Relations {
        Relations { sequences }
    }

    /// Another handle to the same.
    fn handle(&self) -> Relations {
        Relations { sequences: self.sequences.shallow_clone() }
    }
}

/// Known findings of `B` studies, for [`crate::loss::findings`]. `F` findings, `P` patches.
#[derive(Debug)]
pub struct Truth {
    /// `[B, F]` float32: 1 where the finding is present, 0 where it is absent, NaN where that is
    /// not known.
    pub findings: Tensor,
    /// `[B, P, F]` float32: the share of each frontal patch that boxes of the finding cover, NaN
    /// where that is not known.
    pub patches: Tensor,
    /// `[B, P]` float32: the share of each frontal patch that boxes of the phrase cover which is
    /// read in place of the report; NaN where the text is none.
    pub named: Tensor,
    /// `[B, F]` float32: the course since the visit before, -1 improving, 0 stable, 1 worsening;
    /// NaN where that is not known.
    pub courses: Tensor,
    /// `[B, F]` float32: the course that the text states, where it is a statement of one; otherwise
    /// NaN.
    pub text_courses: Tensor,
}

impl Truth {
    /// The same on another device.
    pub fn to_device(&self, device: Device) -> Truth {
        let all = [&self.findings, &self.patches, &self.named, &self.courses, &self.text_courses];
        let [findings, patches, named, courses, text_courses] = all.map(|tensor| send(tensor, device));
        Truth { findings, patches, named, courses, text_courses }
    }
}

/// One training step's studies.
#[derive(Debug)]
pub struct Batch {
    pub images: ImageInput,
    pub reports: ReportInput,
    pub relations: Relations,
    /// Present where the model has heads for findings.
    pub truth: Option<Truth>,
}

impl Batch {
    /// The same batch with its pictures [ready](ImageInput::ready_for) for a device.
    #[must_use]
    pub fn ready_for(self, device: Device) -> Batch {
        Batch { images: self.images.ready_for(device), ..self }
    }

    /// The same batch on another device.
    pub fn to_device(&self, device: Device) -> Batch {
        Batch {
            images: self.images.to_device(device),
            reports: self.reports.to_device(device),
            relations: self.relations.handle(),
            truth: self.truth.as_ref().map(|truth| truth.to_device(device)),
        }
    }
}
