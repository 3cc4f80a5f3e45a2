//! Pairs of several sources: in one corpus, as `medst prepare chextemporal` writes it, or in
//! several corpora, one for each source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::{PAIRS, TextTable};
use medst_data::progress::Progress;
use medst_data::split::Split;

use super::job::{Context, Encoded, Plan, Remarks, pairs_of, usable_pairs};
use super::{CorpusResult, DataDescription, Refusal, Refused, Suite};
use crate::eval::Vectors;
use crate::eval::encode::Encoder;
use crate::eval::pairs::ImagePairs;
use crate::eval::result::{Task, TaskResult};
use crate::eval::subgroups::Subgroups;
use crate::eval::tasks::{COURSES, TemporalTransfer, TransferData};
use crate::labels::truth::{self, PairTruth, Skipped, skip};
use crate::{Error, Result};

/// The column that names the source of a study.
const SOURCE: &str = "dataset";

/// The truth about the pairs of several sources.
struct Pairs {
    /// Without findings, which are below.
    pairs: PairTruth,
    /// The source of each pair.
    sources: Vec<String>,
    /// For each finding, the class of each pair.
    findings: Vec<(String, Vec<Option<usize>>)>,
}

/// Reads the pairs of a corpus that contains several sources; fails on pairs of fewer than two.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let found = pairs(context.corpus, &context.table(PAIRS)?, None, &mut remarks.skipped)?;
    if found.sources.iter().all(|source| Some(source) == found.sources.first()) {
        return Err(Refusal(format!(
            "all pairs are of one source; the column {SOURCE} needs two or more, or give a --corpus for each source"
        )));
    }
    Ok(Box::new(found))
}

impl Plan for Pairs {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.pairs.rows()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let images = &encoded.studies.images;
        let Pairs { pairs, sources, findings } = *self;
        let kept = usable_pairs(&pairs, images, remarks);
        let of_kept = |(name, classes): (String, Vec<_>)| (name, kept.iter().map(|&n| classes[n]).collect());
        let data = TransferData {
            pairs: pairs_of(&pairs, &kept, context, images),
            sources: kept.iter().map(|&n| sources[n].clone()).collect(),
            findings: findings.into_iter().map(of_kept).collect(),
        };
        TemporalTransfer { bootstrap: context.bootstrap, by: &context.by }.evaluate(&data)
    }
}

/// Reads the pairs; fails on columns that are missing.
///
/// * `name`: the source of studies without the column of sources.
fn pairs(corpus: &Corpus, table: &TextTable, name: Option<&str>, skipped: &mut Skipped) -> Result<Pairs, Refusal> {
    let class = |word: &str| COURSES.iter().position(|course| *course == word);
    let PairTruth { studies, findings } = truth::pairs_by(corpus, table, skipped, class)?;
    let source = |pair: &[usize; 2]| {
        let source = corpus.studies()[pair[1]].labels.get(SOURCE).map(String::as_str).or(name);
        source.map(str::to_string).ok_or_else(|| {
            Refusal(format!(
                "the studies have no column {SOURCE} (as medst prepare chextemporal writes it); or give a --corpus for \
                 each source"
            ))
        })
    };
    let sources = studies.iter().map(source).collect::<Result<_, Refusal>>()?;
    Ok(Pairs { pairs: PairTruth { studies, findings: Vec::new() }, sources, findings })
}

/// A corpus with pairs.
struct Site<'a> {
    corpus: &'a Corpus,
    truth: Pairs,
}

/// Trains on the pairs of one source and tests on those of the others, over all corpora together;
/// `None` if fewer than two corpora have pairs, or if all pairs are of one source. The studies'
/// column `dataset` names their source; without it, the folder of the corpus does.
///
/// # Errors
/// A stop request; a column of subgroups that no corpus has.
pub fn across(
    suite: &Suite,
    encoder: &dyn Encoder,
    corpora: &[Corpus],
    progress: &dyn Progress,
) -> Result<Option<CorpusResult>> {
    let mut skipped = Skipped::new();
    let mut sites = Vec::new();
    for (corpus, name) in corpora.iter().zip(names(corpora)) {
        let Ok(Some(table)) = corpus.table(PAIRS) else { continue };
        let truth = pairs(corpus, &table, Some(&name), &mut skipped);
        let truth = truth.map_err(|refusal| Error::Evaluation(format!("{}: {refusal}", corpus.path().display())))?;
        sites.push(Site { corpus, truth });
    }
    let sources: BTreeSet<&String> = sites.iter().flat_map(|site| &site.truth.sources).collect();
    if sites.len() < 2 || sources.len() < 2 {
        return Ok(None);
    }
    let all = sites.iter().map(|site| site.corpus);
    progress.note(&format!("pairs of {} corpora together: {} sources", sites.len(), sources.len()));
    let by = suite.by.iter().map(|column| subgroups(column, all.clone())).collect::<Result<Vec<_>>>()?;
    let mut data = describe(&sites);
    let evaluated = pooled(&sites, encoder, progress, &mut skipped)
        .and_then(|pooled| TemporalTransfer { bootstrap: suite.bootstrap, by: &by }.evaluate(&pooled));
    let (tasks, refused) = match evaluated {
        Ok(result) => {
            (data.part_studies, data.part_subjects) = (2 * result.rows, result.subjects);
            (vec![noted(result, skipped, &sites)], Vec::new())
        }
        Err(Error::Evaluation(reason)) => (Vec::new(), vec![Refused { task: Task::TemporalTransfer, reason }]),
        Err(error) => return Err(error),
    };
    Ok(Some(CorpusResult { data, tasks, refused }))
}

/// The name of each corpus' folder, or its whole path if two folders have the same name.
fn names(corpora: &[Corpus]) -> Vec<String> {
    let short = |corpus: &Corpus| {
        let path = corpus.path();
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    };
    let all: Vec<String> = corpora.iter().map(short).collect();
    let is_alone = |name: &String| all.iter().filter(|other| *other == name).count() == 1;
    let unique_name = |(name, corpus): (&String, &Corpus)| {
        if is_alone(name) { name.clone() } else { corpus.path().display().to_string() }
    };
    all.iter().zip(corpora).map(unique_name).collect()
}

/// The pairs of all corpora with their embeddings. The rows of each corpus are numbered after
/// those of the corpora before it.
fn pooled(
    sites: &[Site<'_>],
    encoder: &dyn Encoder,
    progress: &dyn Progress,
    skipped: &mut Skipped,
) -> Result<TransferData> {
    let names: BTreeSet<&String> = sites.iter().flat_map(|site| &site.truth.findings).map(|(name, _)| name).collect();
    let mut findings: BTreeMap<&String, Vec<Option<usize>>> =
        names.into_iter().map(|name| (name, Vec::new())).collect();
    let (mut previous, mut current): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
    let (mut studies, mut subjects, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    let mut offset = 0;
    for (number, Site { corpus, truth }) in sites.iter().enumerate() {
        let rows: BTreeSet<usize> = truth.pairs.studies.iter().flatten().copied().collect();
        let images = encoder.studies(corpus, &rows.into_iter().collect::<Vec<_>>(), progress)?.images;
        for (n, &[first, second]) in truth.pairs.studies.iter().enumerate() {
            let (before, after) = match (images.get(first), images.get(second)) {
                (Ok(before), Ok(after)) => (before.to_vec(), after.to_vec()),
                (Err(reason), _) | (_, Err(reason)) => {
                    skip(skipped, format!("image embedding {reason}"));
                    continue;
                }
            };
            previous.push(before);
            current.push(after);
            studies.push([first + offset, second + offset]);
            // Subjects of different corpora count as different patients, even with the same id;
            // see `noted`.
            subjects.push(format!("{number}/{}", corpus.studies()[second].subject));
            sources.push(truth.sources[n].clone());
            for (name, classes) in &mut findings {
                let finding = truth.findings.iter().find(|(finding, _)| finding == *name);
                classes.push(finding.and_then(|(_, courses)| courses[n]));
            }
        }
        offset += corpus.studies().len();
    }
    let pairs = ImagePairs {
        previous: Vectors::from_rows(&previous)?,
        current: Vectors::from_rows(&current)?,
        studies,
        subjects,
        findings: Vec::new(),
    };
    let findings = findings.into_iter().map(|(name, classes)| (name.clone(), classes)).collect();
    Ok(TransferData { pairs, sources, findings })
}

/// The subgroups of all corpora, with rows numbered as in [`pooled`].
fn subgroups<'a>(requested: &str, corpora: impl Iterator<Item = &'a Corpus>) -> Result<Subgroups> {
    let mut values = Vec::new();
    for corpus in corpora {
        let labels = corpus.studies().iter().flat_map(|study| study.labels.keys());
        let column = labels.into_iter().find(|column| column.eq_ignore_ascii_case(requested));
        let rows: Vec<usize> = (0..corpus.studies().len()).collect();
        values.extend(truth::values(corpus, &rows, column.map_or(requested, String::as_str)));
    }
    Subgroups::new(requested, &values).map_err(|error| Error::Evaluation(error.to_string()))
}

/// Adds what was skipped, and a note on subject ids that occur in several corpora.
fn noted(mut result: TaskResult, skipped: Skipped, sites: &[Site<'_>]) -> TaskResult {
    for (reason, count) in skipped {
        *result.skipped.entry(reason).or_default() += count;
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut shared = BTreeSet::new();
    for (number, Site { corpus, truth }) in sites.iter().enumerate() {
        for &[_, row] in &truth.pairs.studies {
            let subject = corpus.studies()[row].subject.0.as_str();
            if *seen.entry(subject).or_insert(number) != number {
                shared.insert(subject);
            }
        }
    }
    if let Some(example) = shared.first() {
        result.notes.push(format!(
            "{} subject ids, such as {example}, are in several corpora: if they are the same patients, heads were tested on patients \
             that they were trained on",
            shared.len()
        ));
    }
    result
}

/// Describes the data of all corpora together.
fn describe(sites: &[Site<'_>]) -> DataDescription {
    let corpora = || sites.iter().map(|site| site.corpus);
    let manifests = || corpora().map(Corpus::manifest);
    let joined = |texts: Vec<String>| texts.join(" + ");
    let kinds: BTreeSet<String> = manifests().map(|manifest| manifest.source.kind.clone()).collect();
    let paths = corpora().map(|corpus| corpus.path().file_name().unwrap_or_default().to_string_lossy().into_owned());
    let mut by_split: BTreeMap<Split, usize> = BTreeMap::new();
    for (split, count) in manifests().flat_map(|manifest| &manifest.counts.by_split) {
        *by_split.entry(*split).or_default() += count;
    }
    let sum = |of: fn(&medst_data::corpus::manifest::Counts) -> usize| -> usize {
        manifests().map(|manifest| of(&manifest.counts)).sum()
    };
    DataDescription {
        path: PathBuf::from(joined(paths.collect())),
        source: joined(kinds.into_iter().collect()),
        fingerprint: joined(corpora().map(Corpus::fingerprint).collect()),
        subjects: sum(|counts| counts.subjects),
        studies: sum(|counts| counts.studies),
        with_report: sum(|counts| counts.with_report),
        with_lateral: sum(|counts| counts.with_lateral),
        sequences: sum(|counts| counts.sequences),
        by_split,
        part: format!("all pairs of {} corpora together", sites.len()),
        part_studies: 0,
        part_subjects: 0,
    }
}
