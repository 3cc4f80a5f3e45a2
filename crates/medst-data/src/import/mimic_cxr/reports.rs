//! The reports of MIMIC-CXR: `mimic-cxr-reports.zip`, the folder tree it unpacks to, or a table of
//! sections (`mimic_cxr_sectioned.csv`, as the public section scripts write it).

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::MimicCxr;
use crate::corpus::plan::ReportText;
use crate::import::assemble::Assembly;
use crate::import::ids::Lookup;
use crate::import::rows::Rows;
use crate::progress::Progress;
use crate::study::StudyId;

use crate::{Error, Result, input};

/// A longer file is not taken for a report; the longest of MIMIC-CXR has 8 kB.
const LONGEST: u64 = 1 << 20;

/// Gives every study its report; returns the files that were read.
///
/// # Errors
/// A source that was named but does not exist or cannot be read.
pub fn read(source: &MimicCxr, assembly: &mut Assembly, progress: &dyn Progress) -> Result<Option<PathBuf>> {
    let Some(path) = find(source) else {
        assembly.plan.warn("reports absent: no mimic-cxr-reports.zip, no report files, no mimic_cxr_sectioned.csv");
        return Ok(None);
    };
    if path.is_dir() {
        from_folder(&path, assembly, progress)?;
        return Ok(None);
    }
    let zipped = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    if zipped {
        from_zip(&path, assembly, progress)?
    } else {
        from_sections(&path, assembly, progress)?
    }
    Ok(Some(path))
}

fn find(source: &MimicCxr) -> Option<PathBuf> {
    if source.reports.is_some() {
        return source.reports.clone();
    }
    let names = ["mimic-cxr-reports.zip", "mimic-cxr-reports", "mimic_cxr_sectioned.csv", "mimic_cxr_sectioned.csv.gz"];
    let folders = || source.tables.iter().chain([&source.root]);
    let named = folders().flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.exists());
    // The DICOM release has the texts among the images once the zip file is unpacked in place.
    named.or_else(|| source.root.join("files").exists().then(|| source.root.clone()).filter(|root| has_texts(root)))
}

/// Whether the first subject's folder contains a report.
fn has_texts(root: &Path) -> bool {
    let mut folder = root.join("files");
    for _ in 0..2 {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        names.retain(|path| path.is_dir());
        names.sort();
        match names.into_iter().next() {
            Some(first) => folder = first,
            None => return false,
        }
    }
    let mut texts = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    texts.any(|entry| entry.path().extension().is_some_and(|extension| extension == "txt"))
}

/// The study that a report's file name gives: `…/s50414267.txt`.
fn study_of(name: &str) -> Option<StudyId> {
    let file = name.rsplit('/').next()?;
    let id = file.strip_prefix('s')?.strip_suffix(".txt")?;
    (!id.is_empty() && id.bytes().all(|digit| digit.is_ascii_digit())).then(|| StudyId(id.to_string()))
}

fn from_zip(path: &Path, assembly: &mut Assembly, progress: &dyn Progress) -> Result<()> {
    let fail = |error: &dyn std::fmt::Display| Error::Table {
        path: path.to_path_buf(),
        message: format!("not a readable zip file: {error}"),
    };
    let file = BufReader::with_capacity(1 << 16, input::open(path).map_err(Error::io(path))?);
    let mut archive = zip::ZipArchive::new(file).map_err(|error| fail(&error))?;
    for index in 0..archive.len() {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let name = archive.name_for_index(index).and_then(Result::ok);
        let study = name.and_then(|name| study_of(&name)).and_then(|study| assembly.index_of(&study));
        let Some(study) = study else { continue };
        let text = archive.by_index(index).ok().and_then(|entry| {
            let mut bytes = Vec::new();
            entry.take(LONGEST).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        });
        match text {
            Some(bytes) => add_report(assembly, study, &bytes),
            None => assembly.plan.warn("reports damaged in the zip file, left out"),
        }
        progress.advance(1);
    }
    Ok(())
}

fn from_folder(root: &Path, assembly: &mut Assembly, progress: &dyn Progress) -> Result<()> {
    let root = if root.join("files").is_dir() { root.join("files") } else { root.to_path_buf() };
    for index in 0..assembly.plan.studies.len() {
        if index % 1024 == 0 && progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let planned = &assembly.plan.studies[index];
        let (subject, study) = (&planned.subject.0, &planned.study.0);
        let group: String = subject.chars().take(2).collect();
        let path = root.join(format!("p{group}/p{subject}/s{study}.txt"));
        let bytes = input::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(LONGEST).read_to_end(&mut bytes).map(|_| bytes)
        });
        match bytes {
            Ok(bytes) => add_report(assembly, index, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => assembly.plan.warn("unreadable report files, left out"),
        }
        progress.advance(1);
    }
    Ok(())
}

fn add_report(assembly: &mut Assembly, index: usize, bytes: &[u8]) {
    assembly.report(index, ReportText::MimicCxr(String::from_utf8_lossy(bytes).into_owned()));
}

fn from_sections(path: &Path, assembly: &mut Assembly, progress: &dyn Progress) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let study = match (rows.find("study")?, rows.find("study_id")?) {
        (Some(column), _) | (None, Some(column)) => column,
        (None, None) => rows.column("study")?,
    };
    let (impression, findings) = (rows.column("impression")?, rows.column("findings")?);
    let last_paragraph = rows.optional("last_paragraph", &mut assembly.plan)?;
    let mut lookup = Lookup::new(path);
    rows.each(|row| {
        progress.advance(1);
        let Some(study) = row.cell(study) else { return Ok(()) };
        let Some(index) = assembly.index_by(&mut lookup, study, row.number)? else { return Ok(()) };
        let cell = |column: usize| row.cell(column).map(str::to_string);
        let (impression, findings) = (cell(impression), cell(findings));
        let last_paragraph = last_paragraph.and_then(cell);
        assembly.report(index, ReportText::Sections { impression, findings, last_paragraph });
        Ok(())
    })?;
    assembly.looked_up(&lookup, "has reports for none of the studies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_known_by_their_file_names() {
        assert_eq!(study_of("files/p10/p10000032/s50414267.txt"), Some(StudyId("50414267".into())));
        for other in ["files/p10/p10000032/", "s.txt", "s12x.txt", "50414267.txt", "s50414267.pdf"] {
            assert_eq!(study_of(other), None, "{other}");
        }
    }
}
