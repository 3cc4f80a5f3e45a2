//! Out and in again: the bytes of every tensor are the same, and the card says the same.

use std::path::Path;

use medst_model::convert::{Request, Target, convert};
use medst_model::model::MedSt;
use medst_model::model::card::ModelCard;
use medst_model::model::weights::TensorFile;
use medst_model::open::open_model;
use medst_model::weights_input::Input;
use tch::{Device, Kind, Tensor};

use super::{fixture, fixtures, made, request};

/// Converts the reference's own checkpoint to a medst model.
pub fn of_reference(out: &Path) {
    let request = Request {
        inputs: vec![Input::whole(fixtures().join("reference/lightning.ckpt"))],
        out: out.to_path_buf(),
        overrides: ["model.image.num_heads=3", "model.text.num_heads=3", "model.text.max_tokens=40"]
            .map(String::from)
            .to_vec(),
        vocabulary: Some(fixtures().join("reference/vocab.txt")),
        licence: Some("for tests".into()),
        ..Request::default()
    };
    convert(&request).unwrap();
}

fn through(input: &Path, out: &Path, to: Target) {
    let request = Request { inputs: vec![Input::whole(input)], out: out.to_path_buf(), to, ..Request::default() };
    convert(&request).unwrap();
}

fn assert_same(one: &MedSt, other: &MedSt) {
    assert_eq!(one.config, other.config);
    for (one, other) in
        one.parameters().iter().chain(one.buffers()).zip(other.parameters().iter().chain(other.buffers()))
    {
        assert_eq!(one.name, other.name);
        // Not `equal`, which takes -0 for 0.
        let bits = |x: &Tensor| x.detach().view_dtype(Kind::Int);
        assert!(bits(&one.tensor).equal(&bits(&other.tensor)), "{}", one.name);
    }
}

#[test]
fn there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    of_reference(&at("first"));
    let first = open_model(&at("first"), Device::Cpu).unwrap();
    for (target, name) in
        [(Target::Medst, "ours"), (Target::Reference, "reference.ckpt"), (Target::Transformers, "folder")]
    {
        through(&at("first"), &at(name), target);
        let back = at(&format!("{name}-back"));
        let mut request = Request { inputs: vec![Input::whole(at(name))], out: back.clone(), ..Request::default() };
        if target == Target::Reference {
            // The file has no vocabulary, and knows that its own was another than the built-in one.
            assert!(convert(&request).unwrap_err().to_string().contains("--vocabulary FILE"));
            request.vocabulary = Some(fixtures().join("reference/vocab.txt"));
        }
        let conversion = convert(&request).unwrap();
        assert!(
            conversion.filled.initialised.is_empty() && conversion.filled.copied_from_frontal.is_empty(),
            "{conversion}"
        );
        let second = open_model(&back, Device::Cpu).unwrap();
        assert_same(&first.model, &second.model);
        let ModelCard { licence, vocabulary_sha256, .. } = &second.card;
        assert_eq!((licence, vocabulary_sha256), (&first.card.licence, &first.card.vocabulary_sha256));
        assert_eq!(first.card.origin, second.card.origin, "a round trip leaves the origin unchanged");
    }
}

/// Everything that `strict=True` requires: the same names, shapes and kinds as in a file that the
/// reference wrote.
#[test]
fn the_references_names_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    of_reference(&folder.path().join("model"));
    let path = folder.path().join("model.ckpt");
    through(&folder.path().join("model"), &path, Target::Reference);
    let (ours, theirs) =
        (TensorFile::read(&path).unwrap(), TensorFile::read(&fixtures().join("reference/lightning.ckpt")).unwrap());
    let describe = |file: &TensorFile| -> Vec<String> {
        file.tensors.iter().map(|(name, tensor)| format!("{name} {:?} {:?}", tensor.size(), tensor.kind())).collect()
    };
    assert_eq!(describe(&ours), describe(&theirs));
    // The same file has the same bytes, whenever it is written.
    let again = folder.path().join("again.ckpt");
    through(&folder.path().join("model"), &again, Target::Reference);
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
}

/// A folder of transformers whose parts no longer belong together is refused.
#[test]
fn parts_that_were_changed_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    of_reference(&at("model"));
    through(&at("model"), &at("folder"), Target::Transformers);
    let lateral = at("folder/lateral_image_encoder/model.safetensors");
    let mut tensors = TensorFile::read(&lateral).unwrap().tensors;
    let name = "encoder.layer.0.attention.output.dense.bias";
    tensors.insert(name.into(), &tensors[name] + 1.0);
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    medst_model::model::weights::write_safetensors(&lateral, &named, None).unwrap();
    let request = Request { inputs: vec![Input::whole(at("folder"))], out: at("back"), ..Request::default() };
    let error = convert(&request).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("differs from frontal_image_encoder"), "{error}");
}

/// An encoder alone becomes a folder with that encoder alone.
#[test]
fn only_what_was_taken_is_written_for_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("folder");
    let mut request = request(&["vit"], &out, &super::SMALL_TEXT);
    request.to = Target::Transformers;
    convert(&request).unwrap();
    let mut names: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["SHA256SUMS", "frontal_image_encoder", "lateral_image_encoder"]);
    let (before, _) = made(&["vit"], &super::SMALL_TEXT);
    let (after, _) = made(&[out.join("frontal_image_encoder").to_str().unwrap()], &super::SMALL_TEXT);
    let images = |model: &MedSt| -> Vec<Tensor> {
        let image = model.parameters().iter().filter(|entry| entry.name.starts_with("image_encoder."));
        image.map(|entry| entry.tensor.detach()).collect()
    };
    for (one, other) in images(&before.model).iter().zip(&images(&after.model)) {
        assert!(one.equal(other));
    }
}

/// A file of weights without its folder still contains its card.
#[test]
fn weights_carry_their_card() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let mut request = request(&["bert"], &out, &super::SMALL_IMAGE);
    request.licence = Some("CC-BY-4.0".into());
    convert(&request).unwrap();
    let lone = folder.path().join("lone.safetensors");
    std::fs::rename(out.join("model.safetensors"), &lone).unwrap();
    let file = TensorFile::read(&lone).unwrap();
    let card = ModelCard::parse(&file.metadata[ModelCard::KEY]).unwrap();
    assert_eq!(card, ModelCard::read(&out.join("config.json")).unwrap());
    assert_eq!((card.licence.as_deref(), card.model.text.vocabulary), (Some("CC-BY-4.0"), 82));
    assert_eq!(card.origin[0].sha256.len(), 64);

    let again = folder.path().join("again");
    let vocabulary = Some(fixture("bert/vocab.txt"));
    let request = Request { inputs: vec![Input::whole(&lone)], out: again.clone(), vocabulary, ..Request::default() };
    convert(&request).unwrap();
    assert_eq!(open_model(&again, Device::Cpu).unwrap().card, card);
}

/// Such a file is opened as its folder is, whatever its name.
#[test]
fn weights_without_their_folder_are_opened_from_their_card() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    convert(&request(&["vit"], &at("model"), &super::SMALL_TEXT)).unwrap();
    let whole = open_model(&at("model"), Device::Cpu).unwrap();
    for name in ["lone.safetensors", "model.safetensors"] {
        let empty = tempfile::tempdir().unwrap();
        let path = empty.path().join(name);
        std::fs::copy(at("model/model.safetensors"), &path).unwrap();
        let lone = open_model(&path, Device::Cpu).unwrap();
        assert_same(&whole.model, &lone.model);
        assert_eq!((&lone.card, &lone.checksum), (&whole.card, &whole.checksum));
        assert_eq!((lone.pieces.checksum(), &lone.path), (whole.pieces.checksum(), &path));
    }

    // A vocabulary of its own is not in the file.
    convert(&request(&["bert"], &at("words"), &super::SMALL_IMAGE)).unwrap();
    let path = at("lone.safetensors");
    std::fs::copy(at("words/model.safetensors"), &path).unwrap();
    let error = || open_model(&path, Device::Cpu).err().unwrap().to_string();
    let refused = error();
    assert!(refused.contains("lone.safetensors") && refused.contains("put its vocab.txt next to"), "{refused}");
    std::fs::copy(at("words/vocab.txt"), at("vocab.txt")).unwrap();
    let lone = open_model(&path, Device::Cpu).unwrap();
    assert_same(&open_model(&at("words"), Device::Cpu).unwrap().model, &lone.model);

    // Without a card it is unknown how they compute.
    lone.model.save(&path, None).unwrap();
    let refused = error();
    assert!(refused.contains("lone.safetensors") && refused.contains("card"), "{refused}");
}
