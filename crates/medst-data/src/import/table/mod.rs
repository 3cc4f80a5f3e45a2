//! A table of images: one row is one image. See [`read`] for the columns.

pub mod patient;
pub mod read;

use std::path::{Path, PathBuf};

use self::read::{Row, Table};
use super::assemble::{Assembly, FoundImage};
use super::plan::{Plan, ReportText};
use super::{Labels, PrepareOptions, values};
use crate::split::Split;
use crate::storage::{Address, objects};
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Reason, Result};

/// Makes studies of the rows of a table; image paths are relative to the table.
///
/// # Errors
/// Tables that cannot be understood; a subject in two splits, or a study id that two subjects use:
/// both rows are named.
pub fn plan(path: &Path, options: &PrepareOptions) -> Result<Plan> {
    let Table { columns, rows, unreadable, .. } = read::read(&objects::file(path)?).map_err(|error| error.at(path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let has_splits = columns.iter().any(|column| column == "split");
    let mut assembly = Assembly::new(path, options)?;
    let left_out = patient_columns(path, &columns, &rows, &options.labels, &mut assembly.plan)?;
    for (row, reason) in unreadable {
        assembly.plan.skip(path.display().to_string(), row, reason);
    }
    for row in rows {
        let Required { subject, view, image } = match required(&row) {
            Ok(found) => found,
            Err(reason) => {
                if let Some(subject) = row.cell("subject_id") {
                    let cell = |column: &str| row.cell(column).unwrap_or_default();
                    assembly.know(subject, cell("study_id"), &image_path(folder, cell("image").into()));
                }
                assembly.plan.skip(row.cell("image").unwrap_or_default(), row.number, reason);
                continue;
            }
        };
        let split = match (has_splits && options.splits.is_none()).then(|| row.cell("split").unwrap_or("nothing")) {
            None => None,
            Some(cell) => Some(Split::parse(cell).ok_or_else(|| Error::Row {
                path: path.to_path_buf(),
                row: row.number,
                message: format!("split is `{cell}`; expected train, validate or test"),
            })?),
        };
        let study = match (row.cell("study_id"), row.cell("day").or(row.cell("acquired"))) {
            (Some(study), _) => StudyId(study.to_string()),
            (None, Some(time)) => StudyId(format!("{subject}-{time}")),
            (None, None) => StudyId(format!("{subject}-row{}", row.number)),
        };
        let acquired = acquired(path, &row, &mut assembly.plan)?;
        let image =
            FoundImage { subject, study, view, path: image_path(folder, image), row: row.number, acquired, split };
        let index = assembly.add(image)?;
        assembly.label_view(index, view);
        if let Some(report) = row.cell("report") {
            assembly.report(index, ReportText::Whole(report.to_string()));
        }
        for (column, cell) in row.labels().filter(|(column, _)| !left_out.contains(column)) {
            assembly.label(index, column, cell.to_string());
        }
    }
    assembly.finish(options)
}

/// The columns that are not carried along because they identify patients; each is noted with the
/// rows that have it.
///
/// # Errors
/// A requested column that does not exist.
fn patient_columns<'a>(
    path: &Path,
    columns: &'a [String],
    rows: &[Row],
    labels: &Labels,
    plan: &mut Plan,
) -> Result<Vec<&'a str>> {
    let Labels::WithoutPatients { but } = labels else { return Ok(Vec::new()) };
    if let Some(other) = but.iter().find(|name| !columns.contains(name)) {
        let message = format!("has no column `{other}` (--label {other}); columns: {}", columns.join(", "));
        return Err(Error::Table { path: path.to_path_buf(), message });
    }
    let mut left_out = Vec::new();
    for column in columns.iter().filter(|column| !read::is_understood(column) && !but.contains(column)) {
        let cells = || rows.iter().filter_map(|row| row.cell(column));
        if let Some(what) = patient::holds(column, cells()) {
            let what = format!(
                "cells of column `{column}`, which seems to contain {what}: left out (--label \"{column}\" keeps them)"
            );
            *plan.warnings.entry(what).or_default() += cells().count() as u64;
            left_out.push(column.as_str());
        }
    }
    Ok(left_out)
}

/// Relative to the table, unless it is an absolute path or an address.
fn image_path(folder: &Path, image: PathBuf) -> PathBuf {
    if Address::is(&image) { image } else { folder.join(image) }
}

/// Cells that every row has.
struct Required {
    subject: SubjectId,
    view: View,
    image: PathBuf,
}

fn required(row: &Row) -> Result<Required, Reason> {
    let cell = |column: &str| row.cell(column).ok_or_else(|| format!("{column} is missing"));
    let view = cell("view")?;
    let view = View::parse(view).ok_or_else(|| format!("unknown view `{view}` (expected PA, AP, LATERAL or LL)"))?;
    let (subject, image) = (SubjectId(cell("subject_id")?.to_string()), PathBuf::from(cell("image")?));
    Ok(Required { subject, view, image })
}

/// # Errors
/// A date whose year has two digits: it would be read as one of the first century.
fn acquired(path: &Path, row: &Row, plan: &mut Plan) -> Result<Option<Day>> {
    let read = match (row.cell("day"), row.cell("acquired")) {
        (Some(cell), _) => values::day(cell),
        (None, Some(cell)) if values::has_short_year(cell) => {
            let message = format!("acquired is `{cell}`, whose year has two digits; write dates as 2020-03-31");
            return Err(Error::Row { path: path.to_path_buf(), row: row.number, message });
        }
        (None, Some(cell)) => values::date(cell),
        (None, None) => {
            plan.warn("images without a time, not used in sequences");
            return Ok(None);
        }
    };
    if read.is_none() {
        plan.warn("images whose day or date is unreadable, not used in sequences");
    }
    Ok(read)
}
