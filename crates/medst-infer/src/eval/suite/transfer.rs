//! Pairs of several sources in one corpus, as `medst prepare chextemporal` writes it.

use medst_data::corpus::Corpus;
use medst_data::import::plan::TextTable;

use super::truth::{self, PairTruth, Skipped};
use crate::eval::tasks::COURSES;

/// The column that names the source of a study.
const SOURCE: &str = "dataset";

/// The truth about the pairs of several sources.
pub struct TransferTruth {
    /// Its findings have three courses and are not used here.
    pub pairs: PairTruth,
    /// The source of each pair.
    pub sources: Vec<String>,
    /// For each finding, the class of each pair.
    pub findings: Vec<(String, Vec<Option<usize>>)>,
}

/// Reads the pairs.
///
/// # Errors
/// Columns that are missing; pairs of fewer than two sources.
pub fn transfer(corpus: &Corpus, table: &TextTable, skipped: &mut Skipped) -> Result<TransferTruth, String> {
    // Names of courses other than the three are not mistakes here.
    let pairs = truth::pairs(corpus, table, &mut Skipped::new())?;
    let known = |id: &str| corpus.studies().iter().any(|study| study.study.0 == id);
    let column = |name: &str| table.columns.iter().position(|column| column == name);
    let (Some(previous), Some(current)) = (column("previous"), column("current")) else {
        return Err("pairs.csv has no column previous or no column current".into());
    };
    let rows: Vec<&Vec<String>> =
        table.rows.iter().filter(|cells| known(&cells[previous]) && known(&cells[current])).collect();
    let left_out = (table.rows.len() - rows.len()) as u64;
    if left_out > 0 {
        skipped.insert("an image of the pair is not in the corpus".into(), left_out);
    }
    let source = |pair: &[usize; 2]| {
        let own = corpus.studies()[pair[1]].labels.get(SOURCE);
        own.cloned()
            .ok_or_else(|| format!("the studies have no column {SOURCE} (as medst prepare chextemporal writes it)"))
    };
    let sources: Vec<String> = pairs.studies.iter().map(source).collect::<Result<_, String>>()?;
    if sources.iter().all(|own| Some(own) == sources.first()) {
        return Err(format!("all pairs are of one source; the column {SOURCE} needs two or more"));
    }
    let findings = (0..table.columns.len()).filter(|&n| n != previous && n != current).map(|n| {
        let class = |cells: &&Vec<String>| COURSES.iter().position(|course| *course == cells[n].to_lowercase());
        (table.columns[n].clone(), rows.iter().map(class).collect())
    });
    Ok(TransferTruth { findings: findings.collect(), pairs, sources })
}
