//! Many studies: all cores decode the next ones while the model computes.
//!
//! A picture that cannot be read is left out and listed. A study whose lateral view is damaged keeps its frontal one, as in a corpus.

use std::sync::mpsc;

use medst_data::corpus::Corpus;
use medst_data::gather::{FoundStudy, Gathered, LeftOut, Picture};
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
    /// Reports whose end the model's window cuts off.
    pub truncated: usize,
}

/// A decoded study; its number, and what is wrong with its files.
struct Decoded {
    number: usize,
    views: Option<Views>,
    text: Option<Text>,
    problems: Vec<LeftOut>,
}

/// Decodes one picture.
///
/// # Errors
/// A reason, without the file's name.
pub fn see(sight: Sight, corpus: Option<&Corpus>, picture: &Picture) -> Result<Radiograph, String> {
    match (picture, corpus) {
        (Picture::File(path), _) => sight.open(path).map_err(|error| match error {
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

/// The views of one study; files that cannot be read are added to `problems`.
///
/// # Errors
/// A picture of a corpus that cannot be read: then it is the corpus that is broken.
pub fn views(
    sight: Sight,
    corpus: Option<&Corpus>,
    study: &FoundStudy,
    problems: &mut Vec<LeftOut>,
) -> Result<Option<Views>> {
    let mut open = |picture: &Option<Picture>| {
        let Some(picture) = picture else { return Ok(None) };
        if let (Picture::Stored(index), Some(corpus)) = (picture, corpus) {
            return sight.stored_picture(corpus, *index).map(Some);
        }
        match see(sight, corpus, picture) {
            Ok(own) => Ok(Some(own)),
            Err(reason) => {
                problems.push(LeftOut { file: picture.to_string(), reason });
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
        return Err(Error::Config(format!("the model reads {side} pixels, the corpus holds pictures of {stored}")));
    }
    // The model stays on this thread; reading needs none.
    let reader = engine.reader().as_ref();
    let decode = |(number, study): (usize, &FoundStudy)| -> Result<Decoded> {
        let mut problems = Vec::new();
        let views = if wanted.images { views(sight, corpus, study, &mut problems)? } else { None };
        let text = study.report.as_ref().filter(|_| wanted.reports).and_then(|report| {
            let text = reader.cleaned(report);
            text.map_err(|reason| problems.push(LeftOut { file: study.id.clone(), reason })).ok()
        });
        Ok(Decoded { number, views, text, problems })
    };
    let mut collector = Collector::new(engine, wanted);
    progress.begin("embedding", Some(gathered.studies.len() as u64));
    let numbered: Vec<(usize, &FoundStudy)> = gathered.studies.iter().enumerate().collect();
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Result<Decoded>>>(2);
        scope.spawn(move || {
            // The receiver is gone when embedding failed or was stopped.
            numbered
                .chunks(CHUNK)
                .all(|chunk| sender.send(chunk.par_iter().map(|study| decode(*study)).collect::<Vec<_>>()).is_ok())
        });
        for chunk in receiver {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            let count = chunk.len() as u64;
            collector.add(chunk.into_iter().collect::<Result<_>>()?)?;
            progress.advance(count);
        }
        Ok(())
    })?;
    progress.end();
    collector.finish()
}

struct Collector<'a> {
    engine: &'a Engine,
    wanted: Wanted,
    all: Collected,
    values: [Vec<f32>; 3],
}

impl Collector<'_> {
    fn new(engine: &Engine, wanted: Wanted) -> Collector<'_> {
        let none = || Vectors::new(Vec::new(), 1).expect("no rows");
        let all = Collected {
            studies: Vec::new(),
            image_of: Vec::new(),
            report_of: Vec::new(),
            images: none(),
            features: none(),
            reports: none(),
            left_out: Vec::new(),
            truncated: 0,
        };
        Collector { engine, wanted, all, values: [(); 3].map(|()| Vec::new()) }
    }

    fn add(&mut self, chunk: Vec<Decoded>) -> Result<()> {
        let views: Vec<&Views> = chunk.iter().filter_map(|own| own.views.as_ref()).collect();
        let texts: Vec<&Text> = chunk.iter().filter_map(|own| own.text.as_ref()).collect();
        let width = self.engine.width();
        let (mut next_image, mut next_report) = (self.values[0].len() / width, self.values[2].len() / width);
        if !views.is_empty() {
            let images = self.engine.images(&views)?;
            self.values[0].extend_from_slice(images.embeddings.values());
            if self.wanted.features {
                self.values[1].extend_from_slice(images.features.values());
            }
        }
        if !texts.is_empty() {
            self.values[2].extend_from_slice(self.engine.texts(&texts)?.values());
        }
        let take = |there: bool, next: &mut usize| {
            there.then(|| {
                *next += 1;
                *next - 1
            })
        };
        for own in chunk {
            let image = take(own.views.is_some(), &mut next_image);
            let report = take(own.text.is_some(), &mut next_report);
            self.all.truncated += usize::from(own.text.is_some_and(|text| text.truncated));
            self.all.left_out.extend(own.problems);
            if image.is_some() || report.is_some() {
                self.all.studies.push(own.number);
                self.all.image_of.push(image);
                self.all.report_of.push(report);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Collected> {
        let [images, features, reports] = self.values;
        let (width, feature_width) = (self.engine.width(), self.engine.model().config.image.width as usize);
        Ok(Collected {
            images: Vectors::new(images, width)?,
            features: Vectors::new(features, feature_width)?,
            reports: Vectors::new(reports, width)?,
            ..self.all
        })
    }
}
