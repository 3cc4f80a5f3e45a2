//! A table of images: one row is one image. [`read`] says which columns there are.

pub mod read;

use std::path::{Path, PathBuf};

use self::read::{Row, Table};
use super::assemble::{Assembly, FoundImage};
use super::plan::{Plan, ReportText};
use super::{PrepareOptions, values};
use crate::split::Split;
use crate::storage::{Address, objects};
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Result};

/// Makes studies of the rows of a table; image paths are relative to the table.
///
/// # Errors
/// Tables that cannot be understood; a subject in two splits, or a study id that two subjects use: both rows are named.
pub fn plan(path: &Path, options: &PrepareOptions) -> Result<Plan> {
    let Table { columns, rows, unreadable } = read::read(&objects::file(path)?).map_err(|error| error.at(path))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let has_splits = columns.iter().any(|column| column == "split");
    let mut exclusions = options.exclusions()?;
    if exclusions.needs_resolving() {
        for row in &rows {
            let cell = |column: &str| row.cell(column).unwrap_or_default();
            let image = super::splits::stem(Path::new(cell("image")));
            exclusions.resolve(cell("subject_id"), cell("study_id"), &image);
        }
    }
    let mut assembly = Assembly::new(path, options.split_file()?, exclusions);
    for (row, reason) in unreadable {
        assembly.plan.skip(path.display().to_string(), row, reason);
    }
    for row in rows {
        let (subject, view, image) = match required(&row) {
            Ok(found) => found,
            Err(reason) => {
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
        let acquired = acquired(&row, &mut assembly.plan);
        let image =
            FoundImage { subject, study, view, path: image_path(folder, image), row: row.number, acquired, split };
        let Some(place) = assembly.add(image)? else { continue };
        if let Some(report) = row.cell("report") {
            assembly.report(place, ReportText::Whole(report.to_string()));
        }
        for (column, cell) in row.labels() {
            assembly.label(place, column, cell.to_string());
        }
    }
    Ok(assembly.finish(options.sequence_unit))
}

/// Relative to the table, unless it says where it is.
fn image_path(folder: &Path, image: PathBuf) -> PathBuf {
    if Address::is(&image) { image } else { folder.join(image) }
}

fn required(row: &Row) -> Result<(SubjectId, View, PathBuf), String> {
    let cell = |column: &str| row.cell(column).ok_or_else(|| format!("{column} is missing"));
    let view = cell("view")?;
    let view = View::parse(view).ok_or_else(|| format!("view `{view}` is unknown (PA, AP, LATERAL or LL)"))?;
    Ok((SubjectId(cell("subject_id")?.to_string()), view, PathBuf::from(cell("image")?)))
}

fn acquired(row: &Row, plan: &mut Plan) -> Option<Day> {
    let read = match (row.cell("day"), row.cell("acquired")) {
        (Some(cell), _) => values::day(cell),
        (None, Some(cell)) => values::date(cell),
        (None, None) => {
            plan.warn("images without a time, which join no sequence");
            return None;
        }
    };
    if read.is_none() {
        plan.warn("images whose day or date is unreadable, which join no sequence");
    }
    read
}
