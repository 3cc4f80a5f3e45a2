//! MIMIC-CXR-JPG 2.0.0, with the labelled test set of 2.1.0: gzipped tables,
//! `files/p10/p10000032/s50414267/<id>.jpg`, reports in `mimic-cxr-reports.zip`.

use std::path::Path;

use chrono::{Days, NaiveDate};

use super::files::{Entries, Table, jpeg, write_file};
use super::ids;
use crate::cohort::{DrawnPatient, DrawnPicture, Patient};
use crate::finding::Finding;
use medst_data::Result;
use medst_data::split::Split;

pub const REPORTS: &str = "mimic-cxr-reports.zip";
pub const LISTS: &[&str] = &["IMAGE_FILENAMES"];
pub const TABLES: &[Table] = &[
    Table { name: "mimic-cxr-2.0.0-metadata.csv.gz", columns: &METADATA },
    Table { name: "mimic-cxr-2.0.0-split.csv.gz", columns: &["dicom_id", "study_id", "subject_id", "split"] },
    Table { name: "mimic-cxr-2.0.0-chexpert.csv.gz", columns: &LABELS },
    Table { name: "mimic-cxr-2.0.0-negbio.csv.gz", columns: &LABELS },
    Table { name: "mimic-cxr-2.1.0-test-set-labeled.csv", columns: &TEST_LABELS },
];

const METADATA: [&str; 12] = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
];

/// CheXpert's findings.
pub const CHEXPERT: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
];

const LABELS: [&str; 16] = with_ids(["subject_id", "study_id"]);
const TEST_LABELS: [&str; 15] = with_ids(["study_id"]);

/// Ids, then CheXpert's findings.
const fn with_ids<const IDS: usize, const ALL: usize>(ids: [&'static str; IDS]) -> [&'static str; ALL] {
    let mut columns = [""; ALL];
    let mut place = 0;
    while place < ALL {
        columns[place] = if place < IDS { ids[place] } else { CHEXPERT[place - IDS] };
        place += 1;
    }
    columns
}

/// A finding by CheXpert's name; `None` for those that the phantom does not draw.
pub fn finding(name: &str) -> Option<Finding> {
    Some(match name {
        "Atelectasis" => Finding::Atelectasis,
        "Cardiomegaly" => Finding::Cardiomegaly,
        "Consolidation" => Finding::Consolidation,
        "Edema" => Finding::Edema,
        "Pleural Effusion" => Finding::PleuralEffusion,
        "Pneumonia" => Finding::Pneumonia,
        "Pneumothorax" => Finding::Pneumothorax,
        _ => return None,
    })
}

/// The report's label for each finding: 1.0 mentioned, -1.0 present but not mentioned (like an
/// unsure labeller), 0.0 or empty for absent findings.
pub fn labels(patient: &Patient, visit: usize) -> Vec<String> {
    let present = patient.present(visit);
    let mentioned = &patient.visits[visit].mentioned;
    let is = |finding: Finding| present.iter().any(|(_, present)| present.finding == finding);
    let opaque = [Finding::Consolidation, Finding::Edema, Finding::Pneumonia, Finding::Atelectasis];
    CHEXPERT
        .iter()
        .map(|name| {
            let label = match (finding(name), *name) {
                (Some(finding), _) if mentioned.contains(&finding) => "1.0",
                (Some(finding), _) if is(finding) => "-1.0",
                (Some(finding), _) if ids::hashed_draw(patient, visit, finding.name(), 3) == 0 => "0.0",
                (_, "Lung Opacity") if opaque.iter().any(|&finding| is(finding)) => "1.0",
                (_, "No Finding") if present.is_empty() => "1.0",
                _ => "",
            };
            label.to_string()
        })
        .collect()
}

/// A date in a century specific to the patient, as the archive shifts them.
pub fn date(patient: &Patient, day: u32) -> String {
    let start = NaiveDate::from_ymd_opt(2110 + (patient.number % 80) as i32, 1 + patient.number % 12, 1);
    let date = start.and_then(|start| start.checked_add_days(Days::new(day.into()))).unwrap_or_default();
    date.format("%Y%m%d").to_string()
}

/// A time of day as a number: the zeros it begins with are lost.
fn time(patient: &Patient, visit: usize) -> String {
    let draw = |kind, below| ids::hashed_draw(patient, visit, kind, below);
    let digits = draw("hour", 24) * 10_000 + draw("minute", 60) * 100 + draw("second", 60);
    format!("{digits}.{}", draw("milli", 1000))
}

/// Writes a patient's pictures and texts.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let subject = ids::subject(patient);
    let mut entries = Entries { rows: vec![Vec::new(); TABLES.len()], ..Entries::default() };
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let study = ids::study(patient, number);
        let place = format!("files/p{}/p{subject}/s{study}", &subject[..2]);
        let frontal = if visit.has_lateral { ("PA", "postero-anterior") } else { ("AP", "antero-posterior") };
        let side = ["LATERAL", "LL"][ids::hashed_draw(patient, number, "side", 2) as usize];
        let mut images = vec![("frontal", frontal, &pictures.frontal)];
        images.extend(pictures.lateral.as_ref().map(|lateral| ("lateral", (side, "lateral"), lateral)));
        images.extend(pictures.second.as_ref().map(|second| ("second", ("AP", "antero-posterior"), second)));
        // A few images that no one can use: without a view, or of another one.
        match ids::hashed_draw(patient, number, "odd", 40) {
            0 => images.push(("odd", ("", ""), &pictures.frontal)),
            1 => images.push(("odd", ("LAO", "left anterior oblique"), &pictures.frontal)),
            _ => {}
        }
        let procedure = if visit.has_lateral { "CHEST (PA AND LAT)" } else { "CHEST (PORTABLE AP)" };
        for (kind, (view, meaning), picture) in images {
            let dicom = ids::dicom(patient, number, kind);
            let image = format!("{place}/{dicom}.jpg");
            write_file(&folder.join(&image), &jpeg(picture)?)?;
            let DrawnPicture { width, height, .. } = picture;
            let (date, time) = (date(patient, visit.day), time(patient, number));
            let (rows, columns) = (height.to_string(), width.to_string());
            let row: [&str; 12] =
                [&dicom, &subject, &study, procedure, view, &rows, &columns, &date, &time, procedure, meaning, "Erect"];
            entries.rows[0].push(row.map(String::from).to_vec());
            entries.rows[1].push([&dicom, &study, &subject, patient.split.name()].map(String::from).to_vec());
            entries.lines.push((0, image));
            entries.images += 1;
        }
        let labels = labels(patient, number);
        let with = |ids: &[&String]| ids.iter().copied().chain(&labels).cloned().collect::<Vec<String>>();
        entries.rows[2].push(with(&[&subject, &study]));
        entries.rows[3].push(with(&[&subject, &study]));
        if patient.split == Split::Test {
            entries.rows[4].push(with(&[&study]));
        }
        entries.texts.push((format!("{place}.txt"), visit.report.clone()));
    }
    Ok(entries)
}
