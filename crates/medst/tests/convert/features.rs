//! Features of a converted model equal those of the library that wrote the file.

use medst_model::convert::vit::Pixels;
use medst_model::convert::{convert, positions};
use medst_model::model::view_experts::View;
use medst_model::model::weights::{TensorFile, write_safetensors};
use medst_model::model::{MedSt, Mode};
use medst_model::open::open_model;
use tch::{Device, Kind, Tensor};

use super::{SMALL_IMAGE, SMALL_TEXT, assert_equal, expected, fixture, made, reports, request};

/// Image and patch features of both views: the lateral expert is a copy of the frontal one.
fn assert_images(name: &str, model: &MedSt, pixels: &str) {
    let expected = expected();
    for view in [View::Frontal, View::Lateral] {
        let (image, patches) = model.image_encoder.forward_single(&expected[pixels], view);
        assert_equal(&format!("{name}, image feature, {view:?}"), &image, &expected[&format!("{name}.image")]);
        assert_equal(&format!("{name}, patch features, {view:?}"), &patches, &expected[&format!("{name}.patches")]);
    }
}

fn assert_reports(name: &str, model: &MedSt, key: &str) {
    let (input, exists) = reports();
    let states = model.encode_reports(&input, Mode::Evaluate).unwrap();
    // What a library computes at padding positions does not matter.
    let expected = expected()[key].masked_fill(&exists.logical_not(), 0.0);
    assert_equal(name, &states.masked_fill(&exists.logical_not(), 0.0), &expected);
}

/// The number of heads cannot be inferred from timm's width if the width is not a multiple of 64.
fn with_heads<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL_TEXT[..], &["model.image.num_heads=2"], more].concat()
}

#[test]
fn timm() {
    let (deit, conversion) = made(&["deit.pth"], &with_heads(&[]));
    assert_images("deit", &deit.model, "pixels");
    let file = &conversion.filled.files[0];
    assert_eq!(
        file.dropped.iter().map(|dropped| dropped.name.as_str()).collect::<Vec<_>>(),
        ["head.bias", "head.weight"]
    );
    assert_eq!(conversion.filled.copied_from_frontal.len(), 2 * 6);
    assert!(conversion.filled.initialised.iter().any(|name| name == "report_encoder.embeddings.words"));
    assert!(file.changed.iter().any(|change| change.contains("pixel normalisation unknown")));
    assert_eq!(deit.card.origin[0].file, "deit.pth");

    let (model, conversion) = made(&["timm-layer-scale.safetensors"], &with_heads(&[]));
    assert_images("timm-layer-scale", &model.model, "pixels");
    let changed = conversion.filled.files[0].changed.join("; ");
    for words in ["4 layer scales", "2 missing biases", "position embedding of [CLS]", "one channel"] {
        assert!(changed.contains(words), "{words}: {changed}");
    }
}

#[test]
fn every_container_and_precision_of_torch() {
    let (plain, _) = made(&["deit.pth"], &with_heads(&[]));
    let (legacy, _) = made(&["deit-legacy.pth"], &with_heads(&[]));
    for (one, other) in plain.model.parameters().iter().zip(legacy.model.parameters()) {
        assert!(one.tensor.equal(&other.tensor), "{}", one.name);
    }
    for (name, file) in [("deit-half", "deit-half.pth"), ("deit-bfloat16", "deit-bfloat16.safetensors")] {
        let (model, conversion) = made(&[file], &with_heads(&[]));
        assert_images(name, &model.model, "pixels");
        assert!(conversion.filled.files[0].changed.iter().any(|change| change.ends_with("to Float")));
    }
}

#[test]
fn pictures_of_another_size() {
    let expected = expected();
    let (model, _) = made(&["deit.pth"], &with_heads(&[]));
    let table = model.model.parameters().iter().find(|entry| entry.name == "image_encoder.positions").unwrap();
    for side in [32, 80] {
        let patches = (side / 8) * (side / 8);
        let resampled = positions::resample(&table.tensor.detach(), patches).unwrap();
        assert_equal(&format!("positions for {side} pixels"), &resampled, &expected[&format!("positions{side}")]);
        let size = format!("model.image.size={side}");
        let (model, conversion) = made(&["deit.pth"], &with_heads(&[&size]));
        assert_images(&format!("deit{side}"), &model.model, &format!("pixels{side}"));
        assert!(
            conversion.filled.files[0]
                .changed
                .iter()
                .any(|change| change.contains("36 resampled to") || change.contains("of 36 patches"))
        );
    }
}

#[test]
fn pixels_normalised_another_way() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let mut request = request(&["deit.pth"], &out, &with_heads(&[]));
    request.pixels = Some(Pixels { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] });
    convert(&request).unwrap();
    assert_images("deit-imagenet", &open_model(&out, Device::Cpu).unwrap().model, "pixels");
}

#[test]
fn transformers_image_encoders() {
    let (vit, conversion) = made(&["vit"], &SMALL_TEXT);
    assert_eq!((vit.model.config.image.num_heads, vit.model.config.image.epsilon), (4, 1e-12));
    assert_images("vit", &vit.model, "pixels");
    let dropped = &conversion.filled.files[0].dropped;
    assert!(dropped.iter().all(|dropped| dropped.name.starts_with("classifier.")) && dropped.len() == 2);

    let (dino, conversion) = made(&["rad-dino"], &SMALL_TEXT);
    assert_eq!((dino.model.config.image.patch, dino.model.config.image.size), (14, 56));
    assert_images("rad-dino", &dino.model, "pixels56");
    assert_eq!(conversion.filled.files[0].dropped[0].name, "embeddings.mask_token");
}

#[test]
fn berts() {
    let (bert, conversion) = made(&["bert"], &SMALL_IMAGE);
    assert_eq!((bert.model.config.text.num_layers, bert.model.config.text.num_heads, bert.pieces.size()), (3, 4, 82));
    assert_reports("bert", &bert.model, "bert.states");
    let file = &conversion.filled.files[0];
    assert!(file.changed.iter().any(|change| change.contains("token type 0 added")));
    assert!(file.dropped.iter().all(|dropped| dropped.name.starts_with("cls.") || dropped.name.starts_with("pooler.")));

    let two =
        [&SMALL_IMAGE[..], &["model.text.num_layers=2", "model.text.max_positions=20", "model.text.max_tokens=20"]]
            .concat();
    let (shallow, conversion) = made(&["bert"], &two);
    assert_reports("bert, two layers", &shallow.model, "bert.two_layers");
    let dropped = &conversion.filled.files[0].dropped;
    assert_eq!(dropped.iter().filter(|dropped| dropped.reason.contains("model.text.num_layers")).count(), 16);

    // With the reference's semantics token types are left out, as the reference leaves them out.
    let reference = [&SMALL_IMAGE[..], &["model.semantics=reference", "model.text.positions=zero"]].concat();
    let (model, _) = made(&["bert"], &reference);
    assert_reports("bert, the reference's way", &model.model, "bert.reference");

    // Seven layers: the method has six.
    let (old, conversion) = made(&["bert-old"], &SMALL_IMAGE);
    assert_eq!(old.model.config.text.num_layers, 6);
    assert_reports("bert-old", &old.model, "bert-old.states");
    assert!(conversion.filled.files[0].changed.iter().any(|change| change.contains("gamma and beta")));
}

/// BioViL's text encoder, CXR-BERT, is a BERT with an additional projection head.
#[test]
fn cxr_bert() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = TensorFile::read(&fixture("bert/model.safetensors")).unwrap().tensors;
    let head = "cls_projection_head.dense_to_hidden.weight";
    tensors.insert(head.into(), Tensor::zeros([4, 32], (Kind::Float, Device::Cpu)));
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_safetensors(&folder.path().join("model.safetensors"), &named, None).unwrap();
    let config =
        r#"{"model_type": "cxr-bert", "num_attention_heads": 4, "projection_size": 4, "layer_norm_eps": 1e-12}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    std::fs::copy(fixture("bert/vocab.txt"), folder.path().join("vocab.txt")).unwrap();
    let (bert, conversion) = made(&[folder.path().to_str().unwrap()], &SMALL_IMAGE);
    assert_reports("cxr-bert", &bert.model, "bert.states");
    assert!(conversion.filled.files[0].dropped.iter().any(|dropped| dropped.name == head));
}

#[test]
fn mgca_with_lateral_experts_that_are_copies() {
    let vocabulary = super::fixtures().join("reference/vocab.txt");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let mut request = request(&["mgca.ckpt"], &out, &["model.image.num_heads=2", "model.text.num_heads=4"]);
    request.vocabulary = Some(vocabulary);
    let conversion = convert(&request).unwrap();
    let model = open_model(&out, Device::Cpu).unwrap().model;
    assert_images("mgca", &model, "pixels");
    assert_reports("mgca", &model, "mgca.states");
    let expected = expected();
    let (images, patches) = model.embed_single_view(&expected["pixels"], View::Frontal, Mode::Evaluate);
    assert_equal("mgca, image embeddings", &images, &expected["mgca.embeddings"]);
    assert_equal("mgca, patch embeddings", &patches, &expected["mgca.patch_embeddings"]);
    let reports = model.embed_reports(&reports().0, Mode::Evaluate).unwrap();
    assert_equal("mgca, report embeddings", &reports.global, &expected["mgca.report_embeddings"]);

    let filled = &conversion.filled;
    assert_eq!(filled.initialised_parts(), ["importance of words", "importance of patches"]);
    let dropped = &filled.files[0].dropped;
    for name in
        ["prototype_layer.weight", "word_local_atten_layer.in_proj_weight", "optimizer_states.0.state.0.exp_avg"]
    {
        assert!(dropped.iter().any(|dropped| dropped.name == name), "{name}: {dropped:?}");
    }
}

/// The paper's start: the image side of one file, the text side of another.
#[test]
fn two_files_make_one_model() {
    let (both, conversion) = made(&["image=mgca.ckpt", "text=bert"], &["model.image.num_heads=2"]);
    assert_images("mgca", &both.model, "pixels");
    assert_reports("bert", &both.model, "bert.states");
    assert_eq!(both.model.config.semantics, medst_model::model::config::Semantics::Corrected);
    let aside = conversion.filled.files[0].dropped.iter().filter(|dropped| dropped.reason.contains("not requested"));
    assert!(aside.clone().count() > 30 && aside.clone().all(|dropped| !dropped.name.starts_with("img_encoder_q.")));
    assert_eq!(both.card.origin.len(), 2);
    assert!(both.model.parameters().iter().all(|entry| entry.tensor.kind() == Kind::Float));

    let (both, _) = made(&["vit", "bert"], &[]);
    assert_images("vit", &both.model, "pixels");
    assert_reports("bert", &both.model, "bert.states");
}
