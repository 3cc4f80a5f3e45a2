//! `medst finetune`.

use anyhow::Result;
use medst_model::Error;
use medst_train::finetune::{Config, finetune};
use medst_train::train::Ending;

use super::{Output, device};
use crate::args::Finetune;
use crate::launch;
use crate::progress::Reporter;

pub fn run(arguments: &Finetune, output: &Output, reporter: &Reporter) -> Result<()> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let device = device(arguments.device)?;
    let train = |device, group: &_| finetune(&config, arguments.resume, device, group, reporter);
    // Only process 0 prints the summary.
    let Some(summary) = launch::together(device, train)? else { return Ok(()) };
    output.show(&summary)?;
    if summary.ending == Ending::Stopped {
        return Err(Error::Stopped.into());
    }
    let (run, corpus) = (config.train.output.display(), config.data.corpus.display());
    output.next(&[format!("medst predict {corpus} --model {run} --out probabilities.csv")])
}
