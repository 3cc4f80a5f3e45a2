//! `init.weights` of a run reads whatever `medst convert` reads.

#[path = "../bench/mod.rs"]
mod bench;

use medst_data::progress::Silent;
use medst_model::distributed::alone;
use medst_model::model::config::Positions;
use medst_model::open::open_model;
use medst_train::train::pretrain;
use tch::Device;

use self::bench::Bench;
use super::{fixture, fixtures};

#[test]
fn a_run_starts_from_an_image_encoder_and_a_bert() {
    let bench = Bench::new(8);
    let weights =
        format!("init.weights=[\"image={}\", \"{}\"]", fixture("mgca.ckpt").display(), fixture("bert").display());
    let vocabulary = format!("data.vocabulary={}", fixtures().join("reference/vocab.txt").display());
    let settings = [
        weights.as_str(),
        vocabulary.as_str(),
        "train.max_steps=1",
        "model.image.patch=8",
        "model.image.intermediate_size=64",
        "model.text.num_layers=3",
        "model.text.num_heads=4",
        "model.text.max_tokens=40",
        "model.projection.hidden=24",
        "model.projection.embedding=16",
    ];
    let config = bench.config("run", &settings);
    assert_eq!(config.init.weights.len(), 2);
    // What is saved of the configuration reads back.
    let text = config.to_toml().unwrap();
    assert_eq!(medst_model::config::Config::parse(&text, &[]).unwrap(), config);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let opened = open_model(&config.train.output, Device::Cpu).unwrap();
    assert_eq!(
        opened.card.origin.iter().map(|origin| origin.file.as_str()).collect::<Vec<_>>(),
        ["mgca.ckpt", "model.safetensors"]
    );
    let text = &opened.card.model.text;
    assert_eq!((text.vocabulary, text.max_positions, text.positions), (82, 40, Positions::Sequential));
    let training = opened.card.training.unwrap();
    assert_eq!((training.source.as_str(), training.counts), ("table", bench.corpus().manifest().counts.clone()));
}

#[test]
fn weights_of_another_size_are_refused_before_anything_is_written() {
    let bench = Bench::new(8);
    let weights = format!("init.weights={}", fixture("vit").display());
    // The shapes fit; the number of heads, which shapes do not reveal, does not.
    for (setting, words) in [
        ("model.image.num_heads=2", "has 4 heads, but the configuration requires 2"),
        ("model.image.intermediate_size=32", "[64, 32]"),
    ] {
        let config = bench.config("run", &[&weights, "model.image.num_heads=4", setting]);
        let error = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains(words), "{error}");
        assert!(!config.train.output.exists());
    }
}

/// The epsilon of its norms belongs to an encoder, and so does the number of positions.
#[test]
fn a_run_computes_as_the_encoders_that_it_starts_from() {
    let bench = Bench::new(8);
    let weights = format!("init.weights=[\"{}\", \"{}\"]", fixture("vit").display(), fixture("bert").display());
    let vocabulary = format!("data.vocabulary={}", fixtures().join("reference/vocab.txt").display());
    let own = [weights.as_str(), &vocabulary, "model.image.num_heads=4", "model.text.num_layers=3"];
    let heads = ["model.text.num_heads=4", "train.max_steps=0"];
    let long = bench.config("long", &[&own[..], &heads].concat());
    let error = pretrain(&long, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("model.text.max_tokens = 112") && error.contains("40 positions"), "{error}");
    let config = bench.config("run", &[&own[..], &heads, &["model.text.max_tokens=40"]].concat());
    assert_eq!(config.model.image.epsilon, 1e-6);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    assert_eq!(open_model(&config.train.output, Device::Cpu).unwrap().card.model.image.epsilon, 1e-12);
    // It goes on as it began, whatever has become of the weights.
    pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap();
}
