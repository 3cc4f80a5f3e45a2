//! `medst pretrain`.

use anyhow::Result;
use medst_model::Error;
use medst_model::config::Config;
use medst_train::train::Ending;

use super::{Output, device};
use crate::args::Pretrain;
use crate::launch;
use crate::progress::Reporter;

pub fn run(arguments: &Pretrain, output: &Output, reporter: &Reporter) -> Result<()> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let device = device(arguments.device)?;
    let train = |device, group: &_| medst_train::train::pretrain(&config, arguments.resume, device, group, reporter);
    // Only process 0 prints the summary.
    let Some(summary) = launch::together(device, train)? else { return Ok(()) };
    output.show(&summary)?;
    // A stopped run is an error, so that a script does not use a partly trained model.
    if summary.ending == Ending::Stopped {
        return Err(Error::Stopped.into());
    }
    let (run, corpus) = (config.train.output.display(), config.data.corpus.display());
    output
        .next(&[format!("medst inspect {run}"), format!("medst embed {corpus} --model {run} --out embeddings.parquet")])
}
