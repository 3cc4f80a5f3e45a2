//! What all commands with a model share: loading the model, finding the inputs, reporting what was
//! left out.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use medst_data::gather::{DeclaredView, Gathered, gather};
use medst_data::image::Decoding;
use medst_data::image::dicom::Window;
use medst_data::storage::Address;
use medst_infer::infer::{Engine, Limits};
use medst_model::Error;
use medst_model::model::config::Precision;
use medst_model::open::{OpenedModel, open_model_in};
use tch::Device;

use super::device;
use crate::args::{Compute, Inputs, PrecisionName, UseModel, ViewName};

/// Loads a model.
pub fn model(arguments: &UseModel) -> Result<Engine> {
    load(&arguments.model, &arguments.how, arguments.dicom.window)
}

/// Loads the model at a path, to read files with a window.
pub fn load(path: &Path, how: &Compute, window: Window) -> Result<Engine> {
    let mut engine = engine(path, how)?;
    engine.set_decoding(Decoding { window, ..Decoding::default() });
    Ok(engine)
}

/// Loads the model at a path.
pub fn engine(path: &Path, how: &Compute) -> Result<Engine> {
    let device = device(how.device)?;
    let mut engine = Engine::new(opened(path, device, how.precision)?)?;
    engine.limits = Limits::of_images(batch(how.batch, device));
    Ok(engine)
}

/// Images per batch. A GPU is only busy with large ones.
fn batch(requested: Option<u16>, device: Device) -> usize {
    requested.map_or(if device == Device::Cpu { 16 } else { 256 }, Into::into)
}

/// Reads the model at a path, to compute in a number format.
fn opened(path: &Path, device: Device, numbers: PrecisionName) -> Result<OpenedModel> {
    let precision = match numbers {
        PrecisionName::Float32 | PrecisionName::Int8 => Precision::Float32,
        PrecisionName::Float16 => Precision::Float16,
        PrecisionName::Bfloat16 => Precision::BFloat16,
    };
    let mut opened = open_model_in(path, device, precision)?;
    if numbers == PrecisionName::Int8 {
        opened.model.compute_in_int8()?;
    }
    Ok(opened)
}

/// Loads a model and finds the studies in the inputs. The model comes first because reports are
/// cleaned by its rule.
pub fn model_and_inputs(model: &UseModel, inputs: &Inputs) -> Result<(Engine, Gathered)> {
    // A mistyped path is reported before anything takes long.
    for path in inputs.inputs.iter().filter(|path| !Address::is(path)) {
        if let Err(error) = path.metadata()
            && error.kind() == ErrorKind::NotFound
        {
            return Err(Error::io(path)(error).into());
        }
    }
    let engine = self::model(model)?;
    let mut gathered = gather(&inputs.inputs, view(inputs.view), engine.reader().rule())?;
    if let Some(split) = inputs.split {
        gathered.studies.retain(|study| study.split == Some(split));
        if gathered.studies.is_empty() {
            return Err(Error::Input(format!("the inputs have no study in split {split}")).into());
        }
    }
    Ok((engine, gathered))
}

pub fn view(name: ViewName) -> DeclaredView {
    match name {
        ViewName::Auto => DeclaredView::Auto,
        ViewName::Frontal => DeclaredView::Frontal,
        ViewName::Lateral => DeclaredView::Lateral,
    }
}

/// Name of the inputs, for files that are made from them.
pub fn names(arguments: &Inputs) -> String {
    let names: Vec<String> = arguments.inputs.iter().map(|path| path.display().to_string()).collect();
    let split = arguments.split.map(|split| format!(", split {split}")).unwrap_or_default();
    format!("{}{split}", names.join(", "))
}

/// An error if something was left out, so that scripts notice. Called after the result of the rest
/// has been shown.
pub fn all_used(left_out: usize, used: usize) -> Result<()> {
    match left_out {
        0 => Ok(()),
        _ => Err(Error::LeftOut { left_out, all: left_out + used, what: "inputs" }.into()),
    }
}
