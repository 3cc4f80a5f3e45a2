//! Writing a cohort in the layouts of real archives, so that importers meet their names, columns, compression and nesting.
//! The truth stands beside them.
//!
//! A layout is a function from a drawn patient to files and rows; rows are appended in the patients' order, so that bytes do
//! not depend on the number of threads.

mod chexpert;
mod covidx;
mod files;
mod folders;
mod ids;
mod mimic_cxr_jpg;
mod ms_cxr_t;
mod rsna;
mod table;
mod truth;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

pub use self::files::write_png;
use self::files::{Entries, OpenTable, Table};
pub use self::table::STUDIES;
use super::cohort::Drawn;
use super::{PhantomOptions, PhantomSummary};
use crate::progress::Progress;
use crate::{Error, Result};

/// The truth's file name.
pub const TRUTH: &str = truth::TABLE.name;
/// The folder of the table layout's pictures.
pub const IMAGES: &str = table::IMAGES;
/// Patients drawn between two looks at the stop request.
const BLOCK: u32 = 64;

/// How a cohort lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A table of images.
    Table,
    /// MIMIC-CXR-JPG 2.0.0 with its tables and `mimic-cxr-reports.zip`, and the labelled test set of 2.1.0.
    MimicCxrJpg,
    /// MS-CXR-T 1.0.0, about the images of the MIMIC-CXR-JPG layout.
    MsCxrT,
    /// RSNA Pneumonia Detection, stage 2.
    Rsna,
    /// COVIDx, with the lists of its sixth version.
    Covidx,
    /// CheXpert, the small release.
    Chexpert,
    /// A folder a patient, files named by date and view.
    Folders,
}

impl Layout {
    pub const ALL: [Layout; 7] = [
        Layout::Table,
        Layout::MimicCxrJpg,
        Layout::MsCxrT,
        Layout::Rsna,
        Layout::Covidx,
        Layout::Chexpert,
        Layout::Folders,
    ];

    /// The name that the command line uses, and the folder where there are several layouts.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Table => "table",
            Layout::MimicCxrJpg => "mimic-cxr-jpg",
            Layout::MsCxrT => "ms-cxr-t",
            Layout::Rsna => "rsna",
            Layout::Covidx => "covidx",
            Layout::Chexpert => "chexpert",
            Layout::Folders => "folders",
        }
    }

    fn tables(self) -> &'static [Table] {
        match self {
            Layout::Table => table::TABLES,
            Layout::MimicCxrJpg => mimic_cxr_jpg::TABLES,
            Layout::MsCxrT => ms_cxr_t::TABLES,
            Layout::Rsna => rsna::TABLES,
            Layout::Covidx | Layout::Folders => &[],
            Layout::Chexpert => chexpert::TABLES,
        }
    }

    /// Files of plain lines.
    fn lists(self) -> &'static [&'static str] {
        match self {
            Layout::MimicCxrJpg => mimic_cxr_jpg::LISTS,
            Layout::Covidx => covidx::LISTS,
            _ => &[],
        }
    }

    /// The archive of texts.
    fn archive(self) -> Option<&'static str> {
        (self == Layout::MimicCxrJpg).then_some(mimic_cxr_jpg::REPORTS)
    }

    fn write(self, folder: &Path, drawn: &Drawn) -> Result<Entries> {
        match self {
            Layout::Table => table::write(folder, drawn),
            Layout::MimicCxrJpg => mimic_cxr_jpg::write(folder, drawn),
            Layout::MsCxrT => Ok(ms_cxr_t::entries(drawn)),
            Layout::Rsna => rsna::write(folder, drawn),
            Layout::Covidx => covidx::write(folder, drawn),
            Layout::Chexpert => chexpert::write(folder, drawn),
            Layout::Folders => folders::write(folder, drawn),
        }
    }
}

/// Where each layout goes: into the folder itself when it is the table alone, else into a folder of its name.
pub fn folders(out: &Path, layouts: &[Layout]) -> Vec<(Layout, PathBuf)> {
    let alone = layouts == [Layout::Table];
    let place = |layout: &Layout| if alone { out.to_path_buf() } else { out.join(layout.name()) };
    layouts.iter().map(|layout| (*layout, place(layout))).collect()
}

/// A layout whose files are being written.
struct Open {
    layout: Layout,
    folder: PathBuf,
    tables: Vec<OpenTable>,
    lists: Vec<(PathBuf, BufWriter<File>)>,
    archive: Option<(PathBuf, zip::ZipWriter<BufWriter<File>>)>,
}

impl Open {
    fn create(layout: Layout, folder: PathBuf) -> Result<Open> {
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let file = |name: &str| {
            let path = folder.join(name);
            let file = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
            Ok((path, file))
        };
        let archive = layout.archive().map(file).transpose()?;
        Ok(Open {
            layout,
            tables: layout.tables().iter().map(|table| OpenTable::create(&folder, *table)).collect::<Result<_>>()?,
            lists: layout.lists().iter().map(|name| file(name)).collect::<Result<_>>()?,
            archive: archive.map(|(path, file)| (path, zip::ZipWriter::new(file))),
            folder,
        })
    }

    fn append(&mut self, entries: Entries) -> Result<()> {
        for (table, rows) in self.tables.iter_mut().zip(entries.rows) {
            rows.iter().try_for_each(|row| table.push(row))?;
        }
        for (list, line) in entries.lines {
            let (path, file) = &mut self.lists[list];
            writeln!(file, "{line}").map_err(Error::io(&*path))?;
        }
        if let Some((path, archive)) = &mut self.archive {
            for (name, text) in entries.texts {
                // No times: the same cohort has the same bytes.
                let options = zip::write::SimpleFileOptions::default();
                let written = archive
                    .start_file(name, options)
                    .map_err(std::io::Error::other)
                    .and_then(|()| archive.write_all(text.as_bytes()));
                written.map_err(Error::io(&*path))?;
            }
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        if self.layout == Layout::MsCxrT {
            let sentences = ms_cxr_t::sentences();
            self.append(Entries { rows: vec![Vec::new(), sentences], ..Entries::default() })?;
        }
        self.tables.into_iter().try_for_each(OpenTable::close)?;
        for (path, mut file) in self.lists {
            file.flush().map_err(Error::io(&path))?;
        }
        if let Some((path, archive)) = self.archive {
            let closed = archive.finish().map_err(std::io::Error::other).and_then(|mut file| file.flush());
            closed.map_err(Error::io(&path))?;
        }
        Ok(())
    }
}

/// Writes pictures and tables into an existing empty folder.
pub fn write(out: &Path, options: &PhantomOptions, progress: &dyn Progress) -> Result<PhantomSummary> {
    let mut truth = OpenTable::create(out, truth::TABLE)?;
    let folders = folders(out, &options.layouts);
    let mut open: Vec<Open> =
        folders.into_iter().map(|(layout, folder)| Open::create(layout, folder)).collect::<Result<_>>()?;
    let mut summary = PhantomSummary {
        folder: out.to_path_buf(),
        layouts: options.layouts.clone(),
        subjects: options.subjects,
        ..PhantomSummary::default()
    };
    let with_second = options.layouts.contains(&Layout::MimicCxrJpg);
    progress.begin("drawing patients", Some(options.subjects.into()));
    for start in (0..options.subjects).step_by(BLOCK as usize) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let places: Vec<(Layout, &Path)> = open.iter().map(|open| (open.layout, open.folder.as_path())).collect();
        let block: Vec<Result<Written>> = (start..(start + BLOCK).min(options.subjects))
            .into_par_iter()
            .map(|number| {
                let drawn = Drawn::draw(options.seed, number, options.difficulty, options.size as usize, with_second);
                let one = |(layout, folder): &(Layout, &Path)| layout.write(folder, &drawn);
                let entries = places.iter().map(one).collect::<Result<_>>()?;
                progress.advance(1);
                let laterals = drawn.visits.iter().filter(|visit| visit.lateral.is_some()).count();
                Ok(Written { studies: drawn.visits.len(), laterals, truth: truth::rows(&drawn), entries })
            })
            .collect();
        for written in block {
            let Written { studies, laterals, truth: rows, entries } = written?;
            summary.studies += studies;
            summary.laterals += laterals;
            rows.iter().try_for_each(|row| truth.push(row))?;
            for (open, entries) in open.iter_mut().zip(entries) {
                summary.images += entries.images;
                open.append(entries)?;
            }
        }
    }
    truth.close()?;
    open.into_iter().try_for_each(Open::close)?;
    progress.end();
    Ok(summary)
}

/// What came of one patient.
struct Written {
    studies: usize,
    laterals: usize,
    truth: Vec<Vec<String>>,
    /// Of each layout.
    entries: Vec<Entries>,
}
