//! `medst verify`: compares files with the checksums from when they were written.

use std::path::Path;

use anyhow::{Result, bail};
use medst_train::verify::verify;

use super::Output;
use crate::progress::Reporter;

pub fn run(path: &Path, output: &Output, reporter: &Reporter) -> Result<()> {
    let verified = verify(path, reporter)?;
    output.show(&verified)?;
    match (verified.faults.len(), verified.is_whole()) {
        (_, true) => Ok(()),
        (0, _) => {
            bail!("{}: some files could not be checked, because no checksums are recorded for them", path.display())
        }
        (count, _) => bail!("{}: {count} damaged or missing files", path.display()),
    }
}
