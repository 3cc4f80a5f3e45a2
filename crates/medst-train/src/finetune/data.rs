//! Turns the label columns of a corpus into the items that a head learns from: studies, or pairs of
//! consecutive studies, with the class of each label.
//!
//! Findings are read as in `medst eval linear-probe`, and a share selects the training subjects
//! that it selects there. Changes come from columns such as `edema_progression`, or from the
//! corpus' table of pairs. Their classes are those that the configuration names or that the
//! training studies have: MS-CXR-T's three, the five of CheXTemporal, or others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::PAIRS;
use medst_data::progress::Progress;
use medst_data::sequence::{Chunks, build_sequences};
use medst_data::split::Split;
use medst_data::study::Study;
use tch::Tensor;

use super::config::{ClassWeights, DataConfig};
use crate::eval::suite::linear_probe::{CLASS, DIAGNOSIS};
use crate::eval::tasks::draw_subjects;
use crate::labels::truth::{self, Skipped, skip};
use crate::labels::{Course, prompts, words};
use crate::model::head::{HeadConfig, HeadTask};
use crate::model::input::ImageInput;
use crate::model::pictures::{ImageSelection, image_input};
use crate::train::dataset::Crop;
use crate::train::sampler::{self, Purpose};
use crate::{Error, Result};

/// The suffix of columns that state a change.
const PROGRESSION: &str = " progression";

/// A label's column.
struct Column {
    /// In words, without the suffix of changes.
    name: String,
    /// The value for each item; `None` where it is unknown.
    cells: Vec<Option<String>>,
}

/// The labelled items of a corpus, and the head that they require.
pub struct Labels<'a> {
    corpus: &'a Corpus,
    pub head: HeadConfig,
    /// Rows of the corpus: of a study, or of the previous and the current study.
    items: Vec<Vec<u32>>,
    /// The class of each label of each item; `None` where it is unknown.
    classes: Vec<Vec<Option<usize>>>,
}

/// Some of the items.
pub struct Items<'a> {
    corpus: &'a Corpus,
    pub rows: Vec<Vec<u32>>,
    pub classes: Vec<Vec<Option<usize>>>,
}

/// Pictures and targets of some items.
pub struct Batch {
    pub images: ImageInput,
    /// `[B, L]` int64: class numbers, -1 where a label is unknown.
    pub targets: Tensor,
    /// What the items are mixed with.
    pub mixed: Option<Other>,
}

/// The other labels of a batch that is mixed (`super::mixup`).
pub struct Other {
    /// The share of the batch's own labels, `λ`.
    pub share: f64,
    /// `[B, L]` int64, as in [`Batch`].
    pub targets: Tensor,
}

impl<'a> Labels<'a> {
    /// Reads the labels that a configuration names.
    ///
    /// # Errors
    /// Columns that do not exist (the message lists the existing ones); labels whose training
    /// studies all have the same class.
    pub fn read(corpus: &'a Corpus, config: &DataConfig, progress: &dyn Progress) -> Result<Labels<'a>> {
        let mut skipped = Skipped::new();
        let (items, mut columns) = match config.task {
            HeadTask::Change => changes(corpus, config, &mut skipped)?,
            _ => studies(corpus, config, &mut skipped)?,
        };
        let split = |item: usize| last(corpus, &items[item]).split;
        let training: Vec<usize> = (0..items.len()).filter(|&item| split(item) == Split::Train).collect();
        if training.is_empty() {
            let count = |wanted: Split| (0..items.len()).filter(|&item| split(item) == wanted).count();
            let items = if config.task == HeadTask::Change { "pairs of studies" } else { "studies" };
            return Err(Error::Training(format!(
                "{} has no labelled training studies: {} {items} are for validation and {} for the test. To choose the \
                 splits yourself, prepare it again with --splits FILE (splits.csv in the corpus is such a file)",
                corpus.path().display(),
                count(Split::Validate),
                count(Split::Test)
            )));
        }
        let wanted = named_classes(config, &columns, &training)?;
        for Column { name, cells } in columns.iter_mut().filter(|_| !wanted.is_empty()) {
            for cell in cells.iter_mut() {
                if cell.as_ref().is_some_and(|cell| !wanted.contains(cell)) {
                    skip(&mut skipped, format!("{name} is none of data.classes"));
                    *cell = None;
                }
            }
        }
        let found = |column: &Column| -> BTreeSet<String> {
            training.iter().filter_map(|&item| column.cells[item].clone()).collect()
        };
        let mut flat = Vec::new();
        columns.retain(|column| {
            let found = found(column);
            if found.len() < 2 {
                let only = found.first().map_or("has none".into(), |only| format!("has {only} alone"));
                flat.push(format!("{} {only}", column.name));
            }
            found.len() >= 2
        });
        if columns.is_empty() || (!flat.is_empty() && !config.labels.is_empty()) {
            return Err(Error::Training(format!(
                "labels of one class cannot be learnt: among the training studies of {}, {}",
                corpus.path().display(),
                flat.join(", ")
            )));
        }
        if !flat.is_empty() {
            progress.note(&format!("left out, because the training studies have one class: {}", flat.join(", ")));
        }
        let all: BTreeSet<String> = columns.iter().flat_map(found).collect();
        let names = match config.task {
            HeadTask::Findings => ["0", "1"].map(String::from).to_vec(),
            _ if !wanted.is_empty() => wanted,
            HeadTask::Change if all.iter().all(|name| Course::parse(name).is_some()) => Course::names(),
            _ => all.into_iter().collect(),
        };
        let mut classes = vec![Vec::new(); items.len()];
        for Column { name, cells } in &columns {
            for (item, cell) in cells.iter().enumerate() {
                let class = cell.as_ref().and_then(|cell| names.iter().position(|name| name == cell));
                if cell.is_some() && class.is_none() {
                    skip(&mut skipped, format!("{name} is not a class of the training studies"));
                }
                classes[item].push(class);
            }
        }
        for (reason, count) in &skipped {
            progress.note(&format!("skipped {count}: {reason}"));
        }
        let head = HeadConfig {
            task: config.task,
            labels: columns.into_iter().map(|column| column.name).collect(),
            classes: if config.task == HeadTask::Findings { Vec::new() } else { names },
        };
        Ok(Labels { corpus, head, items, classes })
    }

    /// The items of a split that have a label; of the training split those of a share of its
    /// subjects.
    pub fn items(&self, split: Split, share: f64, seed: u64) -> Items<'a> {
        let mut chosen: Vec<usize> = (0..self.items.len())
            .filter(|&item| last(self.corpus, &self.items[item]).split == split)
            .filter(|&item| self.classes[item].iter().any(Option::is_some))
            .collect();
        if share < 1.0 {
            let subjects: Vec<String> =
                self.items.iter().map(|rows| last(self.corpus, rows).subject.0.clone()).collect();
            chosen = draw_subjects(&chosen, &subjects, share, seed);
        }
        Items {
            corpus: self.corpus,
            rows: chosen.iter().map(|&item| self.items[item].clone()).collect(),
            classes: chosen.iter().map(|&item| self.classes[item].clone()).collect(),
        }
    }
}

impl Items<'_> {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Subjects, item by item.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|rows| last(self.corpus, rows).subject.0.as_str())
    }

    /// Whether a study has a lateral view.
    pub fn have_lateral(&self) -> bool {
        self.rows.iter().flatten().any(|&row| self.corpus.studies()[row as usize].lateral.is_some())
    }

    /// Number of known labels of some items.
    pub fn known(&self, numbers: &[usize]) -> usize {
        numbers.iter().map(|&item| self.classes[item].iter().flatten().count()).sum()
    }

    /// Pictures of `side` pixels and targets of the items `share` among `numbers`.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn batch(&self, numbers: &[usize], share: Range<usize>, crop: Crop, side: i64) -> Result<Batch> {
        let (stored, side) = (self.corpus.image_size(), side as usize);
        let numbers = &numbers[share];
        let draw = |&row: &u32| {
            let study = &self.corpus.studies()[row as usize];
            match crop {
                Crop::Centre => ImageSelection::centre(study, stored, side),
                Crop::Random { seed, epoch } => {
                    let mut random = sampler::random(seed, [epoch, u64::from(row)], Purpose::Pictures);
                    ImageSelection::random(study, study.alternative_frontals.len(), stored, side, &mut random)
                }
            }
        };
        let drawn: Vec<ImageSelection> = numbers.iter().flat_map(|&item| self.rows[item].iter().map(draw)).collect();
        let class = |class: &Option<usize>| class.map_or(-1, |class| class as i64);
        let targets: Vec<i64> = numbers.iter().flat_map(|&item| self.classes[item].iter().map(class)).collect();
        let labels = self.classes.first().map_or(1, Vec::len) as i64;
        Ok(Batch {
            images: image_input(self.corpus, &drawn, side)?,
            targets: Tensor::from_slice(&targets).view([numbers.len() as i64, labels]),
            mixed: None,
        })
    }

    /// Labels of which there are at least two classes.
    pub fn varied(&self) -> Vec<bool> {
        let labels = self.classes.first().map_or(0, Vec::len);
        let found =
            |label: usize| self.classes.iter().filter_map(|classes| classes[label]).collect::<BTreeSet<usize>>();
        (0..labels).map(|label| found(label).len() > 1).collect()
    }
}

/// How much each class of each label counts, `[L, C]`: all 1, or `n / (C · n_c)` of the label's `n`
/// known items, of which `n_c` are of the class.
///
/// * `known`: for each item, the class of each label; * `classes`: the number of classes, `C`.
pub fn weights(known: &[Vec<Option<usize>>], classes: usize, how: ClassWeights) -> Vec<Vec<f64>> {
    let of = |label: usize| {
        let mut counts = vec![0.0; classes];
        known.iter().filter_map(|classes| classes[label]).for_each(|class| counts[class] += 1.0);
        let all: f64 = counts.iter().sum();
        let balanced = |of_class: f64| all / (classes as f64 * of_class.max(1.0));
        match how {
            ClassWeights::None => vec![1.0; classes],
            ClassWeights::Balanced => counts.into_iter().map(balanced).collect(),
        }
    };
    (0..known.first().map_or(0, Vec::len)).map(of).collect()
}

/// The classes that a configuration names; empty if it leaves them to the training studies.
///
/// # Errors
/// A class that no training study has.
fn named_classes(config: &DataConfig, columns: &[Column], training: &[usize]) -> Result<Vec<String>> {
    let wanted = config.classes();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let cells =
        |column: &Column| -> Vec<String> { training.iter().filter_map(|&item| column.cells[item].clone()).collect() };
    let found: BTreeSet<String> = columns.iter().flat_map(cells).collect();
    match wanted.iter().find(|class| !found.contains(*class)) {
        Some(class) => Err(Error::Config(format!(
            "data.classes: no training study has the class `{class}`; they have: {}",
            found.into_iter().collect::<Vec<_>>().join(", ")
        ))),
        None => Ok(wanted),
    }
}

/// The study that an item is of: of a pair, the current one.
fn last<'a>(corpus: &'a Corpus, rows: &[u32]) -> &'a Study {
    &corpus.studies()[rows[rows.len() - 1] as usize]
}

/// Columns that a configuration names; without names those that `implied` names, by column.
fn choose(
    corpus: &Corpus,
    config: &DataConfig,
    implied: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let there: BTreeSet<&String> = corpus.studies().iter().flat_map(|study| study.labels.keys()).collect();
    let list = || match there.iter().map(|column| column.as_str()).collect::<Vec<_>>() {
        columns if columns.is_empty() => "it has no label columns".to_string(),
        columns => format!("it has: {}", columns.join(", ")),
    };
    let path = corpus.path().display();
    let mut chosen = BTreeMap::new();
    for asked in &config.labels {
        let (name, wanted) = match config.task {
            HeadTask::Change => {
                let name = words(asked).trim_end_matches(PROGRESSION).to_string();
                (name.clone(), name + PROGRESSION)
            }
            _ => (words(asked), words(asked)),
        };
        match there.iter().find(|column| words(column) == wanted) {
            Some(column) => chosen.insert((*column).clone(), name),
            None => {
                let message = format!("data.labels: {path} has no label column `{asked}`; {}", list());
                return Err(Error::Config(message));
            }
        };
    }
    if config.labels.is_empty() {
        let named = |column: &&String| Some(((*column).clone(), implied(column)?));
        chosen = there.iter().filter_map(named).collect();
    }
    if chosen.is_empty() {
        let message = format!("{path} has no labels that this task knows; name columns in data.labels; {}", list());
        return Err(Error::Config(message));
    }
    Ok(chosen)
}

/// Studies with findings, or with one of several classes.
fn studies(corpus: &Corpus, config: &DataConfig, skipped: &mut Skipped) -> Result<(Vec<Vec<u32>>, Vec<Column>)> {
    let rows: Vec<usize> = (0..corpus.studies().len()).collect();
    let has = |column: &str| truth::values(corpus, &rows, column).iter().any(Option::is_some);
    let class = [CLASS, DIAGNOSIS].into_iter().find(|column| has(column));
    let findings = config.task == HeadTask::Findings;
    if !findings && config.labels.len() > 1 {
        let message = "data.labels: task = \"exclusive\" learns the classes of one column; name exactly one";
        return Err(Error::Config(message.into()));
    }
    let chosen = choose(corpus, config, |column| match findings {
        true => prompts::finding(column),
        false => (Some(column) == class).then(|| words(column)),
    })?;
    let mut columns = Vec::new();
    for (column, name) in chosen {
        let mut cell = |value: Option<&str>| match value {
            Some(value) if findings => match truth::binary(value) {
                Ok(there) => there.map(|there| u8::from(there).to_string()),
                Err(reason) => {
                    skip(skipped, format!("label {column} is {reason}"));
                    None
                }
            },
            value => value.map(str::to_string),
        };
        let cells = truth::values(corpus, &rows, &column).into_iter().map(&mut cell).collect();
        columns.push(Column { name, cells });
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns.dedup_by(|a, b| a.name == b.name);
    Ok((rows.iter().map(|&row| vec![row as u32]).collect(), columns))
}

/// Consecutive studies of a subject, where the later study's columns state how labels have changed.
fn changes(corpus: &Corpus, config: &DataConfig, skipped: &mut Skipped) -> Result<(Vec<Vec<u32>>, Vec<Column>)> {
    let implied = |column: &str| prompts::finding(words(column).strip_suffix(PROGRESSION)?);
    let columns = choose(corpus, config, implied);
    if columns.is_err()
        && let Some(table) = corpus.table(PAIRS)?
    {
        let pairs = truth::worded_pairs(corpus, &table, skipped);
        let pairs = pairs.map_err(|refusal| Error::Training(refusal.to_string()))?;
        let asked = |name: &String| config.labels.is_empty() || config.labels.iter().any(|label| words(label) == *name);
        let named = pairs
            .findings
            .into_iter()
            .map(|(column, cells)| Column { name: words(&column).trim_end_matches(PROGRESSION).to_string(), cells });
        let named: Vec<Column> = named.filter(|column| asked(&column.name)).collect();
        if !named.is_empty() {
            return Ok((pairs.studies.into_iter().map(|pair| pair.map(|row| row as u32).to_vec()).collect(), named));
        }
    }
    let columns = columns?;
    let sequences = build_sequences(corpus.studies(), Chunks::apart(u32::MAX as usize));
    let pairs: Vec<Vec<u32>> =
        sequences.iter().flat_map(|sequence| sequence.studies.windows(2).map(<[u32]>::to_vec)).collect();
    let later: Vec<usize> = pairs.iter().map(|pair| pair[1] as usize).collect();
    let column = |(column, name): (String, String)| Column {
        name,
        cells: truth::values(corpus, &later, &column).into_iter().map(|cell| cell.map(str::to_lowercase)).collect(),
    };
    Ok((pairs, columns.into_iter().map(column).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_weigh_alike_together_and_unknown_ones_do_not_count() {
        // The first label has three items of one class and one of the other; the second is known
        // for two items.
        let known = [[Some(0), None], [Some(0), Some(1)], [Some(0), None], [Some(1), Some(0)]].map(Vec::from);
        assert_eq!(weights(&known, 2, ClassWeights::None), [[1.0, 1.0], [1.0, 1.0]]);
        let balanced = weights(&known, 2, ClassWeights::Balanced);
        assert_eq!(balanced, [[4.0 / 6.0, 2.0], [1.0, 1.0]]);
        assert!((3.0 * balanced[0][0] - 1.0 * balanced[0][1]).abs() < 1e-12);
    }
}
