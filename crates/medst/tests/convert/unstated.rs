//! What a file does not state is asked for or recognised, never guessed.

use std::collections::BTreeMap;
use std::path::Path;

use medst_model::model::weights::{TensorFile, write_safetensors};
use tch::{Device, Kind, Tensor};

use super::{SMALL_IMAGE, SMALL_TEXT, assert_equal, error, fixture, made};

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    TensorFile::read(&fixture(name)).unwrap().tensors
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> String {
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_safetensors(path, &named, None).unwrap();
    path.to_str().unwrap().to_string()
}

/// A BERT of one layer, 64 wide: as likely one head of 64 as (MiniLM's width per head) two of 32.
fn wide_bert() -> BTreeMap<String, Tensor> {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let mut tensors = BTreeMap::from([
        ("embeddings.word_embeddings.weight".to_string(), zeros(&[82, 64])),
        ("embeddings.position_embeddings.weight".to_string(), zeros(&[40, 64])),
        ("embeddings.token_type_embeddings.weight".to_string(), zeros(&[2, 64])),
    ]);
    let mut layer = |name: &str, shape: &[i64]| {
        tensors.insert(format!("{name}.weight"), zeros(shape));
        tensors.insert(format!("{name}.bias"), zeros(&shape[..1]));
    };
    layer("embeddings.LayerNorm", &[64]);
    for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        layer(&format!("encoder.layer.0.{name}"), &[64, 64]);
    }
    layer("encoder.layer.0.attention.output.LayerNorm", &[64]);
    layer("encoder.layer.0.intermediate.dense", &[16, 64]);
    layer("encoder.layer.0.output.dense", &[64, 16]);
    layer("encoder.layer.0.output.LayerNorm", &[64]);
    tensors
}

#[test]
fn the_number_of_heads_is_asked_for_whatever_the_width() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("bert/vocab.txt"), folder.path().join("vocab.txt")).unwrap();
    write(&folder.path().join("model.safetensors"), &wide_bert());
    let path = folder.path().to_str().unwrap();
    let text = error(&[path], &SMALL_IMAGE);
    assert!(text.contains("cannot infer the number of attention heads; pass --set model.text.num_heads=N"), "{text}");
    let (model, _) = made(&[path], &[&SMALL_IMAGE[..], &["model.text.num_heads=2"]].concat());
    assert_eq!(model.model.config.text.num_heads, 2);
    // A configuration next to the weights states it.
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "bert", "num_attention_heads": 4}"#).unwrap();
    assert_eq!(made(&[path], &SMALL_IMAGE).0.model.config.text.num_heads, 4);
    let text = error(&[path], &[&SMALL_IMAGE[..], &["model.text.num_heads=2"]].concat());
    assert!(text.contains("has 4 heads, but the configuration requires 2"), "{text}");
}

/// timm's folders name the architecture, which fixes the number.
#[test]
fn the_architecture_of_timm_states_its_heads() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), &tensors("deit.pth"));
    let path = folder.path().to_str().unwrap();
    let config = |text: &str| std::fs::write(folder.path().join("config.json"), text).unwrap();
    config(r#"{"architecture": "vit_large_patch16_224"}"#);
    assert_eq!(made(&[path], &SMALL_TEXT).0.model.config.image.num_heads, 16);
    config(r#"{"architecture": "vit_giant_patch14_dinov2"}"#);
    assert!(error(&[path], &SMALL_TEXT).contains("--set model.image.num_heads=N"));
}

#[test]
fn a_roberta_without_prefix_is_not_taken_for_a_bert() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, tensor: Tensor| {
        let mut tensors = tensors("bert/model.safetensors");
        let key = tensors.keys().find(|key| key.ends_with(name)).cloned().unwrap_or_else(|| name.to_string());
        tensors.insert(key, tensor);
        tensors
    };
    let random = |rows: i64| Tensor::ones([rows, 32], (Kind::Float, Device::Cpu));
    let reserved = random(40);
    let _ = reserved.get(1).fill_(0.0);
    for (changed, sign) in [
        (with("token_type_embeddings.weight", random(1)), "a single token type"),
        (with("position_embeddings.weight", random(130)), "130 positions"),
        (with("position_embeddings.weight", reserved), "position 1"),
        (with("lm_head.bias", random(1)), "lm_head"),
    ] {
        let path = write(&folder.path().join("weights.safetensors"), &changed);
        let text = error(&[&path], &[&SMALL_IMAGE[..], &["model.text.num_heads=4"]].concat());
        assert!(text.contains("seems to be a RoBERTa") && text.contains(sign), "{sign}: {text}");
    }
}

#[test]
fn a_vocabulary_in_tokenizer_json_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "config.json"] {
        std::fs::copy(fixture("bert").join(name), folder.path().join(name)).unwrap();
    }
    let vocabulary = std::fs::read_to_string(fixture("bert/vocab.txt")).unwrap();
    let ids: BTreeMap<&str, usize> = vocabulary.lines().enumerate().map(|(id, piece)| (piece, id)).collect();
    let tokenizer = serde_json::json!({"model": {"type": "WordPiece", "vocab": ids}, "added_tokens": []});
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let (read, _) = made(&[folder.path().to_str().unwrap()], &SMALL_IMAGE);
    let (plain, _) = made(&["bert"], &SMALL_IMAGE);
    assert_eq!(read.pieces.encode("pneumonia", 9), plain.pieces.encode("pneumonia", 9));
    assert_eq!(read.pieces.size(), 82);
}

/// DINOv2's training code saves blocks in chunks, numbered through.
#[test]
fn blocks_in_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chunked.safetensors");
    let chunked = |of: fn(&str) -> String| -> BTreeMap<String, Tensor> {
        tensors("deit.pth").into_iter().map(|(name, tensor)| (of(&name), tensor)).collect()
    };
    let settings = [&SMALL_TEXT[..], &["model.image.num_heads=2"]].concat();
    let file =
        write(&path, &chunked(|name| name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1.")));
    let (joined, conversion) = made(&[&file], &settings);
    let (plain, _) = made(&["deit.pth"], &settings);
    for (one, other) in plain.model.parameters().iter().zip(joined.model.parameters()) {
        if one.name.starts_with("image_encoder") {
            assert_equal(&one.name, &other.tensor, &one.tensor.detach());
        }
    }
    let changed = conversion.filled.files[0].changed.join("; ");
    assert!(changed.contains("2 blocks in 2 chunks"), "{changed}");
    let file =
        write(&path, &chunked(|name| name.replace("blocks.1.", "blocks.1.0.").replace("blocks.0.", "blocks.0.0.")));
    let text = error(&[&file], &settings);
    assert!(text.contains("chunk"), "{text}");
}
