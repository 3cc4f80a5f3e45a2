//! Pairs of several sources in one corpus, as `medst prepare chextemporal` writes it.

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::{PAIRS, TextTable};

use super::job::{Context, Encoded, Plan, Remarks, image_pairs};
use super::truth::{self, PairTruth, Skipped};
use crate::Result;
use crate::eval::result::TaskResult;
use crate::eval::tasks::{COURSES, TemporalTransfer, TransferData};

/// The column that names the source of a study.
const SOURCE: &str = "dataset";

/// The truth about the pairs of several sources.
struct Pairs {
    /// Its findings have three courses and are not used here.
    pairs: PairTruth,
    /// The source of each pair.
    sources: Vec<String>,
    /// For each finding, the class of each pair.
    findings: Vec<(String, Vec<Option<usize>>)>,
}

/// Reads the pairs.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, String> {
    Ok(Box::new(pairs(context.corpus, &context.table(PAIRS)?, &mut remarks.skipped)?))
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
        let kept: Vec<usize> = (0..pairs.studies.len())
            .filter(|&n| pairs.studies[n].iter().all(|&row| remarks.usable(images, row, "image")))
            .collect();
        let without_courses = PairTruth { findings: Vec::new(), ..pairs };
        let pairs = image_pairs(without_courses, context, images, &mut Remarks::default())?;
        let of_kept = |(name, classes): (String, Vec<_>)| (name, kept.iter().map(|&n| classes[n]).collect());
        let data = TransferData {
            pairs,
            sources: kept.iter().map(|&n| sources[n].clone()).collect(),
            findings: findings.into_iter().map(of_kept).collect(),
        };
        TemporalTransfer { bootstrap: context.bootstrap, by: &context.by }.evaluate(&data)
    }
}

/// Fails on columns that are missing, and on pairs of fewer than two sources.
fn pairs(corpus: &Corpus, table: &TextTable, skipped: &mut Skipped) -> Result<Pairs, String> {
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
    Ok(Pairs { findings: findings.collect(), pairs, sources })
}
