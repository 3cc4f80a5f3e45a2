//! A table of images, with the columns of [`crate::import::table`].

use std::path::Path;

use super::files::{Entries, Table, write_png};
use crate::Result;
use crate::phantom::cohort::{Drawn, Patient, Picture};
use crate::phantom::finding::Finding;

pub const IMAGES: &str = "images";
pub const STUDIES: &str = "studies.csv";
pub const TABLES: &[Table] = &[Table { name: STUDIES, columns: &COLUMNS }];

const COLUMNS: [&str; 14] = [
    "subject_id",
    "study_id",
    "day",
    "view",
    "image",
    "report",
    "split",
    "consolidation",
    "edema",
    "pleural_effusion",
    "pneumonia",
    "pneumothorax",
    "atelectasis",
    "cardiomegaly",
];

/// The id of a patient.
pub fn subject(patient: &Patient) -> String {
    format!("p{:05}", patient.number)
}

/// The id of a visit.
pub fn study(patient: &Patient, visit: usize) -> String {
    format!("{}-v{}", subject(patient), visit + 1)
}

/// Writes a patient's pictures.
pub fn write(folder: &Path, drawn: &Drawn) -> Result<Entries> {
    let patient = &drawn.patient;
    let subject = subject(patient);
    let mut rows = Vec::new();
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let study = study(patient, number);
        let present = patient.present(number);
        let labels = Finding::ALL.map(|finding| {
            let there = present.iter().any(|(_, present)| present.finding == finding);
            u8::from(there).to_string()
        });
        let mut add = |name: &str, view: &str, picture: &Picture| {
            let image = format!("{IMAGES}/{subject}/{study}_{name}.png");
            write_png(&folder.join(&image), picture)?;
            let day = visit.day.to_string();
            let mut row =
                [&subject, &study, &day, view, &image, &visit.report, patient.split.name()].map(String::from).to_vec();
            row.extend(labels.clone());
            rows.push(row);
            Ok(())
        };
        add("frontal", if visit.has_lateral { "PA" } else { "AP" }, &pictures.frontal)?;
        if let Some(lateral) = &pictures.lateral {
            add("lateral", "LATERAL", lateral)?;
        }
    }
    Ok(Entries { images: rows.len(), rows: vec![rows], ..Entries::default() })
}
