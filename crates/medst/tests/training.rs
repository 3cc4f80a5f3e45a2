//! Training as a whole, on a small phantom corpus: over-fitting, loading, checkpoints, mistakes.

mod bench;

use std::path::Path;

use bench::Bench;
use medst_data::progress::Silent;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_infer::infer::Engine;
use medst_infer::infer::stream::{self, EmbeddingOutputs, StudyInput};
use medst_model::Error;
use medst_model::distributed::alone;
use medst_model::model::MedSt;
use medst_model::model::config::Positions;
use medst_model::open::{open_model, read_card};
use medst_train::train::dataset::{Crop, Dataset};
use medst_train::train::loader::Loader;
use medst_train::train::{pretrain, validate};
use tch::Device;

#[test]
fn a_few_studies_are_learnt_by_heart() {
    let bench = Bench::new(8);
    let settings = [
        // The whole picture: no crop varies it.
        "model.image.size=64",
        "train.epochs=250",
        "train.sequences_per_batch=64",
        "train.validate_every=1000",
        "optimizer.lr=2e-3",
        "optimizer.clip_norm=1.0",
        "optimizer.warmup_fraction=0.1",
        "model.text.dropout=0.0",
        "model.initial_deviation=0.1",
        "loss.temporal_weight=0.05",
    ];
    let config = bench.config("run", &settings);
    let summary = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap();
    let (first, last) = (summary.first.unwrap().total, summary.last.unwrap().total);
    assert!(last < 0.5 * first, "loss {first} to {last}");
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let training = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let opened = open_model(&config.train.output.join("last"), Device::Cpu).unwrap();
    let found = validate::validate(&opened.model, &training, &config.loss, 64, &alone()).unwrap().unwrap();
    let retrieval = found.retrieval;
    assert!(retrieval.studies >= 8);
    assert!(retrieval.recall_at_1 > 0.9, "recall@1 {} among {}", retrieval.recall_at_1, retrieval.studies);
}

#[test]
fn batches_do_not_depend_on_the_number_of_loader_threads() {
    let bench = Bench::new(24);
    let config = bench.config("run", &[]);
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let training = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let numbers: Vec<Vec<usize>> = (0..training.sequences.len()).map(|n| vec![n]).collect();
    let crop = Crop::Random { seed: 5, epoch: 1 };
    let load = |threads| {
        std::thread::scope(|scope| {
            Loader::start(scope, &training, numbers.clone(), crop, threads, Device::Cpu)
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        })
    };
    let (one, three) = (load(1), load(3));
    assert_eq!((one.len(), three.len()), (numbers.len(), numbers.len()));
    for (a, b) in one.iter().zip(&three) {
        assert_eq!(a.images.frontal, b.images.frontal);
        assert_eq!(a.images.lateral, b.images.lateral);
        assert_eq!(a.images.lateral_rows, b.images.lateral_rows);
        assert_eq!(a.reports.ids, b.reports.ids);
        assert_eq!(a.relations.sequences, b.relations.sequences);
    }
    let other = std::thread::scope(|scope| {
        Loader::start(scope, &training, numbers.clone(), Crop::Random { seed: 6, epoch: 1 }, 2, Device::Cpu)
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    });
    assert!(one.iter().zip(&other).any(|(a, b)| a.images.frontal != b.images.frontal), "the seed decides the crops");
}

/// The reference's collate function reorders studies but not their laterals; here every picture
/// must be its study's own.
#[test]
fn every_lateral_stands_beside_its_own_frontal() {
    let bench = Bench::new(24);
    let config = bench.config("run", &[]);
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let training = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let all: Vec<usize> = (0..training.sequences.len()).rev().collect();
    let batch = training.batch(&all, Crop::Centre).unwrap();
    let rows: Vec<u32> = all.iter().flat_map(|&n| training.sequences[n].clone()).collect();
    let (margin, side) = ((64 - 48) / 2, 48);
    let centre = |picture: &[u8]| -> Vec<u8> {
        (0..side).flat_map(|row| picture[(margin + row) * 64 + margin..][..side].to_vec()).collect()
    };
    let pixels =
        |pictures: &tch::Tensor, place: usize| Vec::<u8>::try_from(pictures.get(place as i64).reshape([-1])).unwrap();
    let mut laterals = 0;
    for (place, &row) in rows.iter().enumerate() {
        let study = &corpus.studies()[row as usize];
        assert_eq!(pixels(&batch.images.frontal, place), centre(&corpus.image(study.frontal).unwrap()));
        let found = batch.images.lateral_rows.binary_search(&(place as i64)).ok();
        assert_eq!(found.is_some(), study.lateral.is_some());
        if let (Some(found), Some(lateral)) = (found, study.lateral) {
            assert_eq!(pixels(&batch.images.lateral, found), centre(&corpus.image(lateral).unwrap()));
            laterals += 1;
        }
    }
    assert!(laterals > 3);
    // Sequences name studies of one subject, in order of time.
    let sequences = Vec::<i64>::try_from(batch.relations.sequences.reshape([-1])).unwrap();
    assert!(!sequences.is_empty());
    for steps in sequences.chunks(4) {
        let own: Vec<_> = steps.iter().map(|&place| &corpus.studies()[rows[place as usize] as usize]).collect();
        assert!(own.windows(2).all(|pair| pair[0].subject == pair[1].subject && pair[0].acquired < pair[1].acquired));
    }
}

#[test]
fn runs_leave_what_they_promise_and_only_the_best_checkpoints() {
    let bench = Bench::new(24);
    let config = bench.config("run", &["train.epochs=4"]);
    let summary = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap();
    let run = &config.train.output;
    for file in ["config.toml", "metrics.jsonl", "best/model.safetensors", "last/state.json", "last/config.json"] {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    let whole = |path: std::path::PathBuf| path.canonicalize().unwrap();
    let folders = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let mut kept: Vec<_> = folders.map(|own| whole(own.unwrap().path())).collect();
    let mut named = ["best", "last"].map(|name| whole(run.join(name))).to_vec();
    kept.sort();
    named.sort();
    named.dedup();
    assert_eq!(kept, named);
    assert!(
        std::fs::read_dir(run).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains("tfevents"))
    );
    let (_, card) = read_card(run).unwrap();
    assert_eq!(card.step, summary.best.unwrap().step);
    let text = summary.to_string();
    assert!(text.contains("recall@1") && text.contains("chance"), "{text}");

    let again = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap_err();
    assert!(matches!(&again, Error::Config(message) if message.contains("--resume")), "{again}");
    let mut other = config.clone();
    other.optimizer.lr = 0.5;
    let error = pretrain(&other, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("lr = 0.001") && error.contains("lr = 0.5"), "{error}");
}

#[test]
fn no_step_saves_the_untrained_model() {
    let bench = Bench::new(8);
    let config = bench.config("run", &["train.max_steps=0"]);
    let summary = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap();
    assert_eq!((summary.steps, summary.total_steps), (0, 0));
    let opened = open_model(&config.train.output, Device::Cpu).unwrap();
    assert_eq!(opened.card.step, 0);
    let fresh = MedSt::new(&config.model, config.train.seed, Device::Cpu, tch::Kind::Float).unwrap();
    for (own, other) in opened.model.parameters().iter().zip(fresh.parameters()) {
        assert_eq!(own.tensor, other.tensor, "{}", own.name);
    }
    assert_eq!(pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap().unwrap().steps, 0);
}

#[test]
fn training_that_cannot_go_on_says_why() {
    let bench = Bench::new(12);
    let explode = bench.config("explode", &["optimizer.lr=1e30", "optimizer.warmup_fraction=0.0"]);
    let error = pretrain(&explode, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("step"), "{error}");
    // The loss of the first step is finite, but the squares of its gradient are not.
    let steep = bench.config("steep", &["loss.global_weight=1e36"]);
    let error = pretrain(&steep, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("step 1: the gradient of `") && error.contains("is not finite"), "{error}");
    let large = bench.config("large", &["model.image.size=96"]);
    let error = pretrain(&large, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("model.image.size = 96") && error.contains("64"), "{error}");
    let phantom = ["model.text.hidden_size=128", "model.text.num_layers=2", "model.text.num_heads=4"];
    let sizes = ["model.text.intermediate_size=256", "model.projection.hidden=256", "model.projection.embedding=128"];
    let words = bench.config("words", &[&["init.weights=text=phantom"], &phantom[..], &sizes].concat());
    let error = pretrain(&words, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("the vocabulary has 28996 entries"), "{error}");
    let absent = bench.config("absent", &["data.corpus=nowhere"]);
    assert!(
        pretrain(&absent, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string().contains("medst prepare")
    );
    let start = bench.config("start", &["init.weights=nothing.ckpt"]);
    assert!(pretrain(&start, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string().contains("nothing.ckpt"));
}

#[test]
fn a_reference_checkpoint_of_other_sizes_is_refused_by_name() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/lightning.ckpt");
    let error = open_model(&checkpoint, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("width 48") && error.contains("init.weights"), "{error}");
    let bench = Bench::new(8);
    let config = bench.config("run", &[]);
    let mut model = MedSt::new(&config.model, 0, Device::Cpu, tch::Kind::Float).unwrap();
    let file = medst_model::model::weights::TensorFile::read(&checkpoint).unwrap();
    let error = medst_model::convert::reference::import(&mut model, &file).unwrap_err().to_string();
    assert!(error.contains("lightning.ckpt") && error.contains("img_encoder_q.model.cls_token"), "{error}");
}

/// Training from the reference's checkpoint, with the reference's semantics and vocabulary file,
/// which the model keeps.
#[test]
fn a_run_starts_from_a_reference_checkpoint_with_its_own_vocabulary() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference");
    let (weights, vocabulary) = (fixture.join("lightning.ckpt"), fixture.join("vocab.txt"));
    let bench = Bench::with_pictures(8, 224);
    let (weights, vocabulary) =
        (format!("init.weights={}", weights.display()), format!("data.vocabulary={}", vocabulary.display()));
    let settings = [
        weights.as_str(),
        vocabulary.as_str(),
        "train.max_steps=2",
        "model.semantics=reference",
        "model.image.size=224",
        "model.image.hidden_size=48",
        "model.image.num_heads=3",
        "model.image.intermediate_size=192",
        "model.text.hidden_size=48",
        "model.text.num_layers=2",
        "model.text.num_heads=3",
        "model.text.intermediate_size=192",
        "model.text.max_tokens=40",
        "model.projection.hidden=64",
        "model.projection.embedding=32",
    ];
    let config = bench.config("run", &settings);
    let summary = pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap().unwrap();
    assert!(summary.last.unwrap().total.is_finite());
    let engine = Engine::open(&config.train.output, Device::Cpu).unwrap();
    assert_eq!(engine.reader().pieces().size(), 82);
    // What the weights decide.
    let text = &engine.card().model.text;
    assert_eq!((text.vocabulary, text.max_positions, text.positions), (82, 64, Positions::Zero));
    let corpus = bench.corpus();
    let studies: Vec<_> = corpus.studies().iter().take(3).map(|study| StudyInput::stored(&corpus, study)).collect();
    let embedded = stream::collect(&engine, &studies, EmbeddingOutputs::ALL, &Silent).unwrap();
    assert_eq!((embedded.images.len(), embedded.images.width()), (3, 32));
}
