//! The variants of losses, model and data that ablations are made of: each does what it says, and none breaks what holds on any batch.

mod bench;

use bench::Bench;
use medst::loss;
use medst::loss::config::LossConfig;
use medst::model::input::Batch;
use medst::model::view_experts::View;
use medst::model::weights::TensorFile;
use medst::model::{MedSt, Mode};
use medst::train::dataset::{Crop, Dataset};
use medst_data::report::WordPiece;
use medst_data::split::Split;
use std::collections::BTreeSet;
use tch::{Device, Kind};

/// Every variant, and the parameters that it leaves without a gradient.
const VARIANTS: &[(&str, &str)] = &[
    ("loss.importance=uniform", "importance"),
    ("loss.importance=both", ""),
    ("loss.global=sigmoid", ""),
    ("loss.negatives=other_subjects", ""),
    ("loss.global_parts=3", ""),
    ("loss.soft_targets=0.4", ""),
    ("loss.soft_target_similarity=embedding", ""),
    ("loss.temporal_mappings=[\"image_to_image\", \"report_to_report\"]", ""),
    ("loss.temporal_times=days", ""),
    ("loss.forward_mapping_weight=0.5", ""),
    ("loss.reverse_mapping_weight=0", ""),
    ("data.short_sequences=true", ""),
    ("data.sequence_length=2", ""),
    ("data.lateral_fraction=0.5", ""),
    ("model.lateral=frontal", "lateral_expert"),
    ("model.lateral=ignored", "lateral_expert"),
    ("model.quirks.absent_lateral=true", ""),
    ("model.quirks.padding_words=true", ""),
    ("model.quirks.raw_context=true", ""),
    ("model.quirks.lost_word=true", ""),
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
        let settings: &[&str] =
            if setting.contains("similarity") { &[setting, "loss.soft_targets=0.4"] } else { &[setting] };
        let (model, batch, config) = batch_of(&bench, settings);
        let losses = loss::med_st(&model, &batch, &config, Mode::Train).unwrap();
        let total = losses.total.double_value(&[]);
        assert!(total.is_finite(), "{setting}: {total}");
        // No report of the phantom fills the window, so that nothing is lost of one.
        assert_eq!((total - plain).abs() > 1e-9, !setting.contains("lost_word"), "{setting}: {total} against {plain}");
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
    assert!(!expert.global.allclose(&frontal.global, 1e-6, 1e-6, false), "an expert of its own differs");
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
    let subjects = |training: &Dataset| -> BTreeSet<String> {
        let rows = training.sequences.iter().flatten();
        rows.map(|&row| corpus.studies()[row as usize].subject.0.clone()).collect()
    };
    let all = {
        let config = configured(&[]);
        subjects(&Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap())
    };
    // Fewer subjects are among more, with all their studies.
    let mut larger = all.clone();
    for count in [20, 10, 5] {
        with(&[&format!("data.subjects={count}")], &|training| assert_eq!(subjects(training).len(), count));
        let config = configured(&[&format!("data.subjects={count}")]);
        let chosen = subjects(&Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap());
        assert!(chosen.is_subset(&larger));
        larger = chosen;
    }
    with(&["data.subjects=5"], &|training| {
        let own = subjects(training);
        let of = |study: &&medst_data::study::Study| own.contains(&study.subject.0) && study.report.is_some();
        assert_eq!(training.studies(), corpus.studies().iter().filter(of).count());
    });
    with(&["data.subjects=100000"], &|training| assert_eq!(subjects(training), all));
    let config = configured(&["data.subjects=1"]);
    let validation = Dataset::new(&corpus, &pieces, Split::Validate, &config.model, &config.data).unwrap();
    assert!(subjects(&validation).len() > 1, "validation has all its subjects");

    // Sequences of another length; shorter ones with masks; days beside them.
    with(&["data.sequence_length=2"], &|training| {
        assert!(training.sequences.iter().all(|own| own.len() <= 2));
        let batch = training.batch(&(0..training.sequences.len()).collect::<Vec<_>>(), Crop::Centre).unwrap();
        assert_eq!(batch.relations.sequences.size()[1], 2);
        assert!(batch.relations.sequences.min().int64_value(&[]) >= 0);
    });
    with(&["data.short_sequences=true"], &|training| {
        let numbers: Vec<usize> = (0..training.sequences.len()).collect();
        let relations = training.batch(&numbers, Crop::Centre).unwrap().relations;
        let rows: Vec<&u32> = training.sequences.iter().flatten().collect();
        let lengths: Vec<usize> = training.sequences.iter().map(Vec::len).filter(|&length| length > 1).collect();
        assert!(lengths.contains(&2) && lengths.contains(&4), "{lengths:?}");
        assert_eq!(relations.sequences.size(), [lengths.len() as i64, 4]);
        let (days, day) =
            (relations.days.unwrap(), |row: i64| corpus.studies()[*rows[row as usize] as usize].acquired.unwrap().0);
        for (number, &length) in lengths.iter().enumerate() {
            let place = |step: usize| relations.sequences.int64_value(&[number as i64, step as i64]);
            for step in 0..4 {
                assert_eq!(place(step) >= 0, step < length);
                let expected = if step < length { day(place(step)) - day(place(0)) } else { 0.0 };
                assert_eq!(days.double_value(&[number as i64, step as i64]), expected);
            }
        }
    });

    // A share of the lateral views, nested as well.
    let laterals = |fraction: &str| {
        let config = configured(&[&format!("data.lateral_fraction={fraction}")]);
        let training = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
        let numbers: Vec<usize> = (0..training.sequences.len()).collect();
        training.batch(&numbers, Crop::Centre).unwrap().images.lateral_rows.into_iter().collect::<BTreeSet<i64>>()
    };
    let (none, half, whole) = (laterals("0"), laterals("0.5"), laterals("1"));
    assert!(none.is_empty() && half.is_subset(&whole));
    let share = half.len() as f64 / whole.len() as f64;
    assert!((0.3..0.7).contains(&share), "{share}");
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
    let mut file = TensorFile::read(&path).unwrap();
    started.load_encoders(&file).unwrap();
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

    file.tensors.remove("report_encoder.embeddings.words");
    let error = started.load_encoders(&file).unwrap_err().to_string();
    assert!(error.contains("report_encoder.embeddings.words") && error.contains("missing"), "{error}");
}

/// A window that reports fill, so that each behaviour has something to change.
#[test]
fn the_quirks_together_are_the_reference_and_each_alone_is_something() {
    let bench = Bench::new(24);
    let total = |settings: &[&str]| {
        let (model, batch, config) = batch_of(&bench, &[&["model.text.max_tokens=24"], settings].concat());
        loss::med_st(&model, &batch, &config, Mode::Train).unwrap().total.double_value(&[])
    };
    let quirks =
        ["absent_lateral", "padding_words", "raw_context", "lost_word"].map(|name| format!("model.quirks.{name}=true"));
    let quirks: Vec<&str> = quirks.iter().map(String::as_str).collect();
    let (corrected, reference) = (total(&[]), total(&["model.semantics=reference"]));
    assert_eq!(total(&quirks), reference);
    let off: Vec<String> = quirks.iter().map(|quirk| quirk.replace("true", "false")).collect();
    let off: Vec<&str> = off.iter().map(String::as_str).collect();
    assert_eq!(total(&[&["model.semantics=reference"], &off[..]].concat()), corrected);
    for quirk in quirks {
        assert!((total(&[quirk]) - corrected).abs() > 1e-9, "{quirk}");
    }
}
