//! What a run's folder holds when something went wrong, and what may be done with it then.

mod bench;

use std::os::unix::fs::PermissionsExt;

use bench::Bench;
use medst_data::import::{PrepareOptions, prepare_table};
use medst_data::progress::{Silent, Stoppable};
use medst_model::distributed::alone;
use medst_train::train::{Ending, log, pretrain};
use tch::Device;

/// The update of the only step makes the weights useless, which the validation after it is the
/// first to see.
#[test]
fn broken_weights_become_no_checkpoint_and_no_score() {
    let bench = Bench::new(24);
    let settings = ["optimizer.lr=1e30", "optimizer.warmup_fraction=0.0", "train.max_steps=1"];
    let config = bench.config("run", &settings);
    let error = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("validation loss after step 1 is not finite") && error.contains("optimizer.lr"), "{error}");
    assert!(!config.train.output.join("best").exists() && !config.train.output.join("last").exists());
    assert_eq!(log::read(&config.train.output.join("metrics.jsonl")).unwrap().len(), 1);
}

/// Without studies to validate on, the weights themselves are looked at before they are saved.
#[test]
fn broken_weights_are_noticed_without_a_validation() {
    let bench = Bench::new(12);
    let (table, corpus) = (bench.folder.path().join("cohort/studies.csv"), bench.folder.path().join("corpus"));
    let rows = std::fs::read_to_string(&table).unwrap().replace(",validate", ",test");
    std::fs::write(&table, rows).unwrap();
    let options = PrepareOptions { image_size: 64, overwrite: true, ..PrepareOptions::default() };
    prepare_table(&table, &corpus, &options, &Silent).unwrap();
    let settings = ["optimizer.lr=1e39", "optimizer.warmup_fraction=0.0", "train.max_steps=1"];
    let config = bench.config("run", &settings);
    let error = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("is not finite after update 1"), "{error}");
    assert!(!config.train.output.join("last").exists());
}

#[test]
fn the_last_weights_are_validated_wherever_the_run_ends() {
    let bench = Bench::new(24);
    let config = bench.config("run", &["train.max_steps=5", "train.validate_every=3"]);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let entries = log::read(&config.train.output.join("metrics.jsonl")).unwrap();
    let validated = entries.iter().filter_map(|entry| match entry {
        log::Entry::Validate { step, .. } => Some(*step),
        log::Entry::Train { .. } | log::Entry::Evaluate { .. } => None,
    });
    assert_eq!(validated.collect::<Vec<_>>(), [3, 5]);
}

/// A rate that is far too high: after a while the validation loss finds no new low.
#[test]
fn a_run_that_stopped_improving_ends_early() {
    let bench = Bench::new(24);
    let settings = ["optimizer.lr=0.5", "train.validate_every=1", "train.patience=2", "train.epochs=40"];
    let config = bench.config("run", &settings);
    let summary = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap();
    assert_eq!(summary.ending, Ending::Converged);
    let text = std::fs::read_to_string(config.train.output.join("last/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let losses: Vec<f64> = log::read(&config.train.output.join("metrics.jsonl"))
        .unwrap()
        .iter()
        .filter_map(|entry| match entry {
            log::Entry::Validate { losses, .. } => Some(losses.total),
            log::Entry::Train { .. } | log::Entry::Evaluate { .. } => None,
        })
        .collect();
    // Two validations after the lowest one, and no earlier pair of steps without a new low.
    let lows =
        (0..losses.len()).filter(|&n| losses[..n].iter().all(|&earlier| losses[n] < earlier)).collect::<Vec<_>>();
    assert_eq!(losses.len(), lows.last().unwrap() + 3, "{losses:?}");
    assert!(lows.windows(2).all(|pair| pair[1] - pair[0] <= 2), "{losses:?}");
    assert_eq!(state["best"][0]["step"].as_u64(), Some(*lows.last().unwrap() as u64 + 1));
}

#[test]
fn a_start_that_failed_stands_in_nobodys_way() {
    let bench = Bench::new(12);
    let mistaken = bench.config("run", &["init.weights=nothing.ckpt"]);
    assert!(pretrain(&mistaken, false, Device::Cpu, &alone(), &Silent).is_err());
    assert!(!mistaken.train.output.exists());
    let mended = bench.config("run", &["train.max_steps=1"]);
    assert_eq!(pretrain(&mended, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap().ending, Ending::Finished);
}

#[test]
fn a_run_that_ended_before_its_first_checkpoint_is_resumed_from_its_start() {
    let bench = Bench::new(12);
    let config = bench.config("run", &["train.max_steps=1"]);
    std::fs::create_dir(&config.train.output).unwrap();
    std::fs::write(config.train.output.join("config.toml"), config.to_toml().unwrap()).unwrap();
    assert_eq!(pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap().unwrap().steps, 1);

    // A checkpoint that was there and is damaged is another matter.
    std::fs::remove_file(config.train.output.join("last/state.json")).unwrap();
    let error = pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("no checkpoint to resume from"), "{error}");
}

#[test]
fn a_run_goes_on_with_its_own_corpus_and_configuration_only() {
    let (bench, other) = (Bench::new(24), Bench::new(30));
    let config = bench.config("run", &["train.max_steps=6"]);
    assert_eq!(
        pretrain(&config, false, Device::Cpu, &alone(), &Stoppable(true.into())).unwrap().unwrap().ending,
        Ending::Stopped
    );

    let added = bench.config("run", &["train.max_steps=6", "init.weights=late.ckpt"]);
    let error = pretrain(&added, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("was started with") && error.contains("late.ckpt"), "{error}");

    let corpus = bench.folder.path().join("corpus");
    std::fs::remove_dir_all(&corpus).unwrap();
    std::fs::rename(other.folder.path().join("corpus"), &corpus).unwrap();
    let error = pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("differs from the corpus") && error.contains("data.corpus"), "{error}");
}

/// The last save of a run is of the same step as the validation's: the checkpoint is kept, its
/// state brought up to date.
#[test]
fn a_run_of_an_earlier_version_goes_on_or_says_why_not() {
    let bench = Bench::new(24);
    let config = bench.config("run", &["train.max_steps=2"]);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let saved = |more: &str| {
        let (corpus, output) = (config.data.corpus.display(), config.train.output.display());
        let text = format!(
            "[data]\ncorpus = '{corpus}'\nloader_threads = 2\n[model]\ntemperature = 'fixed'\n\
             [model.image]\nsize = 48\npatch = 16\nwidth = 32\ndepth = 2\nheads = 2\nmlp = 64\nepsilon = 1e-6\n\
             [model.text]\nvocabulary = 28996\nwidth = 32\nlayers = 1\nheads = 2\nintermediate = 64\nmax_positions = 112\n\
             [model.projection]\nhidden = 48\nembedding = 32\n[optimizer]\nlr = 1e-3\nmin_lr = 1e-8\n\
             [evaluate]\nevery = 0\ntasks = ['retrieval']\n[init]\nweights = []\ntake = 'all'\n\
             [train]\noutput = '{output}'\nepochs = 2\nmax_steps = 2\nsequences_per_batch = 4\nkeep_best = 5\n{more}\n"
        );
        std::fs::write(config.train.output.join("config.toml"), text).unwrap();
    };
    saved("accumulate = 1");
    assert_eq!(pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap().unwrap().ending, Ending::Finished);
    saved("accumulate = 2");
    let error = pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("config.toml: `train.accumulate` has been removed: train.encode_studies"), "{error}");
}

#[test]
fn files_are_readable_as_others_are_and_resuming_a_finished_run_changes_nothing() {
    let bench = Bench::new(24);
    let config = bench.config("run", &["train.max_steps=2"]);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let run = &config.train.output;
    let mode = |name: &str| std::fs::metadata(run.join(name)).unwrap().permissions().mode();
    assert_eq!(mode("last/model.safetensors"), mode("config.toml"));
    let all = || ["last/model.safetensors", "last/state.json"].map(|name| std::fs::read(run.join(name)).unwrap());
    let before = all();
    pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap();
    assert!(before == all());
}
