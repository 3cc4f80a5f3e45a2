//! `medst card`.

use std::io::Write;

use anyhow::Result;
use medst_data::files::whole;

use crate::args::{Card, CardFormat};

pub fn run(arguments: &Card) -> Result<()> {
    let text = match arguments.format {
        CardFormat::Markdown => medst_train::card::render(&arguments.path, arguments.evaluation.as_deref())?,
        CardFormat::Croissant => medst_train::card::croissant(&arguments.path)?,
    };
    match &arguments.out {
        Some(path) => whole::write(path, text.as_bytes())?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(())
}
