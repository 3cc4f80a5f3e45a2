//! `medst prepare`.

use anyhow::Result;
use medst_data::import::{PrepareOptions, prepare_table};

use super::Output;
use crate::args::Prepare;
use crate::progress::Reporter;

pub fn run(source: &Prepare, output: &Output, reporter: &Reporter) -> Result<()> {
    let Prepare::Table(arguments) = source;
    let options = PrepareOptions {
        image_size: arguments.image_size.into(),
        sequence_unit: arguments.sequence_unit.into(),
        sequence_length: arguments.sequence_length.into(),
        overwrite: arguments.overwrite,
    };
    let summary = prepare_table(&arguments.table, &arguments.out, &options, reporter)?;
    output.show(&summary)?;
    let corpus = arguments.out.display();
    output.next(&[
        format!("medst inspect {corpus}"),
        format!("medst pretrain configs/tiny.toml --set data.corpus={corpus}"),
    ])
}
