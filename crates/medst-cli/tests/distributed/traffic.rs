//! What processes count is what the configuration says that they pass.

use medst::config::Config;
use medst::distributed::{Traffic, volume};
use serde_json::Value;

use crate::{corpus, done, launcher, lines, pretrain, start};

/// To the byte.
#[test]
fn what_is_passed_follows_from_the_configuration() {
    if !launcher() {
        return;
    }
    let folder = corpus();
    let at = folder.path();
    let train = |name: &str, processes: usize, settings: &[&str]| {
        let target = format!("train.output={name}");
        let child = start(at, processes, &pretrain(&[settings, &[&target]].concat(), &["--json"]));
        let output = child.wait_with_output().unwrap();
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        done(output);
        let traffic = summary.get("traffic").map(|own| serde_json::from_value::<Traffic>(own.clone()).unwrap());
        (Config::load(&at.join(name).join("config.toml"), &[]).unwrap(), traffic)
    };
    // Two epochs, a validation and a checkpoint behind each, and a checkpoint at the end.
    let short = ["train.sequences_per_batch=7", "train.epochs=2"];
    for (name, processes, settings) in [
        ("one", 1, &[][..]),
        ("two", 2, &[][..]),
        ("four", 4, &[]),
        ("float", 2, &["train.precision=float32", "model.image.depth=2", "model.text.layers=3"]),
        ("accumulated", 2, &["train.accumulate=2"]),
        ("chunks", 2, &["train.encode_studies=2"]),
        ("averaged", 2, &["train.average=0.9"]),
    ] {
        let (config, counted) = train(name, processes, &[&short[..], settings].concat());
        let steps = lines(&at.join(name), "train");
        let validations = lines(&at.join(name), "validate");
        let per_epoch = lines(&at.join("one"), "train").len() / 2;
        assert!(per_epoch % 2 == 1 || name != "accumulated", "an accumulated step of one batch is part of this test");
        let mut expected = volume::start(&config) + volume::checkpoint() + volume::end();
        for (number, step) in steps.iter().enumerate() {
            let studies = step["studies"].as_u64().unwrap();
            // The last step of an epoch may have fewer batches.
            let accumulate = config.train.accumulate;
            let done = number % per_epoch.div_ceil(accumulate) * accumulate;
            let mut batches = vec![0; accumulate.min(per_epoch - done)];
            batches[0] = studies;
            expected = expected + volume::step(&config, &batches);
        }
        for line in &validations {
            let studies = line["retrieval"]["studies"].as_u64().unwrap();
            expected = expected + volume::validation(&config, studies) + volume::checkpoint();
        }
        assert_eq!(validations.len(), 2);
        assert_eq!(counted, (processes > 1).then_some(expected), "{name}");
    }
}
