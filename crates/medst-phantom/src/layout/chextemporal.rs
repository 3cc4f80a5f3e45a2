//! CheXTemporal's gold pairs, a Parquet table about images of the CheXpert, MIMIC-CXR and
//! ReXGradient layouts.

use super::files::{Entries, Table};
use super::{ids, on_mimic, rexgradient};
use crate::cohort::DrawnPatient;
use crate::course::Change;
use medst_data::split::Split;

pub const TABLES: &[Table] = &[Table {
    name: "gold_progression_pairs.parquet",
    columns: &[
        "patient_id",
        "study_id_prev",
        "study_id_curr",
        "img_path_prev",
        "img_path_curr",
        "disease_name",
        "progression",
        "dataset",
    ],
}];

/// The pairs of a patient, who is of one data set.
pub fn entries(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let dataset = ["chexpert", "mimic", "chexpert", "mimic", "rexgradient"][patient.number as usize % 5];
    let mut rows = Vec::new();
    for visit in 1..patient.visits.len() {
        for course in patient.courses.iter().filter(|course| !course.hidden) {
            let word = match course.change(visit) {
                Change::New => "New",
                Change::Improving => "Improved",
                Change::Stable => "Stable",
                Change::Worsening => "Worse",
                Change::Resolved => "Resolved",
                Change::First | Change::Absent => continue,
            };
            let part = if patient.split == Split::Test { "valid" } else { "train" };
            let image = |visit: usize| match dataset {
                "chexpert" => format!("{part}/patient{:05}/study{}/view1_frontal.jpg", patient.number + 1, visit + 1),
                "mimic" => on_mimic::path(patient, visit),
                _ => rexgradient::member(patient, visit, "frontal"),
            };
            let study = |visit: usize| match dataset {
                "chexpert" => format!("study{}", visit + 1),
                _ => ids::study(patient, visit),
            };
            let subject = match dataset {
                "chexpert" => format!("patient{:05}", patient.number + 1),
                _ => ids::subject(patient),
            };
            let name = course.finding.name().replace('_', " ");
            let cells = [
                subject,
                study(visit - 1),
                study(visit),
                image(visit - 1),
                image(visit),
                name,
                word.to_string(),
                dataset.to_string(),
            ];
            rows.push(cells.to_vec());
        }
    }
    Entries { rows: vec![rows], ..Entries::default() }
}
