//! Importers: make a corpus from tables and archives.
//!
//! * [`table`] – a table of images
//! * [`described`] – sources that are such a table with other names: CheXpert, CheXpert Plus,
//!   PadChest, MS-CXR, NIH, VinDr-CXR, SIIM-ACR, CXR-LT
//! * [`mimic_cxr`] – MIMIC-CXR-JPG and MIMIC-CXR
//! * [`ms_cxr_t`], [`imagenome`], [`mi_cxr`] – MS-CXR-T, Chest ImaGenome and MI-CXR, on the images
//!   of MIMIC-CXR
//! * [`chextemporal`] – CheXTemporal, on the images of several sources
//! * [`padchest_gr`] – PadChest-GR
//! * [`rexgradient`] – ReXGradient-160K, whose pictures may be in an archive
//! * [`rsna`] – RSNA Pneumonia Detection, stage 2
//! * [`covidx`] – COVIDx
//! * [`open_i`] – the Indiana University collection
//! * `covid_chestxray` – covid-chestxray-dataset
//!
//! Each importer makes a [`crate::corpus::plan::Plan`] through `assemble`;
//! `crate::corpus::write` decodes the pictures and writes the corpus.

mod archive;
pub(crate) mod assemble;
pub mod check;
pub mod chextemporal;
pub(crate) mod courses;
pub(crate) mod covid_chestxray;
pub mod covidx;
mod delimited;
pub mod described;
pub(crate) mod exclude;
pub(crate) mod ids;
pub mod imagenome;
pub(crate) mod known;
pub mod mi_cxr;
pub mod mimic_cxr;
pub mod ms_cxr_t;
pub mod open_i;
pub mod padchest_gr;
pub(crate) mod published;
pub mod rexgradient;
pub(crate) mod rows;
pub mod rsna;
mod same_file;
pub mod splits;
pub mod table;
pub mod values;

use std::path::{Path, PathBuf};

pub use crate::corpus::options::{Labels, PrepareOptions};
pub use crate::corpus::plan;
pub use crate::corpus::summary::Summary;

use crate::corpus::manifest::Provenance;
use crate::corpus::plan::Plan;
use crate::corpus::{staging, together, write};
use crate::progress::{Progress, Quiet};
use crate::ranks::{self, Alone, Ranks};
use crate::storage::Address;
use crate::{Error, Result};

/// The source of a corpus.
#[derive(Clone, Debug)]
pub enum Source {
    /// CSV, gzipped CSV or Parquet, a file or an object; see [`table::read`] for the columns.
    Table(PathBuf),
    MimicCxr(mimic_cxr::MimicCxr),
    MsCxrT(ms_cxr_t::MsCxrT),
    Rsna(rsna::Rsna),
    Covidx(covidx::Covidx),
    Described(described::Described),
    PadChestGr(padchest_gr::PadChestGr),
    Rexgradient(rexgradient::Rexgradient),
    Imagenome(imagenome::Imagenome),
    CheXTemporal(chextemporal::CheXTemporal),
    MiCxr(mi_cxr::MiCxr),
    OpenI(open_i::OpenI),
    /// The folder with `metadata.csv` and `images/`.
    CovidChestxray(PathBuf),
}

impl Source {
    /// The name that the command line and `corpus.json` use.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Table(_) => "table",
            Source::MimicCxr(_) => "mimic-cxr",
            Source::MsCxrT(_) => "ms-cxr-t",
            Source::Rsna(_) => "rsna",
            Source::Covidx(_) => "covidx",
            Source::Described(source) => source.description.kind,
            Source::PadChestGr(_) => "padchest-gr",
            Source::Rexgradient(_) => "rexgradient",
            Source::Imagenome(_) => "imagenome",
            Source::CheXTemporal(_) => "chextemporal",
            Source::MiCxr(_) => "mi-cxr",
            Source::OpenI(_) => "open-i",
            Source::CovidChestxray(_) => "covid-chestxray",
        }
    }

    /// The folder of an archive; a table has none.
    fn folder(&self) -> Option<&Path> {
        match self {
            Source::Table(_) => None,
            Source::MimicCxr(source) => Some(&source.root),
            Source::MsCxrT(source) => Some(&source.root),
            Source::Rsna(source) => Some(&source.root),
            Source::Covidx(source) => Some(&source.root),
            Source::OpenI(source) => Some(&source.root),
            Source::Described(source) => Some(&source.root),
            Source::PadChestGr(source) => Some(&source.root),
            Source::Rexgradient(source) => Some(&source.root),
            Source::Imagenome(source) => Some(&source.root),
            Source::CheXTemporal(source) => Some(&source.root),
            Source::MiCxr(source) => Some(&source.root),
            Source::CovidChestxray(root) => Some(root),
        }
    }

    /// Reads everything but the pictures.
    ///
    /// # Errors
    /// Names the file or row that cannot be understood. What is absent or unusable is noted in the
    /// plan instead.
    pub fn plan(&self, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
        if let Some(root) = self.folder().filter(|root| Address::is(root)) {
            return Err(Error::Usage(format!(
                "{}: only a table of images can be read from object storage (`medst prepare table`); the folder of \
                 an archive must be on a file system",
                root.display()
            )));
        }
        match self {
            Source::Table(path) => Ok(Planned { plan: table::plan(path, options)?, files: vec![path.clone()] }),
            Source::MimicCxr(source) => mimic_cxr::plan(source, options, progress),
            Source::MsCxrT(source) => ms_cxr_t::plan(source, options, progress),
            Source::Rsna(source) => rsna::plan(source, options, progress),
            Source::Covidx(source) => covidx::plan(source, options),
            Source::Described(source) => described::plan(source, options, progress),
            Source::PadChestGr(source) => padchest_gr::plan(source, options),
            Source::Rexgradient(source) => rexgradient::plan(source, options),
            Source::Imagenome(source) => imagenome::plan(source, options, progress),
            Source::CheXTemporal(source) => chextemporal::plan(source, options),
            Source::MiCxr(source) => mi_cxr::plan(source, options, progress),
            Source::OpenI(source) => open_i::plan(source, options, progress),
            Source::CovidChestxray(root) => covid_chestxray::plan(root, options),
        }
    }
}

/// A plan, and the files it was read from (pictures apart), the main one first.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    pub files: Vec<PathBuf>,
}

/// Prepares a corpus; several processes share the pictures. The corpus is that of one process, to
/// the byte, and so is what an interrupted run left, whatever the number of its processes. The
/// process that leads reads the source, reports progress, and returns the summary; a stop request
/// to any process stops all of them.
///
/// An interrupted run continues where it was; a finished one appears at `out` at once.
///
/// # Errors
/// Sources that cannot be understood, subjects in two splits, an `out` that cannot be written; on
/// the process where it occurs, which then has to end the others. Rows that cannot be used are
/// counted and listed in `skipped.csv` instead.
pub fn prepare(
    source: &Source,
    out: &Path,
    options: &PrepareOptions,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<Option<Summary>> {
    if !ranks.leads() {
        together::run_worker(out, options, ranks, &Quiet(progress))?;
        return Ok(None);
    }
    let begun = ranks::lead(ranks, || {
        write::check_target(out, options.overwrite)?;
        let Planned { mut plan, files } = source.plan(options, progress)?;
        let provenance = Provenance::from_files(source.kind(), &files)?;
        if let Source::Rexgradient(source) = source {
            let parts = source.parts()?;
            if !parts.is_empty() {
                let folder = staging::pictures_folder(out)?;
                archive::pictures(&parts, &source.root, &folder, &mut plan, options, progress)?;
            }
        }
        write::begin(plan, provenance, out, options, progress)
    })?;
    let summary = write::write(begun, out, options, ranks, progress)?;
    archive::remove(&staging::pictures_folder(out)?)?;
    Ok(Some(summary))
}

/// Files below a folder, a few levels deep.
pub(crate) fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let path = entry.map_err(Error::io(folder))?.path();
            match path.is_dir() {
                true if depth < 4 => walk(&path, depth + 1, files)?,
                true => {}
                false => files.push(path),
            }
        }
        Ok(())
    }
    walk(folder, 0, files)
}

/// Prepares a corpus from a table of images.
///
/// # Errors
/// See [`prepare`].
pub fn prepare_table(table: &Path, out: &Path, options: &PrepareOptions, progress: &dyn Progress) -> Result<Summary> {
    let summary = prepare(&Source::Table(table.to_path_buf()), out, options, &Alone, progress)?;
    Ok(summary.expect("a process alone leads"))
}
