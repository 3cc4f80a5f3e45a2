//! PadChest and PadChest-GR: 16-bit PNG whose values fill 12 bits, labels as Python prints a list,
//! and grounded sentences.

use std::path::Path;

use chrono::{Days, NaiveDate};
use serde_json::json;

use super::files::{Entries, Table, write_png16};
use super::ids;
use crate::cohort::{DrawnPatient, Patient};
use crate::course::Change;
use crate::finding::Finding;
use medst_data::Result;
use medst_data::report::sections;
use medst_data::split::Split;

pub const TABLES: &[Table] =
    &[Table { name: "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", columns: &COLUMNS }];
pub const GR_TABLES: &[Table] = &[Table { name: "master_table.csv", columns: &GR_COLUMNS }];
pub const GR_LISTS: &[&str] = &["grounded_reports_20240819.json"];

const COLUMNS: [&str; 12] = [
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Report",
    "Labels",
    "Localizations",
];
const GR_COLUMNS: [&str; 23] = [
    "StudyID",
    "ImageID",
    "label",
    "boxes_count",
    "extra_boxes_count",
    "locations",
    "prior_study",
    "progression_status",
    "prior_imageID",
    "sentence_en",
    "sentence_es",
    "study_is_benchmark",
    "study_is_validation",
    "split",
    "PatientID",
    "patient_is_benchmark",
    "PatientBirth",
    "PatientSex_DICOM",
    "StudyDate_DICOM",
    "StudyDate",
    "PatientAge",
    "label_group",
    "Year",
];

/// PadChest's name of a finding.
fn name(finding: Finding) -> &'static str {
    match finding {
        Finding::Consolidation => "consolidation",
        Finding::Edema => "pulmonary edema",
        Finding::PleuralEffusion => "pleural effusion",
        Finding::Pneumonia => "atypical pneumonia",
        Finding::Pneumothorax => "pneumothorax",
        Finding::Atelectasis => "laminar atelectasis",
        Finding::Cardiomegaly => "cardiomegaly",
    }
}

/// An ID with more digits than fit into 64 bits.
fn study(patient: &Patient, visit: usize) -> String {
    format!("2168400889{}000000000000000{visit:04}", ids::study(patient, visit))
}

fn image(patient: &Patient, visit: usize, kind: &str) -> String {
    format!("{}_{}.png", study(patient, visit), ids::hashed_draw(patient, visit, kind, 1_000_000))
}

fn date(patient: &Patient, visit: usize) -> String {
    let start = NaiveDate::from_ymd_opt(2109, 1 + patient.number % 12, 1).unwrap_or_default();
    (start + Days::new(patient.visits[visit].day.into())).format("%Y%m%d").to_string()
}

/// Writes a patient's images in PadChest's layout.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut rows = Vec::new();
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let mut labels: Vec<String> =
            patient.present(number).iter().map(|(_, present)| name(present.finding).to_string()).collect();
        if labels.is_empty() {
            labels.push("normal".into());
        }
        let odd = ids::hashed_draw(patient, number, "odd", 20);
        match odd {
            0 => labels.push("exclude".into()),
            1 => labels.push("suboptimal study".into()),
            _ => {}
        }
        // Blanks stray into the list.
        let labels = format!("[{}]", labels.iter().map(|label| format!("' {label}'")).collect::<Vec<_>>().join(", "));
        let frontal = match (visit.has_lateral, odd) {
            (_, 2) => "COSTAL",
            (true, _) => "PA",
            (false, odd) => ["AP", "AP_horizontal"][odd as usize % 2],
        };
        let views = [("frontal", frontal, Some(&pictures.frontal)), ("lateral", "L", pictures.lateral.as_ref())];
        for (kind, projection, picture) in views {
            let Some(picture) = picture else { continue };
            let (file, place) = (image(patient, number, kind), patient.number % 54);
            write_png16(&folder.join(format!("images/{place}/{file}")), picture, 12)?;
            let row: [&str; 12] = [
                "",
                &file,
                &place.to_string(),
                &date(patient, number),
                &study(patient, number),
                &format!("8398604886942303316{}", ids::subject(patient)),
                "2050.0",
                ["F", "M"][ids::hashed_draw(patient, 0, "sex", 2) as usize],
                projection,
                "sin alteracion pulmonar agud .",
                if odd == 3 { "" } else { &labels },
                "[]",
            ];
            rows.push(row.map(String::from).to_vec());
        }
    }
    Ok(Entries { images: rows.len(), rows: vec![rows], ..Entries::default() })
}

/// Writes a patient's frontal images in PadChest-GR's layout: visits are studies, each with the one
/// before as its prior; the first visit of some patients is a prior only.
pub fn write_grounded(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new()], ..Entries::default() };
    let split = match patient.split {
        Split::Train => "train",
        Split::Validate => "validation",
        Split::Test => "test",
    };
    let only_prior = |visit: usize| visit == 0 && patient.number.is_multiple_of(3) && patient.visits.len() > 1;
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let picture = &pictures.frontal;
        let file = image(patient, number, "frontal");
        write_png16(&folder.join("PadChest_GR").join(&file), picture, 12)?;
        entries.images += 1;
        if only_prior(number) {
            continue;
        }
        let prior = number.checked_sub(1);
        let mut findings = Vec::new();
        for ((course, present), bounds) in patient.present(number).into_iter().zip(&picture.boxes) {
            let [width, height] = [picture.width, picture.height].map(|side| side as f64);
            let fractions = bounds.map(|[x0, y0, x1, y1]| {
                [f64::from(x0) / width, f64::from(y0) / height, f64::from(x1) / width, f64::from(y1) / height]
            });
            let progression = match patient.courses[course].change(number) {
                Change::Stable => Some("stable"),
                Change::Improving => Some("improved"),
                Change::Worsening => Some("worsened"),
                _ => None,
            };
            findings.push(json!({
                "sentence_en": format!("There is {} {}.", present.side.name(), present.finding.name().replace('_', " ")),
                "sentence_es": "", "abnormal": true, "boxes": fractions.into_iter().collect::<Vec<_>>(), "extra_boxes": [],
                "labels": [name(present.finding)], "locations": [], "progression": progression,
            }));
        }
        if let Some(said) = sections::choose(&visit.report).impression.filter(|_| findings.is_empty()) {
            findings.push(json!({ "sentence_en": said, "sentence_es": "", "abnormal": false, "boxes": [],
                "extra_boxes": [], "labels": ["Normal"], "locations": [], "progression": null }));
        }
        let record = json!({
            "StudyID": study(patient, number), "ImageID": file,
            "PreviousStudyID": prior.map(|prior| study(patient, prior)),
            "PreviousImageID": prior.map(|prior| image(patient, prior, "frontal")),
            "findings": findings,
        });
        entries.lines.push((0, record.to_string()));
        for finding in &findings {
            let cell = |column: &str| match column {
                "StudyID" => study(patient, number),
                "ImageID" => file.clone(),
                "label" => finding["labels"][0].as_str().unwrap_or_default().into(),
                "sentence_en" => finding["sentence_en"].as_str().unwrap_or_default().into(),
                "split" => split.into(),
                "PatientID" => format!("8398604886942303316{}", ids::subject(patient)),
                "PatientSex_DICOM" => ["F", "M"][ids::hashed_draw(patient, 0, "sex", 2) as usize].into(),
                "StudyDate_DICOM" => date(patient, number),
                "PatientAge" => format!("{}.0", 20 + ids::hashed_draw(patient, 0, "age", 70)),
                _ => String::new(),
            };
            entries.rows[0].push(GR_COLUMNS.iter().map(|column| cell(column)).collect());
        }
    }
    Ok(entries)
}
