//! From inputs (decoded files, or a corpus' stored pictures) to vectors: all cores decode the next
//! studies while the model computes.
//!
//! A file that cannot be read is left out and listed. A study whose lateral view is damaged keeps
//! its frontal one, as in a corpus.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use medst_data::corpus::Corpus;
use medst_data::gather::{FoundStudy, Gathered, LeftOut, PictureLocation};
use medst_data::image::Notes;
use medst_data::progress::Progress;
use medst_data::study::{ImageIndex, Study};
use rayon::prelude::*;

use super::batch;
use super::forward::{Begun, EngineRef, Prepared, check_finite};
use super::preprocessing::{Preprocessing, Radiograph, Views};
use super::text::Text;
use super::vectors::Vectors;
use crate::model::lanes::Lanes;
use crate::{Error, Result};

/// Pictures (or reports, of studies without any) that are decoded at once, at least.
const CHUNK: usize = 32;

/// Where a picture is read from.
#[derive(Clone, Copy, Debug)]
pub enum ImageSource<'a> {
    File(&'a Path),
    Stored(&'a Corpus, ImageIndex),
}

/// A study that is to be embedded.
#[derive(Clone, Copy, Debug)]
pub struct StudyInput<'a> {
    /// Names it where its report cannot be read.
    pub id: &'a str,
    pub frontal: Option<ImageSource<'a>>,
    pub lateral: Option<ImageSource<'a>>,
    /// Cleaned.
    pub report: Option<&'a str>,
}

impl<'a> StudyInput<'a> {
    pub fn stored(corpus: &'a Corpus, study: &'a Study) -> StudyInput<'a> {
        StudyInput {
            id: &study.study.0,
            frontal: Some(ImageSource::Stored(corpus, study.frontal)),
            lateral: study.lateral.map(|index| ImageSource::Stored(corpus, index)),
            report: study.report.as_deref(),
        }
    }

    /// * `corpus`: of [`Gathered`]; what it does not hold has no picture.
    pub fn found(study: &'a FoundStudy, corpus: Option<&'a Corpus>) -> StudyInput<'a> {
        let source = |picture: &'a PictureLocation| match picture {
            PictureLocation::File(path) => Some(ImageSource::File(path)),
            PictureLocation::Stored(index) => corpus.map(|corpus| ImageSource::Stored(corpus, *index)),
        };
        StudyInput {
            id: &study.id,
            frontal: study.frontal.as_ref().and_then(source),
            lateral: study.lateral.as_ref().and_then(source),
            report: study.report.as_deref(),
        }
    }

    fn pictures(&self) -> usize {
        usize::from(self.frontal.is_some()) + usize::from(self.lateral.is_some())
    }
}

/// What is computed of the studies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingOutputs {
    pub images: bool,
    pub features: bool,
    pub reports: bool,
}

impl EmbeddingOutputs {
    pub const ALL: EmbeddingOutputs = EmbeddingOutputs { images: true, features: true, reports: true };
}

/// Vectors of the studies that could be used.
#[derive(Debug)]
pub struct Collected {
    /// Numbers of the studies among those that were given, ascending.
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
#[derive(Default)]
struct Remarks {
    problems: Vec<LeftOut>,
    notes: NoteCounts,
}

/// Decodes one picture, and counts what should be known of how its file was read. A file that
/// cannot be read is a remark.
///
/// # Errors
/// A picture of a corpus that cannot be read: then it is the corpus that is broken.
fn decode(source: ImageSource<'_>, preprocessing: Preprocessing, remarks: &mut Remarks) -> Result<Option<Radiograph>> {
    let path = match source {
        ImageSource::Stored(corpus, index) => return preprocessing.stored_picture(corpus, index).map(Some),
        ImageSource::File(path) => path,
    };
    let mut notes = Notes::default();
    let reason = match preprocessing.open_noting(path, &mut notes) {
        Ok(picture) => {
            notes.iter().for_each(|note| *remarks.notes.entry(note).or_default() += 1);
            return Ok(Some(picture));
        }
        Err(Error::Data(medst_data::Error::Image { reason, .. })) => reason.to_string(),
        Err(Error::Data(medst_data::Error::Io { source, .. })) => source.to_string(),
        Err(other) => other.to_string(),
    };
    remarks.problems.push(LeftOut { file: path.display().to_string(), reason });
    Ok(None)
}

/// The views of a study of which every file has to be readable.
///
/// # Errors
/// Names the first picture that cannot be read.
pub fn views(study: StudyInput<'_>, preprocessing: Preprocessing) -> Result<Option<Views>> {
    views_by(study, |source| match source {
        ImageSource::File(path) => preprocessing.open(path).map(Some),
        ImageSource::Stored(corpus, index) => preprocessing.stored_picture(corpus, index).map(Some),
    })
}

fn views_by(
    study: StudyInput<'_>,
    mut open: impl FnMut(ImageSource<'_>) -> Result<Option<Radiograph>>,
) -> Result<Option<Views>> {
    let mut open = |source: Option<ImageSource<'_>>| source.map_or(Ok(None), &mut open);
    let frontal = open(study.frontal)?;
    if study.frontal.is_some() && frontal.is_none() {
        // Its lateral view alone would be another kind of study.
        return Ok(None);
    }
    Ok(Views::new(frontal, open(study.lateral)?))
}

/// Embeds the studies of files or of a corpus, in order.
///
/// # Errors
/// As [`each_part`]; values that are not finite.
pub fn embed<'a>(
    engine: impl Into<EngineRef<'a>>,
    gathered: &Gathered,
    outputs: EmbeddingOutputs,
    progress: &dyn Progress,
) -> Result<Collected> {
    progress.begin("embedding", Some(gathered.studies.len() as u64));
    let collected = collect(engine, &inputs(gathered), outputs, progress)?;
    collected.check_finite()?;
    progress.end();
    Ok(collected)
}

/// What is to be embedded of what was found.
pub fn inputs(gathered: &Gathered) -> Vec<StudyInput<'_>> {
    gathered.studies.iter().map(|study| StudyInput::found(study, gathered.corpus.as_ref())).collect()
}

/// Embeds studies, in order. Values may not be finite where weights are damaged.
///
/// # Errors
/// As [`each_part`].
pub fn collect<'a>(
    engine: impl Into<EngineRef<'a>>,
    studies: &[StudyInput<'_>],
    outputs: EmbeddingOutputs,
    progress: &dyn Progress,
) -> Result<Collected> {
    let engine = engine.into();
    let mut all = Collected::new(engine)?;
    each_part(engine, studies, outputs, progress, |part| {
        all.append(part);
        Ok(())
    })?;
    Ok(all)
}

/// Embeds studies part by part, in order: `visit` gets the vectors of each part, whose studies are
/// numbered among all.
///
/// One thread has all cores decode the next parts and puts them into batches, [`Lanes`] of threads
/// compute, and the calling thread visits.
///
/// # Errors
/// A corpus that cannot be read or whose pictures are smaller than the model's input, a stop
/// request, an error of libtorch.
pub fn each_part(
    engine: EngineRef<'_>,
    studies: &[StudyInput<'_>],
    outputs: EmbeddingOutputs,
    progress: &dyn Progress,
    mut visit: impl FnMut(Collected) -> Result<()>,
) -> Result<()> {
    let costs: Vec<usize> = studies.iter().map(|study| study.pictures().max(1)).collect();
    let chunks = batch::by_cost(&costs, CHUNK.next_multiple_of(engine.limits.images.max(1)));
    let lanes = Lanes::for_many(engine.model);
    let visited = std::thread::scope(|scope| -> Result<()> {
        // A channel's far end is gone when embedding failed or was stopped.
        let (sender, decoded) = mpsc::sync_channel::<(usize, Result<Part<Prepared>>)>(2);
        scope.spawn(move || {
            let part = |numbers: &[usize]| Part::decode(engine, studies, numbers, outputs);
            chunks.iter().enumerate().all(|(n, numbers)| sender.send((n, part(numbers))).is_ok())
        });
        let decoded = Arc::new(Mutex::new(decoded));
        let (sender, computed) = mpsc::sync_channel::<(usize, Result<(usize, Collected)>)>(lanes.count);
        for _ in 0..lanes.count {
            let (decoded, sender) = (decoded.clone(), sender.clone());
            scope.spawn(move || {
                lanes.enter();
                // The lock is free again as soon as there is a part, or none will come.
                let next = || decoded.lock().ok()?.recv().ok();
                let finish = |(n, begun): (usize, Result<Part<Begun>>)| {
                    sender.send((n, begun.and_then(|part| part.finish(engine, outputs)))).is_ok()
                };
                // A GPU computes a part while the vectors of the one before are fetched.
                let mut before = None;
                while let Some((n, part)) = next() {
                    let begun = part.and_then(|part| part.begin(engine));
                    if !before.replace((n, begun)).is_none_or(finish) {
                        return;
                    }
                }
                before.map(finish);
            });
        }
        drop((decoded, sender));
        // Parts may overtake each other.
        let (mut early, mut count) = (BTreeMap::new(), 0);
        for (n, part) in computed {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            early.insert(n, part?);
            while let Some((studies, part)) = early.remove(&count) {
                count += 1;
                visit(part)?;
                progress.advance(studies as u64);
            }
        }
        Ok(())
    });
    lanes.leave();
    visited
}

/// Some studies, with what the next thread needs of them.
struct Part<T> {
    studies: Vec<Outcome>,
    content: T,
}

/// What became of a study's files.
struct Outcome {
    number: usize,
    has_image: bool,
    has_report: bool,
    is_truncated: bool,
    remarks: Remarks,
}

/// A study after decoding.
struct Decoded {
    outcome: Outcome,
    views: Option<Views>,
    text: Option<Text>,
}

impl Part<Prepared> {
    fn decode(
        engine: EngineRef<'_>,
        studies: &[StudyInput<'_>],
        numbers: &[usize],
        outputs: EmbeddingOutputs,
    ) -> Result<Part<Prepared>> {
        let decode = |&number: &usize| -> Result<Decoded> {
            let (study, mut remarks) = (studies[number], Remarks::default());
            let views = match outputs.images {
                true => views_by(study, |source| decode(source, engine.preprocessing, &mut remarks))?,
                false => None,
            };
            let text = study.report.filter(|_| outputs.reports).and_then(|report| {
                let text = engine.reader.cleaned(report);
                let left_out = |reason: String| LeftOut { file: study.id.to_string(), reason };
                text.map_err(|error| remarks.problems.push(left_out(error.to_string()))).ok()
            });
            let outcome = Outcome {
                number,
                has_image: views.is_some(),
                has_report: text.is_some(),
                is_truncated: text.as_ref().is_some_and(|text| text.truncated),
                remarks,
            };
            Ok(Decoded { outcome, views, text })
        };
        let decoded = numbers.par_iter().map(decode).collect::<Result<Vec<_>>>()?;
        let views: Vec<&Views> = decoded.iter().filter_map(|study| study.views.as_ref()).collect();
        let texts: Vec<&Text> = decoded.iter().filter_map(|study| study.text.as_ref()).collect();
        let content = engine.prepare(&views, &texts)?;
        Ok(Part { studies: decoded.into_iter().map(|study| study.outcome).collect(), content })
    }

    fn begin(self, engine: EngineRef<'_>) -> Result<Part<Begun>> {
        Ok(Part { studies: self.studies, content: engine.begin(self.content)? })
    }
}

impl Part<Begun> {
    /// The number of studies, and the vectors of those that could be used.
    fn finish(self, engine: EngineRef<'_>, outputs: EmbeddingOutputs) -> Result<(usize, Collected)> {
        let (images, reports) = engine.finish(self.content)?;
        let mut part = Collected { images: images.embeddings, reports, ..Collected::new(engine)? };
        if outputs.features {
            part.features = images.features;
        }
        let count = self.studies.len();
        let (mut next_image, mut next_report) = (0, 0);
        let take = |there: bool, next: &mut usize| {
            there.then(|| {
                *next += 1;
                *next - 1
            })
        };
        for study in self.studies {
            let image = take(study.has_image, &mut next_image);
            let report = take(study.has_report, &mut next_report);
            if image.is_some() || report.is_some() {
                part.studies.push(study.number);
                part.image_of.push(image);
                part.report_of.push(report);
            }
            part.truncated += usize::from(study.is_truncated);
            part.left_out.extend(study.remarks.problems);
            add_notes(&mut part.notes, &study.remarks.notes);
        }
        Ok((count, part))
    }
}

pub(super) fn add_notes(all: &mut NoteCounts, notes: &NoteCounts) {
    notes.iter().for_each(|(note, count)| *all.entry(note).or_default() += count);
}

impl Collected {
    fn new(engine: EngineRef<'_>) -> Result<Collected> {
        let none = |width: usize| Vectors::new(Vec::new(), width);
        Ok(Collected {
            studies: Vec::new(),
            image_of: Vec::new(),
            report_of: Vec::new(),
            images: none(engine.width())?,
            features: none(engine.feature_width())?,
            reports: none(engine.width())?,
            left_out: Vec::new(),
            notes: NoteCounts::new(),
            truncated: 0,
        })
    }

    /// Adds a part with the studies that come next.
    fn append(&mut self, part: Collected) {
        let (images, reports) = (self.images.len(), self.reports.len());
        self.studies.extend(part.studies);
        self.image_of.extend(part.image_of.into_iter().map(|row| row.map(|row| images + row)));
        self.report_of.extend(part.report_of.into_iter().map(|row| row.map(|row| reports + row)));
        self.images.append(part.images);
        self.features.append(part.features);
        self.reports.append(part.reports);
        self.left_out.extend(part.left_out);
        add_notes(&mut self.notes, &part.notes);
        self.truncated += part.truncated;
    }

    /// # Errors
    /// A number that is not finite.
    pub fn check_finite(&self) -> Result<()> {
        [&self.images, &self.features, &self.reports].into_iter().try_for_each(|vectors| check_finite(vectors.values()))
    }
}
