//! Writing a cohort in the layouts of real archives, so that importers meet their names, columns,
//! compression and nesting. The truth is stored next to them.
//!
//! A layout is a function from a drawn patient to files and rows; rows are appended in the
//! patients' order, so that bytes do not depend on the number of threads.

mod chexpert;
mod chexpert_plus;
mod chextemporal;
mod covidx;
mod files;
mod folders;
mod ids;
mod mi_cxr;
mod mimic_cxr_jpg;
mod ms_cxr_t;
mod nih;
mod on_mimic;
mod padchest;
mod rexgradient;
mod rsna;
mod siim;
mod table;
mod truth;
mod vindr;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

pub use self::chexpert_plus::is_inverted;
pub use self::files::write_png;
use self::files::{Entries, OpenTable, Table, Tar, create_parent};
pub use self::table::STUDIES;
use super::cohort::DrawnPatient;
use super::{PhantomOptions, PhantomSummary};
use medst_data::progress::Progress;
use medst_data::{Error, Result};

/// The truth's file name.
pub const TRUTH: &str = truth::TABLE.name;
/// The folder of the table layout's pictures.
pub const IMAGES: &str = table::IMAGES;
/// Patients drawn between two looks at the stop request.
const BLOCK: u32 = 64;

/// The layout of a cohort on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A table of images.
    Table,
    /// MIMIC-CXR-JPG 2.0.0 with its tables and `mimic-cxr-reports.zip`, and the labelled test set
    /// of 2.1.0.
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
    /// CheXpert Plus.
    ChexpertPlus,
    /// PadChest.
    Padchest,
    /// PadChest-GR.
    PadchestGr,
    /// ReXGradient-160K, its pictures in the parts of one archive.
    Rexgradient,
    /// NIH ChestX-ray14.
    Nih,
    /// VinDr-CXR.
    Vindr,
    /// SIIM-ACR Pneumothorax.
    Siim,
    /// MS-CXR 1.1.0, about the images of the MIMIC-CXR-JPG layout; so are the next three.
    MsCxr,
    /// CXR-LT 2024.
    CxrLt,
    /// Chest ImaGenome: the gold comparisons, and the splits of the silver part.
    Imagenome,
    /// MI-CXR.
    MiCxr,
    /// CheXTemporal's gold pairs, about images of the CheXpert and MIMIC-CXR-JPG layouts.
    Chextemporal,
}

impl Layout {
    pub const ALL: [Layout; 19] = [
        Layout::Table,
        Layout::MimicCxrJpg,
        Layout::MsCxrT,
        Layout::Rsna,
        Layout::Covidx,
        Layout::Chexpert,
        Layout::Folders,
        Layout::ChexpertPlus,
        Layout::Padchest,
        Layout::PadchestGr,
        Layout::Rexgradient,
        Layout::Nih,
        Layout::Vindr,
        Layout::Siim,
        Layout::MsCxr,
        Layout::CxrLt,
        Layout::Imagenome,
        Layout::MiCxr,
        Layout::Chextemporal,
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
            Layout::ChexpertPlus => "chexpert-plus",
            Layout::Padchest => "padchest",
            Layout::PadchestGr => "padchest-gr",
            Layout::Rexgradient => "rexgradient",
            Layout::Nih => "nih",
            Layout::Vindr => "vindr",
            Layout::Siim => "siim",
            Layout::MsCxr => "ms-cxr",
            Layout::CxrLt => "cxr-lt",
            Layout::Imagenome => "imagenome",
            Layout::MiCxr => "mi-cxr",
            Layout::Chextemporal => "chextemporal",
        }
    }

    fn tables(self) -> &'static [Table] {
        match self {
            Layout::Table => table::TABLES,
            Layout::MimicCxrJpg => mimic_cxr_jpg::TABLES,
            Layout::MsCxrT => ms_cxr_t::TABLES,
            Layout::Rsna => rsna::TABLES,
            Layout::Covidx | Layout::Folders | Layout::Rexgradient | Layout::MiCxr => &[],
            Layout::Chexpert => chexpert::TABLES,
            Layout::ChexpertPlus => chexpert_plus::TABLES,
            Layout::Padchest => padchest::TABLES,
            Layout::PadchestGr => padchest::GR_TABLES,
            Layout::Nih => nih::TABLES,
            Layout::Vindr => vindr::TABLES,
            Layout::Siim => siim::TABLES,
            Layout::MsCxr => on_mimic::MS_CXR,
            Layout::CxrLt => on_mimic::CXR_LT,
            Layout::Imagenome => on_mimic::IMAGENOME,
            Layout::Chextemporal => chextemporal::TABLES,
        }
    }

    /// Files of plain lines.
    fn lists(self) -> &'static [&'static str] {
        match self {
            Layout::MimicCxrJpg => mimic_cxr_jpg::LISTS,
            Layout::Covidx => covidx::LISTS,
            Layout::ChexpertPlus => chexpert_plus::LISTS,
            Layout::PadchestGr => padchest::GR_LISTS,
            Layout::Rexgradient => rexgradient::LISTS,
            Layout::Nih => nih::LISTS,
            Layout::MiCxr => mi_cxr::LISTS,
            _ => &[],
        }
    }

    /// The brackets around the lines of a list whose lines are members of one JSON value.
    fn brackets(self) -> Option<[&'static str; 2]> {
        match self {
            Layout::PadchestGr => Some(["[", "]"]),
            Layout::Rexgradient => Some(["{", "}"]),
            _ => None,
        }
    }

    /// The archive of texts.
    fn archive(self) -> Option<&'static str> {
        (self == Layout::MimicCxrJpg).then_some(mimic_cxr_jpg::REPORTS)
    }

    fn write(self, folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
        match self {
            Layout::Table => table::write(folder, drawn),
            Layout::MimicCxrJpg => mimic_cxr_jpg::write(folder, drawn),
            Layout::MsCxrT => Ok(ms_cxr_t::entries(drawn)),
            Layout::Rsna => rsna::write(folder, drawn),
            Layout::Covidx => covidx::write(folder, drawn),
            Layout::Chexpert => chexpert::write(folder, drawn),
            Layout::Folders => folders::write(folder, drawn),
            Layout::ChexpertPlus => chexpert_plus::write(folder, drawn),
            Layout::Padchest => padchest::write(folder, drawn),
            Layout::PadchestGr => padchest::write_grounded(folder, drawn),
            Layout::Rexgradient => rexgradient::write(drawn),
            Layout::Nih => nih::write(folder, drawn),
            Layout::Vindr => vindr::write(folder, drawn),
            Layout::Siim => siim::write(folder, drawn),
            Layout::MsCxr => Ok(on_mimic::ms_cxr(drawn)),
            Layout::CxrLt => Ok(on_mimic::cxr_lt(drawn)),
            Layout::Imagenome => Ok(on_mimic::imagenome(drawn)),
            Layout::MiCxr => Ok(mi_cxr::write(drawn)),
            Layout::Chextemporal => Ok(chextemporal::entries(drawn)),
        }
    }
}

/// The folder of each layout: `out` itself if the table is the only one, otherwise a sub-folder
/// with the layout's name.
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
    lists: Vec<List>,
    tar: Option<Tar>,
    archive: Option<(PathBuf, zip::ZipWriter<BufWriter<File>>)>,
}

/// A file of lines.
struct List {
    path: PathBuf,
    file: BufWriter<File>,
    lines: usize,
}

impl Open {
    fn create(layout: Layout, folder: PathBuf) -> Result<Open> {
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let file = |name: &str| {
            let path = folder.join(name);
            create_parent(&path)?;
            let file = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
            Ok((path, file))
        };
        let archive = layout.archive().map(file).transpose()?;
        Ok(Open {
            layout,
            tables: layout.tables().iter().map(|table| OpenTable::create(&folder, *table)).collect::<Result<_>>()?,
            lists: layout
                .lists()
                .iter()
                .map(|name| file(name).map(|(path, file)| List { path, file, lines: 0 }))
                .collect::<Result<_>>()?,
            tar: (layout == Layout::Rexgradient)
                .then(|| Tar::create(&folder, rexgradient::ARCHIVE, rexgradient::PART))
                .transpose()?,
            archive: archive.map(|(path, file)| (path, zip::ZipWriter::new(file))),
            folder,
        })
    }

    fn append(&mut self, entries: Entries) -> Result<()> {
        for (table, rows) in self.tables.iter_mut().zip(entries.rows) {
            rows.iter().try_for_each(|row| table.push(row))?;
        }
        for (list, line) in entries.lines {
            let brackets = self.layout.brackets();
            let List { path, file, lines } = &mut self.lists[list];
            let before = match brackets {
                None => "",
                Some([open, _]) if *lines == 0 => open,
                Some(_) => ",",
            };
            *lines += 1;
            writeln!(file, "{before}{line}").map_err(Error::io(&*path))?;
        }
        if let Some(tar) = &mut self.tar {
            entries.members.iter().try_for_each(|(name, bytes)| tar.push(name, bytes))?;
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
        for List { path, mut file, lines } in self.lists {
            if let Some([open, close]) = self.layout.brackets() {
                let open = if lines == 0 { open } else { "" };
                writeln!(file, "{open}{close}").map_err(Error::io(&path))?;
            }
            file.flush().map_err(Error::io(&path))?;
        }
        self.tar.map_or(Ok(()), Tar::close)?;
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
                let drawn =
                    DrawnPatient::draw(options.seed, number, options.difficulty, options.size as usize, with_second);
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

/// The result for one patient.
struct Written {
    studies: usize,
    laterals: usize,
    truth: Vec<Vec<String>>,
    /// The entries for each layout.
    entries: Vec<Entries>,
}
