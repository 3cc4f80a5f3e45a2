//! `medst zero-shot`.

use std::path::Path;

use anyhow::{Context, Result};
use medst_data::printable;
use medst_infer::infer::calibrate::Calibration;
use medst_infer::infer::classes::{ClassKind, Classes, Prototypes};
use medst_infer::infer::stream::{self, EmbeddingOutputs};
use medst_infer::infer::zero_shot::{Classified, classify};

use super::{Output, open};
use crate::args::ZeroShot;
use crate::progress::Reporter;

pub fn run(arguments: &ZeroShot, output: &Output, reporter: &Reporter) -> Result<()> {
    // Check the arguments before anything takes long.
    let classes = match &arguments.classes {
        Some(file) => Classes::read(file)?,
        None => {
            let kind = if arguments.exclusive { ClassKind::Exclusive } else { ClassKind::Findings };
            Classes::from_names(kind, &arguments.class)?
        }
    };
    let (engine, gathered) = open::model_and_inputs(&arguments.model, &arguments.inputs)?;
    let calibration =
        arguments.calibration.as_ref().map(|file| Calibration::read(file, &engine, &classes)).transpose()?;
    let prototypes = Prototypes::new(&engine, classes)?;
    let outputs = EmbeddingOutputs { images: true, features: false, reports: false };
    let collected = stream::embed(&engine, &gathered, outputs, reporter)?;
    let left_out = gathered.left_out.len() + collected.left_out.len();
    if let Some(file) = &arguments.fit_calibration {
        let source = open::names(&arguments.inputs);
        let label = arguments.label.as_deref();
        let fitted = Calibration::fit(&engine, &prototypes, &gathered, &collected, label, source)?;
        fitted.write(file)?;
        output.show(&fitted)?;
        return open::all_used(left_out, collected.studies.len());
    }
    let classified = classify(&prototypes, calibration.as_ref(), &gathered, &collected);
    if classified.studies.is_empty() {
        let first = classified.left_out.first().map(|left_out| format!("{}: {}", left_out.file, left_out.reason));
        let reason = first.unwrap_or_else(|| "the inputs contain only reports".into());
        return Err(medst_model::Error::Evaluation(format!("no image could be classified; {reason}")).into());
    }
    if let Some(file) = &arguments.out {
        write(&classified, file)?;
    }
    output.show(&classified)?;
    open::all_used(left_out, classified.studies.len())
}

/// Writes one row per study and one column per class.
fn write(classified: &Classified, path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(std::iter::once("study_id").chain(classified.classes.iter().map(String::as_str)))?;
    for study in &classified.studies {
        let cells = study.probabilities.iter().map(|p| format!("{p:.6}"));
        writer.write_record(std::iter::once(printable::one_line(&study.study).into_owned()).chain(cells))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    medst_infer::infer::draw::write(path, &bytes).with_context(|| path.display().to_string())
}
