//! `medst finetune`.

use anyhow::Result;
use medst::Error;
use medst::finetune::{Config, finetune};
use medst::train::Ending;

use super::{Output, device};
use crate::args::Finetune;
use crate::launch;
use crate::progress::Reporter;

pub fn run(arguments: &Finetune, output: &Output, reporter: &Reporter) -> Result<()> {
    let mut overrides = arguments.overrides.clone();
    overrides.extend(arguments.model.iter().map(|model| format!("init.weights={model}")));
    let config = Config::load(&arguments.config, &overrides)?;
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
