//! The truth in a corpus: labels, classes, pairs, sentences, boxes. Cells that cannot be used are
//! counted, by reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use medst_data::boxes::{self, Boxes};
use medst_data::corpus::Corpus;
use medst_data::corpus::plan::TextTable;

use super::{Course, prompts, words};

/// Counts by reason.
pub type Skipped = BTreeMap<String, u64>;

/// Counts one more.
pub fn skip(skipped: &mut Skipped, reason: impl Into<String>) {
    *skipped.entry(reason.into()).or_default() += 1;
}

/// A label that is a finding: there or not.
#[derive(Clone, Debug)]
pub struct FindingLabels {
    /// The finding, written as words.
    pub name: String,
    /// For each requested row, whether it shows the finding; `None` if unknown.
    pub there: Vec<Option<bool>>,
}

/// The findings in the labels of some rows, in alphabetical order.
pub fn findings(corpus: &Corpus, rows: &[usize], skipped: &mut Skipped) -> Vec<FindingLabels> {
    let labels = |row: &usize| corpus.studies()[*row].labels.keys();
    let columns: BTreeSet<&String> = rows.iter().flat_map(labels).collect();
    let mut found = Vec::new();
    for column in columns {
        let Some(name) = prompts::finding(column) else { continue };
        let cell = |row: &usize| binary(corpus.studies()[*row].labels.get(column).map_or("", String::as_str));
        let cells: Vec<Result<Option<bool>, &'static str>> = rows.iter().map(cell).collect();
        let mut there = Vec::new();
        for cell in cells {
            if let Err(reason) = cell {
                skip(skipped, format!("label {column} is {reason}"));
            }
            there.push(cell.unwrap_or(None));
        }
        if there.iter().any(Option::is_some) {
            found.push(FindingLabels { name, there });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    found
}

/// Parses a cell of a finding: 1, 0, or empty; the error states what else it contains.
pub fn binary(cell: &str) -> Result<Option<bool>, &'static str> {
    match cell.trim() {
        "" => Ok(None),
        "1" | "1.0" => Ok(Some(true)),
        "0" | "0.0" => Ok(Some(false)),
        "-1" | "-1.0" => Err("uncertain (-1)"),
        _ => Err("neither 0 nor 1"),
    }
}

/// The values of a label; rows without it have none.
pub fn values<'a>(corpus: &'a Corpus, rows: &[usize], column: &str) -> Vec<Option<&'a str>> {
    let value = |row: &usize| corpus.studies()[*row].labels.get(column).map(|value| value.trim());
    rows.iter().map(value).map(|value| value.filter(|value| !value.is_empty())).collect()
}

/// A column that a table lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingColumn {
    #[error("pairs.csv has no column previous or no column current")]
    Pairs,
    #[error("sentences.csv has no column {0}")]
    Sentences(&'static str),
}

/// The pairs of `pairs.csv`.
///
/// * `C`: a course.
#[derive(Clone, Debug)]
pub struct PairTruth<C = Course> {
    /// Rows of the corpus, previous first.
    pub studies: Vec<[usize; 2]>,
    /// Name of each finding, with its course in each pair.
    pub findings: Vec<(String, Vec<Option<C>>)>,
}

impl<C> PairTruth<C> {
    /// Rows of the corpus of all pairs.
    pub fn rows(&self) -> Vec<usize> {
        self.studies.iter().flatten().copied().collect()
    }
}

/// Reads the pairs.
///
/// # Errors
/// Columns that are missing.
pub fn pairs(corpus: &Corpus, table: &TextTable, skipped: &mut Skipped) -> Result<PairTruth, MissingColumn> {
    pairs_by(corpus, table, skipped, Course::parse)
}

/// Like [`pairs`], with the table's own words for courses, in lower case: `new` and `resolved` as
/// well.
///
/// # Errors
/// As [`pairs`].
pub fn worded_pairs(
    corpus: &Corpus,
    table: &TextTable,
    skipped: &mut Skipped,
) -> Result<PairTruth<String>, MissingColumn> {
    pairs_by(corpus, table, skipped, |word| (!word.is_empty()).then(|| word.to_string()))
}

/// Like [`pairs`], with courses of any kind.
///
/// * `parse`: the course that a word in lower case means.
///
/// # Errors
/// As [`pairs`].
pub fn pairs_by<C>(
    corpus: &Corpus,
    table: &TextTable,
    skipped: &mut Skipped,
    parse: impl Fn(&str) -> Option<C>,
) -> Result<PairTruth<C>, MissingColumn> {
    let column = |name: &str| table.columns.iter().position(|column| column == name);
    let (Some(previous), Some(current)) = (column("previous"), column("current")) else {
        return Err(MissingColumn::Pairs);
    };
    let rows: HashMap<&str, usize> =
        corpus.studies().iter().enumerate().map(|(row, study)| (study.study.0.as_str(), row)).collect();
    let findings: Vec<usize> = (0..table.columns.len()).filter(|&n| n != previous && n != current).collect();
    let columns = findings.iter().map(|&n| (table.columns[n].clone(), Vec::new()));
    let mut truth = PairTruth { studies: Vec::new(), findings: columns.collect() };
    for cells in &table.rows {
        let (Some(&first), Some(&second)) = (rows.get(cells[previous].as_str()), rows.get(cells[current].as_str()))
        else {
            skip(skipped, "an image of the pair is not in the corpus");
            continue;
        };
        truth.studies.push([first, second]);
        for (&n, (name, courses)) in findings.iter().zip(&mut truth.findings) {
            let course = parse(&cells[n].to_lowercase());
            if course.is_none() && !cells[n].is_empty() {
                skip(skipped, format!("{name}: unknown course `{}`", cells[n]));
            }
            courses.push(course);
        }
    }
    Ok(truth)
}

/// The pairs of `sentences.csv`.
#[derive(Clone, Debug, Default)]
pub struct SentenceTruth {
    pub texts: Vec<[String; 2]>,
    pub paraphrase: Vec<bool>,
    pub subsets: Vec<String>,
}

/// Reads the sentences.
///
/// # Errors
/// Columns that are missing.
pub fn sentences(table: &TextTable, skipped: &mut Skipped) -> Result<SentenceTruth, MissingColumn> {
    let column = |name: &str| table.columns.iter().position(|column| column == name);
    let needed = ["sentence_1", "sentence_2", "category"].map(|name| column(name).ok_or(name));
    let [first, second, category] = match needed {
        [Ok(first), Ok(second), Ok(category)] => [first, second, category],
        [a, b, c] => {
            let missing = [a, b, c].into_iter().find_map(Result::err).unwrap_or_default();
            return Err(MissingColumn::Sentences(missing));
        }
    };
    let subset = column("subset");
    let mut truth = SentenceTruth::default();
    for cells in &table.rows {
        let paraphrase = match cells[category].to_lowercase().as_str() {
            "paraphrase" => true,
            "contradiction" => false,
            other => {
                skip(skipped, format!("unknown category `{other}`"));
                continue;
            }
        };
        if cells[first].trim().is_empty() || cells[second].trim().is_empty() {
            skip(skipped, "a sentence is empty");
            continue;
        }
        truth.texts.push([cells[first].clone(), cells[second].clone()]);
        truth.paraphrase.push(paraphrase);
        truth.subsets.push(subset.map(|n| cells[n].clone()).unwrap_or_default());
    }
    Ok(truth)
}

/// Boxes of a phrase in a row's frontal picture.
#[derive(Clone, Debug)]
pub struct PhraseBoxes {
    pub row: usize,
    pub phrase: String,
    /// `[left, top, right, bottom]` as fractions of the model's input.
    pub boxes: Vec<[f64; 4]>,
}

/// The boxes of rows; `seen`: the share of the stored picture's side, in its middle, that the model
/// sees.
pub fn phrase_boxes(corpus: &Corpus, rows: &[usize], seen: f64, skipped: &mut Skipped) -> Vec<PhraseBoxes> {
    let mut all = Vec::new();
    for &row in rows {
        let Some(label) = corpus.studies()[row].labels.get(boxes::LABEL).filter(|label| !label.is_empty()) else {
            continue;
        };
        let boxes = match Boxes::parse(label) {
            Ok(boxes) => boxes,
            Err(reason) => {
                skip(skipped, reason.to_string());
                continue;
            }
        };
        let mut by_phrase: BTreeMap<&str, Vec<[f64; 4]>> = BTreeMap::new();
        for region in &boxes.regions {
            let inside = boxes.in_square(region).map(|x| (x - (1.0 - seen) / 2.0) / seen);
            by_phrase.entry(&region.phrase).or_default().push(inside);
        }
        all.extend(by_phrase.into_iter().map(|(phrase, boxes)| PhraseBoxes { row, phrase: phrase.into(), boxes }));
    }
    all
}

/// Phrases that pictures do not show: those with boxes elsewhere that name a finding which the
/// row's label denies. They have no boxes.
pub fn absent_phrases(corpus: &Corpus, rows: &[usize], shown: &[PhraseBoxes]) -> Vec<PhraseBoxes> {
    let phrases: BTreeSet<&str> = shown.iter().map(|boxes| boxes.phrase.as_str()).collect();
    let there: BTreeSet<(usize, &str)> = shown.iter().map(|boxes| (boxes.row, boxes.phrase.as_str())).collect();
    let mut absent = Vec::new();
    for finding in findings(corpus, rows, &mut Skipped::new()) {
        for &phrase in phrases.iter().filter(|phrase| words(phrase) == finding.name) {
            let denied = rows
                .iter()
                .zip(&finding.there)
                .filter(|(row, label)| **label == Some(false) && !there.contains(&(**row, phrase)));
            absent.extend(denied.map(|(&row, _)| PhraseBoxes { row, phrase: phrase.into(), boxes: Vec::new() }));
        }
    }
    absent.sort_by(|a, b| (a.row, &a.phrase).cmp(&(b.row, &b.phrase)));
    absent
}
