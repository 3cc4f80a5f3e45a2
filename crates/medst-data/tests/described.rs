//! Sources of the field, on the phantom drawn in their layouts, with the traps that each is known
//! for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use medst_data::boxes::Boxes;
use medst_data::corpus::Corpus;
use medst_data::import::check::check;
use medst_data::import::chextemporal::CheXTemporal;
use medst_data::import::described::{Described, Description, sources};
use medst_data::import::imagenome::Imagenome;
use medst_data::import::mi_cxr::MiCxr;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::padchest_gr::PadChestGr;
use medst_data::import::rexgradient::Rexgradient;
use medst_data::import::{PrepareOptions, Source, Summary, prepare};
use medst_data::progress::{Progress, Silent};
use medst_data::ranks::Alone;
use medst_data::split::Split;
use medst_data::study::Study;
use medst_phantom::{Layout, PhantomOptions, generate, layout};

const SUBJECTS: u32 = 60;

/// One cohort in every layout, for all tests.
static COHORT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layout::ALL.to_vec();
    let options = PhantomOptions { subjects: SUBJECTS, seed: 3, size: 96, layouts, ..PhantomOptions::default() };
    generate(&folder.path().join("cohort"), &options, &Silent).unwrap();
    folder
});

fn at(name: &str) -> PathBuf {
    COHORT.path().join("cohort").join(name)
}

fn options() -> PrepareOptions {
    PrepareOptions { image_size: 64, ..PrepareOptions::default() }
}

fn import(source: &Source) -> (Summary, Corpus) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let out = COHORT.path().join(format!("corpus-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let summary = prepare(source, &out, &options(), &Alone, &Silent).unwrap().unwrap();
    (summary, Corpus::open(&out).unwrap())
}

fn described(description: &'static Description) -> Source {
    Source::Described(Described { description, root: at(description.kind), images: None })
}

fn on_mimic(description: &'static Description) -> Source {
    Source::Described(Described { description, root: at(description.kind), images: Some(at("mimic-cxr-jpg")) })
}

fn mimic() -> MimicCxr {
    MimicCxr { root: at("mimic-cxr-jpg"), ..MimicCxr::default() }
}

fn note<'a>(summary: &'a Summary, words: &str) -> Option<&'a u64> {
    summary.warnings.iter().find(|(note, _)| note.contains(words)).map(|(_, count)| count)
}

/// The studies of the same cohort as read from its table, for comparison.
fn table() -> Corpus {
    import(&Source::Table(at("table/studies.csv"))).1
}

fn has(study: &Study, label: &str) -> Option<bool> {
    study.labels.get(label).map(|value| value == "1")
}

/// Pictures are those of the table, whatever the format in between.
fn alike(one: &Corpus, other: &Corpus, pairs: &[(usize, usize)], most: f64) {
    for &(a, b) in pairs {
        let (a, b) = (one.image(one.studies()[a].frontal).unwrap(), other.image(other.studies()[b].frontal).unwrap());
        let off: u32 = a.iter().zip(b.iter()).map(|(x, y)| u32::from(x.abs_diff(*y))).sum();
        assert!(f64::from(off) / (a.len() as f64) < most, "{}", f64::from(off) / a.len() as f64);
    }
}

#[test]
fn chexpert_plus_tells_the_same_studies_as_the_table() {
    let (summary, corpus) = import(&described(&sources::CHEXPERT_PLUS));
    let table = table();
    assert_eq!(corpus.studies().len(), table.studies().len());
    assert!(summary.skipped.is_empty(), "{summary}");
    let mut dicom = 0;
    for (row, (study, other)) in corpus.studies().iter().zip(table.studies()).enumerate() {
        assert_eq!(study.report, other.report, "{}", study.study);
        assert_eq!(study.lateral.is_some(), other.lateral.is_some());
        assert_eq!(study.split == Split::Test, other.split == Split::Test);
        // Every third study is DICOM of 12 bits without HighBit and window, which is read over its
        // own range of values.
        let is_dicom = ["study3", "study6"].iter().any(|end| study.study.0.ends_with(end));
        dicom += usize::from(is_dicom);
        alike(&corpus, &table, &[(row, row)], if is_dicom { 6.0 } else { 0.01 });
    }
    assert!(dicom > 3);
    assert!(corpus.studies().iter().any(|study| study.labels.get("Edema").is_some_and(|label| label == "-1")));
    assert!(
        corpus.studies().iter().all(|study| study.labels.contains_key("age") && !study.labels.contains_key("report"))
    );
    // Two studies of every fourth patient are in the wrong order, as their reports show.
    let visits = |subject: &str| corpus.studies().iter().filter(|study| study.subject.0 == subject).count();
    let subjects: BTreeSet<&str> = corpus.studies().iter().map(|study| study.subject.0.as_str()).collect();
    let inverted = subjects.iter().filter(|subject| {
        let number = subject.trim_start_matches("patient").parse::<u32>().unwrap() - 1;
        layout::is_inverted(number, visits(subject))
    });
    let inverted = inverted.count() as u64;
    assert!(inverted > 3);
    assert_eq!(note(&summary, "order contradicts the dates"), Some(&inverted), "{summary}");
}

#[test]
fn padchest_labels_are_findings_and_deep_pictures_are_scaled() {
    let (summary, corpus) = import(&described(&sources::PADCHEST));
    let table = table();
    for reason in ["labelled `exclude`", "labelled `suboptimal study`", "Projection is `COSTAL`"] {
        assert!(summary.skipped.contains_key(reason), "{reason}: {summary}");
    }
    assert!(*note(&summary, "the upper of 16 bits per pixel are unused").unwrap() >= corpus.studies().len() as u64);
    let brightest = |study: &Study| corpus.image(study.frontal).unwrap().iter().copied().max().unwrap();
    assert!(corpus.studies().iter().all(|study| brightest(study) > 120), "scaled by the bits in use");
    for study in corpus.studies() {
        assert!(study.subject.0.starts_with("8398604886942303316"), "ids keep all digits: {}", study.subject);
        assert_eq!(study.report, None);
        assert!(study.labels["report_es"].contains("alteracion"));
    }
    let count =
        |label: &str, corpus: &Corpus| corpus.studies().iter().filter(|study| has(study, label) == Some(true)).count();
    assert!(count("pleural effusion", &corpus) > 3 && count("edema", &corpus) > 3);
    assert!(count("pleural effusion", &corpus) <= count("pleural_effusion", &table));
    assert!(corpus.studies().iter().any(|study| has(study, "edema").is_none()), "a row without labels tells none");
    assert!(corpus.sequences().iter().any(|sequence| sequence.studies.len() > 2), "dates make sequences");
}

#[test]
fn padchest_gr_grounds_sentences_and_pairs_studies() {
    let (summary, corpus) = import(&Source::PadChestGr(PadChestGr { root: at("padchest-gr") }));
    let with_boxes = corpus.studies().iter().filter_map(|study| study.labels.get("boxes"));
    let mut count = 0;
    for label in with_boxes {
        let boxes = Boxes::parse(label).unwrap();
        assert_eq!((boxes.width, boxes.height), (90.0, 96.0), "fractions became pixels of the picture");
        assert!(boxes.regions.iter().all(|region| region.phrase.starts_with("There is") && region.right > 1.0));
        count += 1;
    }
    assert!(count > 10);
    let pairs = corpus.table("pairs").unwrap().unwrap();
    assert!(pairs.rows.len() > 20);
    let words: BTreeSet<&str> = pairs.rows.iter().flat_map(|row| &row[2..]).map(String::as_str).collect();
    assert_eq!(words, BTreeSet::from(["", "improving", "stable", "worsening"]));
    let ids: BTreeSet<&str> = corpus.studies().iter().map(|study| study.study.0.as_str()).collect();
    assert!(pairs.rows.iter().all(|row| ids.contains(row[0].as_str()) && ids.contains(row[1].as_str())));
    // Prior studies that are not listed themselves are included, without labels.
    assert!(corpus.studies().iter().any(|study| !study.labels.contains_key("pneumonia")));
    assert!(corpus.studies().iter().filter(|study| study.report.is_some()).count() > 20, "{summary}");
    let in_sequences: usize = corpus.sequences().iter().map(|sequence| sequence.studies.len()).sum();
    assert!(in_sequences >= corpus.studies().len());
}

#[test]
fn nih_boxes_are_of_the_published_pixels() {
    let (summary, corpus) = import(&described(&sources::NIH));
    let table = table();
    assert!(summary.skipped.is_empty(), "{summary}");
    assert_eq!(corpus.studies().len(), table.studies().len());
    let mut seen = 0;
    for (study, other) in corpus.studies().iter().zip(table.studies()) {
        assert_eq!(study.split == Split::Test, other.split == Split::Test, "the lists decide");
        for (name, theirs) in [("pleural effusion", "pleural_effusion"), ("edema", "edema")] {
            assert_eq!(has(study, name), has(other, theirs), "{}", study.study);
        }
        let Some(label) = study.labels.get("boxes") else { continue };
        let (boxes, of_table) = (Boxes::parse(label).unwrap(), Boxes::parse(&other.labels["boxes"]).unwrap());
        assert_eq!((boxes.width, boxes.height), (1024.0, 1024.0));
        for (region, theirs) in boxes.regions.iter().zip(&of_table.regions) {
            let [found, theirs] = [boxes.in_square(region), of_table.in_square(theirs)];
            assert!(found.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 0.02), "{found:?} {theirs:?}");
            seen += 1;
        }
    }
    assert!(seen > 3);
    assert!(corpus.sequences().iter().any(|sequence| sequence.studies.len() == 4), "follow-ups make sequences");
}

#[test]
fn vindr_readers_vote_and_inverted_files_are_turned() {
    let (summary, corpus) = import(&described(&sources::VINDR));
    let table = table();
    assert!(summary.skipped.is_empty(), "{summary}");
    assert_eq!(corpus.studies().len(), table.studies().len());
    // The tables list the training set first, each in the order of the cohort.
    let (training, tested): (Vec<usize>, Vec<usize>) =
        (0..table.studies().len()).partition(|&row| table.studies()[row].split != Split::Test);
    let order = [training, tested].concat();
    for (study, &row) in corpus.studies().iter().zip(&order) {
        let other = &table.studies()[row];
        assert_eq!(
            has(study, "Cardiomegaly"),
            has(other, "cardiomegaly"),
            "two of three readers decide: {}",
            study.study
        );
    }
    let pairs: Vec<(usize, usize)> = order.iter().copied().enumerate().collect();
    alike(&corpus, &table, &pairs, 6.0);
    let labelled = corpus.studies().iter().find_map(|study| study.labels.get("boxes")).unwrap();
    assert_eq!(Boxes::parse(labelled).unwrap().height, 96.0);
}

#[test]
fn siim_masks_become_labels_and_boxes() {
    let (summary, corpus) = import(&described(&sources::SIIM));
    let table = table();
    assert!(summary.skipped.is_empty(), "{summary}");
    let mut seen = 0;
    for (study, other) in corpus.studies().iter().zip(table.studies()) {
        let label = study.labels.get("boxes");
        assert_eq!(has(study, "pneumothorax"), Some(label.is_some()));
        let Some(label) = label else { continue };
        assert_eq!(has(other, "pneumothorax"), Some(true));
        let (boxes, of_table) = (Boxes::parse(label).unwrap(), Boxes::parse(&other.labels["boxes"]).unwrap());
        let theirs = of_table.regions.iter().find(|region| region.phrase.contains("pneumothorax")).unwrap();
        let [found, theirs] = [boxes.in_square(&boxes.regions[0]), of_table.in_square(theirs)];
        assert!(found.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 0.02), "{found:?} {theirs:?}");
        seen += 1;
    }
    assert!(seen > 3);
    let subjects: BTreeSet<_> = corpus.studies().iter().map(|study| &study.subject).collect();
    assert_eq!(subjects.len(), SUBJECTS as usize, "patients are those of the DICOM headers");
}

#[test]
fn tables_about_mimic_cxr_find_its_images() {
    let (summary, corpus) = import(&on_mimic(&sources::MS_CXR));
    assert!(summary.skipped.is_empty(), "{summary}");
    assert!(corpus.studies().len() > 3 && corpus.studies().iter().all(|study| study.split == Split::Test));
    let several = corpus.studies().iter().map(|study| Boxes::parse(&study.labels["boxes"]).unwrap());
    assert!(several.clone().any(|boxes| boxes.regions.len() > 1), "a row is a box, not an image");
    assert!(several.into_iter().all(|boxes| (boxes.width, boxes.height) == (90.0, 96.0)));

    let (summary, corpus) = import(&on_mimic(&sources::CXR_LT));
    assert!(summary.skipped.is_empty(), "{summary}");
    assert_eq!(corpus.studies().len(), table().studies().len());
    assert!(corpus.studies().iter().any(|study| has(study, "No Finding") == Some(true)));
    assert!(!corpus.studies()[0].labels.contains_key("fpath"));
}

#[test]
fn imagenome_tells_courses_and_leaves_a_benchmark_out() {
    let source = Source::Imagenome(Imagenome { root: at("imagenome"), images: mimic() });
    let (summary, corpus) = import(&source);
    assert!(summary.skipped.is_empty(), "{summary}");
    let pairs = corpus.table("pairs").unwrap().unwrap();
    let named = |name: &str| pairs.columns.iter().any(|column| column == name);
    assert!(named("edema") && !named("pulmonary_edema_hazy_opacity"), "{:?}", pairs.columns);
    assert_eq!(pairs.rows.len(), corpus.sequences().len());
    // MS-CXR-T describes the same pairs.
    let benchmark = at("ms-cxr-t/MS_CXR_T_temporal_image_classification_v1.0.0.csv");
    let text = fs::read_to_string(&benchmark).unwrap();
    let mut compared = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let row = pairs.rows.iter().find(|row| row[0] == cells[1] && row[1] == cells[0]).unwrap();
        let edema = pairs.columns.iter().position(|column| column == "edema").unwrap();
        assert_eq!(row[edema], cells[5], "{line}");
        compared += 1;
    }
    assert!(compared > 3);
    let some: Vec<&str> = text.lines().take(3).collect();
    let list = COHORT.path().join("MS_CXR_T_some.csv");
    fs::write(&list, some.join("\n")).unwrap();
    let out = COHORT.path().join("without");
    let without = PrepareOptions { exclude: vec![list], ..options() };
    let summary = prepare(&source, &out, &without, &Alone, &Silent).unwrap().unwrap();
    assert!(summary.skipped["subject is excluded by MS_CXR_T_some.csv"] > 1, "{summary}");
    let left = Corpus::open(&out).unwrap();
    let excluded: BTreeSet<&str> = some[1..].iter().filter_map(|line| line.split(',').nth(2)).collect();
    assert!(left.studies().iter().all(|study| !excluded.contains(study.subject.0.as_str())));
    assert!(left.table("pairs").unwrap().unwrap().rows.len() < pairs.rows.len(), "their pairs go with them");
}

#[test]
fn mi_cxr_questions_are_about_sequences_of_five() {
    let (summary, corpus) = import(&Source::MiCxr(MiCxr { root: at("mi-cxr"), images: mimic() }));
    assert!(summary.skipped.is_empty(), "{summary}");
    let questions = corpus.table("questions").unwrap().unwrap();
    assert!(questions.rows.len() > 3 && corpus.sequences().iter().all(|sequence| sequence.studies.len() == 5));
    let ids: BTreeSet<&str> = corpus.studies().iter().map(|study| study.study.0.as_str()).collect();
    assert!(questions.rows.iter().all(|row| row[3..8].iter().all(|id| ids.contains(id.as_str()))));
    let days = |row: u32| corpus.studies()[row as usize].acquired.unwrap();
    assert!(
        corpus.sequences().iter().all(|sequence| sequence.studies.windows(2).all(|pair| days(pair[0]) < days(pair[1])))
    );
}

#[test]
fn chextemporal_has_five_courses_of_two_sources() {
    let source = CheXTemporal {
        root: at("chextemporal"),
        chexpert: Some(at("chexpert")),
        mimic: Some(at("mimic-cxr-jpg")),
        rexgradient: None,
    };
    let (summary, corpus) = import(&Source::CheXTemporal(source));
    assert!(summary.skipped.keys().eq(["no folder was given for rexgradient"]), "{summary}");
    let pairs = corpus.table("pairs").unwrap().unwrap();
    let words: BTreeSet<&str> = pairs.rows.iter().flat_map(|row| &row[2..]).map(String::as_str).collect();
    assert_eq!(words, BTreeSet::from(["", "improving", "new", "resolved", "stable", "worsening"]));
    let datasets: BTreeSet<&str> = corpus.studies().iter().map(|study| study.labels["dataset"].as_str()).collect();
    assert_eq!(datasets, BTreeSet::from(["chexpert", "mimic"]));
}

#[test]
fn rexgradient_is_read_from_its_archive_as_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::Rexgradient(Rexgradient { root: at("rexgradient") });
    assert!(at("rexgradient/deid_png.part02").exists(), "several parts");
    let packed = folder.path().join("packed");
    let summary = prepare(&source, &packed, &options(), &Alone, &Silent).unwrap().unwrap();
    assert!(summary.skipped.keys().any(|reason| reason == "ImageViewPosition is `UNKNOWN`"), "{summary}");
    assert!(summary.skipped.keys().any(|reason| reason == "ImageViewPosition is `nothing`"), "{summary}");
    assert!(!summary.skipped.contains_key("image file does not exist"), "{summary}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no files are left next to the corpus");

    // The same, unpacked.
    let root = folder.path().join("unpacked");
    let parts = (0..).map(|n| at(&format!("rexgradient/deid_png.part{n:02}"))).take_while(|part| part.exists());
    let joined: Vec<u8> = parts.flat_map(|part| fs::read(part).unwrap()).collect();
    tar::Archive::new(zstd::Decoder::new(&joined[..]).unwrap()).unpack(&root).unwrap();
    copy(&at("rexgradient/metadata"), &root.join("metadata"));
    let plain = folder.path().join("plain");
    prepare(&Source::Rexgradient(Rexgradient { root: root.clone() }), &plain, &options(), &Alone, &Silent).unwrap();
    for file in ["studies.parquet", "sequences.parquet", "images-00000.npy", "splits.csv"] {
        assert!(fs::read(packed.join(file)).unwrap() == fs::read(plain.join(file)).unwrap(), "{file}");
    }
    let corpus = Corpus::open(&packed).unwrap();
    assert!(
        corpus.studies().iter().all(|study| study.acquired.is_some() && study.labels["age"].parse::<u32>().is_ok())
    );

    // Stopped within the archive and taken up again: the same bytes, and the small pictures are
    // gone at the end.
    let resumed = folder.path().join("resumed");
    let stopped = prepare(&source, &resumed, &options(), &Alone, &StopsAfter::new(70)).unwrap_err().to_string();
    assert_eq!(stopped, "stopped on request");
    let journal = fs::read_to_string(folder.path().join("resumed.partial.pictures/journal")).unwrap();
    assert!(journal.lines().count() > 64, "what was decoded is known");
    prepare(&source, &resumed, &options(), &Alone, &Silent).unwrap();
    for entry in fs::read_dir(&packed).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(packed.join(&name)).unwrap() == fs::read(resumed.join(&name)).unwrap(), "{}", name.display());
    }
    assert!(!folder.path().join("resumed.partial.pictures").exists());

    // A part that is missing, and one that is cut.
    let broken = folder.path().join("broken");
    copy(&at("rexgradient"), &broken);
    copy(&at("rexgradient/metadata"), &broken.join("metadata"));
    fs::write(broken.join("deid_png.part01"), b"cut").unwrap();
    let cut = Source::Rexgradient(Rexgradient { root: broken.clone() });
    let error = prepare(&cut, &folder.path().join("cut"), &options(), &Alone, &Silent).unwrap_err().to_string();
    assert!(error.contains("deid_png.part00") && error.contains("truncated or damaged"), "{error}");
    fs::remove_file(broken.join("deid_png.part01")).unwrap();
    let error = prepare(&cut, &folder.path().join("lost"), &options(), &Alone, &Silent).unwrap_err().to_string();
    assert!(error.contains("deid_png.part01 is missing"), "{error}");
}

/// Asks to stop once so many steps are done.
struct StopsAfter(AtomicU64, u64);

impl StopsAfter {
    fn new(steps: u64) -> StopsAfter {
        StopsAfter(AtomicU64::new(0), steps)
    }
}

impl Progress for StopsAfter {
    fn begin(&self, _: &str, _: Option<u64>) {}

    fn advance(&self, steps: u64) {
        self.0.fetch_add(steps, Ordering::Relaxed);
    }

    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

/// The files of a folder, not those of folders in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_projection_of_frontal_images_is_kept_for_subgroups() {
    let sources = [
        Source::Table(at("table/studies.csv")),
        Source::MimicCxr(mimic()),
        described(&sources::CHEXPERT_PLUS),
        described(&sources::PADCHEST),
        described(&sources::NIH),
        on_mimic(&sources::CXR_LT),
        Source::Described(Described::chexpert(at("chexpert"))),
        Source::MiCxr(MiCxr { root: at("mi-cxr"), images: mimic() }),
    ];
    for source in sources {
        let (_, corpus) = import(&source);
        let kind = &corpus.manifest().source.kind;
        let views: BTreeSet<Option<&str>> =
            corpus.studies().iter().map(|study| study.labels.get("view").map(String::as_str)).collect();
        let known = views.iter().all(|view| matches!(view, Some("PA" | "AP" | "AP_horizontal")));
        assert!(known, "{kind}: {views:?}");
    }
}

#[test]
fn columns_that_are_missing_or_doubled_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(at("nih/Data_Entry_2017.csv")).unwrap();
    let source = Source::Described(Described { description: &sources::NIH, root: folder.path().into(), images: None });
    let fails = |changed: String| {
        fs::write(folder.path().join("Data_Entry_2017.csv"), changed).unwrap();
        check(&source, &options(), &Silent).unwrap_err().to_string()
    };
    let error = fails(text.replacen("Finding Labels", "Findings", 1));
    assert!(error.contains("Data_Entry_2017.csv") && error.contains("column `Finding Labels` is missing"), "{error}");
    let error = fails(text.replacen("OriginalImage[Width", "Patient ID", 1));
    assert!(error.contains("line 1: two columns are called `Patient ID`"), "{error}");
    fs::remove_file(folder.path().join("Data_Entry_2017.csv")).unwrap();
    let error = check(&source, &options(), &Silent).unwrap_err().to_string();
    assert!(error.contains("is not NIH ChestX-ray14: it has no Data_Entry_2017.csv"), "{error}");
}
