//! `medst embed`.

use anyhow::Result;
use medst::embed::table::{self, Options};
use medst::train::checkpoint::open_model;
use medst_data::corpus::Corpus;

use super::{Output, device};
use crate::args::Embed;
use crate::progress::Reporter;

pub fn run(arguments: &Embed, output: &Output, reporter: &Reporter) -> Result<()> {
    let corpus = Corpus::open(&arguments.corpus)?;
    let opened = open_model(&arguments.model, device(arguments.device)?)?;
    let options = Options { split: arguments.split, batch: arguments.batch.into(), features: arguments.features };
    output.show(&table::write(opened.embedder(), &corpus, &arguments.out, &options, reporter)?)
}
