//! Tables of studies: those of [`crate::import::table`], and looser ones with one study per row.

use std::io::Read;
use std::path::Path;

use super::files;
use super::{DeclaredView, FoundStudy, Gathered, PictureLocation};
use crate::import::table::read::{Row, Table, lists_views, read_columns};
use crate::import::{Labels, PrepareOptions, table, values};
use crate::report::{self, Rejection, Rule};
use crate::study::View;
use crate::{Error, Reason, Result, input};

/// Columns with the frontal image; the first one that exists is used.
const FRONTAL: [&str; 4] = ["frontal", "image", "path", "file"];
/// Columns that hold the report.
const REPORT: [&str; 2] = ["report", "text"];
/// Columns that name the study.
const STUDY: [&str; 2] = ["study_id", "id"];
/// Columns that are not labels.
const UNDERSTOOD: [&str; 14] = [
    "frontal",
    "image",
    "path",
    "file",
    "report",
    "text",
    "study_id",
    "id",
    "lateral",
    "subject_id",
    "view",
    "day",
    "acquired",
    "split",
];

/// Whether a file is a table: Parquet by its first bytes, CSV by its name.
///
/// A file that cannot be opened is not a table; [`files`] reports why.
pub fn is_table(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if path.is_dir() {
        return false;
    }
    let mut start = Vec::new();
    let read = input::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    let named = [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"].iter().any(|end| name.ends_with(end));
    read.is_ok() && (start == b"PAR1" || named)
}

/// Adds the studies of a table.
///
/// # Errors
/// Tables that cannot be understood.
pub fn add(path: &Path, view: DeclaredView, rule: Rule, gathered: &mut Gathered) -> Result<()> {
    let table = read_columns(path)?;
    if lists_views(&table) {
        return add_plan(path, rule, gathered);
    }
    add_rows(path, &table, view, rule, gathered)
}

/// One row is one image; the importer joins them.
fn add_plan(path: &Path, rule: Rule, gathered: &mut Gathered) -> Result<()> {
    // Every column is kept as a label: unlike a corpus, the result is not stored.
    let options = PrepareOptions { labels: Labels::All, report_rule: rule, ..PrepareOptions::default() };
    let plan = table::plan(path, &options)?;
    for skipped in plan.skipped {
        gathered.leave_out(format!("{}, row {}", path.display(), skipped.row), skipped.reason);
    }
    for study in plan.studies {
        let first = |images: &[crate::corpus::plan::ImageSource]| {
            images.first().map(|image| PictureLocation::File(image.path.clone()))
        };
        gathered.studies.push(FoundStudy {
            subject: Some(study.subject.0),
            acquired: study.acquired,
            split: Some(study.split),
            frontal: first(&study.frontals),
            lateral: first(&study.laterals),
            report: study.report,
            labels: study.labels,
            ..FoundStudy::new(study.study.0)
        });
    }
    Ok(())
}

/// One row is one study.
fn add_rows(path: &Path, table: &Table, view: DeclaredView, rule: Rule, gathered: &mut Gathered) -> Result<()> {
    let has = |name: &&str| table.columns.iter().any(|column| column == name);
    let (frontal, report) = (FRONTAL.into_iter().find(|name| has(name)), REPORT.into_iter().find(|name| has(name)));
    if frontal.is_none() && report.is_none() && !has(&"lateral") {
        let found = table.columns.join(", ");
        let message =
            format!("has neither images (column image or frontal) nor reports (column report); columns: {found}");
        return Err(Error::Table { path: path.to_path_buf(), message });
    }
    for (number, reason) in &table.unreadable {
        gathered.leave_out(format!("{}, row {number}", path.display()), reason.clone());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for row in &table.rows {
        let location = format!("{}, row {}", path.display(), row.number);
        match study(row, frontal, report, folder, view, rule, &location) {
            Ok((study, None)) => gathered.studies.push(study),
            Ok((study, Some(rejection))) => {
                gathered.leave_out(location, rejection.to_string());
                if study.is_seen() {
                    gathered.studies.push(study);
                }
            }
            Err(reason) => gathered.leave_out(location, reason),
        }
    }
    Ok(())
}

/// The study of a row, and why its report is not used, where that is so.
fn study(
    row: &Row,
    frontal: Option<&str>,
    report: Option<&str>,
    folder: &Path,
    declared: DeclaredView,
    rule: Rule,
    location: &str,
) -> Result<(FoundStudy, Option<Rejection>), Reason> {
    let checked = |path: &Path, view| files::check_view(path, view).map_err(|error| error.to_string());
    let view = match row.cell("view") {
        None => declared,
        Some(cell) => match View::parse(cell).ok_or_else(|| format!("unknown view `{cell}`"))? {
            view if view.is_frontal() => DeclaredView::Frontal,
            _ => DeclaredView::Lateral,
        },
    };
    let mut lateral = row.cell("lateral").map(|cell| folder.join(cell));
    if let Some(path) = &lateral {
        checked(path, DeclaredView::Lateral)?;
    }
    let mut picture = frontal.and_then(|column| row.cell(column)).map(|cell| folder.join(cell));
    if let Some(path) = &picture
        && !checked(path, view)?
    {
        if lateral.is_some() {
            return Err(format!("{} is a second lateral view", path.display()).into());
        }
        lateral = picture.take();
    }
    let named = STUDY.iter().find_map(|column| row.cell(column));
    let first = picture.as_ref().or(lateral.as_ref()).map(|path| path.display().to_string());
    let mut study = FoundStudy::new(named.map(str::to_string).or(first).unwrap_or_else(|| location.to_string()));
    study.subject = row.cell("subject_id").map(str::to_string);
    study.acquired = row.cell("day").and_then(values::day).or_else(|| row.cell("acquired").and_then(values::date));
    study.split = row.cell("split").and_then(crate::split::Split::parse);
    (study.frontal, study.lateral) = (picture.map(PictureLocation::File), lateral.map(PictureLocation::File));
    study.labels = row
        .cells()
        .filter(|(column, _)| !UNDERSTOOD.contains(column))
        .map(|(column, cell)| (column.to_string(), cell.to_string()))
        .collect();
    let prepared = report.and_then(|column| row.cell(column)).map(|text| report::prepare(text, None, rule));
    let rejected = match prepared {
        Some(Ok(report)) => {
            study.report = Some(report);
            None
        }
        Some(Err(rejection)) => Some(rejection),
        None if !study.is_seen() => return Err("has neither an image nor a report".into()),
        None => None,
    };
    Ok((study, rejected))
}
