//! Tables and reports as hospitals export them, and what a corpus stores of patients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::import::{Labels, PrepareOptions, Summary, prepare_table};
use medst_data::progress::Silent;
use medst_data::report::Rule;

fn png(path: &Path, value: u8) {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 40, 30);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[value; 1200]).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Prepares a table next to pictures `0.png` … `9.png`.
fn prepare(table: &[u8], options: &PrepareOptions) -> Result<(Summary, Corpus, tempfile::TempDir), String> {
    let folder = tempfile::tempdir().unwrap();
    (0..10).for_each(|n| png(&folder.path().join(format!("{n}.png")), 10 + n));
    let path = folder.path().join("studies.csv");
    fs::write(&path, table).unwrap();
    let options = PrepareOptions { image_size: 32, ..options.clone() };
    let summary =
        prepare_table(&path, &folder.path().join("corpus"), &options, &Silent).map_err(|error| error.to_string())?;
    let corpus = Corpus::open(&folder.path().join("corpus")).unwrap();
    Ok((summary, corpus, folder))
}

/// A report of a corpus, which has a sentence per line.
fn one_line(report: &str) -> String {
    report.replace('\n', " ")
}

#[test]
fn a_table_is_the_same_in_every_encoding_and_with_every_separator() {
    let plain = "\"subject_id\",\"study_id\",\"view\",\"image\",\"report\"\r\n\
                 \"1\",\"s1\",\"PA\",\"0.png\",\"FINDINGS: There is a small\r\nleft effusion. IMPRESSION: \"\"Stable\"\", no pneumothorax.\"\r\n\
                 \"2\",\"s2\",\"AP\",\"1.png\",\"No focal consolidation; heart size is normal.\"\r\n";
    let utf16 = |little: bool| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(plain.encode_utf16());
        units.flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let separated = |mark: &str| plain.replace("\",\"", &format!("\"{mark}\"")).into_bytes();
    let excel = |mark: &str| [format!("sep={mark}\r\n").into_bytes(), separated(mark)].concat();
    let forms = [
        plain.as_bytes().to_vec(),
        ["\u{feff}", plain].concat().into_bytes(),
        utf16(true),
        utf16(false),
        separated(";"),
        separated("\t"),
        excel(","),
        excel(";"),
    ];
    for (number, bytes) in forms.iter().enumerate() {
        let (_, corpus, _folder) = prepare(bytes, &PrepareOptions::default()).unwrap();
        let reports: Vec<_> = corpus
            .studies()
            .iter()
            .map(|study| (study.study.0.as_str(), one_line(study.report.as_deref().unwrap())))
            .collect();
        let expected = [
            ("s1", "stable no pneumothorax there is a small left effusion"),
            ("s2", "no focal consolidation heart size is normal"),
        ];
        assert_eq!(reports, expected.map(|(study, report)| (study, report.to_string())), "form {number}");
    }
}

#[test]
fn years_of_two_digits_are_refused() {
    for date in ["20-03-31", "0020-04-02", "31.03.20"] {
        let table = format!("subject_id,view,image,acquired\n1,PA,0.png,2020-03-30\n1,PA,1.png,{date}\n");
        let error = prepare(table.as_bytes(), &PrepareOptions::default()).err().unwrap();
        assert!(error.contains(&format!("row 2: acquired is `{date}`, whose year has two digits")), "{error}");
    }
}

#[test]
fn impression_and_findings_are_read_and_never_the_question() {
    let mimic = "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___M with cough.  Evaluate for pneumonia.\n \n \
                 FINDINGS: \n \n The lungs are clear. Heart size normal.\n \n IMPRESSION: \n \n No acute cardiopulmonary process.\n";
    let bare = mimic.replace("\n ", "\n");
    let line = mimic.split_whitespace().collect::<Vec<_>>().join(" ");
    let cased =
        bare.replace("FINDINGS", "Findings").replace("IMPRESSION", "Impression").replace("INDICATION", "Indication");
    let read = "no acute cardiopulmonary process the lungs are clear heart size normal";
    let question = " INDICATION:  Cough, question of pneumonia.\n \n The lungs are clear and the heart is normal.\n";
    let wet = "                                 WET READ: ___ ___ ___ 9:12 PM\n  Large right pneumothorax.\n                            FINAL ADDENDUM\n \
               ADDENDUM:  Discussed with Dr. ___ by phone.\n                                 FINAL REPORT\n INDICATION: Trauma.\n \n \
               FINDINGS: Large right pneumothorax with shift.\n \n IMPRESSION: Right pneumothorax.\n";
    for (report, expected) in [
        (mimic.to_string(), read),
        (mimic.replace('\n', "\r\n"), read),
        (bare.clone(), read),
        (bare.replace('\n', "\r\n"), read),
        (line, read),
        (cased, read),
        (question.to_string(), "the lungs are clear and the heart is normal"),
        (question.replace('\n', "\r\n"), "the lungs are clear and the heart is normal"),
        (wet.to_string(), "right pneumothorax large right pneumothorax with shift"),
        (
            "x\n FINDINGS: A 1.5 cm nodule in the right lung. ET tube 3.2 cm above carina.\n".into(),
            "a 1.5 cm nodule in the right lung et tube 3.2 cm above carina",
        ),
    ] {
        let table = format!("subject_id,view,image,report\n1,PA,0.png,\"{report}\"\n");
        let (summary, corpus, _folder) = prepare(table.as_bytes(), &PrepareOptions::default()).unwrap();
        let found = corpus.studies()[0].report.as_deref().map(one_line);
        assert_eq!(found.as_deref(), Some(expected), "{report}");
        assert!(!summary.warnings.keys().any(|note| note.contains("person's name")), "{summary}");
    }
    // As the reference does, on request; the corpus records which.
    let table = b"subject_id,view,image,report\n1,PA,0.png,\"x\n FINDINGS: A 1.5 cm nodule in the lung.\n\"\n";
    let options = PrepareOptions { report_rule: Rule::Reference, ..PrepareOptions::default() };
    let (_, corpus, _folder) = prepare(table, &options).unwrap();
    assert_eq!(corpus.studies()[0].report.as_deref(), Some("5 cm nodule in the lung"));
    assert_eq!(corpus.manifest().report_rule, Rule::Reference);
}

#[test]
fn columns_that_identify_patients_are_left_out_unless_asked_for() {
    let table = b"subject_id,view,image,PatientName,mrn,date_of_birth,Edema,report\n\
                  1,PA,0.png,Jane Roe,4711,1950-01-01,1,Discussed with Dr. Smith by phone.\n2,PA,1.png,,4712,1951-01-01,0,\n";
    let (summary, corpus, _folder) = prepare(table, &PrepareOptions::default()).unwrap();
    assert!(corpus.studies().iter().all(|study| study.labels.keys().eq(["Edema", "view"])));
    let cells = |column: &str| {
        summary
            .warnings
            .iter()
            .find(|(note, _)| note.starts_with(&format!("cells of column `{column}`")))
            .map(|(_, count)| *count)
    };
    assert_eq!(
        ["PatientName", "mrn", "date_of_birth", "Edema"].map(cells),
        [Some(1), Some(2), Some(2), None],
        "{summary}"
    );
    assert_eq!(summary.warnings["reports with what looks like a person's name (`Dr. …`, `Mr. …`, `Name: …`), kept"], 1);
    let keeping = |name: &str| PrepareOptions {
        labels: Labels::WithoutPatients { but: vec![name.into()] },
        ..PrepareOptions::default()
    };
    let (_, corpus, _folder) = prepare(table, &keeping("mrn")).unwrap();
    assert_eq!(corpus.studies()[0].labels["mrn"], "4711");
    let error = prepare(table, &keeping("MRN")).err().unwrap();
    assert!(error.contains("has no column `MRN`"), "{error}");
}

#[test]
fn a_corpus_is_its_owners_only() {
    let (_, _, folder) = prepare(b"subject_id,view,image\n1,PA,0.png\n", &PrepareOptions::default()).unwrap();
    let corpus = folder.path().join("corpus");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&corpus) & 0o077, 0);
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
}
