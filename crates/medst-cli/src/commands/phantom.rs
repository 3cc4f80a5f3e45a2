//! `medst phantom`.

use std::path::PathBuf;

use anyhow::Result;
use medst_data::phantom::{self, Layout, PhantomOptions};

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
    let summary = phantom::generate(out, &options, reporter)?;
    output.show(&summary)?;
    if let Some(sheet) = sheet {
        phantom::contact_sheet(sheet, options.seed)?;
    }
    let command = |(layout, folder): (Layout, PathBuf)| {
        let folder = folder.display();
        match layout {
            Layout::Table => format!("medst prepare table {folder}/studies.csv --out CORPUS"),
            Layout::MimicCxrJpg => format!("medst prepare mimic-cxr {folder} --out CORPUS"),
            Layout::MsCxrT => {
                format!("medst prepare ms-cxr-t {folder} --images {}/mimic-cxr-jpg --out CORPUS", out.display())
            }
            Layout::Rsna | Layout::Covidx | Layout::Chexpert => {
                format!("medst prepare {} {folder} --out CORPUS", layout.name())
            }
            Layout::Folders => format!("medst serve --model RUN --examples {folder}"),
        }
    };
    output.next(&phantom::folders(out, layout).into_iter().map(command).collect::<Vec<_>>())
}
