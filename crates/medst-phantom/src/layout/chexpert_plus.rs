//! CheXpert Plus: one table, pictures as PNG or DICOM where the table writes `.jpg`, labels as JSON
//! lines. Traps of the release are drawn too: DICOM files without HighBit, and orders of studies
//! that the dates in reports contradict.

use std::path::Path;

use chrono::{Days, NaiveDate};

use super::files::{Entries, Table, write_file, write_png};
use super::{ids, mimic_cxr_jpg};
use crate::cohort::{DrawnPatient, DrawnPicture};
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::report::sections;
use medst_data::split::Split;
use medst_data::{Error, Result};

pub const TABLES: &[Table] = &[Table { name: "df_chexpert_plus_240401.csv", columns: &COLUMNS }];
pub const LISTS: &[&str] = &["chexbert_labels/report_fixed.json"];

const COLUMNS: [&str; 27] = [
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "patient_report_date_order",
    "report",
    "section_narrative",
    "section_clinical_history",
    "section_history",
    "section_comparison",
    "section_technique",
    "section_procedure_comments",
    "section_findings",
    "section_impression",
    "section_end_of_impression",
    "section_summary",
    "section_accession_number",
    "age",
    "sex",
    "race",
    "ethnicity",
    "interpreter_needed",
    "insurance_type",
    "recent_bmi",
    "deceased",
    "split",
];

/// Whether the table orders a patient's first two studies the wrong way.
pub fn is_inverted(number: u32, visits: usize) -> bool {
    number % 4 == 1 && visits > 1
}

/// Writes a patient's images.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new()], ..Entries::default() };
    let (part, split) = if patient.split == Split::Test { ("valid", "valid") } else { ("train", "train") };
    let subject = format!("patient{:05}", patient.number + 1);
    let start = NaiveDate::from_ymd_opt(2110, 1 + patient.number % 12, 1).unwrap_or_default();
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let read = sections::choose(&visit.report);
        let date = start + Days::new(visit.day.into());
        let narrative = format!("RADIOGRAPHIC EXAMINATION OF THE CHEST: {}", date.format("%-m/%-d/%Y"));
        let order = match number {
            0 | 1 if is_inverted(patient.number, patient.visits.len()) => 2 - number,
            number => number + 1,
        };
        let frontal = if visit.has_lateral { "PA" } else { "AP" };
        let side = ["LL", "RL"][ids::hashed_draw(patient, number, "side", 2) as usize];
        let views = [
            ("frontal", "Frontal", frontal, Some(&pictures.frontal)),
            ("lateral", "Lateral", side, pictures.lateral.as_ref()),
        ];
        let there =
            views.into_iter().filter_map(|(name, position, view, picture)| Some((name, position, view, picture?)));
        for (n, (name, position, view, picture)) in there.enumerate() {
            let image = format!("{part}/{subject}/study{}/view{}_{name}", number + 1, n + 1);
            let stem = folder.join(&image);
            match number % 3 {
                2 => write_file(&stem.with_extension("dcm"), &dicom(picture, &subject, view)?)?,
                _ => write_png(&stem.with_extension("png"), picture)?,
            }
            let cell = |column: &str| {
                Some(match column {
                    "path_to_image" => format!("{image}.jpg"),
                    "path_to_dcm" => format!("{image}.dcm"),
                    "frontal_lateral" => position.into(),
                    "ap_pa" => view.into(),
                    "deid_patient_id" => subject.clone(),
                    "patient_report_date_order" => order.to_string(),
                    "report" => visit.report.clone(),
                    "section_narrative" => narrative.clone(),
                    "section_findings" => read.findings.clone()?,
                    "section_impression" => read.impression.clone()?,
                    "section_comparison" => read.comparison.clone()?,
                    "age" => (20 + ids::hashed_draw(patient, 0, "age", 70)).to_string(),
                    "sex" => ["Female", "Male"][ids::hashed_draw(patient, 0, "sex", 2) as usize].into(),
                    "race" => {
                        ["White", "Asian", "Other", "Unknown"][ids::hashed_draw(patient, 0, "race", 4) as usize].into()
                    }
                    "deceased" => "No".into(),
                    "split" => split.into(),
                    _ => return None,
                })
            };
            entries.rows[0].push(COLUMNS.iter().map(|column| cell(column).unwrap_or_default()).collect());
            entries.images += 1;
            let mut labels = serde_json::json!({ "path_to_image": format!("{image}.jpg") });
            for (finding, label) in mimic_cxr_jpg::CHEXPERT.iter().zip(mimic_cxr_jpg::labels(patient, number)) {
                labels[*finding] = label.parse::<f64>().map_or(serde_json::Value::Null, |label| label.into());
            }
            entries.lines.push((0, labels.to_string()));
        }
    }
    Ok(entries)
}

/// 12 bits in 16, without HighBit.
fn dicom(picture: &DrawnPicture, subject: &str, view: &str) -> Result<Vec<u8>> {
    let values: Vec<u16> = picture.pixels.iter().map(|&value| u16::from(value) << 4).collect();
    let side = |pixels: usize| u16::try_from(pixels).unwrap_or(u16::MAX);
    let wrap = Wrap {
        bits_stored: 12,
        without_high_bit: true,
        subject_id: subject,
        view_position: Some(view),
        ..Wrap::new(Pixels::Grey16(&values), side(picture.width), side(picture.height))
    };
    wrap.to_bytes().map_err(|error| Error::Usage(error.to_string()))
}
