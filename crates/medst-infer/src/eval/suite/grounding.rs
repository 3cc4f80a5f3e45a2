//! Phrases with boxes in the frontal picture, and their heat maps.

use medst_data::corpus::Corpus;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::eval::encode::Encoder;
use crate::eval::result::{Protocol, Task, TaskResult};
use crate::eval::tasks::{Grounding, Region};
use crate::infer::heat::{HeatMap, Likeness, Query};
use crate::labels::truth::{self, PhraseBoxes};
use crate::{Error, Result};

/// Heat maps that the literature compares.
const VARIANTS: [(&str, Likeness); 4] = [
    ("words", Likeness { query: Query::Words, smooth: false }),
    ("words, smoothed", Likeness { query: Query::Words, smooth: true }),
    ("sentence vector", Likeness { query: Query::Sentence, smooth: false }),
    ("sentence vector, smoothed", Likeness { query: Query::Sentence, smooth: true }),
];
/// Heat maps that are held at once.
const HEAT_MAPS: usize = 64;

struct Boxes(Vec<PhraseBoxes>);

/// With phrases that the picture does not show, which have no boxes.
struct BoxesByVariant(Vec<PhraseBoxes>);

/// Reads the boxes.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let boxes = truth::phrase_boxes(context.corpus, &context.part, context.seen, &mut remarks.skipped);
    if boxes.is_empty() {
        return Err("no study has boxes".into());
    }
    Ok(match Task::Grounding.protocol(context.protocol) {
        Protocol::Literature => {
            let absent = truth::absent_phrases(context.corpus, &context.part, &boxes);
            Box::new(BoxesByVariant(boxes.into_iter().chain(absent).collect()))
        }
        Protocol::Strict | Protocol::Reference => Box::new(Boxes(boxes)),
    })
}

impl Plan for Boxes {
    fn evaluate(self: Box<Self>, context: &Context<'_>, encoded: &Encoded<'_>, _: &mut Remarks) -> Result<TaskResult> {
        let likenesses = [Likeness::default()];
        let regions = regions(context.corpus, &self.0, encoded.encoder, &likenesses);
        let task = Grounding { bootstrap: context.bootstrap, by: &context.by };
        task.evaluate(regions.map(|of_each| Ok(of_each?.remove(0))))
    }
}

impl Plan for BoxesByVariant {
    fn evaluate(self: Box<Self>, context: &Context<'_>, encoded: &Encoded<'_>, _: &mut Remarks) -> Result<TaskResult> {
        let likenesses = VARIANTS.map(|variant| variant.1);
        let regions = regions(context.corpus, &self.0, encoded.encoder, &likenesses);
        let task = Grounding { bootstrap: context.bootstrap, by: &context.by };
        task.evaluate_variants(&VARIANTS.map(|variant| variant.0), regions)
    }
}

/// Boxes with their heat maps by each likeness, some at a time.
fn regions<'a>(
    corpus: &'a Corpus,
    boxes: &'a [PhraseBoxes],
    encoder: &'a dyn Encoder,
    likenesses: &'a [Likeness],
) -> impl Iterator<Item = Result<Vec<Region>>> + 'a {
    boxes.chunks(HEAT_MAPS).flat_map(move |part| {
        let wanted: Vec<(usize, String)> = part.iter().map(|boxes| (boxes.row, boxes.phrase.clone())).collect();
        let none = || Error::Evaluation("these embeddings have no heat maps, which need local embeddings".into());
        let mut maps = match encoder.heat_maps_by(corpus, &wanted, likenesses).and_then(|maps| maps.ok_or_else(none)) {
            Ok(maps) => maps.into_iter().map(Vec::into_iter).collect::<Vec<_>>(),
            Err(error) => return vec![Err(error)],
        };
        let region = |boxes: &PhraseBoxes, map: HeatMap| Region {
            phrase: boxes.phrase.clone(),
            heat: map.values,
            side: map.side,
            boxes: boxes.boxes.clone(),
            subject: corpus.studies()[boxes.row].subject.0.clone(),
            row: boxes.row,
        };
        let of_each = |boxes: &PhraseBoxes| {
            Ok(maps.iter_mut().filter_map(Iterator::next).map(|map| region(boxes, map)).collect())
        };
        part.iter().map(of_each).collect()
    })
}
