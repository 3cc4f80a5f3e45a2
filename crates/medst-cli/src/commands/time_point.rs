//! Time points as arguments: `frontal.png,lateral.png,report.txt,date=2020-03-31`, or a folder with
//! one study.

use std::path::{Path, PathBuf};

use anyhow::Result;
use medst_data::gather::{DeclaredView, FoundStudy, PictureLocation, check_view, gather, read_report};
use medst_data::report::Rule;
use medst_data::study::Day;
use medst_infer::infer::search::Filter;
use medst_model::Error;

/// Parses a time point.
///
/// * `rule`: how its report is cleaned.
///
/// # Errors
/// Names the part that cannot be understood, or the file that cannot be used.
pub fn parse(text: &str, rule: Rule) -> Result<FoundStudy> {
    let path = Path::new(text);
    if path.is_dir() {
        return of_folder(path, rule);
    }
    let mut study = FoundStudy::new(text.to_string());
    let parts: Vec<&str> = if path.exists() { vec![text] } else { text.split(',').map(str::trim).collect() };
    for part in parts {
        let (key, path) = match part.split_once('=') {
            Some((key @ ("frontal" | "lateral" | "report" | "date"), value)) => (Some(key), value),
            _ => (None, part),
        };
        match key {
            Some("date") => {
                let day = Filter::day(path).map_err(|error| fail(text, &error.to_string()))?;
                study.acquired = Some(Day(day));
            }
            Some("report") => add_report(&mut study, Path::new(path), rule)?,
            Some("frontal") => add_frontal(&mut study, path.into(), DeclaredView::Frontal, text)?,
            Some(_) => add_lateral(&mut study, path.into(), text)?,
            None if path.to_ascii_lowercase().ends_with(".txt") => add_report(&mut study, Path::new(path), rule)?,
            // The first image is frontal unless its header says otherwise, the second lateral.
            None if study.frontal.is_none() => add_frontal(&mut study, path.into(), DeclaredView::Auto, text)?,
            None => add_lateral(&mut study, path.into(), text)?,
        }
    }
    if !study.is_seen() {
        return Err(fail(text, "has no image"));
    }
    Ok(study)
}

fn fail(text: &str, reason: &str) -> anyhow::Error {
    Error::Input(format!("time point `{text}`: {reason}")).into()
}

fn of_folder(folder: &Path, rule: Rule) -> Result<FoundStudy> {
    let mut found = gather(&[folder.to_path_buf()], DeclaredView::Auto, rule)?;
    if let Some(left_out) = found.left_out.first() {
        return Err(Error::Input(format!("{}: {}", left_out.file, left_out.reason)).into());
    }
    let images = found.studies.iter().filter(|study| study.is_seen()).count();
    // One image and one text in a folder belong together, whatever their names.
    let text = found.studies.iter().position(|study| !study.is_seen());
    if found.studies.len() == 2
        && let Some(text) = text
        && images == 1
    {
        let report = found.studies.remove(text).report;
        found.studies[0].report = found.studies[0].report.take().or(report);
    }
    let name = folder.display().to_string();
    match (found.studies.pop(), found.studies.is_empty()) {
        (Some(study), true) if study.is_seen() => Ok(FoundStudy { id: name, ..study }),
        (Some(_), true) => Err(fail(&name, "contains no image")),
        _ => Err(fail(
            &name,
            &format!("contains {images} images of several studies; list the files of one study, separated by commas"),
        )),
    }
}

fn add_frontal(study: &mut FoundStudy, path: PathBuf, view: DeclaredView, text: &str) -> Result<()> {
    if !check_view(&path, view)? {
        return add_lateral(study, path, text);
    }
    if study.frontal.is_some() {
        return Err(fail(text, "has two frontal images"));
    }
    // A DICOM header states the date.
    if study.acquired.is_none() {
        let mut studies = gather(std::slice::from_ref(&path), view, Rule::default())?.studies;
        study.acquired = studies.pop().and_then(|study| study.acquired);
    }
    study.frontal = Some(PictureLocation::File(path));
    Ok(())
}

fn add_lateral(study: &mut FoundStudy, path: PathBuf, text: &str) -> Result<()> {
    check_view(&path, DeclaredView::Lateral)?;
    if study.lateral.is_some() {
        return Err(fail(text, "has more than one lateral image"));
    }
    study.lateral = Some(PictureLocation::File(path));
    Ok(())
}

fn add_report(study: &mut FoundStudy, path: &Path, rule: Rule) -> Result<()> {
    let report = read_report(path, rule).map_err(|reason| Error::Input(format!("{}: {reason}", path.display())))?;
    study.report = Some(report);
    Ok(())
}
