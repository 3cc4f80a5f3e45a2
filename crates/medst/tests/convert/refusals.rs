//! What cannot be expressed, or does not fit together, is refused by name and reason.

use std::collections::BTreeMap;

use medst_model::convert::convert;
use medst_model::model::weights::write_safetensors;
use tch::{Kind, Tensor};

use super::{SMALL_IMAGE, SMALL_TEXT, error, fixture, made, request};

#[test]
fn encoders_that_compute_something_else() {
    let reasons = std::fs::read_to_string(fixture("refused/reasons.json")).unwrap();
    let reasons: BTreeMap<String, String> = serde_json::from_str(&reasons).unwrap();
    assert!(reasons.len() >= 10);
    for (name, reason) in reasons {
        let input = format!("refused/{name}");
        let error = error(&[&input], &[&SMALL_TEXT[..], &["model.image.num_heads=1"]].concat());
        assert!(error.contains(&reason) && error.contains(&name), "{name} should say `{reason}`: {error}");
    }
}

#[test]
fn sizes_that_do_not_fit() {
    for (input, settings, words) in [
        ("deit.pth", vec![], "--set model.image.num_heads=N"),
        ("deit.pth", vec!["model.image.num_heads=2", "model.image.num_layers=1"], "beyond model.image.num_layers = 1"),
        ("deit.pth", vec!["model.image.num_heads=2", "model.image.num_layers=3"], "`blocks.2.norm1.weight` is missing"),
        ("deit.pth", vec!["model.image.num_heads=2", "model.image.patch=16"], "model.image.patch = 16"),
        ("deit.pth", vec!["model.image.num_heads=2", "data.corpus=x"], "only keys of [model]"),
        ("deit.pth", vec!["model.image.heads=2"], "`model.image.heads` is now `model.image.num_heads`"),
        ("bert", vec!["model.text.num_layers=4"], "`encoder.layer.3.attention.self.query.weight` is missing"),
        ("bert", vec!["model.text.max_positions=41"], "the weights do not have that many"),
        ("mgca.ckpt", vec!["model.image.num_heads=2", "model.text.num_heads=4"], "--vocabulary FILE"),
        ("vit", vec!["model.image.hidden_size=64"], "[64]"),
    ] {
        let small = if input == "bert" { &SMALL_IMAGE[..] } else { &SMALL_TEXT[..] };
        let settings = if input == "mgca.ckpt" { settings } else { [small, &settings].concat() };
        let error = error(&[input], &settings);
        assert!(error.contains(words), "{input} {settings:?} should say `{words}`: {error}");
    }
}

#[test]
fn files_that_do_not_belong_together() {
    let twice = error(&["mgca.ckpt", "bert"], &["model.image.num_heads=2"]);
    assert!(twice.contains("both") && twice.contains("report encoder") && twice.contains("text="), "{twice}");
    let wrong_side = error(&["text=deit.pth"], &["model.image.num_heads=2"]);
    assert!(wrong_side.contains("no text weights") && wrong_side.contains("image encoder"), "{wrong_side}");
    let folder = error(&["refused"], &[]);
    assert!(folder.contains("the folder has no model.safetensors"), "{folder}");
}

/// Modified weights: one tensor too many, one missing, one of NaN, one of integers.
#[test]
fn tensors_that_cannot_be_explained() {
    let (model, _) = made(&["vit"], &SMALL_TEXT);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let whole = || -> Vec<(String, Tensor)> {
        let file = medst_model::model::weights::TensorFile::read(&fixture("deit.pth")).unwrap();
        file.tensors.into_iter().collect()
    };
    let write = |tensors: &[(String, Tensor)]| {
        let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write_safetensors(&path, &tensors, None).unwrap();
        let settings = [&SMALL_TEXT[..], &["model.image.num_heads=2"]].concat();
        error(&[path.to_str().unwrap()], &settings)
    };
    let mut more = whole();
    more.push(("blocks.0.adapter.weight".into(), Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu))));
    let text = write(&more);
    assert!(text.contains("unknown tensor `blocks.0.adapter.weight`"), "{text}");

    let less: Vec<_> = whole().into_iter().filter(|(name, _)| name != "blocks.1.mlp.fc2.bias").collect();
    let text = write(&less);
    assert!(text.contains("`blocks.1.mlp.fc2.bias` is missing"), "{text}");

    for (value, words) in [
        (
            Tensor::full([32], f64::NAN, (Kind::Float, tch::Device::Cpu)),
            "`norm.bias` contains values that are not finite",
        ),
        (Tensor::zeros([32], (Kind::Int64, tch::Device::Cpu)), "`norm.bias` has values of type Int64"),
    ] {
        let changed: Vec<_> = whole()
            .into_iter()
            .map(|(name, tensor)| if name == "norm.bias" { (name, value.copy()) } else { (name, tensor) })
            .collect();
        let text = write(&changed);
        assert!(text.contains(words), "{text}");
    }

    // A name that no known model uses.
    let text = write(&[("weight".to_string(), Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)))]);
    assert!(text.contains("unknown model"), "{text}");
    drop(model);
}

#[test]
fn configurations_of_a_library_that_compute_something_else() {
    let folder = tempfile::tempdir().unwrap();
    for (source, change, words) in [
        ("vit", r#""hidden_act": "relu""#, "unsupported activation `relu`"),
        ("bert", r#""position_embedding_type": "relative_key""#, "unsupported positions `relative_key`"),
        ("bert", r#""layer_norm_eps": 1e-5"#, "layer_norm_eps"),
        ("bert", r#""model_type": "distilbert""#, "unsupported model_type `distilbert`"),
        ("bert", "nonsense", "config.json"),
    ] {
        let copy = folder.path().join("copy");
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(fixture(source).join("model.safetensors"), copy.join("model.safetensors")).unwrap();
        let text = if change == "nonsense" { change.to_string() } else { format!("{{{change}}}") };
        std::fs::write(copy.join("config.json"), text).unwrap();
        let error = error(&[copy.to_str().unwrap()], &SMALL_TEXT);
        assert!(error.contains(words), "{words}: {error}");
    }
}

/// Weights that have not been converted yet cannot be opened as a model.
#[test]
fn a_file_of_another_program_is_not_opened_as_a_model() {
    let error = medst_model::open::open_model(&fixture("deit.pth"), tch::Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("medst convert") && error.contains("deit.pth"), "{error}");
}

#[test]
fn nothing_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let mut again = request(&["vit"], &out, &SMALL_TEXT);
    convert(&again).unwrap();
    let error = convert(&again).unwrap_err().to_string();
    assert!(error.contains("--overwrite"), "{error}");
    again.overwrite = true;
    convert(&again).unwrap();
    // Not even then, what no conversion made.
    let precious = folder.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.tex"), "x").unwrap();
    again.out = precious.clone();
    let error = convert(&again).unwrap_err().to_string();
    assert!(error.contains("not replaced") && precious.join("thesis.tex").exists(), "{error}");
}
