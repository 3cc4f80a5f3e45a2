//! The phantom cohort in the layouts of archives, read back by their importers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use medst_data::boxes::Boxes;
use medst_data::corpus::Corpus;
use medst_data::import::covidx::Covidx;
use medst_data::import::described::Described;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::ms_cxr_t::MsCxrT;
use medst_data::import::rsna::Rsna;
use medst_data::import::{PrepareOptions, Source, Summary, prepare};
use medst_data::progress::Silent;
use medst_data::ranks::Alone;
use medst_data::split::Split;
use medst_phantom::{Layout, PhantomOptions, PhantomSummary, generate};

const SUBJECTS: u32 = 80;

fn draw(out: &Path, layouts: &[Layout]) -> PhantomSummary {
    let options = PhantomOptions {
        subjects: SUBJECTS,
        seed: 3,
        size: 96,
        layouts: layouts.to_vec(),
        ..PhantomOptions::default()
    };
    generate(out, &options, &Silent).unwrap()
}

/// One cohort in every layout, for all tests.
static COHORT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    draw(&folder.path().join("cohort"), &Layout::ALL);
    folder
});

fn at(name: &str) -> PathBuf {
    COHORT.path().join("cohort").join(name)
}

fn import(source: &Source, options: &PrepareOptions) -> (Summary, Corpus) {
    // Pictures are read when they are asked for, so the corpus lives as long as the cohort.
    let out = tempfile::tempdir_in(COHORT.path()).unwrap().keep().join("corpus");
    let summary = prepare(source, &out, options, &Alone, &Silent).unwrap().unwrap();
    let corpus = Corpus::open(&out).unwrap();
    (summary, corpus)
}

fn options() -> PrepareOptions {
    PrepareOptions { image_size: 64, ..PrepareOptions::default() }
}

fn mimic() -> MimicCxr {
    MimicCxr { root: at("mimic-cxr-jpg"), ..MimicCxr::default() }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_cohort_has_the_same_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| draw(&folder.path().join("again"), &Layout::ALL));
    let (first, again) = (files(&COHORT.path().join("cohort")), files(&folder.path().join("again")));
    assert_eq!(first.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (path, bytes) in &first {
        assert!(bytes == &again[path], "{} differs", path.display());
    }
    // The table layout alone goes into the folder itself, and equals the table drawn among other
    // layouts.
    draw(&folder.path().join("table"), &[Layout::Table]);
    assert!(fs::read(folder.path().join("table/studies.csv")).unwrap() == first[Path::new("table/studies.csv")]);
}

#[test]
fn mimic_cxr_jpg_tells_the_same_studies_as_the_table() {
    let (summary, corpus) = import(&Source::MimicCxr(mimic()), &options());
    let (_, table) = import(&Source::Table(at("table/studies.csv")), &options());
    assert_eq!(corpus.studies().len(), table.studies().len());
    assert_eq!(summary.counts.by_split, table.manifest().counts.by_split);
    let mut images = 0usize;
    for (own, other) in corpus.studies().iter().zip(table.studies()) {
        assert_eq!(own.report, other.report, "{}", own.study);
        assert_eq!((own.split, own.lateral.is_some()), (other.split, other.lateral.is_some()));
        let pairs = [(own.frontal, other.frontal)].into_iter().chain(own.lateral.zip(other.lateral));
        for (jpeg, png) in pairs {
            let (jpeg, png) = (corpus.image(jpeg).unwrap(), table.image(png).unwrap());
            let off: u32 = jpeg.iter().zip(png.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(f64::from(off) / (jpeg.len() as f64) < 2.0, "{}", own.study);
        }
        images += 1 + usize::from(own.lateral.is_some()) + own.alternative_frontals.len();
    }
    assert_eq!(images, corpus.images());
    assert!(corpus.studies().iter().any(|study| !study.alternative_frontals.is_empty()), "second frontals");
    assert!(corpus.studies().iter().any(|study| study.labels.get("No Finding").is_some_and(|label| label == "1")));
    // Times keep the order of visits, days and all.
    let steps = |corpus: &Corpus| {
        let days = |n: u32| corpus.studies()[n as usize].acquired.unwrap().0.floor();
        let spans = corpus.sequences().iter().map(|s| s.studies.windows(2).map(|w| days(w[1]) - days(w[0])).collect());
        spans.collect::<Vec<Vec<f64>>>()
    };
    assert_eq!(steps(&corpus), steps(&table));
    assert!(summary.skipped.keys().any(|reason| reason == "ViewPosition is `LAO`"), "{summary}");
    assert!(summary.skipped.keys().any(|reason| reason == "ViewPosition is absent"), "{summary}");
}

#[test]
fn mimic_cxr_jpg_has_the_real_names_and_columns() {
    let mut text = String::new();
    let packed = File::open(at("mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let header = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,\
                  StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,\
                  PatientOrientationCodeSequence_CodeMeaning\n";
    assert!(text.starts_with(header), "{}", text.lines().next().unwrap());
    let names = fs::read_to_string(at("mimic-cxr-jpg/IMAGE_FILENAMES")).unwrap();
    let form = regex::Regex::new(
        r"^files/p1\d/p1\d{7}/s5\d{7}/[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}\.jpg$",
    )
    .unwrap();
    let mut seen = BTreeSet::new();
    for name in names.lines() {
        assert!(form.is_match(name), "{name}");
        assert!(at("mimic-cxr-jpg").join(name).exists());
        assert!(seen.insert(name));
    }
    assert_eq!(text.lines().count(), 1 + seen.len());
    let mut archive = zip::ZipArchive::new(File::open(at("mimic-cxr-jpg/mimic-cxr-reports.zip")).unwrap()).unwrap();
    let mut report = String::new();
    archive.by_index(0).unwrap().read_to_string(&mut report).unwrap();
    assert!(report.contains("FINAL REPORT"), "{report}");
    let labelled = fs::read_to_string(at("mimic-cxr-jpg/mimic-cxr-2.1.0-test-set-labeled.csv")).unwrap();
    assert!(labelled.starts_with("study_id,Atelectasis,Cardiomegaly,") && labelled.lines().count() > 1);
}

#[test]
fn ms_cxr_t_names_images_of_the_same_cohort_and_keeps_its_subjects_out() {
    let source = Source::MsCxrT(MsCxrT { root: at("ms-cxr-t"), images: mimic() });
    let (summary, corpus) = import(&source, &options());
    assert!(summary.skipped.is_empty(), "{summary}");
    assert!(corpus.sequences().len() > 3);
    assert!(corpus.sequences().iter().all(|pair| pair.studies.len() == 2));
    let days = |n: u32| corpus.studies()[n as usize].acquired.unwrap();
    assert!(corpus.sequences().iter().all(|pair| days(pair.studies[0]) < days(pair.studies[1])));
    let sentences = fs::read_to_string(at("ms-cxr-t/MS_CXR_T_temporal_sentence_similarity_v1.0.0.csv")).unwrap();
    assert!(sentences.lines().count() > 200);
    for subset in ["RadGraph", "swaps"] {
        for category in ["paraphrase", "contradiction"] {
            assert!(sentences.contains(&format!("{category},{subset}")), "{category} {subset}");
        }
    }
    let benchmark = at("ms-cxr-t/MS_CXR_T_temporal_image_classification_v1.0.0.csv");
    let tested: BTreeSet<_> = corpus.studies().iter().map(|study| study.subject.clone()).collect();
    let (summary, training) =
        import(&Source::MimicCxr(mimic()), &PrepareOptions { exclude: vec![benchmark], ..options() });
    assert!(training.studies().iter().all(|study| !tested.contains(&study.subject)));
    let note = format!("({} subjects)", tested.len());
    assert!(summary.warnings.keys().any(|warning| warning.ends_with(&note)), "{summary}");
}

#[test]
fn rsna_images_are_read_through_dicom_with_their_labels() {
    let (summary, corpus) = import(&Source::Rsna(Rsna { root: at("rsna") }), &options());
    assert_eq!((corpus.studies().len(), summary.skipped.len()), (SUBJECTS as usize, 0), "{summary}");
    // 80 patients: 30 % of them, twenty-four, are divided in two.
    let splits = &summary.counts.by_split;
    assert_eq!([Split::Train, Split::Validate, Split::Test].map(|split| splits[&split]), [56, 12, 12]);
    let positive = corpus.studies().iter().filter(|study| study.labels["Target"] == "1").collect::<Vec<_>>();
    assert!(!positive.is_empty() && positive.len() < SUBJECTS as usize);
    for study in &positive {
        let boxes = Boxes::parse(&study.labels["boxes"]).unwrap();
        assert_eq!((boxes.width, boxes.height), (96.0, 96.0));
        assert!(boxes.regions.iter().all(|region| region.right <= 96.0 && region.bottom <= 96.0));
        assert_eq!(study.labels["class"], "Lung Opacity");
    }
    // Someone is on the picture: neither black nor flat.
    let picture = corpus.image(corpus.studies()[0].frontal).unwrap();
    assert!(picture.iter().max() > Some(&150) && picture.iter().min() < Some(&60));
}

#[test]
fn covidx_and_chexpert_are_read() {
    let source = Source::Covidx(Covidx { root: at("covidx"), ..Covidx::default() });
    let (summary, corpus) = import(&source, &options());
    assert!(summary.skipped.is_empty(), "{summary}");
    let labels: BTreeSet<&str> = corpus.studies().iter().map(|study| study.labels["label"].as_str()).collect();
    assert_eq!(labels, BTreeSet::from(["COVID-19", "normal", "pneumonia"]));
    assert!(Split::ALL.iter().all(|split| summary.counts.by_split.contains_key(split)), "{summary}");
    let (summary, corpus) = import(&Source::Described(Described::chexpert(at("chexpert"))), &options());
    assert!(summary.skipped.is_empty(), "{summary}");
    let (_, table) = import(&Source::Table(at("table/studies.csv")), &options());
    assert_eq!(corpus.studies().len(), table.studies().len());
    assert_eq!(summary.counts.with_lateral, table.manifest().counts.with_lateral);
}
