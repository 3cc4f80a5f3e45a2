//! `medst embed`.

use anyhow::Result;
use medst::train::checkpoint::open_model;
use medst_data::corpus::Corpus;

use super::{Output, device};
use crate::args::Embed;
use crate::progress::Reporter;

pub fn run(arguments: &Embed, output: &Output, reporter: &Reporter) -> Result<()> {
    let corpus = Corpus::open(&arguments.corpus)?;
    let opened = open_model(&arguments.model, device(arguments.device)?)?;
    let batch = arguments.batch.into();
    let embedded = medst::embed::corpus(&opened, &corpus, arguments.split, &arguments.out, batch, reporter)?;
    output.show(&embedded)
}
