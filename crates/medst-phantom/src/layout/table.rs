//! A table of images, with the columns of [`medst_data::import::table`].

use std::path::Path;

use super::files::{Entries, Table, write_png};
use crate::cohort::{DrawnPatient, DrawnPicture, Patient};
use crate::finding::{Finding, Present};
use medst_data::Result;
use medst_data::boxes::{self, Boxes, Region};

pub const IMAGES: &str = "images";
pub const STUDIES: &str = "studies.csv";
pub const TABLES: &[Table] = &[Table { name: STUDIES, columns: &COLUMNS }];

const COLUMNS: [&str; 22] = [
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
    "consolidation_progression",
    "edema_progression",
    "pleural_effusion_progression",
    "pneumonia_progression",
    "pneumothorax_progression",
    "atelectasis_progression",
    "cardiomegaly_progression",
    boxes::LABEL,
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
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
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
        let courses = Finding::ALL.map(|finding| patient.progression(finding, number).to_string());
        let seen = boxes_of(&present, &pictures.frontal);
        let mut add = |name: &str, view: &str, picture: &DrawnPicture| {
            let image = format!("{IMAGES}/{subject}/{study}_{name}.png");
            write_png(&folder.join(&image), picture)?;
            let day = visit.day.to_string();
            let mut row =
                [&subject, &study, &day, view, &image, &visit.report, patient.split.name()].map(String::from).to_vec();
            row.extend(labels.clone());
            row.extend(courses.clone());
            row.push(if name == "frontal" { seen.clone() } else { String::new() });
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

/// The boxes of the findings on the frontal picture; empty if none shows.
fn boxes_of(present: &[(usize, Present)], picture: &DrawnPicture) -> String {
    let regions: Vec<Region> = present
        .iter()
        .zip(&picture.boxes)
        .filter_map(|((_, present), bounds)| {
            let [left, top, right, bottom] = (*bounds)?.map(f64::from);
            let finding = present.finding.name().replace('_', " ");
            let phrase = match present.finding.has_side() {
                true => format!("{} {finding}", present.side.name()),
                false => finding,
            };
            Some(Region { phrase, left, top, right, bottom })
        })
        .collect();
    let boxes = Boxes { width: picture.width as f64, height: picture.height as f64, regions };
    if boxes.regions.is_empty() { String::new() } else { boxes.to_label() }
}
