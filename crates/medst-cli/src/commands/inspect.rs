//! `medst inspect`.

use std::path::Path;

use anyhow::Result;
use medst_train::inspect::inspect;

use super::Output;

pub fn run(path: &Path, output: &Output) -> Result<()> {
    output.show(&inspect(path)?)
}
