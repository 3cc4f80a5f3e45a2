//! `medst predict`.

use std::path::Path;

use anyhow::{Context, Result};
use medst_data::printable;
use medst_infer::infer::predict::{Predicted, predict};
use medst_infer::infer::stream::{self, EmbeddingOutputs};

use super::{Output, open};
use crate::args::Predict;
use crate::progress::Reporter;

pub fn run(arguments: &Predict, output: &Output, reporter: &Reporter) -> Result<()> {
    let (engine, gathered) = open::model_and_inputs(&arguments.model, &arguments.inputs)?;
    // Before anything takes long.
    engine.head()?;
    let outputs = EmbeddingOutputs { images: true, features: true, reports: false };
    let collected = stream::embed(&engine, &gathered, outputs, reporter)?;
    let left_out = gathered.left_out.len() + collected.left_out.len();
    let predicted = predict(&engine, &gathered, &collected)?;
    if let Some(file) = &arguments.out {
        write(&predicted, file)?;
    }
    output.show(&predicted)?;
    open::all_used(left_out, predicted.studies.len())
}

/// Writes one row per study, or pair of studies, and one column per output.
fn write(predicted: &Predicted, path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let pairs = predicted.studies.iter().any(|study| study.previous.is_some());
    let first = if pairs { &["study_id", "previous_id"][..] } else { &["study_id"] };
    writer.write_record(first.iter().copied().chain(predicted.names.iter().map(String::as_str)))?;
    for study in &predicted.studies {
        let ids = std::iter::once(&study.study).chain(&study.previous).map(|id| printable::one_line(id).into_owned());
        writer.write_record(ids.chain(study.probabilities.iter().map(|p| format!("{p:.6}"))))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    medst_infer::infer::draw::write(path, &bytes).with_context(|| path.display().to_string())
}
