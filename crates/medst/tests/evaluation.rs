//! Tasks on a phantom corpus: from a model, from files, and on data that are not fit for it.

mod bench;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bench::Bench;
use medst_data::corpus::Corpus;
use medst_data::corpus::plan::TextTable;
use medst_data::gather::{DeclaredView, gather};
use medst_data::progress::Silent;
use medst_data::split::Split;
use medst_infer::eval::Vectors;
use medst_infer::eval::encode::{EmbeddingFiles, Encoder, FileEncoder, ModelEncoder};
use medst_infer::eval::report::{Evaluation, picture};
use medst_infer::eval::result::{Protocol, Task};
use medst_infer::eval::suite::{CorpusPart, CorpusResult, Suite};
use medst_infer::infer::{Engine, Limits, table};
use medst_infer::labels::{Course, truth};
use medst_infer::stats::bootstrap::Bootstrap;
use medst_model::Error;
use medst_model::distributed::alone;
use medst_train::train::pretrain;
use tch::Device;

fn trained(bench: &Bench) -> Engine {
    let config = bench.config("run", &["train.max_steps=3"]);
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    let mut engine = Engine::open(&config.train.output, Device::Cpu).unwrap();
    engine.limits = Limits::of_images(7);
    engine
}

fn suite(tasks: &[Task]) -> Suite {
    let bootstrap = Bootstrap { replicates: 50, seed: 1 };
    Suite { tasks: tasks.to_vec(), bootstrap, part: CorpusPart::All, ..Suite::default() }
}

/// Figures by task, group and name.
fn figures(results: &[CorpusResult]) -> BTreeMap<(Task, String, String), Option<f64>> {
    let tasks = results.iter().flat_map(|result| &result.tasks);
    tasks
        .flat_map(|task| task.figures.iter().map(|own| ((task.task, own.group.clone(), own.name.clone()), own.value)))
        .collect()
}

/// No printed number may be NaN, and a figure without a value must give the reason.
fn check(results: &[CorpusResult]) {
    for figure in results.iter().flat_map(|result| &result.tasks).flat_map(|task| &task.figures) {
        match figure.value {
            Some(value) => assert!(value.is_finite(), "{figure:?}"),
            None => assert!(figure.undefined.as_ref().is_some_and(|reason| !reason.is_empty()), "{figure:?}"),
        }
        if let Some((low, high)) = figure.interval {
            assert!(low.is_finite() && high.is_finite() && low <= high, "{figure:?}");
        }
    }
}

fn write_npy(path: &Path, rows: &[Vec<f32>]) {
    let width = rows.first().map_or(1, Vec::len);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {width}), }}\n", rows.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    rows.iter().flatten().for_each(|value| bytes.extend(value.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

/// Scores embeddings that are written as one NPY row a study.
fn score(bench: &Bench, corpus: Corpus, tasks: &[Task], rows: &[Vec<f32>]) -> Result<Vec<CorpusResult>, Error> {
    let path = bench.folder.path().join("images.npy");
    write_npy(&path, rows);
    let files = EmbeddingFiles { studies: path.clone(), reports: Some(path), ..EmbeddingFiles::default() };
    let results = suite(tasks).run(&FileEncoder::open(&files)?, &[corpus], &Silent)?;
    check(&results);
    Ok(results)
}

#[test]
fn embeddings_in_files_score_as_the_model_that_made_them() {
    let bench = Bench::new(24);
    let engine = trained(&bench);
    let model = ModelEncoder::from(&engine);
    let corpora = [bench.corpus()];
    let tasks = [Task::ZeroShot, Task::LinearProbe, Task::Retrieval, Task::SequenceOrder];
    let suite = suite(&tasks);
    let expected = suite.run(&model, &corpora, &Silent).unwrap();
    check(&expected);
    let at = |name: &str| bench.folder.path().join(name);
    let gathered = gather(&[corpora[0].path().to_path_buf()], DeclaredView::Auto, engine.reader().rule()).unwrap();
    table::write(&engine, &gathered, &at("studies.parquet"), true, &Silent).unwrap();
    let texts = suite.texts(&corpora);
    assert!(texts.contains(&"No signs of pleural effusion".to_string()), "{texts:?}");
    std::fs::write(at("texts.txt"), texts.join("\n")).unwrap();
    let vectors = model.texts(&texts).unwrap();
    write_npy(&at("texts.npy"), &vectors.rows().map(<[f32]>::to_vec).collect::<Vec<_>>());
    let files = EmbeddingFiles {
        studies: at("studies.parquet"),
        reports: None,
        texts: Some(at("texts.npy")),
        text_list: Some(at("texts.txt")),
    };
    let from_files = FileEncoder::open(&files).unwrap();
    let found = suite.run(&from_files, &corpora, &Silent).unwrap();
    let (expected, found) = (figures(&expected), figures(&found));
    assert!(expected.len() > 50);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (key, value) in &expected {
        // The same batches, so the same bits.
        assert_eq!(*value, found[key], "{key:?}");
    }
    // Without texts a task that needs them is refused; the error names the task and the remedy.
    let silent = FileEncoder::open(&EmbeddingFiles { texts: None, ..files }).unwrap();
    let error = suite.run(&silent, &corpora, &Silent).unwrap_err().to_string();
    assert!(error.contains("zero-shot") && error.contains("--list-texts"), "{error}");
}

#[test]
fn a_report_shows_tasks_cases_and_what_was_left_out() {
    let bench = Bench::new(24);
    let engine = trained(&bench);
    let model = ModelEncoder::from(&engine);
    let corpora = [bench.corpus()];
    let suite = suite(&[]);
    let results = suite.run(&model, &corpora, &Silent).unwrap();
    check(&results);
    let tasks: Vec<Task> = results[0].tasks.iter().map(|task| task.task).collect();
    assert_eq!(tasks, [Task::ZeroShot, Task::LinearProbe, Task::Retrieval, Task::SequenceOrder, Task::Grounding]);
    // What needs pairs, or questions, or several sources.
    assert_eq!(results[0].refused.len(), Task::ALL.len() - tasks.len());
    let pictures = [picture::draw(&results[0], &corpora[0], &model).unwrap()];
    assert!(pictures[0].values().any(|picture| picture.heat.is_some()));
    let command = ["medst", "eval", "all", "--corpus", "a <b>"].map(String::from).to_vec();
    let evaluation = Evaluation::new(command, model.origin(), Protocol::Strict, suite.bootstrap, results);
    let out = bench.folder.path().join("report");
    evaluation.write(&out, &pictures).unwrap();
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (page, text) = (read("report.html"), read("report.md"));
    for expected in
        ["Zero-shot classification", "<svg", "data:image/png;base64,", "'a &lt;b&gt;'", "Worst cases", "SHA-256"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("<b>'") && !page.contains("http"), "the page needs nothing from elsewhere");
    assert!(text.contains("| mean | AUROC |") && text.contains("not evaluated: Temporal image classification"));
    let json: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(json["corpora"][0]["tasks"][0]["task"], "zero-shot");
    assert_eq!(json["encoder"]["files"].as_object().unwrap().len(), 1);
}

#[test]
fn embeddings_that_are_missing_or_not_finite_are_counted() {
    let bench = Bench::new(24);
    let corpus = bench.corpus();
    let count = corpus.studies().len();
    let mut rows: Vec<Vec<f32>> = (0..count).map(|n| vec![n as f32 % 7.0 - 3.0, (n as f32 * 0.7).sin(), 1.0]).collect();
    rows[3][1] = f32::NAN;
    rows[5][0] = f32::INFINITY;
    let results = score(&bench, corpus, &[Task::Retrieval, Task::SequenceOrder], &rows).unwrap();
    let retrieval = &results[0].tasks[0];
    assert_eq!((retrieval.rows, retrieval.skipped["image embedding not finite"]), (count - 2, 2));
    assert!(results[0].tasks[1].skipped.values().sum::<u64>() >= 1);
    let error = score(&bench, bench.corpus(), &[Task::Retrieval], &rows[1..]).unwrap_err().to_string();
    assert!(error.contains(&format!("{} rows", count - 1)) && error.contains(&format!("{count} studies")), "{error}");
    let all_nan = vec![vec![f32::NAN; 3]; count];
    let error = score(&bench, bench.corpus(), &[Task::Retrieval], &all_nan).unwrap_err().to_string();
    assert!(error.contains("no images are given"), "{error}");
}

#[test]
fn widths_that_differ_are_refused() {
    let bench = Bench::new(8);
    let (images, reports) = (bench.folder.path().join("i.npy"), bench.folder.path().join("r.npy"));
    write_npy(&images, &[vec![1.0; 4], vec![2.0; 4]]);
    write_npy(&reports, &[vec![1.0; 3], vec![2.0; 3]]);
    let files = EmbeddingFiles { studies: images, reports: Some(reports), ..EmbeddingFiles::default() };
    let error = FileEncoder::open(&files).unwrap_err().to_string();
    assert!(error.contains("4 values") && error.contains("reports have 3"), "{error}");
    let absent = EmbeddingFiles { studies: PathBuf::from("nowhere.parquet"), ..EmbeddingFiles::default() };
    assert!(FileEncoder::open(&absent).unwrap_err().to_string().contains("nowhere.parquet"));
    let broken = bench.folder.path().join("b.parquet");
    std::fs::write(&broken, "no").unwrap();
    let error = FileEncoder::open(&EmbeddingFiles { studies: broken, ..EmbeddingFiles::default() }).unwrap_err();
    assert!(error.to_string().contains("not a usable Parquet"), "{error}");
}

#[test]
fn words_outside_the_vocabulary_and_absent_images_are_counted() {
    let bench = Bench::new(8);
    let corpus = bench.corpus();
    let id = |row: usize| corpus.studies()[row].study.0.clone();
    let table = |columns: &[&str], rows: Vec<Vec<String>>| TextTable {
        name: "t".into(),
        columns: columns.iter().map(|name| name.to_string()).collect(),
        rows,
    };
    let text = |cells: [&str; 4]| cells.map(String::from).to_vec();
    let mut skipped = truth::Skipped::new();
    let rows = vec![
        vec![id(0), id(1), "Improving".into(), String::new()],
        vec![id(1), id(2), "gone".into(), "stable".into()],
        vec![id(1), "nowhere".into(), "stable".into(), "stable".into()],
    ];
    let pairs =
        truth::pairs(&corpus, &table(&["previous", "current", "edema", "pneumonia"], rows), &mut skipped).unwrap();
    assert_eq!(pairs.studies, [[0, 1], [1, 2]]);
    assert_eq!(pairs.findings[0].1, [Some(Course::Improving), None]);
    assert_eq!(pairs.findings[1].1, [None, Some(Course::Stable)]);
    assert_eq!(skipped["edema: unknown course `gone`"], 1);
    assert_eq!(skipped["an image of the pair is not in the corpus"], 1);
    let error = truth::pairs(&corpus, &table(&["previous", "edema"], Vec::new()), &mut skipped).unwrap_err();
    assert!(error.to_string().contains("current"), "{error}");

    let mut skipped = truth::Skipped::new();
    let rows = vec![
        text(["a", "b", "paraphrase", "swaps"]),
        text(["a", "c", "Contradiction", "swaps"]),
        text(["a", "c", "neutral", "swaps"]),
        text(["a", " ", "paraphrase", "swaps"]),
    ];
    let columns = ["sentence_1", "sentence_2", "category", "subset"];
    let sentences = truth::sentences(&table(&columns, rows), &mut skipped).unwrap();
    assert_eq!(sentences.paraphrase, [true, false]);
    assert_eq!((skipped["unknown category `neutral`"], skipped["a sentence is empty"]), (1, 1));

    // The phantom's labels state its seven findings as 0 and 1.
    let all: Vec<usize> = (0..corpus.studies().len()).collect();
    let mut skipped = truth::Skipped::new();
    let names: Vec<String> =
        truth::findings(&corpus, &all, &mut skipped).into_iter().map(|finding| finding.name).collect();
    assert_eq!(names.len(), 7);
    assert!(names.contains(&"pleural effusion".to_string()) && skipped.is_empty(), "{names:?} {skipped:?}");
}

/// A model that gives the same vector for every input finds nothing: ties count against it.
#[test]
fn constant_embeddings_are_at_chance_or_below() {
    let bench = Bench::new(24);
    let count = bench.corpus().studies().len();
    let same = vec![vec![0.6, 0.8]; count];
    let tasks = [Task::Retrieval, Task::LinearProbe, Task::SequenceOrder];
    let found = figures(&score(&bench, bench.corpus(), &tasks, &same).unwrap());
    let of = |task, group: &str, name: &str| found[&(task, group.to_string(), name.to_string())].unwrap();
    assert_eq!(of(Task::Retrieval, "image to report", "recall@1"), 0.0);
    assert_eq!(of(Task::Retrieval, "same subject, another time", "recall@1"), 0.0);
    assert_eq!(of(Task::LinearProbe, "100 %", "AUROC"), 0.5);
    assert_eq!(of(Task::SequenceOrder, "image to report", "forward mapping accuracy"), 0.0);
    assert_eq!(of(Task::SequenceOrder, "image to report", "right order preferred to a shuffled one"), 0.5);
}

#[test]
fn one_subject_has_figures_without_intervals_or_is_refused() {
    let bench = Bench::new(1);
    let count = bench.corpus().studies().len();
    let rows: Vec<Vec<f32>> = (0..count).map(|n| vec![1.0, n as f32]).collect();
    let results = score(&bench, bench.corpus(), &[], &rows).unwrap();
    for figure in results[0].tasks.iter().flat_map(|task| &task.figures) {
        assert_eq!(figure.interval, None, "{figure:?}");
    }
    assert!(results[0].refused.iter().any(|refused| refused.task == Task::LinearProbe));
}

#[test]
fn a_task_that_no_corpus_allows_and_an_empty_split_are_errors() {
    let bench = Bench::new(8);
    let rows = vec![vec![1.0, 0.0]; bench.corpus().studies().len()];
    let error = score(&bench, bench.corpus(), &[Task::TemporalImage], &rows).unwrap_err().to_string();
    assert!(error.contains("temporal-image") && error.contains("pairs.csv"), "{error}");
    let held: Vec<Split> = bench.corpus().studies().iter().map(|study| study.split).collect();
    if let Some(split) = Split::ALL.into_iter().find(|split| !held.contains(split)) {
        let path = bench.folder.path().join("images.npy");
        let encoder = FileEncoder::open(&EmbeddingFiles { studies: path, ..EmbeddingFiles::default() }).unwrap();
        let suite = Suite { part: CorpusPart::Of(split), ..Suite::default() };
        let error = suite.run(&encoder, &[bench.corpus()], &Silent).unwrap_err().to_string();
        assert!(error.contains(split.name()), "{error}");
    }
}

#[test]
fn vectors_come_from_tensors_of_any_kind() {
    let x = tch::Tensor::from_slice(&[1.0f64, 2.0, 3.0, 4.0]).view([2, 2]);
    assert_eq!(Vectors::from_tensor(&x).unwrap().row(1), [3.0, 4.0]);
}
