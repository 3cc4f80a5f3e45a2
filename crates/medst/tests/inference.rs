//! The inference engine: what comes out for an input depends on nothing but the input, and is what
//! corpora give.

mod bench;

use bench::Bench;
use medst_data::gather::{DeclaredView, gather};
use medst_data::progress::{Silent, Stoppable};
use medst_infer::eval::Vectors;
use medst_infer::infer::classes::{ClassKind, Classes, Prototypes};
use medst_infer::infer::heat::Likeness;
use medst_infer::infer::search::{self, Among, Filter, Index, Query, WithGraph};
use medst_infer::infer::stream::{self, EmbeddingOutputs};
use medst_infer::infer::{Engine, EngineRef, Limits, Radiograph, Text, Views, table};
use medst_model::distributed::alone;
use medst_model::model::view_experts::View;
use medst_train::train::pretrain;
use tch::Device;

/// A small model that was trained for a few steps.
fn engine(bench: &Bench, settings: &[&str]) -> Engine {
    let steps = ["train.max_steps=3"];
    let config = bench.config("run", &[&steps, settings].concat());
    pretrain(&config, false, Device::Cpu, &alone(), &Silent).unwrap();
    Engine::open(&config.train.output, Device::Cpu).unwrap()
}

/// Pictures of noise, views of all three kinds.
fn studies(side: usize) -> Vec<Views> {
    let picture = |seed: usize| {
        let pixels = (0..side * side).map(|n| ((n * (seed + 3) * 2_654_435_761) >> 7) as u8).collect();
        Radiograph::new(side, pixels).unwrap()
    };
    (0..11)
        .map(|n| match n % 4 {
            0 => Views::Both { frontal: picture(n), lateral: picture(100 + n) },
            2 => Views::Lateral(picture(n)),
            _ => Views::Frontal(picture(n)),
        })
        .collect()
}

const SENTENCES: [&str; 5] = [
    "edema",
    "no pneumothorax is seen and the lungs are clear",
    "Findings consistent with left pleural effusion",
    "there is no evidence of acute cardiopulmonary disease in this patient with a history of heart failure",
    "worsening",
];

fn close(a: &Vectors, b: &Vectors) {
    let most = a.values().iter().zip(b.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && most < 1e-5, "{} and {} rows, off by {most}", a.len(), b.len());
}

#[test]
fn batched_equals_single() {
    let bench = Bench::new(14);
    for semantics in ["corrected", "reference"] {
        let setting = format!("model.semantics=\"{semantics}\"");
        let out = format!("train.output={}", bench.folder.path().join(semantics).display());
        let mut engine = engine(&bench, &[&setting, &out]);
        let all = studies(engine.preprocessing().side());
        let texts: Vec<Text> = SENTENCES.iter().map(|text| engine.reader().prompt(text).unwrap()).collect();
        let (views, words): (Vec<&Views>, Vec<&Text>) = (all.iter().collect(), texts.iter().collect());
        engine.limits = Limits { images: 1, tokens: 1 };
        let one = |n: usize| engine.images(&views[n..=n]).unwrap();
        let single: Vec<_> = (0..views.len()).map(one).collect();
        let single_texts: Vec<_> = (0..words.len()).map(|n| engine.texts(&words[n..=n]).unwrap()).collect();
        let pairs: (Vec<&Views>, Vec<&Text>) = (views[..5].to_vec(), words.clone());
        let single_pairs: Vec<_> =
            (0..5).map(|n| engine.align(&views[n..=n], &words[n..=n]).unwrap().remove(0)).collect();
        for (images, tokens) in [(3, 40), (64, 4096)] {
            engine.limits = Limits { images, tokens };
            let batch = engine.images(&views).unwrap();
            let rows = |of: fn(&medst_infer::infer::ImageVectors) -> &Vectors| {
                Vectors::from_rows(single.iter().map(|own| of(own).row(0))).unwrap()
            };
            close(&batch.embeddings, &rows(|own| &own.embeddings));
            close(&batch.features, &rows(|own| &own.features));
            let own = engine.texts(&words).unwrap();
            close(&own, &Vectors::from_rows(single_texts.iter().map(|own| own.row(0))).unwrap());
            for (batched, single) in engine.align(&pairs.0, &pairs.1).unwrap().iter().zip(&single_pairs) {
                assert_eq!((&batched.words, &batched.views), (&single.words, &single.views));
                close(&batched.similarity, &single.similarity);
                close(&batched.words_to_patches, &single.words_to_patches);
                close(&batched.patches_to_words, &single.patches_to_words);
            }
        }
    }
}

#[test]
fn alignments_are_distributions_over_what_is_there() {
    let bench = Bench::new(14);
    let engine = engine(&bench, &[]);
    let all = studies(engine.preprocessing().side());
    let text = engine.reader().prompt("no pneumothorax seen").unwrap();
    let found = engine.align(&[&all[0], &all[1], &all[2]], &[&text, &text, &text]).unwrap();
    let patches = engine.model().config.image.patches() as usize;
    for (own, count) in found.iter().zip([2 * patches, patches, patches]) {
        assert_eq!(own.words, ["no", "pneumothorax", "seen", "[SEP]"]);
        assert_eq!((own.similarity.width(), own.patch_importance.len()), (count, count));
        let one = |row: &[f32]| (row.iter().sum::<f32>() - 1.0).abs() < 1e-4 && row.iter().all(|x| *x >= 0.0);
        assert!(own.words_to_patches.rows().chain(own.patches_to_words.rows()).all(one));
        assert!(one(&own.word_importance) && one(&own.patch_importance));
    }
    assert_eq!(found[0].views, [View::Frontal, View::Lateral]);
    assert!(found[1].heat(View::Lateral).is_none() && found[2].heat(View::Lateral).is_some());
    assert!(found[1].heat_of(View::Frontal, 9).is_none());
    let small = Views::Frontal(Radiograph::new(8, vec![0; 64]).unwrap());
    assert!(engine.images(&[&small]).unwrap_err().to_string().contains("8 pixels"));
    assert!(engine.align(&[&small], &[]).is_err());
    assert!(engine.images(&[]).unwrap().embeddings.is_empty() && engine.texts(&[]).unwrap().is_empty());
}

#[test]
fn a_corpus_gives_in_parallel_what_its_pictures_give_alone() {
    let bench = Bench::new(14);
    let engine = engine(&bench, &[]);
    let preprocessing = engine.preprocessing();
    assert_eq!(engine.card().stored_size, Some(preprocessing.stored()));
    let corpus = bench.corpus();
    let gathered = gather(&[corpus.path().to_path_buf()], DeclaredView::Auto, engine.reader().rule()).unwrap();
    let embedded = stream::embed(&engine, &gathered, EmbeddingOutputs::ALL, &Silent).unwrap();
    // Parts that several threads compute come back in order, and a stop ends all of them.
    assert!(embedded.studies.len() > 32 && embedded.studies == (0..corpus.studies().len()).collect::<Vec<_>>());
    let stopped = stream::embed(&engine, &gathered, EmbeddingOutputs::ALL, &Stoppable(true.into()));
    assert!(matches!(stopped, Err(medst_model::Error::Stopped)));
    let (mut images, mut features, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    for study in corpus.studies() {
        let alone = engine.images(&[&preprocessing.stored_views(&corpus, study).unwrap()]).unwrap();
        images.push(alone.embeddings.row(0).to_vec());
        features.push(alone.features.row(0).to_vec());
        let text = study.report.as_ref().map(|report| engine.reader().cleaned(report).unwrap());
        reports.extend(text.map(|text| engine.texts(&[&text]).unwrap().row(0).to_vec()));
    }
    close(&embedded.images, &Vectors::from_rows(&images).unwrap());
    close(&embedded.features, &Vectors::from_rows(&features).unwrap());
    close(&embedded.reports, &Vectors::from_rows(&reports).unwrap());
    // A table holds the same, whether it is written while the model computes or afterwards.
    let (parquet, npy) = (bench.folder.path().join("all.parquet"), bench.folder.path().join("all.npy"));
    let written = table::write(&engine, &gathered, &parquet, true, &Silent).unwrap();
    table::write(&engine, &gathered, &npy, true, &Silent).unwrap();
    assert_eq!((written.studies, written.with_report), (images.len(), reports.len()));
    let read = table::read(&parquet, table::STUDY, &[table::IMAGE, table::FEATURE, table::REPORT, "nothing"]).unwrap();
    assert_eq!(read.keys, corpus.studies().iter().map(|study| study.study.0.clone()).collect::<Vec<_>>());
    let column = |n: usize| Vectors::from_rows(read.columns[n].iter().flatten().flatten()).unwrap();
    assert_eq!(
        (column(0), column(1), column(2)),
        (embedded.images.clone(), embedded.features.clone(), embedded.reports.clone())
    );
    assert_eq!(
        read.columns[2].as_ref().unwrap().iter().filter(|row| row.is_none()).count(),
        images.len() - reports.len()
    );
    assert!(read.columns[3].is_none());
    assert_eq!(Vectors::read_npy(&npy).unwrap(), embedded.images);
    // The heat map of a phrase is that of its alignment.
    let text = engine.reader().prompt("left pleural effusion").unwrap();
    let views = preprocessing.stored_views(&corpus, &corpus.studies()[0]).unwrap();
    let maps = EngineRef::from(&engine).heat_maps(&[&views], &[&text], &[Likeness::default()]).unwrap();
    let heat = engine.align(&[&views], &[&text]).unwrap()[0].heat(View::Frontal).unwrap();
    let off = heat.values.iter().zip(&maps[0][0].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5 && heat.side == maps[0][0].side, "{off}");
    search_finds_what_was_indexed(&engine, &gathered, &embedded, bench.folder.path());
}

/// Exact search, the graph and filters on the corpus' own embeddings.
fn search_finds_what_was_indexed(
    engine: &Engine,
    gathered: &medst_data::gather::Gathered,
    collected: &stream::Collected,
    folder: &std::path::Path,
) {
    let out = folder.join("index");
    let graph = cfg!(feature = "approximate");
    let how = (if graph { WithGraph::Always } else { WithGraph::Auto }, false);
    let built = search::build(engine, gathered, collected, "test".into(), &out, how, &Silent).unwrap();
    assert!(built.graph_recall.map_or(!graph, |recall| recall > 0.95), "{built:?}");
    let again = search::build(engine, gathered, collected, "test".into(), &out, how, &Silent);
    assert!(again.unwrap_err().to_string().contains("--overwrite"));
    let index = Index::open(&out).unwrap();
    index.check_model(engine).unwrap();
    let ask = |row: usize, exact: bool, filter: Filter| {
        let vector = index.images.row(row).to_vec();
        let query = Query { vector, count: 3, among: Among::Images, filter, exact, not: None };
        index.search(&query).unwrap()
    };
    for row in [0, 5, index.studies.len() - 1] {
        for exact in [true, false] {
            let answer = ask(row, exact, Filter::default());
            assert_eq!(answer.exact, exact || !graph);
            assert!((answer.found[0].similarity - 1.0).abs() < 1e-5, "{answer:?}");
            assert!(answer.found.windows(2).all(|pair| pair[0].similarity >= pair[1].similarity));
        }
        let own = index.studies[row].subject.clone().unwrap();
        let others = ask(row, false, Filter { not_subjects: vec![own.clone()], ..Filter::default() });
        assert!(others.exact && others.found.iter().all(|found| found.study.subject.as_ref() != Some(&own)));
    }
    let wide = Query {
        vector: vec![1.0; 3],
        count: 1,
        among: Among::Reports,
        filter: Filter::default(),
        exact: true,
        not: None,
    };
    assert!(index.search(&wide).unwrap_err().to_string().contains("3 values"));
    // A file that was cut off is not taken for a whole one.
    let images = out.join("images.npy");
    let bytes = std::fs::read(&images).unwrap();
    std::fs::write(&images, &bytes[..bytes.len() - 4]).unwrap();
    assert!(Index::open(&out).err().unwrap().to_string().contains("images.npy"));
}

#[test]
fn scores_of_classes_are_cosines_of_their_sentences() {
    let bench = Bench::new(14);
    let engine = engine(&bench, &[]);
    let classes = Classes::from_names(ClassKind::Findings, &["edema".into(), "line=a central line".into()]).unwrap();
    let count = classes.sentences().count();
    assert_eq!(count, 8 + 1 + 4);
    let prototypes = Prototypes::new(&engine, classes).unwrap();
    let text = |text: &str| engine.texts(&[&engine.reader().prompt(text).unwrap()]).unwrap();
    let image = text("a central line");
    let deny = medst_infer::labels::prompts::negative("line");
    let deny: Vec<Vectors> = deny.iter().map(|sentence| text(sentence)).collect();
    let deny = Vectors::from_rows(deny.iter().map(|own| own.row(0))).unwrap().mean_direction();
    let expected = 1.0 - image.row(0).iter().zip(&deny).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    assert!((prototypes.scores(image.row(0))[1] - expected).abs() < 1e-5);
    let faulty = Classes::from_names(ClassKind::Findings, &["x=…|edema".into()]).unwrap();
    let error = Prototypes::new(&engine, faulty).unwrap_err().to_string();
    assert!(error.contains("class x") && error.contains("no words"), "{error}");
}
