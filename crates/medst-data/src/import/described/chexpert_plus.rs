//! What CheXpert Plus has in addition to its table: labels as JSON lines, and an order of studies
//! that its reports contradict; the contradictions are counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use regex::Regex;
use serde_json::Value;

use super::template::{Columns, Template};
use super::{plain, sources};
use crate::import::assemble::Assembly;
use crate::import::rows::Rows;
use crate::json::Unique;
use crate::study::StudyId;
use crate::{Error, Result};

/// Labels of the whole report, else of its parts.
const LABELS: [&str; 3] = ["report_fixed.json", "impression_fixed.json", "findings_fixed.json"];

pub fn more(root: &Path, tables: &[PathBuf], assembly: &mut Assembly) -> Result<Vec<PathBuf>> {
    for table in tables {
        count_contradictions(table, assembly)?;
    }
    let folders = [root.join("chexbert_labels"), root.to_path_buf()];
    let found = folders.iter().flat_map(|folder| LABELS.map(|name| folder.join(name))).find(|path| path.exists());
    let Some(path) = found else {
        assembly.plan.warn("chexbert_labels/report_fixed.json absent: studies have no findings");
        return Ok(Vec::new());
    };
    read_labels(&path, assembly)?;
    Ok(vec![path])
}

/// Lines such as
/// `{"path_to_image":"train/patient1/study1/view1_frontal.jpg","Edema":1.0,"Fracture":null,…}`.
fn read_labels(path: &Path, assembly: &mut Assembly) -> Result<()> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    for (number, line) in serde_json::Deserializer::from_reader(file).into_iter::<Unique>().enumerate() {
        let fail = |message: String| Error::Table { path: path.to_path_buf(), message };
        let Unique(line) = line.map_err(|error| fail(format!("line {}: {error}", error.line())))?;
        let image = line.get("path_to_image").and_then(Value::as_str);
        let image = image.ok_or_else(|| {
            let fields: Vec<&str> = line.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let (number, fields) = (number + 1, fields.join(", "));
            fail(format!("line {number}: field `path_to_image` is missing (fields: {fields})"))
        })?;
        let Some(index) = study_of(image).and_then(|study| assembly.index_of(&study)) else {
            assembly.plan.warn(format!("labels of {} of images that are not used", name(path)));
            continue;
        };
        for (finding, value) in line.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                assembly.label(index, finding, plain(&format!("{value:?}")));
            }
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The study that a path names: patient and study folder.
fn study_of(image: &str) -> Option<StudyId> {
    let mut folders = Path::new(image).ancestors().skip(1).map(|folder| folder.file_name()?.to_str());
    let (study, patient) = (folders.next()??, folders.next()??);
    Some(StudyId(format!("{patient}-{study}")))
}

/// A study whose report contains a date.
struct DatedStudy {
    /// Its place in time according to the table.
    order: f64,
    /// The day in its report.
    day: i32,
}

/// Counts neighbouring studies that the table orders the other way than the dates in their reports.
fn count_contradictions(table: &Path, assembly: &mut Assembly) -> Result<()> {
    let mut rows = Rows::open(table)?;
    let columns = Columns { rows: &rows, optional: &[] };
    let [order, narrative] = [columns.find("patient_report_date_order")?, columns.find("section_narrative")?];
    let patient = Template::parse(sources::CHEXPERT_PLUS.subject, &columns)?;
    let mut by_patient: BTreeMap<String, Vec<DatedStudy>> = BTreeMap::new();
    rows.each(|row| {
        let cell = |column: Option<usize>| column.and_then(|column| row.cell(column));
        let order = cell(order).and_then(|order| order.parse().ok());
        let day = cell(narrative).and_then(first_date);
        if let (Ok(patient), Some(order), Some(day)) = (patient.fill(&row), order, day) {
            by_patient.entry(patient).or_default().push(DatedStudy { order, day });
        }
        Ok(())
    })?;
    let (mut pairs, mut contradicted) = (0, 0);
    for mut studies in by_patient.into_values() {
        studies.sort_by(|a, b| a.order.total_cmp(&b.order));
        studies.dedup_by(|a, b| a.order == b.order);
        for pair in studies.windows(2) {
            pairs += 1;
            contradicted += u64::from(pair[1].day < pair[0].day);
        }
    }
    if pairs > 0 {
        let what =
            format!("neighbouring studies whose order contradicts the dates in their reports (of {pairs} with dates)");
        *assembly.plan.warnings.entry(what).or_default() += contradicted;
    }
    Ok(())
}

static DATE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})\b").expect("a valid expression"));

/// The first date of a text (month, day, year), as a number of days.
fn first_date(text: &str) -> Option<i32> {
    DATE.captures_iter(text).find_map(|found| {
        let number = |group: usize| found[group].parse::<u32>().ok();
        let year = number(3).map(|year| if year < 100 { 2000 + year } else { year })?;
        Some(NaiveDate::from_ymd_opt(year.cast_signed(), number(1)?, number(2)?)?.num_days_from_ce())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_readable_date_counts() {
        let day = |text: &str| first_date(text);
        assert_eq!(day("CHEST: 13-45-2010, 5/20/2011. Compared with 1/2/10"), day("5-20-11"));
        assert!(day("1/2/2010") < day("1/3/2010"));
        assert_eq!((day("no date"), day("T12-L1 1/2")), (None, None));
        assert_eq!(study_of("train/patient1/study2/view1.jpg"), Some(StudyId("patient1-study2".into())));
        assert_eq!(study_of("view1.jpg"), None);
    }
}
