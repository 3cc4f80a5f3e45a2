//! `medst card`.

use std::io::Write;

use anyhow::Result;
use medst::Error;

use crate::args::Card;

pub fn run(arguments: &Card) -> Result<()> {
    let text = medst::card::of(&arguments.path, arguments.evaluation.as_deref())?;
    match &arguments.out {
        Some(path) => std::fs::write(path, text).map_err(Error::io(path))?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(())
}
