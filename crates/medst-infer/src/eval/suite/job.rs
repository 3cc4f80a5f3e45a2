//! A task on a corpus: what it needs encoded, and how truth and vectors become the evaluator's input.

use std::collections::{BTreeSet, HashMap};

use medst_data::corpus::Corpus;
use medst_data::import::mi_cxr::QUESTIONS;
use medst_data::import::ms_cxr_t::{PAIRS, SENTENCES};
use medst_data::split::Split;

use super::questions::questions;
use super::transfer::{TransferTruth, transfer};
use super::truth::{self, FindingLabels, PairTruth, PhraseBoxes, SentenceTruth, Skipped, skip};
use crate::eval::Vectors;
use crate::eval::bootstrap::Bootstrap;
use crate::eval::encode::{Encoder, RowVectors, Studies};
use crate::eval::pairs::ImagePairs;
use crate::eval::prompts;
use crate::eval::result::{Protocol, Task, TaskResult};
use crate::eval::subgroups::Subgroups;
use crate::eval::tasks::{
    BinaryFinding, ByFinding, Grounding, LinearProbe, PhraseProgression, Phrases, ProbeData, ProbeTruth, Progression,
    Prototypes, Question, QuestionVectors, Region, Retrieval, RetrievalData, SentencePairs, SequenceData,
    SequenceOrder, SeriesQuestions, TemporalImage, TemporalSentence, TemporalTransfer, TransferData, ZeroShot, words,
};
use crate::infer::heat::{HeatMap, Likeness, Query};
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
/// Column of a source's one class (COVIDx).
pub const CLASS: &str = "label";
/// Column that tables use for a diagnosis.
pub const DIAGNOSIS: &str = "finding";

/// What of a corpus is evaluated.
pub struct Context<'a> {
    pub corpus: &'a Corpus,
    /// Rows of the chosen part.
    pub part: Vec<usize>,
    /// Its split; `None` for the whole corpus.
    pub split: Option<Split>,
    /// The column that a probe learns.
    pub label: Option<&'a str>,
    /// Share of the stored pictures' side that is seen.
    pub seen: f64,
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: Vec<Subgroups>,
}

/// A task that the corpus allows.
pub struct Job {
    pub task: Task,
    kind: Kind,
    skipped: Skipped,
    notes: Vec<String>,
}

enum Kind {
    TemporalImage(PairTruth),
    TemporalTransfer(TransferTruth),
    Progression(PairTruth),
    PhraseProgression(PairTruth),
    TemporalSentence(SentenceTruth),
    ZeroShot(Vec<FindingLabels>),
    Retrieval(Vec<FindingLabels>),
    LinearProbe(ProbePlan),
    SequenceOrder(Vec<Vec<usize>>),
    SeriesQuestions(Vec<Question>),
    Grounding(Vec<PhraseBoxes>),
    /// With phrases that the picture does not show, which have no boxes.
    GroundingVariants(Vec<PhraseBoxes>),
}

struct ProbePlan {
    rows: Vec<usize>,
    splits: Vec<Split>,
    truth: ProbeTruth,
}

/// Vectors for what the jobs of a corpus need.
pub struct Encoded<'a> {
    pub studies: &'a Studies,
    pub texts: &'a HashMap<String, Vec<f32>>,
    pub encoder: &'a dyn Encoder,
}

impl Encoded<'_> {
    fn of_texts<S: AsRef<str>>(&self, texts: impl IntoIterator<Item = S>) -> Result<Vectors> {
        Vectors::from_rows(texts.into_iter().map(|text| &self.texts[text.as_ref()]))
    }
}

impl Job {
    /// Reads the truth that a task needs; fails with the reason if the corpus does not allow the
    /// task.
    pub fn plan(task: Task, context: &Context<'_>) -> Result<Job, String> {
        let (mut skipped, mut notes) = (Skipped::new(), Vec::new());
        let corpus = context.corpus;
        let table = |name: &str| match corpus.table(name) {
            Ok(Some(table)) => Ok(table),
            Ok(None) => {
                let source = if name == QUESTIONS { "mi-cxr" } else { "ms-cxr-t" };
                Err(format!("the corpus has no {name}.csv (create one with medst prepare {source})"))
            }
            Err(error) => Err(error.to_string()),
        };
        let findings = |skipped: &mut Skipped| truth::findings(corpus, &context.part, skipped);
        let kind = match task {
            Task::TemporalImage => Kind::TemporalImage(truth::pairs(corpus, &table(PAIRS)?, &mut skipped)?),
            Task::TemporalTransfer => Kind::TemporalTransfer(transfer(corpus, &table(PAIRS)?, &mut skipped)?),
            Task::Progression => {
                let mut pairs = truth::pairs(corpus, &table(PAIRS)?, &mut skipped)?;
                pairs.findings.iter_mut().for_each(|finding| finding.0 = words(&finding.0));
                match task.protocol(context.protocol) {
                    Protocol::Literature => Kind::PhraseProgression(pairs),
                    Protocol::Strict | Protocol::Reference => Kind::Progression(pairs),
                }
            }
            Task::TemporalSentence => Kind::TemporalSentence(truth::sentences(&table(SENTENCES)?, &mut skipped)?),
            Task::ZeroShot => {
                let findings = findings(&mut skipped);
                if findings.is_empty() {
                    return Err("no label column is a known finding with values 0 and 1".into());
                }
                Kind::ZeroShot(findings)
            }
            Task::Retrieval => Kind::Retrieval(match context.protocol {
                Protocol::Strict | Protocol::Literature => findings(&mut Skipped::new()),
                Protocol::Reference => Vec::new(),
            }),
            Task::LinearProbe => Kind::LinearProbe(probe(context, &mut skipped, &mut notes)?),
            Task::SequenceOrder => {
                let own = corpus.sequences().iter().filter(|own| context.split.is_none_or(|split| own.split == split));
                let long = own.filter(|sequence| sequence.studies.len() >= 3);
                let rows = long.map(|sequence| sequence.studies.iter().map(|&row| row as usize).collect());
                let sequences: Vec<Vec<usize>> = rows.collect();
                if sequences.is_empty() {
                    return Err("no subject has a sequence of three or more studies".into());
                }
                Kind::SequenceOrder(sequences)
            }
            Task::SeriesQuestions => {
                let found = questions(corpus, &table(QUESTIONS)?, &mut skipped)?;
                if found.is_empty() {
                    return Err("no usable question".into());
                }
                Kind::SeriesQuestions(found)
            }
            Task::Grounding => {
                let boxes = truth::phrase_boxes(corpus, &context.part, context.seen, &mut skipped);
                if boxes.is_empty() {
                    return Err("no study has boxes".into());
                }
                match task.protocol(context.protocol) {
                    Protocol::Literature => {
                        let absent = truth::absent_phrases(corpus, &context.part, &boxes);
                        Kind::GroundingVariants(boxes.into_iter().chain(absent).collect())
                    }
                    Protocol::Strict | Protocol::Reference => Kind::Grounding(boxes),
                }
            }
        };
        let empty = match &kind {
            Kind::TemporalImage(pairs) | Kind::Progression(pairs) | Kind::PhraseProgression(pairs) => {
                pairs.studies.is_empty()
            }
            Kind::TemporalSentence(sentences) => sentences.texts.is_empty(),
            _ => false,
        };
        if empty {
            let reasons: Vec<String> = skipped.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
            return Err(format!("no usable pair: {}", reasons.join("; ")));
        }
        Ok(Job { task, kind, skipped, notes })
    }

    /// Rows of the corpus whose studies are to be encoded.
    pub fn rows(&self, context: &Context<'_>) -> Vec<usize> {
        match &self.kind {
            Kind::TemporalImage(pairs) | Kind::Progression(pairs) | Kind::PhraseProgression(pairs) => {
                pairs.studies.iter().flatten().copied().collect()
            }
            Kind::TemporalTransfer(truth) => truth.pairs.studies.iter().flatten().copied().collect(),
            Kind::ZeroShot(_) | Kind::Retrieval(_) => context.part.clone(),
            Kind::LinearProbe(plan) => plan.rows.clone(),
            Kind::SequenceOrder(sequences) => sequences.iter().flatten().copied().collect(),
            Kind::SeriesQuestions(questions) => questions.iter().flat_map(|own| &own.rows).copied().collect(),
            Kind::TemporalSentence(_) | Kind::Grounding(_) | Kind::GroundingVariants(_) => Vec::new(),
        }
    }

    /// Texts that are to be encoded.
    pub fn texts(&self) -> Vec<String> {
        match &self.kind {
            Kind::TemporalSentence(sentences) => sentences.texts.iter().flatten().cloned().collect(),
            Kind::ZeroShot(findings) => findings
                .iter()
                .flat_map(|finding| [prompts::positive(&finding.name), prompts::negative(&finding.name)])
                .flatten()
                .collect(),
            Kind::Retrieval(findings) => findings.iter().flat_map(|finding| prompts::positive(&finding.name)).collect(),
            Kind::Progression(pairs) => pairs
                .findings
                .iter()
                .flat_map(|(name, _)| [prompts::improving(name), prompts::worsening(name)])
                .flatten()
                .collect(),
            Kind::PhraseProgression(pairs) => {
                pairs.findings.iter().flat_map(|(name, _)| prompts::progression(name)).flatten().collect()
            }
            Kind::SeriesQuestions(questions) => {
                let findings: BTreeSet<&String> = questions.iter().flat_map(Question::findings).collect();
                let of = |finding: &&String| [prompts::positive(finding), prompts::negative(finding)];
                let own = findings.iter().flat_map(of).flatten();
                own.chain(questions.iter().flat_map(Question::texts).cloned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a part of the task is left when no text can be encoded.
    pub fn can_do_without_texts(&self) -> bool {
        matches!(self.kind, Kind::Retrieval(_))
    }

    /// Leaves out what compares texts.
    pub fn do_without_texts(&mut self, reason: &str) {
        if let Kind::Retrieval(findings) = &mut self.kind {
            findings.clear();
            self.notes.push(format!("retrieval by finding was left out: {reason}"));
        }
    }

    /// Runs the task's evaluator.
    ///
    /// # Errors
    /// What the evaluator refuses.
    pub fn evaluate(self, context: &Context<'_>, encoded: &Encoded<'_>) -> Result<TaskResult> {
        let Job { task, kind, mut skipped, mut notes } = self;
        let (bootstrap, by, corpus) = (context.bootstrap, context.by.as_slice(), context.corpus);
        let protocol = task.protocol(context.protocol);
        let images = &encoded.studies.images;
        let subject = |row: usize| corpus.studies()[row].subject.0.clone();
        let mut result = match kind {
            Kind::TemporalImage(pairs) => {
                let pairs = image_pairs(pairs, images, corpus, &mut skipped)?;
                TemporalImage { protocol, bootstrap, by }.evaluate(&pairs)?
            }
            Kind::TemporalTransfer(truth) => {
                let data = transfer_data(truth, images, corpus, &mut skipped)?;
                TemporalTransfer { bootstrap, by }.evaluate(&data)?
            }
            Kind::Progression(pairs) => {
                let pairs = image_pairs(pairs, images, corpus, &mut skipped)?;
                let prototypes: Result<Vec<Prototypes>> = pairs
                    .findings
                    .iter()
                    .map(|(finding, _)| {
                        Ok(Prototypes {
                            improving: encoded.of_texts(prompts::improving(finding))?,
                            worsening: encoded.of_texts(prompts::worsening(finding))?,
                            finding: finding.clone(),
                        })
                    })
                    .collect();
                Progression { bootstrap, by }.evaluate(&pairs, &prototypes?)?
            }
            Kind::PhraseProgression(pairs) => {
                let pairs = image_pairs(pairs, images, corpus, &mut skipped)?;
                let phrases = |(finding, _): &(String, _)| {
                    let [improving, stable, worsening] =
                        prompts::progression(finding).map(|sentences| encoded.of_texts(sentences));
                    Ok(Phrases { finding: finding.clone(), of: [improving?, stable?, worsening?] })
                };
                let phrases = pairs.findings.iter().map(phrases).collect::<Result<Vec<Phrases>>>()?;
                PhraseProgression { bootstrap, by }.evaluate(&pairs, &phrases)?
            }
            Kind::TemporalSentence(sentences) => {
                let side = |which: usize| encoded.of_texts(sentences.texts.iter().map(|pair| &pair[which]));
                let (first, second) = (side(0)?, side(1)?);
                let SentenceTruth { texts, paraphrase, subsets } = sentences;
                TemporalSentence { protocol, bootstrap }.evaluate(&SentencePairs {
                    first,
                    second,
                    texts,
                    paraphrase,
                    subsets,
                })?
            }
            Kind::ZeroShot(findings) => {
                let all = findings.iter().map(|finding| {
                    let told = context.part.iter().zip(&finding.there);
                    let told: Vec<(usize, bool)> = told.filter_map(|(&row, there)| Some((row, (*there)?))).collect();
                    let told: Vec<(usize, bool)> =
                        told.into_iter().filter(|told| usable(images, told.0, "image", &mut skipped)).collect();
                    let (rows, truth): (Vec<usize>, Vec<bool>) = told.into_iter().unzip();
                    Ok(BinaryFinding {
                        images: images.select(&rows),
                        positive: encoded.of_texts(prompts::positive(&finding.name))?,
                        negative: encoded.of_texts(prompts::negative(&finding.name))?,
                        name: finding.name.clone(),
                        subjects: rows.iter().map(|&row| subject(row)).collect(),
                        truth,
                        rows,
                    })
                });
                let all = all.collect::<Result<Vec<BinaryFinding>>>()?;
                ZeroShot { protocol, bootstrap, by }.evaluate(&all)?
            }
            Kind::Retrieval(findings) => {
                let data = retrieval(context, &findings, encoded, &mut skipped)?;
                Retrieval { protocol, bootstrap, by }.evaluate(&data)?
            }
            Kind::LinearProbe(plan) => {
                let features = encoded.studies.features.as_ref().unwrap_or(images);
                if encoded.studies.features.is_none() {
                    notes.push("the probe was trained on image embeddings, because there are no [CLS] features".into());
                }
                let kept: Vec<usize> =
                    (0..plan.rows.len()).filter(|&n| usable(features, plan.rows[n], "image", &mut skipped)).collect();
                let rows: Vec<usize> = kept.iter().map(|&n| plan.rows[n]).collect();
                let data = ProbeData {
                    features: features.select(&rows),
                    truth: plan.truth.select(&kept),
                    splits: kept.iter().map(|&n| plan.splits[n]).collect(),
                    subjects: rows.iter().map(|&row| subject(row)).collect(),
                    rows,
                };
                LinearProbe { protocol, bootstrap, by, ..LinearProbe::default() }.evaluate(&data)?
            }
            Kind::SequenceOrder(sequences) => {
                let data = sequence_data(corpus, sequences, encoded.studies, &mut skipped)?;
                SequenceOrder { bootstrap, by }.evaluate(&data)?
            }
            Kind::SeriesQuestions(questions) => {
                let whole = |own: &Question| own.rows.iter().all(|&row| usable(images, row, "image", &mut skipped));
                let questions: Vec<Question> = questions.into_iter().filter(whole).collect();
                let vectors = question_vectors(&questions, images, encoded)?;
                SeriesQuestions { bootstrap, by }.evaluate(&questions, &vectors)?
            }
            Kind::Grounding(boxes) => {
                let likenesses = [Likeness::default()];
                let regions = regions(corpus, &boxes, encoded.encoder, &likenesses);
                Grounding { bootstrap, by }.evaluate(regions.map(|of_each| Ok(of_each?.remove(0))))?
            }
            Kind::GroundingVariants(boxes) => {
                let likenesses = VARIANTS.map(|variant| variant.1);
                let regions = regions(corpus, &boxes, encoded.encoder, &likenesses);
                Grounding { bootstrap, by }.evaluate_variants(&VARIANTS.map(|variant| variant.0), regions)?
            }
        };
        for (reason, count) in skipped {
            *result.skipped.entry(reason).or_default() += count;
        }
        result.notes.splice(0..0, notes);
        for example in &mut result.examples {
            example.studies = example.rows.iter().map(|&row| corpus.studies()[row].study.0.clone()).collect();
        }
        Ok(result)
    }
}

/// Whether a row has a vector; counts it otherwise.
fn usable(placed: &RowVectors, row: usize, what: &str, skipped: &mut Skipped) -> bool {
    match placed.get(row) {
        Ok(_) => true,
        Err(reason) => {
            skip(skipped, format!("{what} embedding {reason}"));
            false
        }
    }
}

fn image_pairs(truth: PairTruth, images: &RowVectors, corpus: &Corpus, skipped: &mut Skipped) -> Result<ImagePairs> {
    let kept: Vec<usize> = (0..truth.studies.len())
        .filter(|&n| truth.studies[n].iter().all(|&row| usable(images, row, "image", skipped)))
        .collect();
    let side = |which: usize| kept.iter().map(|&n| truth.studies[n][which]).collect::<Vec<usize>>();
    let (previous, current) = (side(0), side(1));
    let courses = |(name, courses): &(String, Vec<_>)| (name.clone(), kept.iter().map(|&n| courses[n]).collect());
    Ok(ImagePairs {
        subjects: current.iter().map(|&row| corpus.studies()[row].subject.0.clone()).collect(),
        studies: kept.iter().map(|&n| truth.studies[n]).collect(),
        findings: truth.findings.iter().map(courses).collect(),
        previous: images.select(&previous),
        current: images.select(&current),
    })
}

fn transfer_data(
    truth: TransferTruth,
    images: &RowVectors,
    corpus: &Corpus,
    skipped: &mut Skipped,
) -> Result<TransferData> {
    let TransferTruth { pairs, sources, findings } = truth;
    let kept: Vec<usize> = (0..pairs.studies.len())
        .filter(|&n| pairs.studies[n].iter().all(|&row| usable(images, row, "image", skipped)))
        .collect();
    let pairs = image_pairs(PairTruth { findings: Vec::new(), ..pairs }, images, corpus, &mut Skipped::new())?;
    let of_kept = |(name, classes): (String, Vec<_>)| (name, kept.iter().map(|&n| classes[n]).collect());
    Ok(TransferData {
        pairs,
        sources: kept.iter().map(|&n| sources[n].clone()).collect(),
        findings: findings.into_iter().map(of_kept).collect(),
    })
}

fn retrieval(
    context: &Context<'_>,
    findings: &[FindingLabels],
    encoded: &Encoded<'_>,
    skipped: &mut Skipped,
) -> Result<RetrievalData> {
    let (corpus, Studies { images, reports, .. }) = (context.corpus, encoded.studies);
    let kept: Vec<usize> =
        (0..context.part.len()).filter(|&n| usable(images, context.part[n], "image", skipped)).collect();
    let rows: Vec<usize> = kept.iter().map(|&n| context.part[n]).collect();
    let told = rows.iter().enumerate().filter(|(_, row)| corpus.studies()[**row].report.is_some());
    let told: Vec<(usize, usize)> =
        told.map(|(n, &row)| (n, row)).filter(|told| usable(reports, told.1, "report", skipped)).collect();
    let of_reports: Vec<usize> = told.iter().map(|told| told.1).collect();
    let by_finding = |finding: &FindingLabels| {
        Ok(ByFinding {
            name: finding.name.clone(),
            prompts: encoded.of_texts(prompts::positive(&finding.name))?,
            truth: kept.iter().map(|&n| finding.there[n]).collect(),
        })
    };
    Ok(RetrievalData {
        images: images.select(&rows),
        subjects: rows.iter().map(|&row| corpus.studies()[row].subject.0.clone()).collect(),
        reports: reports.select(&of_reports),
        report_images: told.iter().map(|told| told.0).collect(),
        texts: of_reports.iter().map(|&row| corpus.studies()[row].report.clone().unwrap_or_default()).collect(),
        findings: findings.iter().map(by_finding).collect::<Result<_>>()?,
        rows,
    })
}

fn sequence_data(
    corpus: &Corpus,
    sequences: Vec<Vec<usize>>,
    studies: &Studies,
    skipped: &mut Skipped,
) -> Result<SequenceData> {
    let whole = |rows: &Vec<usize>| {
        let whole = rows.iter().all(|&row| studies.images.get(row).is_ok());
        if !whole {
            skip(skipped, "a study of the sequence has no usable image embedding");
        }
        whole
    };
    let sequences: Vec<Vec<usize>> = sequences.into_iter().filter(whole).collect();
    let rows: Vec<usize> = sequences.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let place = |row: &usize| rows.binary_search(row).expect("rows are those of the sequences");
    let told: Vec<usize> = rows.iter().copied().filter(|&row| studies.reports.get(row).is_ok()).collect();
    Ok(SequenceData {
        images: studies.images.select(&rows),
        reports: studies.reports.select(&told),
        report_of: rows.iter().map(|row| told.binary_search(row).ok()).collect(),
        sequences: sequences.iter().map(|own| own.iter().map(place).collect()).collect(),
        subjects: rows.iter().map(|&row| corpus.studies()[row].subject.0.clone()).collect(),
        rows,
    })
}

/// What the questions compare.
fn question_vectors(questions: &[Question], images: &RowVectors, encoded: &Encoded<'_>) -> Result<QuestionVectors> {
    let mut vectors = QuestionVectors::default();
    for row in questions.iter().flat_map(|own| &own.rows) {
        vectors.images.entry(*row).or_insert_with(|| images.select(&[*row]).unit().into_values());
    }
    for finding in questions.iter().flat_map(Question::findings) {
        if !vectors.findings.contains_key(finding) {
            let [positive, negative] = [prompts::positive(finding), prompts::negative(finding)];
            let both = [encoded.of_texts(positive)?, encoded.of_texts(negative)?];
            vectors.findings.insert(finding.clone(), both);
        }
    }
    for text in questions.iter().flat_map(Question::texts) {
        vectors.texts.insert(text.clone(), encoded.of_texts([text])?.unit().into_values());
    }
    Ok(vectors)
}

/// Boxes with their heat maps by each likeness, some at a time.
fn regions<'a>(
    corpus: &'a Corpus,
    boxes: &'a [PhraseBoxes],
    encoder: &'a dyn Encoder,
    likenesses: &'a [Likeness],
) -> impl Iterator<Item = Result<Vec<Region>>> + 'a {
    boxes.chunks(HEAT_MAPS).flat_map(move |part| {
        let wanted: Vec<(usize, String)> = part.iter().map(|own| (own.row, own.phrase.clone())).collect();
        let none = || Error::Evaluation("these embeddings have no heat maps, which need local embeddings".into());
        let mut maps = match encoder.heat_maps_by(corpus, &wanted, likenesses).and_then(|maps| maps.ok_or_else(none)) {
            Ok(maps) => maps.into_iter().map(Vec::into_iter).collect::<Vec<_>>(),
            Err(error) => return vec![Err(error)],
        };
        let region = |own: &PhraseBoxes, map: HeatMap| Region {
            phrase: own.phrase.clone(),
            heat: map.values,
            side: map.side,
            boxes: own.boxes.clone(),
            subject: corpus.studies()[own.row].subject.0.clone(),
            row: own.row,
        };
        let of_each =
            |own: &PhraseBoxes| Ok(maps.iter_mut().filter_map(Iterator::next).map(|map| region(own, map)).collect());
        part.iter().map(of_each).collect()
    })
}

/// What a probe learns, from whom, and on whom it is tested.
fn probe(context: &Context<'_>, skipped: &mut Skipped, notes: &mut Vec<String>) -> Result<ProbePlan, String> {
    let corpus = context.corpus;
    let tested = context.split.unwrap_or(Split::Test);
    if tested == Split::Train {
        return Err("a probe cannot be tested on its training split".into());
    }
    if tested == Split::Validate {
        notes.push("tested on the validation split".into());
    }
    // The split that is tested is the test split, whatever its name; the other one ends the training, where there is one.
    let role = |split: Split| match (tested, split) {
        (_, Split::Train) => Some(Split::Train),
        (tested, split) if tested == split => Some(Split::Test),
        (Split::Test, Split::Validate) => Some(Split::Validate),
        _ => None,
    };
    let all = corpus.studies().iter().enumerate().filter_map(|(row, study)| Some((row, role(study.split)?)));
    let (rows, splits): (Vec<usize>, Vec<Split>) = all.unzip();
    for (split, name) in [(Split::Train, "training"), (Split::Test, "test")] {
        if !splits.contains(&split) {
            return Err(format!("a probe needs {name} rows, but the corpus has none"));
        }
    }
    let column = match context.label {
        Some(label) => Some(label),
        None => [CLASS].into_iter().find(|column| has(corpus, &rows, column)),
    };
    let findings = match column {
        Some(_) => Vec::new(),
        None => truth::findings(corpus, &rows, skipped),
    };
    let fallback = || Some(DIAGNOSIS).filter(|column| has(corpus, &rows, column));
    match column.or_else(|| if findings.is_empty() { fallback() } else { None }) {
        Some(column) => classes(context, column, rows, splits, skipped, notes),
        None if findings.is_empty() => Err("no label to learn; choose a column with --label".into()),
        None => {
            notes.push(format!("learned labels: {}", listed(findings.iter().map(|finding| finding.name.as_str()))));
            let of = (0..rows.len()).map(|n| findings.iter().map(|finding| finding.there[n]).collect()).collect();
            let names = findings.into_iter().map(|finding| finding.name).collect();
            Ok(ProbePlan { rows, splits, truth: ProbeTruth::Findings { names, of } })
        }
    }
}

fn has(corpus: &Corpus, rows: &[usize], column: &str) -> bool {
    truth::values(corpus, rows, column).iter().any(Option::is_some)
}

/// One of several classes: those of the training rows.
fn classes(
    context: &Context<'_>,
    column: &str,
    rows: Vec<usize>,
    splits: Vec<Split>,
    skipped: &mut Skipped,
    notes: &mut Vec<String>,
) -> Result<ProbePlan, String> {
    let values = truth::values(context.corpus, &rows, column);
    if values.iter().all(Option::is_none) {
        return Err(format!("no study has a label {column}"));
    }
    let trained = values.iter().zip(&splits).filter(|row| *row.1 == Split::Train).filter_map(|row| *row.0);
    let names: Vec<&str> = trained.collect::<BTreeSet<_>>().into_iter().collect();
    if names.len() < 2 {
        return Err(format!(
            "the training rows have {} classes of {column}, but a probe needs at least two",
            names.len()
        ));
    }
    let (mut kept, mut of) = (Vec::new(), Vec::new());
    for (n, value) in values.iter().enumerate() {
        match value.map(|value| names.binary_search(&value)) {
            Some(Ok(class)) => {
                kept.push(n);
                of.push(class);
            }
            Some(Err(_)) => skip(skipped, format!("{column} is not a class of the training rows")),
            None => skip(skipped, format!("no label {column}")),
        }
    }
    notes.push(format!("learned label {column}: {}", listed(names.iter().copied())));
    let names = names.into_iter().map(String::from).collect();
    Ok(ProbePlan {
        rows: kept.iter().map(|&n| rows[n]).collect(),
        splits: kept.iter().map(|&n| splits[n]).collect(),
        truth: ProbeTruth::Classes { names, of },
    })
}

/// The first few names, and how many more.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown} and {} more", names.len() - 12) } else { shown }
}
