//! Archives in their own layouts, laid out by hand with the real names, columns, compression and
//! nesting.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use medst_data::corpus::Corpus;
use medst_data::import::check::check;
use medst_data::import::covidx::{Covidx, SplitRule};
use medst_data::import::described::Described;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::ms_cxr_t::MsCxrT;
use medst_data::import::open_i::OpenI;
use medst_data::import::{PrepareOptions, Source, Summary, prepare};
use medst_data::progress::Silent;
use medst_data::ranks::Alone;
use medst_data::sequence::SequenceUnit;
use medst_data::split::Split;

const SUBJECT: &str = "10000032";
const OTHER: &str = "11000011";

/// Any readable picture; its grey value identifies it.
fn picture(path: &Path, grey: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 40, 50);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[grey; 2000]).unwrap();
    fs::write(path, bytes).unwrap();
}

fn gzip(path: &Path, text: &str) {
    let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::default());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

fn options() -> PrepareOptions {
    PrepareOptions { image_size: 32, ..PrepareOptions::default() }
}

fn report(impression: &str) -> String {
    format!(
        "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n IMPRESSION: \n \n {impression}\n"
    )
}

/// Two subjects: one with three studies (two frontal images and a lateral in the first), the other
/// with a single study.
struct Mimic {
    folder: tempfile::TempDir,
}

impl Mimic {
    fn new() -> Mimic {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        gzip(
            &at("mimic-cxr-2.0.0-metadata.csv.gz"),
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime\n\
             a1,10000032,50414267,\"CHEST (PA AND LAT)\",PA,3056,2544,21800506,213014.531\n\
             a2,10000032,50414267,\"CHEST (PA AND LAT)\",LATERAL,3056,2544,21800506,213014.531\n\
             a3,10000032,50414267,\"CHEST (PA AND LAT)\",AP,3056,2544,21800506,213014.531\n\
             b1,10000032,53189527,CHEST,AP,3056,2544,21800626,1234.5\n\
             c1,10000032,53911762,CHEST,AP,3056,2544,21800626,61234.5\n\
             c2,10000032,53911762,CHEST,LAO,3056,2544,21800626,61234.5\n\
             c3,10000032,53911762,CHEST,,3056,2544,21800626,61234.5\n\
             d1,11000011,51029426,CHEST,PA,3056,2544,21550101,90000\n\
             e1,11000011,59999999,CHEST,PA,3056,2544,21550301,90000\n",
        );
        gzip(
            &at("mimic-cxr-2.0.0-split.csv.gz"),
            "dicom_id,study_id,subject_id,split\na1,50414267,10000032,train\nb1,53189527,10000032,train\n\
             c1,53911762,10000032,train\nd1,51029426,11000011,validate\ne1,59999999,11000011,validate\n",
        );
        gzip(
            &at("mimic-cxr-2.0.0-chexpert.csv.gz"),
            "subject_id,study_id,Atelectasis,Edema,No Finding\n10000032,50414267,,-1.0,1.0\n10000032,53189527,0.0,,\n",
        );
        let mimic = Mimic { folder };
        for (grey, (subject, study, dicom)) in [
            (SUBJECT, "50414267", "a1"),
            (SUBJECT, "50414267", "a2"),
            (SUBJECT, "50414267", "a3"),
            (SUBJECT, "53189527", "b1"),
            (SUBJECT, "53911762", "c1"),
            (OTHER, "51029426", "d1"),
        ]
        .into_iter()
        .enumerate()
        {
            picture(&mimic.source().image(subject, study, dicom), 10 * (grey as u8 + 1));
        }
        mimic
    }

    fn source(&self) -> MimicCxr {
        MimicCxr { root: self.folder.path().to_path_buf(), ..MimicCxr::default() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn reports() -> [(&'static str, &'static str, String); 3] {
        [
            (SUBJECT, "50414267", report("No acute cardiopulmonary process.")),
            (SUBJECT, "53189527", report("Small left effusion is new.")),
            (OTHER, "51029426", report("Clear.")),
        ]
    }

    fn write_zip(&self) {
        let mut zip = zip::ZipWriter::new(File::create(self.at("mimic-cxr-reports.zip")).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (subject, study, text) in Mimic::reports() {
            zip.start_file(format!("files/p{}/p{subject}/s{study}.txt", &subject[..2]), options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    fn prepare(&self, source: MimicCxr, out: &str, options: &PrepareOptions) -> (Summary, Corpus) {
        let out = self.at(out);
        let summary = prepare(&Source::MimicCxr(source), &out, options, &Alone, &Silent).unwrap().unwrap();
        (summary, Corpus::open(&out).unwrap())
    }
}

#[test]
fn mimic_cxr_jpg_becomes_studies_in_time_order() {
    let mimic = Mimic::new();
    mimic.write_zip();
    let (summary, corpus) = mimic.prepare(mimic.source(), "corpus", &options());
    let ids: Vec<&str> = corpus.studies().iter().map(|study| study.study.0.as_str()).collect();
    assert_eq!(ids, ["50414267", "53189527", "53911762", "51029426"]);
    let first = &corpus.studies()[0];
    assert_eq!(first.alternative_frontals.len(), 1);
    let grey = |index| corpus.image(index).unwrap()[16 * 32 + 16];
    assert_eq!(grey(first.frontal), 10);
    assert_eq!(grey(first.lateral.unwrap()), 20);
    assert_eq!(grey(first.alternative_frontals[0]), 30);
    assert_eq!(first.report.as_deref(), Some("no acute cardiopulmonary process"));
    assert_eq!(first.labels.get("Edema").map(String::as_str), Some("-1"));
    assert_eq!(first.labels.get("No Finding").map(String::as_str), Some("1"));
    assert!(!first.labels.contains_key("Atelectasis"));
    // 00:12:34.5 of a day comes before 06:12:34.5: the tables lose the zeros a time begins with.
    assert_eq!(corpus.sequences()[0].studies, [0, 1, 2]);
    let days = |row: usize| corpus.studies()[row].acquired.unwrap().0;
    assert!((days(2) - days(1) - 0.25).abs() < 1e-9);
    assert_eq!(corpus.studies()[3].split, Split::Validate);
    assert_eq!(corpus.studies()[3].report, None, "a single word does not count as a report");
    for (reason, count) in [
        ("ViewPosition is `LAO`", 1),
        ("ViewPosition is absent", 1),
        ("image file does not exist", 1),
        ("study has no readable frontal image", 1),
    ] {
        assert_eq!(summary.skipped.get(reason), Some(&count), "{reason}\n{summary}");
    }
    assert!(summary.warnings.keys().any(|note| note.contains("fewer than three words")), "{summary}");
    assert_eq!(corpus.manifest().source.kind, "mimic-cxr");
    assert_eq!(corpus.manifest().source.files.len(), 4, "metadata, split, labels, reports");
}

#[test]
fn mimic_cxr_reports_come_from_zip_folder_or_sections_alike() {
    let mimic = Mimic::new();
    mimic.write_zip();
    let studies = |corpus: &Corpus| corpus.studies().to_vec();
    let from_zip = studies(&mimic.prepare(mimic.source(), "zipped", &options()).1);
    fs::rename(mimic.at("mimic-cxr-reports.zip"), mimic.at("away.zip")).unwrap();
    let without = mimic.prepare(mimic.source(), "silent", &options());
    assert!(studies(&without.1).iter().all(|study| study.report.is_none()));
    assert!(without.0.warnings.keys().any(|note| note.starts_with("reports absent")));

    let sections = "study,impression,findings,last_paragraph,comparison\n\
        s50414267,No acute cardiopulmonary process.,,,\ns53189527,Small left effusion is new.,,,\ns51029426,Clear.,,,\n";
    fs::write(mimic.at("mimic_cxr_sectioned.csv"), sections).unwrap();
    assert_eq!(studies(&mimic.prepare(mimic.source(), "sections", &options()).1), from_zip);
    fs::remove_file(mimic.at("mimic_cxr_sectioned.csv")).unwrap();

    // Unpacked in place, as in the DICOM release, and in a separate folder.
    for (subject, study, text) in Mimic::reports() {
        for base in ["files", "elsewhere/files"] {
            let path = mimic.at(&format!("{base}/p{}/p{subject}/s{study}.txt", &subject[..2]));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &text).unwrap();
        }
    }
    assert_eq!(studies(&mimic.prepare(mimic.source(), "in-place", &options()).1), from_zip);
    for reports in ["elsewhere", "away.zip"] {
        let source = MimicCxr { reports: Some(mimic.at(reports)), ..mimic.source() };
        let out = format!("named-{}", &reports[..4]);
        assert_eq!(studies(&mimic.prepare(source, &out, &options()).1), from_zip);
    }
}

#[test]
fn mimic_cxr_partial_downloads_and_unpacked_tables_work() {
    let mimic = Mimic::new();
    for kind in ["split", "chexpert"] {
        fs::remove_file(mimic.at(&format!("mimic-cxr-2.0.0-{kind}.csv.gz"))).unwrap();
    }
    let packed = mimic.at("mimic-cxr-2.0.0-metadata.csv.gz");
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(File::open(&packed).unwrap());
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    fs::write(mimic.at("mimic-cxr-2.0.0-metadata.csv"), text).unwrap();
    fs::remove_file(packed).unwrap();
    fs::remove_dir_all(mimic.at("files/p11")).unwrap();
    let checked = check(&Source::MimicCxr(mimic.source()), &options(), &Silent).unwrap();
    assert_eq!((checked.images, checked.images_present), (7, 5));
    let (summary, corpus) = mimic.prepare(mimic.source(), "corpus", &options());
    assert_eq!(corpus.studies().len(), 3);
    assert_eq!(summary.skipped["image file does not exist"], 2);
    for note in ["split table absent", "CheXpert table absent", "reports absent"] {
        assert!(summary.warnings.keys().any(|warning| warning.starts_with(note)), "{note}\n{summary}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let source = Source::MimicCxr(MimicCxr { root: nothing.path().to_path_buf(), ..MimicCxr::default() });
    let error = prepare(&source, &mimic.at("none"), &options(), &Alone, &Silent).unwrap_err().to_string();
    assert!(error.contains("is not a MIMIC-CXR folder"), "{error}");
}

#[test]
fn benchmark_subjects_are_kept_out_and_counted() {
    let mimic = Mimic::new();
    // By subject; by image, where the other images of the subject go too; by the previous image of
    // a pair.
    for (name, list) in [
        ("by-subject.csv", "subject_id,x\n10000032,1\n"),
        ("by-image.csv", "dicom_id\nb1\n"),
        ("by-pair.csv", "dicom_id,previous_dicom_id\nzz,b1\n"),
        ("by-study.csv", "study_id\n53911762\n"),
    ] {
        fs::write(mimic.at(name), list).unwrap();
        let options = PrepareOptions { exclude: vec![mimic.at(name)], ..options() };
        let (summary, corpus) = mimic.prepare(mimic.source(), &format!("{name}.corpus"), &options);
        assert!(corpus.studies().iter().all(|study| study.subject.0 == OTHER), "{name}");
        assert_eq!(summary.skipped[&format!("subject is excluded by {name}")], 5, "{summary}");
        assert_eq!(summary.warnings[&format!("images excluded by {name} (1 subjects)")], 5, "{summary}");
    }
}

#[test]
fn a_corpus_split_file_gives_the_same_parts_again() {
    let mimic = Mimic::new();
    let (_, first) = mimic.prepare(mimic.source(), "first", &options());
    fs::remove_file(mimic.at("mimic-cxr-2.0.0-split.csv.gz")).unwrap();
    let options = PrepareOptions { splits: Some(mimic.at("first/splits.csv")), ..options() };
    let (_, again) = mimic.prepare(mimic.source(), "again", &options);
    assert_eq!(first.studies(), again.studies());
    // A file that knows one subject leaves the other out.
    fs::write(mimic.at("one.csv"), format!("subject_id,split\n{OTHER},test\n")).unwrap();
    let options = PrepareOptions { splits: Some(mimic.at("one.csv")), ..options };
    let (summary, corpus) = mimic.prepare(mimic.source(), "one", &options);
    assert!(corpus.studies().iter().all(|study| study.split == Split::Test) && corpus.studies().len() == 1);
    assert_eq!(summary.skipped["not in the split file"], 5);
}

#[test]
fn the_reference_counts_images_as_steps() {
    let mimic = Mimic::new();
    let by_image = PrepareOptions { sequence_unit: SequenceUnit::Image, ..options() };
    let (_, corpus) = mimic.prepare(mimic.source(), "corpus", &by_image);
    assert_eq!(corpus.sequences()[0].studies.len(), 4, "two frontals of one visit are two steps");
}

#[test]
fn ms_cxr_t_pairs_are_sequences_of_two() {
    let mimic = Mimic::new();
    let root = mimic.at("ms-cxr-t");
    fs::create_dir(&root).unwrap();
    fs::write(
        root.join("MS_CXR_T_temporal_image_classification_v1.0.0.csv"),
        "dicom_id,previous_dicom_id,subject_id,consolidation_progression,edema_progression\n\
         b1,a1,10000032,improving,\nc1,b1,10000032,,worsening\ne1,d1,11000011,stable,\nzz,a1,10000032,stable,\n",
    )
    .unwrap();
    fs::write(
        root.join("MS_CXR_T_temporal_sentence_similarity_v1.0.0.csv"),
        "sentence_1,sentence_2,category,subset_name\nEffusion improved.,Effusion is smaller.,paraphrase,RadGraph\n",
    )
    .unwrap();
    let source = Source::MsCxrT(MsCxrT { root, images: mimic.source() });
    let out = mimic.at("corpus");
    let summary = prepare(&source, &out, &options(), &Alone, &Silent).unwrap().unwrap();
    let corpus = Corpus::open(&out).unwrap();
    let pairs: Vec<Vec<&str>> = corpus
        .sequences()
        .iter()
        .map(|pair| pair.studies.iter().map(|&row| corpus.studies()[row as usize].study.0.as_str()).collect())
        .collect();
    assert_eq!(pairs, [["a1", "b1"], ["b1", "c1"]]);
    assert!(corpus.studies().iter().all(|study| study.split == Split::Test));
    let table = fs::read_to_string(out.join("pairs.csv")).unwrap();
    assert_eq!(table, "previous,current,consolidation,edema\na1,b1,improving,\nb1,c1,,worsening\nd1,e1,stable,\n");
    let sentences = fs::read_to_string(out.join("sentences.csv")).unwrap();
    assert!(sentences.ends_with("Effusion improved.,Effusion is smaller.,paraphrase,RadGraph\n"), "{sentences}");
    assert_eq!(summary.skipped["image is not in the list of MIMIC-CXR"], 1);
    assert_eq!(summary.warnings["sequences with a study that was left out, left out too"], 1);
}

#[test]
fn covidx_patients_stay_in_one_part_unless_the_reference_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (mut train, mut test) = (String::new(), String::new());
    for image in 0..26 {
        let (patient, label) = (image / 2, ["normal", "pneumonia", "COVID-19"][image % 3]);
        picture(&root.join(format!("train/img {image}.png")), image as u8);
        train += &format!("{patient} img {image}.png {label} rsna\n");
    }
    picture(&root.join("test/t.png"), 99);
    test += "3 t.png COVID-19 sirm\n";
    fs::write(root.join("train_COVIDx6.txt"), &train).unwrap();
    fs::write(root.join("test_COVIDx6.txt"), &test).unwrap();
    let run = |rule, out: &str| {
        let source = Source::Covidx(Covidx { root: root.to_path_buf(), rule, version: None });
        prepare(&source, &root.join(out), &options(), &Alone, &Silent).unwrap();
        Corpus::open(&root.join(out)).unwrap()
    };
    let of = |corpus: &Corpus, split: Split| {
        let studies = corpus.studies().iter().filter(|study| study.split == split);
        studies.map(|study| study.study.0.clone()).collect::<Vec<_>>()
    };
    let corpus = run(SplitRule::Patient, "by-patient");
    // scikit-learn: train_test_split(range(13), train_size=0.8, random_state=0) tests 6, 11, 4
    // (patients sorted as text).
    let mut patients: Vec<String> = (0..13).map(|patient| patient.to_string()).collect();
    patients.sort();
    let mut expected: Vec<usize> = [6, 11, 4].map(|index| patients[index].parse().unwrap()).to_vec();
    expected.sort_unstable();
    let expected: Vec<String> = expected
        .iter()
        .flat_map(|patient| [2 * patient, 2 * patient + 1].map(|image| format!("img {image}")))
        .collect();
    assert_eq!(of(&corpus, Split::Validate), expected);
    assert_eq!(of(&corpus, Split::Test), ["t"]);
    assert_eq!(corpus.studies()[0].labels["label"], "COVID-19");
    let corpus = run(SplitRule::Reference, "by-image");
    assert_eq!(of(&corpus, Split::Validate).len(), 6);
    fs::write(root.join("train_COVIDx7.txt"), &train).unwrap();
    let source = Source::Covidx(Covidx { root: root.to_path_buf(), ..Covidx::default() });
    let error = prepare(&source, &root.join("both"), &options(), &Alone, &Silent).unwrap_err().to_string();
    assert!(error.contains("train_COVIDx6.txt, train_COVIDx7.txt") && error.contains("--list-version"), "{error}");
}

#[test]
fn chexpert_is_read_in_both_releases() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("chex");
    let header = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema\n";
    let mut train = header.to_string();
    for patient in 0..3 {
        for (view, kind, projection) in [(1, "frontal", "AP"), (2, "lateral", "")] {
            let path = format!("train/patient{patient:05}/study1/view{view}_{kind}.jpg");
            picture(&root.join(&path), 100 + patient);
            let position = if view == 1 { "Frontal" } else { "Lateral" };
            train += &format!("CheXpert-v1.0-small/{path},Female,68,{position},{projection},1.0,-1.0\n");
        }
    }
    fs::write(root.join("train.csv"), train).unwrap();
    picture(&root.join("valid/patient64541/study1/view1_frontal.jpg"), 1);
    let row = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA,0.0,1.0\n";
    fs::write(root.join("valid.csv"), format!("{header}{row}")).unwrap();
    let out = folder.path().join("corpus");
    prepare(&Source::Described(Described::chexpert(root)), &out, &options(), &Alone, &Silent).unwrap();
    let corpus = Corpus::open(&out).unwrap();
    assert_eq!(corpus.studies().len(), 4);
    assert_eq!(corpus.manifest().counts.with_lateral, 3);
    let last = &corpus.studies()[3];
    assert_eq!(
        (last.split, last.labels["Edema"].as_str(), last.study.0.as_str()),
        (Split::Test, "1", "patient64541-study1")
    );
    assert!(corpus.studies().iter().all(|study| study.acquired.is_none()));
}

#[test]
fn open_i_joins_reports_and_images() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("open-i");
    for name in ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR3_IM-1384-1001"] {
        picture(&root.join(format!("NLMCXR_png/{name}.png")), 7);
    }
    fs::create_dir_all(root.join("ecgen-radiology")).unwrap();
    let xml = |id: u32, images: &[(&str, &str)]| {
        let images: String = images
            .iter()
            .map(|(name, caption)| format!("<parentImage id=\"{name}\"><caption>{caption}</caption></parentImage>"))
            .collect();
        let text = format!(
            "<eCitation><uId id=\"CXR{id}\"/><AbstractText Label=\"FINDINGS\">The heart is normal in XXXX size.</AbstractText>\
             <AbstractText Label=\"IMPRESSION\">Normal chest XXXX.</AbstractText>{images}</eCitation>"
        );
        fs::write(root.join(format!("ecgen-radiology/{id}.xml")), text).unwrap();
    };
    xml(1, &[("CXR1_1_IM-0001-3001", "PA and lateral"), ("CXR1_1_IM-0001-4001", "PA and lateral")]);
    xml(2, &[("CXR2_IM-0652-1001", "Chest, PA")]);
    xml(3, &[("CXR3_IM-1384-1001", "Chest"), ("CXR3_absent", "Chest")]);
    fs::write(root.join("ecgen-radiology/4.xml"), "<eCitation><no").unwrap();
    let run = |out: &str| {
        let source = Source::OpenI(OpenI { root: root.clone() });
        let summary = prepare(&source, &folder.path().join(out), &options(), &Alone, &Silent).unwrap().unwrap();
        (summary, Corpus::open(&folder.path().join(out)).unwrap())
    };
    let (summary, corpus) = run("by-caption");
    assert_eq!(corpus.studies().len(), 1);
    assert_eq!(corpus.studies()[0].report.as_deref(), Some("normal chest\nthe heart is normal in size"));
    assert_eq!(summary.skipped["view is unknown (indiana_projections.csv would state it)"], 3, "{summary}");
    assert_eq!(summary.skipped["image file does not exist"], 1);
    assert!(summary.skipped.keys().any(|reason| reason.contains("not readable XML")), "{summary}");
    let projections = "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Lateral\n1,1_IM-0001-4001.dcm.png,Frontal\n";
    fs::write(root.join("indiana_projections.csv"), projections).unwrap();
    let (_, corpus) = run("by-table");
    assert_eq!((corpus.studies().len(), corpus.manifest().counts.with_lateral), (2, 1));
}

#[test]
fn covid_chestxray_courses_are_sequences_and_slices_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        picture(&root.join("images").join(name), 50);
    }
    fs::write(
        root.join("metadata.csv"),
        "patientid,offset,sex,finding,view,modality,folder,filename,clinical_notes\n\
         2,5,M,Pneumonia/Viral/COVID-19,AP Supine,X-ray,images,b.jpg,Bilateral opacities have progressed.\n\
         2,0,M,Pneumonia/Viral/COVID-19,PA,X-ray,images,a.jpg,Clear lungs on admission.\n\
         2,5,M,Pneumonia/Viral/COVID-19,L,X-ray,images,c.jpg,\n\
         3,1,F,Pneumonia,Axial,CT,images,d.jpg,\n4,1,F,Pneumonia,,X-ray,images,e.jpg,\n",
    )
    .unwrap();
    let out = root.join("corpus");
    let summary =
        prepare(&Source::CovidChestxray(root.to_path_buf()), &out, &options(), &Alone, &Silent).unwrap().unwrap();
    let corpus = Corpus::open(&out).unwrap();
    assert_eq!(corpus.sequences()[0].studies, [1, 0]);
    assert!(corpus.studies()[0].lateral.is_some());
    assert_eq!(corpus.studies()[0].report.as_deref(), Some("bilateral opacities have progressed"));
    assert_eq!(summary.skipped["modality is CT, not X-ray"], 1);
    assert_eq!(summary.skipped["view is missing"], 1);
}

/// The DICOM release: it has no metadata table, and views and dates are in the objects.
#[test]
fn the_dicom_release_of_mimic_cxr_is_read_from_its_headers() {
    use medst_data::image::dicom::write::{Pixels, Wrap};
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let pixels: Vec<u16> = (0..64 * 64).map(|n| n as u16).collect();
    let mut list = "subject_id,study_id,dicom_id,path\n".to_string();
    for (study, dicom, view, time) in [
        ("50000002", "b1", Some("AP"), "120000"),
        ("50000001", "a1", Some("PA"), "110000"),
        ("50000001", "a2", Some("LL"), "110000"),
        ("50000001", "a3", None, "110000"),
    ] {
        let wrap = Wrap {
            bits_stored: 12,
            photometric: "MONOCHROME1",
            subject_id: "Doe, John",
            study_date: "21800506",
            study_time: time,
            view_position: view,
            ..Wrap::new(Pixels::Grey16(&pixels), 64, 64)
        };
        let path = format!("files/p10/p{SUBJECT}/s{study}/{dicom}.dcm");
        fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        fs::write(root.join(&path), wrap.to_bytes().unwrap()).unwrap();
        list += &format!("{SUBJECT},{study},{dicom},{path}\n");
    }
    list += &format!("{SUBJECT},50000003,c1,files/p10/p{SUBJECT}/s50000003/c1.dcm\n");
    gzip(&root.join("cxr-record-list.csv.gz"), &list);
    let source = Source::MimicCxr(MimicCxr { root: root.to_path_buf(), ..MimicCxr::default() });
    let out = root.join("corpus");
    let summary = prepare(&source, &out, &options(), &Alone, &Silent).unwrap().unwrap();
    let corpus = Corpus::open(&out).unwrap();
    assert_eq!(corpus.studies().len(), 2);
    assert_eq!(corpus.sequences()[0].studies, [1, 0], "in order of time, not of the list");
    assert!(corpus.studies()[1].lateral.is_some());
    assert_eq!(summary.skipped["DICOM header states no view"], 1, "{summary}");
    assert_eq!(summary.skipped["image file does not exist"], 1);
    // MONOCHROME1: the first pixel has the lowest value, and is the brightest.
    let picture = corpus.image(corpus.studies()[0].frontal).unwrap();
    assert!(picture[0] > 250 && picture[picture.len() - 1] < 5);
    // No name reaches the corpus.
    for entry in fs::read_dir(&out).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(4).any(|part| part == b"John"));
    }
}
