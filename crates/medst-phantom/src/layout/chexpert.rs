//! CheXpert, the small release: `train.csv`, `valid.csv` and
//! `train/patient00001/study1/view1_frontal.jpg`.

use std::path::Path;

use super::files::{Entries, Table, jpeg, write_file};
use super::{ids, mimic_cxr_jpg};
use crate::cohort::DrawnPatient;
use medst_data::Result;
use medst_data::split::Split;

pub const TABLES: &[Table] =
    &[Table { name: "train.csv", columns: &COLUMNS }, Table { name: "valid.csv", columns: &COLUMNS }];
const RELEASE: &str = "CheXpert-v1.0-small";

const COLUMNS: [&str; 19] = [
    "Path",
    "Sex",
    "Age",
    "Frontal/Lateral",
    "AP/PA",
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// Writes a patient's images.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new(); 2], ..Entries::default() };
    let (table, part) = if patient.split == Split::Test { (1, "valid") } else { (0, "train") };
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let present = patient.present(number);
        let labels = COLUMNS[5..].iter().map(|name| {
            let there = mimic_cxr_jpg::finding(name)
                .map(|finding| present.iter().any(|(_, present)| present.finding == finding));
            let label = match (there, *name) {
                (Some(true), _) => "1.0",
                (Some(false), _) => "0.0",
                (None, "No Finding") if present.is_empty() => "1.0",
                (None, _) => "",
            };
            label.to_string()
        });
        let labels: Vec<String> = labels.collect();
        let frontal = if visit.has_lateral { "PA" } else { "AP" };
        let views = [
            ("frontal", "Frontal", frontal, Some(&pictures.frontal)),
            ("lateral", "Lateral", "", pictures.lateral.as_ref()),
        ];
        let there =
            views.into_iter().filter_map(|(name, position, view, picture)| Some((name, position, view, picture?)));
        for (n, (name, position, view, picture)) in there.enumerate() {
            let image = format!("{part}/patient{:05}/study{}/view{}_{name}.jpg", patient.number + 1, number + 1, n + 1);
            write_file(&folder.join(&image), &jpeg(picture)?)?;
            let age = (20 + ids::hashed_draw(patient, 0, "age", 70)).to_string();
            let sex = ["Female", "Male"][ids::hashed_draw(patient, 0, "sex", 2) as usize];
            let mut row = [&format!("{RELEASE}/{image}"), sex, &age, position, view].map(String::from).to_vec();
            row.extend(labels.clone());
            entries.rows[table].push(row);
            entries.images += 1;
        }
    }
    Ok(entries)
}
