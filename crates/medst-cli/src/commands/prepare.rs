//! `medst prepare`.

use anyhow::Result;
use medst_data::image::Decoding;
use medst_data::import::check::{Check, check};
use medst_data::import::chextemporal::CheXTemporal;
use medst_data::import::covidx::{Covidx, SplitRule};
use medst_data::import::described::{Described, Description, sources};
use medst_data::import::imagenome::Imagenome;
use medst_data::import::mi_cxr::MiCxr;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::ms_cxr_t::MsCxrT;
use medst_data::import::open_i::OpenI;
use medst_data::import::padchest_gr::PadChestGr;
use medst_data::import::rexgradient::Rexgradient;
use medst_data::import::rsna::Rsna;
use medst_data::import::{Labels, PrepareOptions, Source, Summary, prepare};
use medst_data::sequence::Chunks;

use super::Output;
use crate::args::{Draw, Folder, How, OnMimic, Prepare, WithImages};
use crate::launch;
use crate::progress::Reporter;

pub fn run(arguments: &Prepare, output: &Output, reporter: &Reporter) -> Result<()> {
    let (source, how) = source(arguments);
    let mut options = options(how);
    if let Prepare::Table { label, .. } = arguments {
        options.labels = Labels::WithoutPatients { but: label.clone() };
    }
    let Some(group) = launch::join()? else { return Ok(()) };
    let done = match how.out.as_ref().filter(|_| !how.check) {
        Some(out) => prepare(&source, out, &options, &*group, reporter).map(|summary| summary.map(Done::Prepared)),
        // Only one process checks the source; the others wait at the end of the job. (clap requires
        // --out or --check.)
        None if group.leads() => check(&source, &options, reporter).map(|found| Some(Done::Checked(found))),
        None => Ok(None),
    };
    let summary = match done {
        Ok(Some(Done::Prepared(summary))) => summary,
        Ok(Some(Done::Checked(found))) => return output.show(&found),
        // Only process 0 prints the summary.
        Ok(None) => return Ok(()),
        Err(error) => {
            if !matches!(error, medst_data::Error::Stopped) {
                launch::abandon(group);
            }
            return Err(error.into());
        }
    };
    output.show(&summary)?;
    let corpus = summary.corpus.display();
    let mut next = vec![format!("medst inspect {corpus}")];
    if matches!(source, Source::Table(_) | Source::MimicCxr(_) | Source::OpenI(_)) {
        next.push(format!("medst pretrain configs/tiny.toml --set data.corpus={corpus}"));
    }
    output.next(&next)
}

enum Done {
    Prepared(Summary),
    Checked(Check),
}

fn source(arguments: &Prepare) -> (Source, &How) {
    match arguments {
        Prepare::Table { table, how, .. } => (Source::Table(table.clone()), how),
        Prepare::MimicCxr { root, reports, tables, how } => {
            let (root, tables, reports) = (root.clone(), tables.clone(), reports.clone());
            (Source::MimicCxr(MimicCxr { root, tables, reports }), how)
        }
        Prepare::MsCxrT(arguments) => {
            (Source::MsCxrT(MsCxrT { root: arguments.root.clone(), images: mimic(arguments) }), &arguments.how)
        }
        Prepare::Imagenome(arguments) => {
            (Source::Imagenome(Imagenome { root: arguments.root.clone(), images: mimic(arguments) }), &arguments.how)
        }
        Prepare::MiCxr(arguments) => {
            (Source::MiCxr(MiCxr { root: arguments.root.clone(), images: mimic(arguments) }), &arguments.how)
        }
        Prepare::MsCxr(arguments) => on_images(&sources::MS_CXR, arguments),
        Prepare::CxrLt(arguments) => on_images(&sources::CXR_LT, arguments),
        Prepare::Chextemporal { root, chexpert, mimic, rexgradient, how } => {
            let [chexpert, mimic, rexgradient] = [chexpert, mimic, rexgradient].map(Clone::clone);
            (Source::CheXTemporal(CheXTemporal { root: root.clone(), chexpert, mimic, rexgradient }), how)
        }
        Prepare::Padchest(arguments) => in_folder(&sources::PADCHEST, arguments),
        Prepare::PadchestGr(arguments) => {
            (Source::PadChestGr(PadChestGr { root: arguments.root.clone() }), &arguments.how)
        }
        Prepare::Rexgradient(arguments) => {
            (Source::Rexgradient(Rexgradient { root: arguments.root.clone() }), &arguments.how)
        }
        Prepare::Nih(arguments) => in_folder(&sources::NIH, arguments),
        Prepare::Vindr(arguments) => (Source::Described(Described::vindr(arguments.root.clone())), &arguments.how),
        Prepare::Siim(arguments) => in_folder(&sources::SIIM, arguments),
        Prepare::ChexpertPlus(arguments) => in_folder(&sources::CHEXPERT_PLUS, arguments),
        Prepare::Chexpert(arguments) => {
            (Source::Described(Described::chexpert(arguments.root.clone())), &arguments.how)
        }
        Prepare::Rsna { root, how } => (Source::Rsna(Rsna { root: root.clone() }), how),
        Prepare::Covidx { root, split_rule, list_version, how } => {
            let rule = match split_rule {
                Draw::Patient => SplitRule::Patient,
                Draw::Reference => SplitRule::Reference,
            };
            (Source::Covidx(Covidx { root: root.clone(), rule, version: list_version.clone() }), how)
        }
        Prepare::OpenI { root, how } => (Source::OpenI(OpenI { root: root.clone() }), how),
        Prepare::CovidChestxray { root, how } => (Source::CovidChestxray(root.clone()), how),
    }
}

fn in_folder<'a>(description: &'static Description, arguments: &'a Folder) -> (Source, &'a How) {
    (Source::Described(Described { description, root: arguments.root.clone(), images: None }), &arguments.how)
}

fn on_images<'a>(description: &'static Description, arguments: &'a WithImages) -> (Source, &'a How) {
    let (root, images) = (arguments.root.clone(), Some(arguments.images.clone()));
    (Source::Described(Described { description, root, images }), &arguments.how)
}

fn mimic(arguments: &OnMimic) -> MimicCxr {
    MimicCxr { root: arguments.images.clone(), tables: arguments.tables.clone(), reports: None }
}

fn options(how: &How) -> PrepareOptions {
    let length = how.sequence_length.into();
    PrepareOptions {
        image_size: how.image_size.into(),
        sequence_unit: how.sequence_unit.into(),
        chunks: Chunks { length, stride: how.sequence_stride.map_or(length, |stride| usize::from(stride).min(length)) },
        decoding: Decoding { exact: how.exact, window: how.dicom.window },
        report_rule: how.report_rule,
        splits: how.splits.clone(),
        exclude: how.exclude.clone(),
        labels: Labels::default(),
        overwrite: how.overwrite,
    }
}
