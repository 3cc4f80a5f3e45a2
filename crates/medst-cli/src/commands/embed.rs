//! `medst embed`.

use anyhow::Result;
use medst_infer::infer::table;

use super::{Output, open};
use crate::args::Embed;
use crate::progress::Reporter;

pub fn run(arguments: &Embed, output: &Output, reporter: &Reporter) -> Result<()> {
    let Embed { inputs, model, out, features } = arguments;
    let (engine, gathered) = open::model_and_inputs(model, inputs)?;
    let embedded = table::write(&engine, &gathered, out, *features, reporter)?;
    output.show(&embedded)?;
    open::all_used(embedded.left_out.len(), embedded.studies)
}
