//! The variants of losses, model and data that ablations are made of: each has its documented
//! effect, and none breaks what holds on any batch.

mod bench;

use bench::Bench;
use medst_data::progress::Silent;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::convert::Start;
use medst_model::distributed::alone;
use medst_model::loss;
use medst_model::loss::config::LossConfig;
use medst_model::model::input::Batch;
use medst_model::model::view_experts::View;
use medst_model::model::weights::{TensorFile, write_safetensors};
use medst_model::model::{MedSt, Mode};
use medst_model::open::open_model;
use medst_train::train::dataset::{Crop, Dataset};
use medst_train::train::pretrain;
use tch::{Device, Kind, Tensor};

/// Every variant, and the parameters that it leaves without a gradient.
const VARIANTS: &[(&str, &str)] = &[
    ("loss.global=sigmoid", ""),
    ("loss.temporal=forward", ""),
    ("loss.temporal=reverse", ""),
    ("loss.global_temperature=0.5", ""),
    ("data.short_sequences=true", ""),
    ("model.lateral=frontal", "lateral_expert"),
    ("model.lateral=ignored", "lateral_expert"),
    ("model.semantics=reference", ""),
];

fn batch_of(bench: &Bench, settings: &[&str]) -> (MedSt, Batch, LossConfig) {
    let config = bench.config("run", &[&["model.text.dropout=0.0", "model.initial_deviation=0.2"], settings].concat());
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let training = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let all: Vec<usize> = (0..training.sequences.len().min(8)).collect();
    let batch = training.batch(&all, Crop::Centre).unwrap();
    (MedSt::new(&config.model, 5, Device::Cpu, Kind::Double).unwrap(), batch, config.loss)
}

#[test]
fn every_variant_has_finite_gradients_for_what_it_uses() {
    let bench = Bench::new(24);
    let plain = {
        let (model, batch, config) = batch_of(&bench, &[]);
        loss::med_st(&model, &batch, &config, Mode::Train).unwrap().total.double_value(&[])
    };
    for (setting, unused) in VARIANTS {
        let (model, batch, config) = batch_of(&bench, &[setting]);
        let losses = loss::med_st(&model, &batch, &config, Mode::Train).unwrap();
        let total = losses.total.double_value(&[]);
        assert!(total.is_finite(), "{setting}: {total}");
        assert!((total - plain).abs() > 1e-9, "{setting}: {total} against {plain}");
        losses.total.backward();
        for parameter in model.parameters() {
            let gradient = parameter.tensor.grad();
            if !unused.is_empty() && parameter.name.contains(unused) {
                let nothing = !gradient.defined() || gradient.abs().max().double_value(&[]) == 0.0;
                assert!(nothing, "{setting}: {} has a gradient", parameter.name);
                continue;
            }
            assert!(gradient.defined(), "{setting}: {} has none", parameter.name);
            assert!(bool::try_from(gradient.isfinite().all()).unwrap(), "{setting}: {}", parameter.name);
        }
    }
}

/// CLIP's limit: a run that begins beyond it is within it after one update.
#[test]
fn a_learned_temperature_is_limited_after_every_update() {
    let bench = Bench::new(24);
    let learned = "loss.global_temperature=learned";
    let model = MedSt::new(&bench.config("run", &[learned]).model, 1, Device::Cpu, Kind::Float).unwrap();
    let log_scale = |model: &MedSt| {
        let own = model.parameters().iter().find(|own| own.name == "contrast.log_scale");
        own.expect("a learned temperature").clone()
    };
    log_scale(&model).fill(&Tensor::from_slice(&[3f32]));
    let path = bench.folder.path().join("steep.safetensors");
    model.save(&path, None).unwrap();
    let weights = format!("init.weights={}", path.display());
    let config = bench.config("run", &[learned, weights.as_str(), "train.max_steps=1"]);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let found = log_scale(&open_model(&config.train.output, Device::Cpu).unwrap().model).tensor.double_value(&[]);
    // 0.07 is where it begins, 100 the largest factor.
    assert!((found - (100.0 * 0.07f64).ln()).abs() < 1e-6, "{found}");
}

#[test]
fn lateral_views_go_where_the_configuration_sends_them() {
    let bench = Bench::new(24);
    let embed = |setting: &str| {
        let (model, batch, _) = batch_of(&bench, &[setting]);
        let images = tch::no_grad(|| model.embed_images(&batch.images, Mode::Evaluate).unwrap());
        (model, batch, images)
    };
    let (_, _, expert) = embed("model.lateral=expert");
    let (_, _, frontal) = embed("model.lateral=frontal");
    let (model, batch, ignored) = embed("model.lateral=ignored");
    assert_eq!(expert.lateral_patches.size(), frontal.lateral_patches.size());
    assert!(!expert.global.allclose(&frontal.global, 1e-6, 1e-6, false), "a separate expert gives other vectors");
    assert_eq!(ignored.lateral_patches.size()[0], 0);
    assert!(ignored.features.lateral_rows.is_empty());
    // Ignored is as if there were none.
    let (alone, _) = tch::no_grad(|| model.embed_single_view(&batch.images.frontal, View::Frontal, Mode::Evaluate));
    assert!(ignored.global.allclose(&alone, 1e-10, 1e-10, false));
}

#[test]
fn data_are_cut_as_configured() {
    let bench = Bench::new(60);
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let configured = |settings: &[&str]| bench.config("run", settings);
    let with = |settings: &[&str], look: &dyn Fn(&Dataset)| {
        let config = configured(settings);
        look(&Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap());
    };
    // Full sequences; shorter ones with masks.
    with(&[], &|training| {
        let batch = training.batch(&(0..training.sequences.len()).collect::<Vec<_>>(), Crop::Centre).unwrap();
        let full = training.sequences.iter().filter(|own| own.len() == 4).count() as i64;
        assert!(full > 0 && (full as usize) < training.sequences.len());
        assert_eq!(batch.relations.sequences.size(), [full, 4]);
        assert!(batch.relations.sequences.min().int64_value(&[]) >= 0);
    });
    with(&["data.short_sequences=true"], &|training| {
        let numbers: Vec<usize> = (0..training.sequences.len()).collect();
        let relations = training.batch(&numbers, Crop::Centre).unwrap().relations;
        let lengths: Vec<usize> = training.sequences.iter().map(Vec::len).filter(|&length| length > 1).collect();
        assert!(lengths.contains(&2) && lengths.contains(&4), "{lengths:?}");
        assert_eq!(relations.sequences.size(), [lengths.len() as i64, 4]);
        for (number, &length) in lengths.iter().enumerate() {
            let place = |step: usize| relations.sequences.int64_value(&[number as i64, step as i64]);
            for step in 0..4 {
                assert_eq!(place(step) >= 0, step < length);
            }
        }
    });
}

#[test]
fn a_run_can_start_from_encoders_alone() {
    let bench = Bench::new(24);
    let model = |seed| {
        let config = bench.config("run", &[]);
        MedSt::new(&config.model, seed, Device::Cpu, Kind::Float).unwrap()
    };
    let (given, mut started, fresh) = (model(1), model(2), model(2));
    let path = bench.folder.path().join("given.safetensors");
    given.save(&path, None).unwrap();
    let encoders = || Start::read(&[format!("encoders={}", path.display()).parse().unwrap()]);
    let (filled, _) = encoders().unwrap().fill(&mut started).unwrap();
    assert!(filled.files[0].dropped.iter().all(|own| own.reason.contains("not requested")), "{filled}");
    let parameter = |model: &MedSt, name: &str| {
        model
            .parameters()
            .iter()
            .find(|own| own.name == name)
            .unwrap_or_else(|| panic!("{name}"))
            .tensor
            .shallow_clone()
    };
    let mut laterals = 0;
    for own in started.parameters() {
        let expected = if own.name.contains("lateral_expert") {
            laterals += 1;
            parameter(&given, &own.name.replace("lateral_expert", "frontal_expert"))
        } else if own.name.starts_with("image_encoder.") || own.name.starts_with("report_encoder.") {
            parameter(&given, &own.name)
        } else {
            parameter(&fresh, &own.name)
        };
        assert_eq!(own.tensor, expected, "{}", own.name);
    }
    assert!(laterals > 5);

    let mut tensors = TensorFile::read(&path).unwrap().tensors;
    tensors.remove("report_encoder.embeddings.words");
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_safetensors(&path, &named, None).unwrap();
    let error = encoders().unwrap().fill(&mut started).unwrap_err().to_string();
    assert!(error.contains("report_encoder.embeddings.words") && error.contains("missing"), "{error}");
}
