//! `medst card`.

use std::io::Write;

use anyhow::Result;
use medst::Error;

use crate::args::{Card, CardFormat};

pub fn run(arguments: &Card) -> Result<()> {
    let text = match arguments.format {
        CardFormat::Markdown => medst::card::of(&arguments.path, arguments.evaluation.as_deref())?,
        CardFormat::Croissant => medst::card::croissant(&arguments.path)?,
    };
    match &arguments.out {
        Some(path) => std::fs::write(path, text).map_err(Error::io(path))?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(())
}
