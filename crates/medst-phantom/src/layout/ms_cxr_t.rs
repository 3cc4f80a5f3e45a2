//! MS-CXR-T 1.0.0: pairs of consecutive images of patients outside the training split, with the
//! course of five findings, and pairs of sentences.

use super::files::{Entries, Table};
use super::ids;
use crate::cohort::DrawnPatient;
use crate::finding::Finding;
use medst_data::split::Split;

pub const TABLES: &[Table] = &[
    Table { name: "MS_CXR_T_temporal_image_classification_v1.0.0.csv", columns: &IMAGES },
    Table { name: "MS_CXR_T_temporal_sentence_similarity_v1.0.0.csv", columns: &SENTENCES },
];

const IMAGES: [&str; 9] = [
    "dicom_id",
    "previous_dicom_id",
    "subject_id",
    "study_id",
    "consolidation_progression",
    "edema_progression",
    "pleural_effusion_progression",
    "pneumonia_progression",
    "pneumothorax_progression",
];
const SENTENCES: [&str; 4] = ["sentence_1", "sentence_2", "category", "subset_name"];

/// The findings of the benchmark, in the order of its columns.
const FINDINGS: [Finding; 5] =
    [Finding::Consolidation, Finding::Edema, Finding::PleuralEffusion, Finding::Pneumonia, Finding::Pneumothorax];

/// The pairs of a patient.
pub fn entries(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let mut rows = Vec::new();
    for visit in (1..patient.visits.len()).filter(|_| patient.split != Split::Train) {
        let courses = FINDINGS.map(|finding| patient.progression(finding, visit));
        if courses.iter().all(|course| course.is_empty()) {
            continue;
        }
        let image = |visit| ids::dicom(patient, visit, "frontal");
        let mut row = vec![image(visit), image(visit - 1), ids::subject(patient), ids::study(patient, visit)];
        row.extend(courses.map(String::from));
        rows.push(row);
    }
    Entries { rows: vec![rows], ..Entries::default() }
}

const IMPROVING: [&str; 4] = [
    "There has been improvement of the {}.",
    "The {} has decreased since the prior study.",
    "Interval decrease of the {}.",
    "The {} is smaller than before.",
];
const STABLE: [&str; 4] = [
    "The {} is unchanged.",
    "There is no change of the {}.",
    "Stable {} compared to the prior study.",
    "The {} persists without change.",
];
const WORSENING: [&str; 4] = [
    "There has been worsening of the {}.",
    "The {} has increased since the prior study.",
    "Interval increase of the {}.",
    "The {} is larger than before.",
];
const WORDS: [&str; 6] = [
    "consolidation",
    "pulmonary edema",
    "left pleural effusion",
    "right pleural effusion",
    "pneumonia",
    "pneumothorax",
];

/// Pairs of sentences: of the same course in other words, of another course in the same words
/// (`swaps`) or in others (`RadGraph`).
pub fn sentences() -> Vec<Vec<String>> {
    let courses = [IMPROVING, STABLE, WORSENING];
    let mut rows = Vec::new();
    for (n, word) in WORDS.iter().enumerate() {
        let say = |template: &str| template.replace("{}", word);
        for (place, pair) in courses.iter().enumerate() {
            let other = courses[(place + 1 + n % 2) % 3];
            for first in 0..4 {
                let second = (first + 1 + (n + place) % 3) % 4;
                let mut add = |second: String, category: &str, subset: &str| {
                    rows.push([say(pair[first]), second, category.into(), subset.into()].to_vec());
                };
                add(say(pair[second]), "paraphrase", if first % 2 == 0 { "RadGraph" } else { "swaps" });
                add(say(other[first]), "contradiction", "swaps");
                add(say(other[second]), "contradiction", "RadGraph");
            }
        }
    }
    rows
}
