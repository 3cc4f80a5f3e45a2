//! Arguments of `medst demo`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct Demo {
    /// A new folder for everything that the demo writes.
    #[arg(default_value = "demo")]
    pub folder: PathBuf,
    /// Train a smaller model from random weights instead of continuing from the shipped one.
    #[arg(long)]
    pub from_scratch: bool,
}
