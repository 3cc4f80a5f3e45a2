//! Written files, read by other programs: by Python's own pickle and zip modules wherever there is
//! a python3; by the real torch and transformers where they are installed (`.venv-peer` of
//! `make bench`, or `MEDST_PEER_PYTHON`).

use std::path::{Path, PathBuf};
use std::process::Command;

use medst_model::convert::{Request, Target, convert};
use medst_model::model::Mode;
use medst_model::model::view_experts::View;
use medst_model::model::weights::write_safetensors;
use medst_model::open::open_model;
use medst_model::weights_input::Input;
use tch::{Device, Kind, Tensor};

use super::round_trips::of_reference;
use super::{expected, fixtures, reports};

/// The model of the reference's checkpoint as a file with the reference's names and as a folder for
/// transformers, and our features.
fn written(folder: &Path) {
    let at = |name: &str| folder.join(name);
    of_reference(&at("model"));
    for (to, name) in [(Target::Reference, "reference.ckpt"), (Target::Transformers, "folder")] {
        convert(&Request { inputs: vec![Input::whole(at("model"))], out: at(name), to, ..Request::default() }).unwrap();
    }
    let model = open_model(&at("model"), Device::Cpu).unwrap().model;
    let expected = expected();
    let pixels = Tensor::cat(&[&expected["pixels80"], &expected["pixels80"], &expected["pixels80"]], 1);
    let pixels = Tensor::cat(&[&pixels, &pixels, &pixels], 2).narrow(1, 0, 224).narrow(2, 8, 224).contiguous();
    let (frontal, frontal_patches) = model.image_encoder.forward_single(&pixels, View::Frontal);
    let (lateral, lateral_patches) = model.image_encoder.forward_single(&pixels, View::Lateral);
    let states = model.encode_reports(&reports().0, Mode::Evaluate).unwrap();
    let all = |x: &Tensor, patches: &Tensor| Tensor::cat(&[&x.unsqueeze(1), patches], 1).detach();
    let named = [
        ("pixels", pixels),
        ("frontal", all(&frontal, &frontal_patches)),
        ("lateral", all(&lateral, &lateral_patches)),
        ("ids", expected["ids"].shallow_clone()),
        ("mask", expected["mask"].to_kind(Kind::Int64)),
        ("states", states.detach()),
    ];
    let named: Vec<(&str, &Tensor)> = named.iter().map(|(name, tensor)| (*name, tensor)).collect();
    write_safetensors(&at("features.safetensors"), &named, None).unwrap();
}

fn run(python: &Path, script: &str, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    print!("{}", text(&output.stdout));
}

/// Whether a python runs these words.
fn can(python: &Path, words: &str) -> bool {
    Command::new(python).args(["-c", words]).output().is_ok_and(|output| output.status.success())
}

#[test]
fn pythons_own_modules_read_what_is_written_for_torch() {
    let python = Path::new("python3");
    if !can(python, "import pickle, zipfile") {
        println!("skipped: there is no python3");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    run(
        python,
        "unpickle.py",
        &[&folder.path().join("reference.ckpt"), &fixtures().join("reference/weights.safetensors")],
    );
}

#[test]
fn torch_and_transformers_read_what_is_written_for_them() {
    let named = std::env::var_os("MEDST_PEER_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv-peer/bin/python"));
    if !can(&python, "import torch, timm, transformers") {
        println!("skipped: {} has no torch, timm and transformers (make bench installs them)", python.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    run(&python, "live.py", &[folder.path(), &fixtures().join("reference")]);
}
