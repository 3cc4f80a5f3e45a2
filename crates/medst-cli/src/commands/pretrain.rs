//! `medst pretrain`.

use anyhow::Result;
use medst::config::Config;

use super::{Output, device};
use crate::args::Pretrain;
use crate::progress::Reporter;

pub fn run(arguments: &Pretrain, output: &Output, reporter: &Reporter) -> Result<()> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let summary = medst::train::pretrain(&config, arguments.resume, device(arguments.device)?, reporter)?;
    output.show(&summary)?;
    let (run, corpus) = (config.train.output.display(), config.data.corpus.display());
    output
        .next(&[format!("medst inspect {run}"), format!("medst embed {corpus} --model {run} --out embeddings.parquet")])
}
