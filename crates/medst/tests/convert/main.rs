//! Weights of other programs, in and out. The files under `fixtures/convert` were written by the
//! real libraries (timm, transformers, torch; `make.py` there), with the features that those
//! computed in float64; ours must equal them to 1e-5.

mod features;
mod live;
mod onnx;
mod pickles;
mod refusals;
mod round_trips;
mod starts;
mod unstated;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use medst_model::convert::{Conversion, Request, convert};
use medst_model::model::input::ReportInput;
use medst_model::model::weights::TensorFile;
use medst_model::open::{OpenedModel, open_model};
use tch::{Device, Kind, Tensor};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A file of `fixtures/convert`.
fn fixture(name: &str) -> PathBuf {
    fixtures().join("convert").join(name)
}

/// What the libraries computed.
fn expected() -> BTreeMap<String, Tensor> {
    TensorFile::read(&fixture("expected.safetensors")).unwrap().tensors
}

/// A request for files of `fixtures/convert`, which may begin with `image=` or `text=`; other paths
/// are absolute.
fn request(inputs: &[&str], out: &Path, overrides: &[&str]) -> Request {
    let input = |text: &&str| {
        let (side, name) = match text.split_once('=') {
            Some((side, name)) => (format!("{side}="), name),
            None => (String::new(), *text),
        };
        format!("{side}{}", fixture(name).display()).parse().unwrap()
    };
    Request {
        inputs: inputs.iter().map(input).collect(),
        out: out.to_path_buf(),
        overrides: overrides.iter().map(|text| text.to_string()).collect(),
        ..Request::default()
    }
}

/// A small report side, so that a model that has only an image side is small.
const SMALL_TEXT: [&str; 5] = [
    "model.text.hidden_size=8",
    "model.text.num_heads=2",
    "model.text.num_layers=1",
    "model.text.intermediate_size=8",
    "model.projection.hidden=8",
];

/// A small image side.
const SMALL_IMAGE: [&str; 6] = [
    "model.image.size=16",
    "model.image.patch=8",
    "model.image.hidden_size=8",
    "model.image.num_heads=2",
    "model.image.num_layers=1",
    "model.image.intermediate_size=8",
];

/// Converts to a medst model and opens it.
fn made(inputs: &[&str], overrides: &[&str]) -> (OpenedModel, Conversion) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let conversion = convert(&request(inputs, &out, overrides)).unwrap();
    (open_model(&out, Device::Cpu).unwrap(), conversion)
}

fn error(inputs: &[&str], overrides: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let error = convert(&request(inputs, &out, overrides)).unwrap_err().to_string();
    assert!(!out.exists(), "a failed conversion leaves nothing");
    error
}

/// Equal to 1e-5 of the expected values' size, in the mean and everywhere.
fn assert_equal(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let (found, expected) = (found.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let difference = &found - &expected;
    let relative = difference.norm().double_value(&[]) / expected.norm().double_value(&[]);
    let worst = difference.abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    println!("{what}: {relative:.1e} of the whole, {worst:.1e} at worst");
    assert!(relative <= 1e-5 && worst <= 1e-5, "{what}: {relative:e}, {worst:e}");
}

/// The two reports of the fixtures.
fn reports() -> (ReportInput, Tensor) {
    let expected = expected();
    let (ids, mask) = (&expected["ids"], &expected["mask"]);
    let rows: Vec<Vec<u32>> = (0..ids.size()[0])
        .map(|row| {
            let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
            Vec::<i64>::try_from(ids.get(row).narrow(0, 0, length)).unwrap().into_iter().map(|id| id as u32).collect()
        })
        .collect();
    let input = ReportInput::new(&rows, |_| false, 3, 12, medst_model::model::config::Semantics::Corrected);
    (input, mask.to_kind(Kind::Bool).unsqueeze(-1))
}
