//! `medst convert`, driven as people drive it. What it computes is tested in the library
//! (`crates/medst/tests/convert`).

mod command;

use std::path::{Path, PathBuf};

use command::run;

fn fixture(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../medst/tests/fixtures");
    folder.join(name).canonicalize().unwrap().display().to_string()
}

#[test]
fn weights_of_two_programs_become_a_model_and_go_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let image = format!("image={}", fixture("convert/mgca.ckpt"));
    let text = format!("text={}", fixture("convert/bert"));
    let convert =
        ["convert", &image, &text, "--out", "model", "--set", "model.image.num_heads=2", "--licence", "CC0-1.0"];
    let (out, _) = run(at, &convert, 0);
    for words in [
        "from ",
        "the reference implementation (or MGCA):",
        "a BERT of transformers:",
        "token type 0 added",
        "prototypes of MGCA",
        "copied        12 tensors",
        "random     ",
        "global projection of reports",
        "written    model: a medst model",
    ] {
        assert!(out.contains(words), "{words}:\n{out}");
    }
    let (out, _) = run(at, &["inspect", "model"], 0);
    for words in ["made from mgca.ckpt", "made from model.safetensors, a BERT", "licence: CC0-1.0"] {
        assert!(out.contains(words), "{words}:\n{out}");
    }

    let (out, _) = run(at, &["convert", "model", "--to", "reference", "--out", "model.ckpt"], 0);
    assert!(out.contains("strict=True") && out.contains("sequential text positions"), "{out}");
    let (out, _) = run(at, &["--json", "convert", "model", "--to", "transformers", "--out", "folder"], 0);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["to"], "transformers");
    assert_eq!(result["initialised"].as_array().unwrap().len(), 0);
    assert_eq!(result["model"]["image"]["num_heads"], 2);
    for name in
        ["frontal_image_encoder/config.json", "lateral_image_encoder/model.safetensors", "report_encoder/vocab.txt"]
    {
        assert!(at.join("folder").join(name).exists(), "{name}");
    }
    // From both ways back: the same weights, to the byte.
    let vocabulary = fixture("convert/bert/vocab.txt");
    run(at, &["convert", "folder", "--out", "from-folder"], 0);
    run(at, &["convert", "model.ckpt", "--vocabulary", &vocabulary, "--out", "from-checkpoint"], 0);
    let weights = |name: &str| std::fs::read(at.join(name).join("model.safetensors")).unwrap();
    assert!(weights("from-folder") == weights("model") && weights("from-checkpoint") == weights("model"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let deit = fixture("convert/deit.pth");
    let (_, err) = run(at, &["convert", &deit, "--out", "model"], 2);
    assert!(err.contains("--set model.image.num_heads=N"), "{err}");
    let (_, err) = run(at, &["convert", "absent.pth", "--out", "model"], 1);
    assert!(err.contains("absent.pth"), "{err}");
    let (_, err) = run(at, &["convert", &deit], 2);
    assert!(err.contains("--out"), "{err}");
    for pixels in [
        vec!["--pixel-mean", "0.5"],
        vec!["--pixel-mean", "0.5,1", "--pixel-std", "1"],
        vec!["--pixel-mean", "0", "--pixel-std", "0"],
    ] {
        let (_, err) = run(at, &[&["convert", &deit, "--out", "model"][..], &pixels].concat(), 2);
        assert!(err.contains("--pixel-"), "{err}");
    }
    let registers = fixture("convert/refused/registers.safetensors");
    let (_, err) = run(at, &["convert", &registers, "--out", "model"], 1);
    assert!(err.contains("register tokens are not supported"), "{err}");
    assert!(std::fs::read_dir(at).unwrap().next().is_none(), "nothing was left behind");

    let (out, _) = run(at, &["inspect", &deit], 0);
    assert!(out.contains("a vision transformer of timm") && out.contains("medst convert"), "{out}");
}

#[test]
fn a_model_becomes_graphs_for_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let export = ["convert", "phantom", "--to", "onnx", "--out", "graphs"];
    let (out, _) = run(at, &export, 0);
    assert!(out.contains("written    graphs: a folder of ONNX graphs"), "{out}");
    let names = ["graphs.json", "ground.onnx", "image.onnx", "image_lateral.onnx", "text.onnx", "vocab.txt"];
    assert!(names.iter().all(|name| at.join("graphs").join(name).exists()));
    run(at, &["verify", "graphs"], 0);
    let bytes = |name: &str| std::fs::read(at.join("graphs").join(name)).unwrap();
    let first = bytes("text.onnx");

    let (_, err) = run(at, &export, 2);
    assert!(err.contains("already exists; pass --overwrite"), "{err}");
    let (out, _) = run(at, &[&["--json"][..], &export, &["--overwrite", "--int8"]].concat(), 0);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&result["to"], &result["notes"]), (&"onnx".into(), &serde_json::json!([])));
    assert!(bytes("text.onnx").len() * 3 < first.len() * 2);
    run(at, &[&export[..], &["--overwrite"]].concat(), 0);
    assert!(bytes("text.onnx") == first, "the same weights give the same bytes");
}

#[test]
fn what_is_no_graph_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (_, err) = run(at, &["convert", "phantom", "--to", "onx", "--out", "graphs"], 2);
    assert!(err.contains("possible values") && err.contains("transformers") && err.contains("onnx"), "{err}");
    let (_, err) = run(at, &["convert", "phantom", "--int8", "--out", "graphs"], 2);
    assert!(err.contains("--int8 needs --to onnx"), "{err}");
    let (_, err) = run(at, &["convert", "phantom", "--half", "--to", "onnx", "--out", "graphs"], 2);
    assert!(err.contains("--half needs --to medst"), "{err}");
    let image = format!("image={}", fixture("convert/vit"));
    let (_, err) = run(at, &["convert", &image, "--to", "onnx", "--out", "graphs"], 2);
    assert!(err.contains("global projection of images") && err.contains("medst pretrain"), "{err}");
    assert!(std::fs::read_dir(at).unwrap().next().is_none(), "nothing was left behind");
    std::fs::write(at.join("file"), "not a folder").unwrap();
    let (_, err) = run(at, &["convert", "phantom", "--to", "onnx", "--out", "file/graphs"], 1);
    assert!(err.contains("file"), "{err}");
    assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "not a folder");
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_model_hubs_a_name_says_how_to_build_them_in() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["inspect", "hf://a/b"][..], &["convert", "text=hf://a/b", "--out", "model"]] {
        let (_, err) = run(folder.path(), arguments, 2);
        assert!(
            err.contains("hf://a/b: this medst was built without model hubs") && err.contains("medst-cli/hub"),
            "{err}"
        );
    }
}
