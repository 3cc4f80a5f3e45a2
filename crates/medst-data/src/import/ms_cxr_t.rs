//! MS-CXR-T 1.0.0: pairs of MIMIC-CXR images with the course of five findings between them, and
//! pairs of sentences.
//!
//! The corpus holds every image of a pair as a separate study (its id is the DICOM id) and every
//! pair as a sequence of two, the previous image first. `pairs.csv` holds the courses,
//! `sentences.csv` the sentence pairs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::assemble::Assembly;
use super::mimic_cxr::MimicCxr;
use super::mimic_cxr::named::Named;
use super::plan::TextTable;
pub use super::plan::{PAIRS, SENTENCES};
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::progress::Progress;
use crate::split::Split;
use crate::{Error, Result};

/// Suffix of a finding's column in the source.
const PROGRESSION: &str = "_progression";
/// The findings whose course the benchmark gives.
const FINDINGS: [&str; 5] = ["consolidation", "edema", "pleural_effusion", "pneumonia", "pneumothorax"];

/// The folders of the parts of the benchmark.
#[derive(Clone, Debug, Default)]
pub struct MsCxrT {
    /// The folder with the two CSV files.
    pub root: PathBuf,
    /// The MIMIC-CXR whose images the pairs name.
    pub images: MimicCxr,
}

/// Reads both tables, and where the images are.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(source: &MsCxrT, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let pairs = find(&source.root, "temporal_image_classification")?;
    let sentences = find(&source.root, "temporal_sentence_similarity").ok();
    let mut wanted: Vec<String> = Vec::new();
    each_pair(&pairs, |_, ids, _| {
        wanted.extend(ids.map(str::to_string));
        Ok(())
    })?;
    let (images, main) = Named::find(&source.images, wanted.into_iter(), Split::Test, progress)?;

    let mut assembly = Assembly::new(&pairs, options)?;
    let rows = Rows::open(&pairs)?;
    for finding in FINDINGS {
        rows.optional(&format!("{finding}{PROGRESSION}"), &mut assembly.plan)?;
    }
    let mut columns = vec!["previous".to_string(), "current".to_string()];
    let mut table = TextTable { name: PAIRS.into(), ..TextTable::default() };
    let mut sequences = Vec::new();
    each_pair(&pairs, |row, ids, findings| {
        if columns.len() == 2 {
            columns.extend(findings.iter().map(|(name, _)| name.clone()));
        }
        let mut indices = Vec::with_capacity(2);
        for id in ids {
            match images.add(&mut assembly, id, row)? {
                Some(index) => indices.push(index),
                None => return Ok(()),
            }
        }
        sequences.push(indices);
        let courses = findings.iter().map(|(_, course)| course.clone().unwrap_or_default());
        table.rows.push(ids.map(str::to_string).into_iter().chain(courses).collect());
        Ok(())
    })?;
    table.columns = columns;
    assembly.plan.sequences = Some(sequences);
    let mut plan = assembly.finish(options)?;
    // Those about excluded subjects go with them.
    let studies: HashSet<&str> = plan.studies.iter().map(|study| study.study.0.as_str()).collect();
    table.rows.retain(|row| row[..2].iter().all(|id| studies.contains(id.as_str())));
    plan.tables.push(table);
    let mut files = vec![pairs, main];
    match sentences {
        Some(path) => {
            plan.tables.push(read_sentences(&path)?);
            files.insert(1, path);
        }
        None => plan.warn("table of sentence pairs absent"),
    }
    Ok(Planned { plan, files })
}

/// Visits every pair: row, `[previous, current]` DICOM ids, and the course of each finding.
fn each_pair(
    path: &Path,
    mut visit: impl FnMut(u64, [&str; 2], &[(String, Option<String>)]) -> Result<()>,
) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let (current, previous) = (rows.column("dicom_id")?, rows.column("previous_dicom_id")?);
    let findings: Vec<(usize, String)> = rows
        .columns()
        .iter()
        .enumerate()
        .filter_map(|(column, name)| Some((column, name.strip_suffix(PROGRESSION)?.to_string())))
        .collect();
    for (_, finding) in &findings {
        rows.find(&format!("{finding}{PROGRESSION}"))?;
    }
    if findings.is_empty() {
        let found = rows.columns().join(", ");
        return Err(rows.fail_in_header(&format!("no column ends with {PROGRESSION} (columns: {found})")));
    }
    rows.each(|row| {
        let fail = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
        let [Some(previous), Some(current)] = [previous, current].map(|column| row.cell(column)) else {
            return Err(fail("dicom_id or previous_dicom_id is missing".into()));
        };
        let mut courses = Vec::with_capacity(findings.len());
        for (column, name) in &findings {
            let course = row.cell(*column).map(str::to_lowercase);
            if let Some(course) = &course
                && !["improving", "stable", "worsening"].contains(&course.as_str())
            {
                return Err(fail(format!(
                    "{name}{PROGRESSION} is `{course}`; expected improving, stable or worsening"
                )));
            }
            courses.push((name.clone(), course));
        }
        visit(row.number, [previous, current], &courses)
    })
}

fn read_sentences(path: &Path) -> Result<TextTable> {
    let mut rows = Rows::open(path)?;
    let either = |[first, other]: [&str; 2]| match (rows.find(first)?, rows.find(other)?) {
        (Some(column), _) | (None, Some(column)) => Ok(column),
        (None, None) => rows.column(first),
    };
    let columns = [
        either(["sentence_1", "sentence1"])?,
        either(["sentence_2", "sentence2"])?,
        either(["category", "label"])?,
        either(["subset_name", "subset"])?,
    ];
    let names = ["sentence_1", "sentence_2", "category", "subset"].map(String::from).to_vec();
    let mut table = TextTable { name: SENTENCES.into(), columns: names, rows: Vec::new() };
    rows.each(|row| {
        table.rows.push(columns.map(|column| row.cell(column).unwrap_or_default().to_string()).to_vec());
        Ok(())
    })?;
    Ok(table)
}

/// The CSV file of a task.
fn find(root: &Path, task: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(root).map_err(Error::io(root))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let fits = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.contains(task) && (name.ends_with(".csv") || name.ends_with(".csv.gz"))
    };
    let found = paths.iter().rev().find(fits).cloned();
    found.ok_or_else(|| {
        Error::Usage(format!("{} is not an MS-CXR-T folder: it has no MS_CXR_T_{task}_v1.0.0.csv", root.display()))
    })
}
