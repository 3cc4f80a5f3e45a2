//! The list of images: the metadata table of MIMIC-CXR-JPG, or the record list of the DICOM release
//! with the objects' headers.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::MimicCxr;
use crate::image;
use crate::import::rows::Rows;
use crate::import::values;
use crate::progress::Progress;
use crate::study::{Day, View};
use crate::{Error, Reason, Result};

/// Objects whose headers are read between two looks at the stop request.
const BLOCK: usize = 1024;

/// One image of the list.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub subject: &'a str,
    pub study: &'a str,
    pub dicom: &'a str,
    /// Counted from 1.
    pub row: u64,
}

/// The table that lists the images.
pub struct List {
    path: PathBuf,
    /// Whether it knows views and dates.
    has_views: bool,
}

/// Finds the list of images.
///
/// # Errors
/// Names the tables that were looked for.
pub fn list(source: &MimicCxr) -> Result<(PathBuf, List)> {
    if let Some(path) = source.table("metadata") {
        return Ok((path.clone(), List { path, has_views: true }));
    }
    let folders = source.tables.iter().chain([&source.root]);
    let names = ["cxr-record-list.csv.gz", "cxr-record-list.csv"];
    let mut candidates = folders.flat_map(|folder| names.map(|name| folder.join(name)));
    match candidates.find(|path| path.exists()) {
        Some(path) => Ok((path.clone(), List { path, has_views: false })),
        None => Err(Error::Usage(format!(
            "{} is not a MIMIC-CXR folder: it has neither mimic-cxr-2.0.0-metadata.csv(.gz) nor \
             cxr-record-list.csv(.gz)",
            source.root.display()
        ))),
    }
}

impl List {
    /// Visits every image.
    ///
    /// # Errors
    /// Those of the visit, and of the table.
    pub fn each(&self, mut visit: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut rows = Rows::open(&self.path)?;
        let columns = columns(&rows)?;
        rows.each(|row| match columns.map(|column| row.cell(column)) {
            [Some(subject), Some(study), Some(dicom)] => visit(Record { subject, study, dicom, row: row.number }),
            _ => Err(incomplete(&self.path, row.number)),
        })
    }

    /// Visits every image with its view (or why it is not used) and its time.
    ///
    /// # Errors
    /// Those of the visit, and of the table.
    pub fn with_views(
        &self,
        source: &MimicCxr,
        progress: &dyn Progress,
        mut visit: impl FnMut(Record, Result<View, Reason>, Option<Day>) -> Result<()>,
    ) -> Result<()> {
        if !self.has_views {
            return self.with_headers(source, progress, visit);
        }
        let mut rows = Rows::open(&self.path)?;
        let columns = columns(&rows)?;
        let [view, date, time] = [rows.column("ViewPosition")?, rows.column("StudyDate")?, rows.column("StudyTime")?];
        progress.begin("reading metadata", None);
        rows.each(|row| {
            progress.advance(1);
            let [Some(subject), Some(study), Some(dicom)] = columns.map(|column| row.cell(column)) else {
                return Err(incomplete(&self.path, row.number));
            };
            let view = match row.cell(view) {
                None => Err(Reason::from("ViewPosition is absent")),
                Some(name) => View::parse(name).ok_or_else(|| Reason::from(format!("ViewPosition is `{name}`"))),
            };
            let acquired = row.cell(date).and_then(|date| values::dicom_moment(date, row.cell(time)));
            visit(Record { subject, study, dicom, row: row.number }, view, acquired)
        })?;
        progress.end();
        Ok(())
    }

    /// The DICOM release: views and dates are in the headers of the objects.
    fn with_headers(
        &self,
        source: &MimicCxr,
        progress: &dyn Progress,
        mut visit: impl FnMut(Record, Result<View, Reason>, Option<Day>) -> Result<()>,
    ) -> Result<()> {
        let mut all: Vec<[String; 3]> = Vec::new();
        self.each(|record| {
            all.push([record.subject, record.study, record.dicom].map(str::to_string));
            Ok(())
        })?;
        progress.begin("reading DICOM headers", Some(all.len() as u64));
        for (block, records) in all.chunks(BLOCK).enumerate() {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            let read = |[subject, study, dicom]: &[String; 3]| header(&source.image(subject, study, dicom));
            let headers: Vec<_> = records.par_iter().map(read).collect();
            for (n, ([subject, study, dicom], (view, acquired))) in records.iter().zip(headers).enumerate() {
                visit(Record { subject, study, dicom, row: (block * BLOCK + n) as u64 + 1 }, view, acquired)?;
            }
            progress.advance(records.len() as u64);
        }
        progress.end();
        Ok(())
    }
}

fn header(path: &Path) -> (Result<View, Reason>, Option<Day>) {
    if !path.exists() {
        return (Err("image file does not exist".into()), None);
    }
    let header = match image::dicom_header(path) {
        Ok(header) => header,
        Err(error) => return (Err(Reason::of_picture(error)), None),
    };
    let time = header.study_time.as_deref();
    let acquired = header.study_date.as_deref().and_then(|date| values::dicom_moment(date, time));
    (header.view.ok_or_else(|| Reason::from("DICOM header states no view")), acquired)
}

fn columns(rows: &Rows) -> Result<[usize; 3]> {
    Ok([rows.column("subject_id")?, rows.column("study_id")?, rows.column("dicom_id")?])
}

fn incomplete(path: &Path, row: u64) -> Error {
    let message = "subject_id, study_id or dicom_id is missing".to_string();
    Error::Row { path: path.to_path_buf(), row, message }
}
