//! MIMIC-CXR-JPG 2.0.0 and 2.1.0, and the DICOM release MIMIC-CXR 2.0.0 and 2.1.0.
//!
//! * images: `files/p10/p10000032/s50414267/<dicom id>.jpg` (or `.dcm`)
//! * views, dates: `mimic-cxr-2.0.0-metadata.csv.gz`; in the DICOM release `cxr-record-list.csv.gz`
//!   and the headers
//! * splits, labels: `…-split.csv.gz`, `…-chexpert.csv.gz`
//! * reports: `mimic-cxr-reports.zip`, the folder tree it unpacks to, or a sectioned CSV
//!
//! Every table may be unpacked. What is absent is counted, never fatal: a partial download gives a
//! smaller corpus.
//!
//! How this differs from the reference: rows are grouped by study, a study's image-free or
//! report-free parts are counted instead of dropped silently, and no subject can be in two splits.

pub mod named;
pub mod records;
pub mod reports;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use self::records::Record;
use super::assemble::{Assembly, FoundImage};
use super::ids::{Ids, Lookup};
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::progress::Progress;
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Reason, Result};

/// The folders of the parts of MIMIC-CXR.
#[derive(Clone, Debug, Default)]
pub struct MimicCxr {
    /// The folder with `files/`.
    pub root: PathBuf,
    /// The folder with the tables, where that is another one: those of MIMIC-CXR-JPG serve the
    /// DICOM release too.
    pub tables: Option<PathBuf>,
    /// The reports: a zip file, a folder or a sectioned CSV; looked for in `root` and `tables`
    /// otherwise.
    pub reports: Option<PathBuf>,
}

impl MimicCxr {
    /// The table of a kind (`metadata`, `split`, `chexpert`), gzipped or not.
    pub fn table(&self, kind: &str) -> Option<PathBuf> {
        let folders = self.tables.iter().chain([&self.root]);
        folders.flat_map(|folder| ["csv.gz", "csv"].map(|end| (folder, end))).find_map(|(folder, end)| {
            let suffix = format!("-{kind}.{end}");
            let mut names: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
            names.sort();
            names.into_iter().find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("mimic-cxr") && name.ends_with(&suffix)
            })
        })
    }

    /// The folder of a study's images.
    pub fn study_folder(&self, subject: &str, study: &str) -> PathBuf {
        let files = self.root.join("files");
        let group: String = subject.chars().take(2).collect();
        files.join(format!("p{group}")).join(format!("p{subject}")).join(format!("s{study}"))
    }

    /// The file of an image: the JPEG, or the DICOM object where the JPEG does not exist.
    pub fn image(&self, subject: &str, study: &str, dicom: &str) -> PathBuf {
        let folder = self.study_folder(subject, study);
        let jpeg = folder.join(format!("{dicom}.jpg"));
        if !jpeg.exists() {
            let object = folder.join(format!("{dicom}.dcm"));
            if object.exists() {
                return object;
            }
        }
        jpeg
    }
}

/// Reads tables and reports.
///
/// # Errors
/// A folder that is not MIMIC-CXR, or tables that cannot be understood.
pub fn plan(source: &MimicCxr, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let mut files = Vec::new();
    let splits = match (source.table("split"), &options.splits) {
        (_, Some(table)) => {
            files.push(table.clone());
            None
        }
        (Some(table), None) => {
            let splits = Splits::read(&table)?;
            files.push(table);
            Some(splits)
        }
        (None, None) => None,
    };
    let (main, listed) = records::list(source)?;
    let mut assembly = Assembly::new(&main, options)?;
    if splits.is_none() && options.splits.is_none() {
        assembly.plan.warn("split table absent: subjects are split 80/10/10 by a hash of their ID");
    }
    let seen = listed.with_views(source, progress, |record, view, acquired| {
        add(&mut assembly, source, splits.as_ref(), record, view, acquired)
    });
    seen?;
    files.insert(0, main);
    match source.table("chexpert") {
        None => assembly.plan.warn("CheXpert table absent: studies have no labels"),
        Some(table) => {
            read_labels(&table, &mut assembly)?;
            files.push(table);
        }
    }
    progress.begin("reading reports", None);
    files.extend(reports::read(source, &mut assembly, progress)?);
    progress.end();
    Ok(Planned { plan: assembly.finish(options)?, files })
}

fn add(
    assembly: &mut Assembly,
    source: &MimicCxr,
    splits: Option<&Splits>,
    record: Record,
    view: Result<View, Reason>,
    acquired: Option<crate::study::Day>,
) -> Result<()> {
    let Record { subject, study, dicom, row } = record;
    let path = source.image(subject, study, dicom);
    let split = splits.map(|splits| splits.find(study)).transpose()?;
    let usable = match split {
        Some(None) => Err(Reason::from("study is not in the split table")),
        _ => view,
    };
    let view = match usable {
        Ok(view) => view,
        Err(reason) => {
            assembly.know(subject, study, &path);
            assembly.plan.skip(path.display().to_string(), row, reason);
            return Ok(());
        }
    };
    if acquired.is_none() {
        assembly.plan.warn("images whose date is absent or unreadable, not used in sequences");
    }
    let (subject, study, split) = (SubjectId(subject.into()), StudyId(study.into()), split.flatten());
    let index = assembly.add(FoundImage { subject, study, view, path, row, acquired, split })?;
    assembly.label_view(index, view);
    Ok(())
}

/// The split table: studies to splits.
struct Splits {
    path: PathBuf,
    of_study: HashMap<String, Split>,
    ids: Ids,
}

impl Splits {
    /// # Errors
    /// A table that cannot be understood; a study in two splits.
    fn read(path: &Path) -> Result<Splits> {
        let mut rows = Rows::open(path)?;
        let (study, split) = (rows.column("study_id")?, rows.column("split")?);
        let mut of_study: HashMap<String, Split> = HashMap::new();
        rows.each(|row| {
            let fail = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
            let Some(study) = row.cell(study) else { return Ok(()) };
            let cell = row.cell(split).unwrap_or("nothing");
            let split = Split::parse(cell)
                .ok_or_else(|| fail(format!("split is `{cell}`; expected train, validate or test")))?;
            match of_study.insert(study.to_string(), split) {
                Some(earlier) if earlier != split => {
                    Err(fail(format!("study {study} is in {split} here but in {earlier} in an earlier row")))
                }
                _ => Ok(()),
            }
        })?;
        let ids = of_study.keys().map(String::as_str).collect();
        Ok(Splits { path: path.to_path_buf(), of_study, ids })
    }

    /// # Errors
    /// A study that the table names in several forms.
    fn find(&self, study: &str) -> Result<Option<Split>> {
        if let Some(&split) = self.of_study.get(study) {
            return Ok(Some(split));
        }
        let found = self.ids.find(study);
        let study = found.map_err(|reason| Error::Table { path: self.path.clone(), message: reason.into() })?;
        Ok(study.and_then(|study| self.of_study.get(study).copied()))
    }
}

/// CheXpert's labels: 1 positive, 0 negative, -1 uncertain, absent where the report does not
/// mention the finding.
fn read_labels(path: &Path, assembly: &mut Assembly) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let study = rows.column("study_id")?;
    let mut lookup = Lookup::new(path);
    let names: Vec<(usize, String)> = rows.columns().iter().cloned().enumerate().collect();
    for (_, name) in names.iter().filter(|(_, name)| !name.is_empty()) {
        rows.find(name)?;
    }
    let findings: Vec<&(usize, String)> =
        names.iter().filter(|(_, name)| !matches!(name.as_str(), "subject_id" | "study_id")).collect();
    rows.each(|row| {
        let Some(study) = row.cell(study) else { return Ok(()) };
        let Some(index) = assembly.index_by(&mut lookup, study, row.number)? else { return Ok(()) };
        for (column, name) in &findings {
            if let Some(cell) = row.cell(*column) {
                assembly.label(index, name, cell.strip_suffix(".0").unwrap_or(cell).to_string());
            }
        }
        Ok(())
    })?;
    assembly.looked_up(&lookup, "has labels for none of the studies")
}
