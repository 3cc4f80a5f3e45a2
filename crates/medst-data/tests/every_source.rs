//! What must hold for every importer alike, on the phantom drawn in its layout: a table to compare
//! with the publisher's counts, no subject in two splits, ids unchanged, the same bytes
//! after an interruption, and columns that are missing, renamed or doubled are named with the line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::Plan;
use medst_data::import::check::check;
use medst_data::import::chextemporal::CheXTemporal;
use medst_data::import::covidx::Covidx;
use medst_data::import::described::{Described, Description, sources};
use medst_data::import::imagenome::Imagenome;
use medst_data::import::mi_cxr::MiCxr;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::ms_cxr_t::MsCxrT;
use medst_data::import::padchest_gr::PadChestGr;
use medst_data::import::rexgradient::Rexgradient;
use medst_data::import::rsna::Rsna;
use medst_data::import::{PrepareOptions, Source, prepare};
use medst_data::progress::{Progress, Silent};
use medst_data::ranks::Alone;
use medst_data::split::Split;
use medst_phantom::{Layout, PhantomOptions, generate};

/// A cohort in every layout.
fn cohort(subjects: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layout::ALL.to_vec();
    let options = PhantomOptions { subjects, seed: 5, size: 96, layouts, ..PhantomOptions::default() };
    generate(&folder.path().join("cohort"), &options, &Silent).unwrap();
    folder
}

/// The source of every layout that has an importer.
fn every_source(folder: &Path) -> Vec<(&'static str, Source)> {
    let at = |layout: &str| folder.join("cohort").join(layout);
    let images = || MimicCxr { root: at("mimic-cxr-jpg"), ..MimicCxr::default() };
    let described = |description: &'static Description, images: Option<PathBuf>| {
        Source::Described(Described { description, root: at(description.kind), images })
    };
    let mut all = vec![
        Source::Table(at("table/studies.csv")),
        Source::MimicCxr(images()),
        Source::MsCxrT(MsCxrT { root: at("ms-cxr-t"), images: images() }),
        Source::Rsna(Rsna { root: at("rsna") }),
        Source::Covidx(Covidx { root: at("covidx"), ..Covidx::default() }),
        Source::PadChestGr(PadChestGr { root: at("padchest-gr") }),
        Source::Rexgradient(Rexgradient { root: at("rexgradient") }),
        Source::Imagenome(Imagenome { root: at("imagenome"), images: images() }),
        Source::MiCxr(MiCxr { root: at("mi-cxr"), images: images() }),
        Source::CheXTemporal(CheXTemporal {
            root: at("chextemporal"),
            chexpert: Some(at("chexpert")),
            mimic: Some(at("mimic-cxr-jpg")),
            rexgradient: None,
        }),
    ];
    for description in sources::ALL {
        // Another test makes the challenge's form from the archive's.
        if std::ptr::eq(description, &sources::VINDR_KAGGLE) {
            continue;
        }
        let on_mimic = ["ms-cxr", "cxr-lt"].contains(&description.kind).then(|| at("mimic-cxr-jpg"));
        all.push(described(description, on_mimic));
    }
    all.into_iter().map(|source| (source.kind(), source)).collect()
}

fn options() -> PrepareOptions {
    PrepareOptions { image_size: 32, ..PrepareOptions::default() }
}

fn plan(source: &Source) -> Result<Plan, String> {
    source.plan(&options(), &Silent).map(|planned| planned.plan).map_err(|error| error.to_string())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn a_check_prints_a_table_to_compare_with_the_publishers_counts() {
    let folder = cohort(40);
    for (kind, source) in every_source(folder.path()) {
        let found = check(&source, &options(), &Silent).unwrap();
        let text = found.to_string();
        println!("{text}");
        let count = |what: &str| found.counts.iter().find(|count| count.what == what).unwrap();
        let plan = plan(&source).unwrap();
        assert_eq!(count("studies").used, plan.studies.len() as u64, "{kind}");
        assert!(count("subjects").listed >= Some(count("subjects").used), "{kind}");
        assert!(found.images > 0 && count("images").used == found.images as u64, "{kind}");
        assert_eq!(found.images_present, if found.in_archive { 0 } else { found.images }, "{kind}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        assert!(text.contains("nothing was written") && text.contains("listed"), "{text}");
        let is_published = kind != "table" && kind != "covidx";
        assert_eq!(text.contains("published"), is_published, "{text}");
        // What is published is counted here by the same name.
        for published in found.counts.iter().filter(|count| count.published.is_some()) {
            assert!(published.used > 0 || published.what.contains("rexgradient"), "{kind}: {published:?}");
        }
    }
    let of = |kind: &str| every_source(folder.path()).into_iter().find(|source| source.0 == kind).unwrap().1;
    let text = |kind: &str| check(&of(kind), &options(), &Silent).unwrap().to_string();
    let questions = text("mi-cxr");
    for line in ["questions ", "questions, TEL", "questions, GTS", "questions, ICR", "5,311", "2,994", "2,000", "317"] {
        assert!(questions.contains(line), "{line}\n{questions}");
    }
    assert!(text("padchest-gr").contains("7,733") && text("chextemporal").contains("1,074"));
    let nih = check(&of("nih"), &options(), &Silent).unwrap();
    let edema = nih.findings["edema"];
    assert!(edema[0] > 0 && edema.iter().sum::<u64>() == nih.studies as u64, "{edema:?}");
    assert!(!nih.findings.contains_key("age"));
}

/// Every text that the files of a source hold: cells, folders, file names and patients of headers.
fn texts(folder: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for path in files_below(folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.extend(path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()));
        all.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
        if name.ends_with(".dcm") {
            all.extend(medst_data::image::dicom_header(&path).unwrap().subject_id);
            continue;
        }
        if name.ends_with(".parquet") {
            let table = medst_data::import::table::read::read_columns(&path).unwrap();
            all.extend(table.rows.iter().flat_map(|row| row.cells().map(|(_, cell)| cell.to_string())));
            continue;
        }
        if [".csv", ".csv.gz", ".txt", ".json", ".jsonl"].iter().any(|end| name.ends_with(end)) {
            let text = String::from_utf8(unpacked(&path)).unwrap();
            all.extend(text.split([',', '\t', '\n', ' ', '"', '/', '\r']).map(str::to_string));
        }
    }
    all
}

fn unpacked(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    if path.extension().is_some_and(|end| end == "gz") {
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
        return text;
    }
    bytes
}

fn pack(path: &Path, text: &[u8]) {
    if path.extension().is_some_and(|end| end == "gz") {
        let mut file = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
        file.write_all(text).unwrap();
        file.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

#[test]
fn ids_are_those_of_the_files_and_no_subject_is_in_two_splits() {
    let folder = cohort(40);
    let of_mimic = texts(&folder.path().join("cohort/mimic-cxr-jpg"));
    for (kind, source) in every_source(folder.path()) {
        let plan = plan(&source).unwrap();
        let layout = if kind == "mimic-cxr" { "mimic-cxr-jpg" } else { kind };
        let of_layout = texts(&folder.path().join("cohort").join(layout));
        let mut splits: BTreeMap<&str, Split> = BTreeMap::new();
        for study in &plan.studies {
            // COVIDx numbers patients within a source, which is a part of our id.
            let subject = study.subject.0.as_str();
            let written = if kind == "covidx" { subject.rsplit(':').next().unwrap() } else { subject };
            assert!(of_layout.contains(written) || of_mimic.contains(written), "{kind}: {subject} is written nowhere");
            assert_eq!(*splits.entry(subject).or_insert(study.split), study.split, "{kind}: {subject}");
        }
        assert!(!splits.is_empty(), "{kind}");
    }
}

#[test]
fn letters_and_zeros_of_ids_are_kept() {
    let folder = cohort(40);
    for (kind, table, column) in [
        ("table", "table/studies.csv", "subject_id"),
        ("mimic-cxr", "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "subject_id"),
        ("chexpert-plus", "chexpert-plus/df_chexpert_plus_240401.csv", "deid_patient_id"),
        ("padchest", "padchest/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "PatientID"),
        ("padchest-gr", "padchest-gr/master_table.csv", "PatientID"),
        ("nih", "nih/Data_Entry_2017.csv", "Patient ID"),
        ("ms-cxr", "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv", "subject_id"),
    ] {
        let source = every_source(folder.path()).into_iter().find(|source| source.0 == kind).unwrap().1;
        let before: BTreeSet<String> =
            plan(&source).unwrap().studies.into_iter().map(|study| study.subject.0).collect();
        let path = folder.path().join("cohort").join(table);
        let kept = fs::read(&path).unwrap();
        edit(&path, |rows| {
            let index = rows[0].iter().position(|name| name == column).unwrap();
            rows[1..].iter_mut().for_each(|row| row[index] = format!("00A{}", row[index]));
        });
        let after: BTreeSet<String> = plan(&source).unwrap().studies.into_iter().map(|study| study.subject.0).collect();
        let expected: BTreeSet<String> = before.iter().map(|id| format!("00A{id}")).collect();
        assert_eq!(after, expected, "{kind}");
        fs::write(&path, kept).unwrap();
    }
}

/// Counts steps, and asks to stop after some of them.
struct Steps {
    done: AtomicU64,
    most: u64,
}

impl Steps {
    fn until(most: u64) -> Steps {
        Steps { done: AtomicU64::new(0), most }
    }
}

impl Progress for Steps {
    fn begin(&self, _: &str, _: Option<u64>) {}

    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }

    fn stop_requested(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.most
    }
}

#[test]
fn an_interrupted_preparation_ends_with_the_same_bytes() {
    let folder = cohort(40);
    for (kind, source) in every_source(folder.path()) {
        let [whole, resumed] = ["whole", "resumed"].map(|name| folder.path().join(format!("{kind}-{name}")));
        let steps = Steps::until(u64::MAX);
        prepare(&source, &whole, &options(), &Alone, &steps).unwrap();
        let all = steps.done.into_inner();
        let mut stopped = 0;
        for part in [1, 2, 3] {
            match prepare(&source, &resumed, &options(), &Alone, &Steps::until(all * part / 4)) {
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.to_string(), "stopped on request", "{kind}");
                    assert!(!resumed.exists(), "{kind}: a corpus appears whole");
                    stopped += 1;
                }
            }
        }
        assert!(stopped > 0, "{kind}: {all} steps");
        if !resumed.exists() {
            // As if the last run had been killed after it wrote its tables.
            let working = folder.path().join(format!("{kind}-resumed.partial"));
            fs::create_dir_all(&working).unwrap();
            let is_table = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "csv");
            for path in files_below(&whole).iter().filter(is_table) {
                fs::write(working.join(path.file_name().unwrap()), fs::read(path).unwrap()).unwrap();
            }
            prepare(&source, &resumed, &options(), &Alone, &Silent).unwrap();
        }
        for path in files_below(&whole) {
            let name = path.strip_prefix(&whole).unwrap();
            assert!(fs::read(&path).unwrap() == fs::read(resumed.join(name)).unwrap(), "{kind}: {}", name.display());
        }
        assert_eq!(files_below(&whole).len(), files_below(&resumed).len(), "{kind}");
        assert_eq!(Corpus::open(&resumed).unwrap().studies(), Corpus::open(&whole).unwrap().studies(), "{kind}");
    }
}

/// Changes the rows of a table, the header among them.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<Vec<String>>)) {
    let text = unpacked(path);
    let first = text.split(|&byte| byte == b'\n').next().unwrap();
    let separator = if first.contains(&b'\t') { b'\t' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(separator).flexible(true).from_reader(&text[..]);
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_string).collect());
    let mut rows: Vec<Vec<String>> = rows.collect();
    change(&mut rows);
    let mut writer = csv::WriterBuilder::new().delimiter(separator).flexible(true).from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    pack(path, &writer.into_inner().unwrap());
}

/// The tables of a layout that have a header.
fn tables(folder: &Path) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".csv") || name.ends_with(".csv.gz") || name.starts_with("gold_object_comparison")
    };
    files_below(folder).into_iter().filter(is_table).collect()
}

#[test]
fn columns_that_are_missing_renamed_or_doubled_are_named_with_the_line() {
    let folder = cohort(40);
    let (mut renamed, mut doubled) = (0, 0);
    for (kind, source) in every_source(folder.path()) {
        let layout = if kind == "mimic-cxr" { "mimic-cxr-jpg" } else { kind };
        let before = format!("{:?}", plan(&source).unwrap());
        for path in tables(&folder.path().join("cohort").join(layout)) {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let kept = fs::read(&path).unwrap();
            let mut names = Vec::new();
            edit(&path, |rows| names = rows[0].clone());
            for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                edit(&path, |rows| rows[0][index] = format!("zz {name}"));
                match plan(&source) {
                    Err(error) => {
                        let named = error.contains(&format!("column `{}`", name.trim())) && error.contains("line 1: ");
                        assert!(named && error.contains(&file), "{kind}, {file}, {name}: {error}");
                        renamed += 1;
                    }
                    Ok(plan) => {
                        let noted = plan
                            .warnings
                            .keys()
                            .any(|note| note.contains(&format!("{file}, line 1: column `{}` is missing", name.trim())));
                        let after = format!("{plan:?}");
                        // Columns that are not read, and labels, which keep their name.
                        let carried = after.contains(&format!("\"zz {name}\""));
                        assert!(noted || carried || after == before, "{kind}: {file} without {name} is not noted");
                        renamed += usize::from(noted);
                    }
                }
                fs::write(&path, &kept).unwrap();
                edit(&path, |rows| {
                    rows[0].push(name.clone());
                    rows[1..].iter_mut().for_each(|row| row.push("1".into()));
                });
                match plan(&source) {
                    Err(error) => {
                        let named = error.contains(&format!("line 1: two columns are called `{}`", name.trim()));
                        assert!(named && error.contains(&file), "{kind}, {file}, {name}: {error}");
                        doubled += 1;
                    }
                    Ok(plan) => {
                        assert_eq!(format!("{plan:?}"), before, "{kind}: {file} with {name} twice is not noted")
                    }
                }
                fs::write(&path, &kept).unwrap();
            }
        }
    }
    // Nearly all columns that are read are required.
    println!("{renamed} renamed and {doubled} doubled columns were named");
    assert!(renamed > 60 && doubled > 90, "{renamed} {doubled}");
}

#[test]
fn fields_of_json_that_are_missing_renamed_or_doubled_are_named_with_the_line() {
    let folder = cohort(40);
    let mut named = 0;
    for (kind, file, fields) in [
        (
            "mi-cxr",
            "micxr_test.jsonl",
            &["qid", "group_type", "qtype", "images", "T3", "question", "choices", "C", "answer"][..],
        ),
        (
            "padchest-gr",
            "grounded_reports_20240819.json",
            &[
                "StudyID",
                "ImageID",
                "PreviousStudyID",
                "PreviousImageID",
                "findings",
                "sentence_en",
                "abnormal",
                "boxes",
                "labels",
                "extra_boxes",
                "progression",
            ],
        ),
        (
            "rexgradient",
            "metadata/train_metadata_view_position.json",
            &["ImagePath", "ImageViewPosition", "Impression", "Findings"],
        ),
        ("chexpert-plus", "chexbert_labels/report_fixed.json", &["path_to_image"]),
    ] {
        let source = every_source(folder.path()).into_iter().find(|source| source.0 == kind).unwrap().1;
        let path = folder.path().join("cohort").join(kind).join(file);
        let text = fs::read_to_string(&path).unwrap();
        let short = path.file_name().unwrap().to_string_lossy().into_owned();
        for field in fields {
            let key = format!("\"{field}\":");
            assert!(text.contains(&key), "{kind}: {field}");
            fs::write(&path, text.replace(&key, &format!("\"zz_{field}\":"))).unwrap();
            match plan(&source) {
                Err(error) => {
                    assert!(
                        error.contains(field) && error.contains(&short) && error.contains("line"),
                        "{kind}, {field}: {error}"
                    );
                    named += 1;
                }
                Ok(plan) => {
                    let noted = plan.warnings.keys().any(|note| note.contains(field));
                    assert!(noted, "{kind}: {field} is not noted: {:?}", plan.warnings);
                }
            }
            // The first value again.
            let value = text.find(&key).unwrap() + key.len();
            let mut read = serde_json::Deserializer::from_str(&text[value..]).into_iter::<serde_json::Value>();
            read.next().unwrap().unwrap();
            let end = value + read.byte_offset();
            fs::write(&path, format!("{},{}{}", &text[..end], &text[value - key.len()..end], &text[end..])).unwrap();
            let error = plan(&source).unwrap_err();
            let twice = error.contains(&format!("two fields are called `{field}`"))
                || error.contains(&format!("duplicate field `{field}`"));
            assert!(twice && error.contains("line") && error.contains(&short), "{kind}, {field}: {error}");
        }
        fs::write(&path, &text).unwrap();
        plan(&source).unwrap();
    }
    assert!(named > 12, "{named}");
}

/// The Kaggle challenge's form of VinDr-CXR: a row for each box of a reader, in one table.
#[test]
fn vindr_is_read_in_the_challenges_form() {
    let folder = cohort(40);
    let root = folder.path().join("cohort/vindr");
    let archive = Source::Described(Described::vindr(root.clone()));
    let of_archive = plan(&archive).unwrap();
    let mut lines = vec!["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max".to_string()];
    let mut readers: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    edit(&root.join("annotations/annotations_train.csv"), |rows| {
        for row in &rows[1..] {
            // image_id, rad_id, class_name, x_min, …
            lines.push(format!("{},{},0,{},{}", row[0], row[2], row[1], row[3..].join(",")));
            readers.entry((row[0].clone(), row[2].to_lowercase())).or_default().insert(row[1].clone());
        }
    });
    fs::write(root.join("train.csv"), lines.join("\n") + "\n").unwrap();
    fs::rename(root.join("annotations"), root.join("away")).unwrap();
    let challenge = Source::Described(Described::vindr(root.clone()));
    let of_challenge = plan(&challenge).unwrap();
    let (mut seen, mut boxes) = (0, 0);
    for study in &of_challenge.studies {
        for finding in ["cardiomegaly", "pleural effusion", "No Finding"] {
            let marked = readers.get(&(study.study.0.clone(), finding.to_lowercase())).map_or(0, BTreeSet::len);
            assert_eq!(
                study.labels[finding] == "1",
                marked >= 2,
                "two of three readers decide: {}, {finding}",
                study.study
            );
            seen += usize::from(marked >= 2);
        }
        let archived = of_archive.studies.iter().find(|other| other.study == study.study).unwrap();
        assert_eq!(study.labels.get("boxes"), archived.labels.get("boxes"));
        boxes += usize::from(study.labels.contains_key("boxes"));
    }
    assert!(seen > 10 && boxes > 3 && of_challenge.studies.len() > 20);
    let splits: BTreeSet<Split> = of_challenge.studies.iter().map(|study| study.split).collect();
    assert!(splits.len() > 1, "subjects are divided by hash");
    assert!(!of_challenge.warnings.keys().any(|note| note.contains("rad_id")), "{:?}", of_challenge.warnings);
}

/// Chest ImaGenome's lists leave its subjects out of other corpora, and the benchmark's table
/// leaves the benchmark's subjects out of Chest ImaGenome.
#[test]
fn lists_of_one_source_leave_its_subjects_out_of_another() {
    let folder = cohort(40);
    let at = |path: &str| folder.path().join("cohort").join(path);
    let of = |kind: &str| every_source(folder.path()).into_iter().find(|source| source.0 == kind).unwrap().1;
    let subjects = |plan: &Plan| plan.studies.iter().map(|study| study.subject.0.clone()).collect::<BTreeSet<_>>();
    let without = |kind: &str, list: &str| {
        let options = PrepareOptions { exclude: vec![at(list)], ..options() };
        of(kind).plan(&options, &Silent).unwrap().plan
    };
    let [gold, benchmark] = ["imagenome", "ms-cxr-t"].map(|kind| subjects(&plan(&of(kind)).unwrap()));
    let avoided = without("mimic-cxr", "imagenome/silver_dataset/splits/images_to_avoid.csv");
    assert!(subjects(&avoided).len() > 10 && subjects(&avoided).is_disjoint(&gold));
    assert!(avoided.warnings.keys().any(|note| note.starts_with("images excluded by images_to_avoid.csv")));
    let table = "ms-cxr-t/MS_CXR_T_temporal_image_classification_v1.0.0.csv";
    assert!(subjects(&without("imagenome", table)).is_disjoint(&benchmark));
    // The benchmark itself, without the subjects that a model was trained on.
    fs::write(at("trained.csv"), format!("subject_id\n{}\n", benchmark.first().unwrap())).unwrap();
    let questions = |plan: &Plan| plan.tables.iter().find(|table| table.name == "questions").unwrap().rows.len() as u64;
    let (all, some) = (plan(&of("mi-cxr")).unwrap(), without("mi-cxr", table));
    assert_eq!(
        some.warnings["questions about a study that was left out, left out too"],
        questions(&all) - questions(&some)
    );
    let left = without("ms-cxr-t", "trained.csv");
    assert_eq!(subjects(&left).len(), benchmark.len() - 1);
    let pairs = left.tables.iter().find(|table| table.name == "pairs").unwrap();
    let studies: BTreeSet<&str> = left.studies.iter().map(|study| study.study.0.as_str()).collect();
    assert!(pairs.rows.iter().all(|row| studies.contains(row[0].as_str()) && studies.contains(row[1].as_str())));
}
