//! `medst phantom`.

use std::path::PathBuf;

use anyhow::Result;
use medst_phantom::{Layout, PhantomOptions};

use super::Output;
use crate::args::Phantom;
use crate::progress::Reporter;

pub fn run(arguments: &Phantom, output: &Output, reporter: &Reporter) -> Result<()> {
    let Phantom { out, subjects, seed, size, difficulty, layout, sheet } = arguments;
    let options = PhantomOptions {
        subjects: *subjects,
        seed: *seed,
        size: *size,
        difficulty: *difficulty,
        layouts: layout.clone(),
    };
    let summary = medst_phantom::generate(out, &options, reporter)?;
    output.show(&summary)?;
    if let Some(sheet) = sheet {
        medst_phantom::contact_sheet(sheet, options.seed)?;
    }
    let command = |(layout, folder): (Layout, PathBuf)| {
        let folder = folder.display();
        match layout {
            Layout::Table => format!("medst prepare table {folder}/studies.csv --out CORPUS"),
            Layout::MimicCxrJpg => format!("medst prepare mimic-cxr {folder} --out CORPUS"),
            Layout::MsCxrT | Layout::MsCxr | Layout::CxrLt | Layout::Imagenome | Layout::MiCxr => {
                let (name, out) = (layout.name(), out.display());
                format!("medst prepare {name} {folder} --images {out}/mimic-cxr-jpg --out CORPUS")
            }
            Layout::Chextemporal => {
                let out = out.display();
                format!(
                    "medst prepare chextemporal {folder} --chexpert {out}/chexpert --mimic {out}/mimic-cxr-jpg --out CORPUS"
                )
            }
            Layout::Folders => format!("medst serve --model RUN --examples {folder}"),
            _ => format!("medst prepare {} {folder} --out CORPUS", layout.name()),
        }
    };
    output.next(&medst_phantom::folders(out, layout).into_iter().map(command).collect::<Vec<_>>())
}
