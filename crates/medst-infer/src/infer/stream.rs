//! Many studies: all cores decode the next ones while the model computes.
//!
//! A picture that cannot be read is left out and listed. A study whose lateral view is damaged keeps its frontal one, as in a corpus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

use medst_data::corpus::Corpus;
use medst_data::gather::{FoundStudy, Gathered, LeftOut, Picture};
use medst_data::image::Notes;
use medst_data::progress::Progress;
use rayon::prelude::*;

use super::engine::Engine;
use super::sight::{Radiograph, Sight, Views};
use super::text::Text;
use crate::eval::Vectors;
use crate::{Error, Result};

/// Studies that are decoded at once.
const CHUNK: usize = 32;

/// What of the studies is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub images: bool,
    pub features: bool,
    pub reports: bool,
}

/// Vectors of the studies that could be used.
#[derive(Debug)]
pub struct Collected {
    /// Numbers of the studies among those that were gathered, ascending.
    pub studies: Vec<usize>,
    /// For each of `studies` its row in `images`, and in `reports`.
    pub image_of: Vec<Option<usize>>,
    pub report_of: Vec<Option<usize>>,
    /// `[n, D]`.
    pub images: Vectors,
    /// `[n, H]`; no rows unless they were asked for.
    pub features: Vectors,
    /// `[m, D]`.
    pub reports: Vectors,
    /// In addition to what was left out when the studies were gathered.
    pub left_out: Vec<LeftOut>,
    /// How many pictures were read although their files are odd, by what was found and done.
    pub notes: NoteCounts,
    /// Reports whose end the model's window cuts off.
    pub truncated: usize,
}

/// Pictures by what should be known of how they were read.
pub type NoteCounts = BTreeMap<&'static str, u64>;

/// What to report about files: those that cannot be read, and how unusual ones were read.
#[derive(Debug, Default)]
pub struct Remarks {
    pub problems: Vec<LeftOut>,
    pub notes: NoteCounts,
}

/// A decoded study; its number, and what to report about its files.
struct Decoded {
    number: usize,
    views: Option<Views>,
    text: Option<Text>,
    remarks: Remarks,
}

/// Decodes one picture, and counts what should be known of how its file was read.
///
/// # Errors
/// A reason, without the file's name.
pub fn see(
    sight: Sight,
    corpus: Option<&Corpus>,
    picture: &Picture,
    counts: &mut NoteCounts,
) -> Result<Radiograph, String> {
    let mut notes = Notes::default();
    let seen = see_noting(sight, corpus, picture, &mut notes);
    if seen.is_ok() {
        notes.iter().for_each(|note| *counts.entry(note).or_default() += 1);
    }
    seen
}

fn see_noting(
    sight: Sight,
    corpus: Option<&Corpus>,
    picture: &Picture,
    notes: &mut Notes,
) -> Result<Radiograph, String> {
    match (picture, corpus) {
        (Picture::File(path), _) => sight.open_noting(path, notes).map_err(|error| match error {
            Error::Data(medst_data::Error::Image { message, .. }) => message,
            Error::Data(medst_data::Error::Io { source, .. }) => source.to_string(),
            other => other.to_string(),
        }),
        (Picture::Stored(index), Some(corpus)) => {
            sight.stored_picture(corpus, *index).map_err(|error| error.to_string())
        }
        (Picture::Stored(_), None) => Err("a picture of a corpus, without the corpus".into()),
    }
}

/// The views of one study; what to report about its files is added to `remarks`.
///
/// # Errors
/// A picture of a corpus that cannot be read: then it is the corpus that is broken.
pub fn views(
    sight: Sight,
    corpus: Option<&Corpus>,
    study: &FoundStudy,
    remarks: &mut Remarks,
) -> Result<Option<Views>> {
    let mut open = |picture: &Option<Picture>| {
        let Some(picture) = picture else { return Ok(None) };
        if let (Picture::Stored(index), Some(corpus)) = (picture, corpus) {
            return sight.stored_picture(corpus, *index).map(Some);
        }
        match see(sight, corpus, picture, &mut remarks.notes) {
            Ok(own) => Ok(Some(own)),
            Err(reason) => {
                remarks.problems.push(LeftOut { file: picture.to_string(), reason });
                Ok(None)
            }
        }
    };
    let frontal = open(&study.frontal)?;
    if study.frontal.is_some() && frontal.is_none() {
        // Its lateral view alone would be another kind of study.
        return Ok(None);
    }
    let lateral = open(&study.lateral)?;
    Ok(Views::of(frontal, lateral))
}

/// Embeds studies, in order.
///
/// # Errors
/// A corpus that cannot be read or whose pictures are smaller than the model's input, a stop request, an error of libtorch.
pub fn embed(engine: &Engine, gathered: &Gathered, wanted: Wanted, progress: &dyn Progress) -> Result<Collected> {
    let (sight, corpus) = (engine.sight(), gathered.corpus.as_ref());
    if let Some(corpus) = corpus.filter(|corpus| corpus.image_size() < sight.side()) {
        let (side, stored) = (sight.side(), corpus.image_size());
        return Err(Error::Config(format!(
            "the model reads images of {side} pixels, but the images of the corpus have only {stored}"
        )));
    }
    let decode = |(number, study): (usize, &FoundStudy)| -> Result<Decoded> {
        let mut remarks = Remarks::default();
        let views = if wanted.images { views(sight, corpus, study, &mut remarks)? } else { None };
        let text = study.report.as_ref().filter(|_| wanted.reports).and_then(|report| {
            let text = engine.reader().cleaned(report);
            text.map_err(|reason| remarks.problems.push(LeftOut { file: study.id.clone(), reason })).ok()
        });
        Ok(Decoded { number, views, text, remarks })
    };
    let mut collector = Collector::new(engine);
    progress.begin("embedding", Some(gathered.studies.len() as u64));
    let numbered: Vec<(usize, &FoundStudy)> = gathered.studies.iter().enumerate().collect();
    let lanes = engine.lanes();
    let embedded = std::thread::scope(|scope| -> Result<()> {
        // Either channel's far end is gone when embedding failed or was stopped.
        let (sender, decoded) = mpsc::sync_channel::<(usize, Vec<Result<Decoded>>)>(2);
        scope.spawn(move || {
            let chunk =
                |chunk: &[(usize, &FoundStudy)]| chunk.par_iter().map(|study| decode(*study)).collect::<Vec<_>>();
            numbered.chunks(CHUNK).enumerate().all(|(n, own)| sender.send((n, chunk(own))).is_ok())
        });
        let decoded = Arc::new(Mutex::new(decoded));
        let (sender, embedded) = mpsc::sync_channel::<(usize, Result<Part>)>(lanes.count);
        for _ in 0..lanes.count {
            let (decoded, sender) = (decoded.clone(), sender.clone());
            scope.spawn(move || {
                lanes.enter();
                // The lock is free again as soon as there is a chunk, or none will come.
                let next = || decoded.lock().ok()?.recv().ok();
                let part =
                    |chunk: Vec<Result<Decoded>>| Part::of(engine, wanted, chunk.into_iter().collect::<Result<_>>()?);
                while let Some((n, chunk)) = next() {
                    if sender.send((n, part(chunk))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((decoded, sender));
        // Chunks may overtake each other.
        let mut early = BTreeMap::new();
        for (n, part) in embedded {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            early.insert(n, part?);
            while let Some(part) = early.remove(&collector.parts) {
                progress.advance(part.studies.len() as u64);
                collector.add(part);
            }
        }
        Ok(())
    });
    lanes.leave();
    embedded?;
    progress.end();
    collector.finish()
}

/// Studies with what the model made of them.
struct Part {
    studies: Vec<Decoded>,
    /// Embeddings, states, and reports' embeddings; of those who have them, in order.
    values: [Vec<f32>; 3],
}

impl Part {
    fn of(engine: &Engine, wanted: Wanted, studies: Vec<Decoded>) -> Result<Part> {
        let views: Vec<&Views> = studies.iter().filter_map(|own| own.views.as_ref()).collect();
        let texts: Vec<&Text> = studies.iter().filter_map(|own| own.text.as_ref()).collect();
        let mut values = [(); 3].map(|()| Vec::new());
        if !views.is_empty() {
            let images = engine.images(&views)?;
            values[0] = images.embeddings.into_values();
            if wanted.features {
                values[1] = images.features.into_values();
            }
        }
        if !texts.is_empty() {
            values[2] = engine.texts(&texts)?.into_values();
        }
        Ok(Part { studies, values })
    }
}

struct Collector<'a> {
    engine: &'a Engine,
    all: Collected,
    values: [Vec<f32>; 3],
    /// That came so far.
    parts: usize,
}

impl Collector<'_> {
    fn new(engine: &Engine) -> Collector<'_> {
        let none = || Vectors::new(Vec::new(), 1).expect("no rows");
        let all = Collected {
            studies: Vec::new(),
            image_of: Vec::new(),
            report_of: Vec::new(),
            images: none(),
            features: none(),
            reports: none(),
            left_out: Vec::new(),
            notes: NoteCounts::new(),
            truncated: 0,
        };
        Collector { engine, all, values: [(); 3].map(|()| Vec::new()), parts: 0 }
    }

    fn add(&mut self, part: Part) {
        let width = self.engine.width();
        let (mut next_image, mut next_report) = (self.values[0].len() / width, self.values[2].len() / width);
        self.values.iter_mut().zip(&part.values).for_each(|(all, own)| all.extend_from_slice(own));
        self.parts += 1;
        let take = |there: bool, next: &mut usize| {
            there.then(|| {
                *next += 1;
                *next - 1
            })
        };
        for own in part.studies {
            let image = take(own.views.is_some(), &mut next_image);
            let report = take(own.text.is_some(), &mut next_report);
            self.all.truncated += usize::from(own.text.is_some_and(|text| text.truncated));
            self.all.left_out.extend(own.remarks.problems);
            for (note, count) in own.remarks.notes {
                *self.all.notes.entry(note).or_default() += count;
            }
            if image.is_some() || report.is_some() {
                self.all.studies.push(own.number);
                self.all.image_of.push(image);
                self.all.report_of.push(report);
            }
        }
    }

    fn finish(self) -> Result<Collected> {
        let [images, features, reports] = self.values;
        let (width, feature_width) = (self.engine.width(), self.engine.model().config.image.hidden_size as usize);
        Ok(Collected {
            images: Vectors::new(images, width)?,
            features: Vectors::new(features, feature_width)?,
            reports: Vectors::new(reports, width)?,
            ..self.all
        })
    }
}
