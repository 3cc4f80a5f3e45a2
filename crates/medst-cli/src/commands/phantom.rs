//! `medst phantom`.

use anyhow::Result;
use medst_data::phantom::{self, PhantomOptions};

use super::Output;
use crate::args::Phantom;
use crate::progress::Reporter;

pub fn run(arguments: &Phantom, output: &Output, reporter: &Reporter) -> Result<()> {
    let options = PhantomOptions { subjects: arguments.subjects, seed: arguments.seed, size: arguments.size };
    let summary = phantom::generate(&arguments.out, &options, reporter)?;
    output.show(&summary)?;
    if let Some(sheet) = &arguments.sheet {
        phantom::contact_sheet(sheet, options.seed)?;
    }
    let table = arguments.out.join("studies.csv");
    output.next(&[format!("medst prepare table {} --out CORPUS", table.display())])
}
