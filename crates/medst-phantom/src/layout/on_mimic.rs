//! Tables about the images of the MIMIC-CXR-JPG layout: MS-CXR, CXR-LT, Chest ImaGenome's gold
//! comparisons.

use super::files::{Entries, Table};
use super::{ids, mimic_cxr_jpg};
use crate::cohort::{DrawnPatient, Patient};
use crate::course::Change;
use crate::finding::{Finding, Side};
use medst_data::split::Split;

pub const MS_CXR: &[Table] = &[Table {
    name: "MS_CXR_Local_Alignment_v1.1.0.csv",
    columns: &[
        "dicom_id",
        "subject_id",
        "study_id",
        "path",
        "split",
        "category_name",
        "label_text",
        "x",
        "y",
        "w",
        "h",
        "image_width",
        "image_height",
    ],
}];
pub const CXR_LT: &[Table] = &[
    Table { name: "cxr-lt-2024/development_labeled_task1.csv", columns: &LABELS },
    Table { name: "cxr-lt-2024/test_labeled_task1.csv", columns: &LABELS },
];
const LABELS: [&str; 13] = [
    "dicom_id",
    "subject_id",
    "study_id",
    "ViewPosition",
    "fpath",
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
    "Pneumonia",
    "Pneumothorax",
    "Normal",
];
pub const IMAGENOME: &[Table] = &[
    Table {
        name: "gold_dataset/gold_object_comparison_with_coordinates.txt",
        columns: &[
            "patient_id",
            "relationship_id",
            "subject_id",
            "object_id",
            "bbox",
            "comparison",
            "attribute",
            "sentence",
            "bbox_coord_224_subject",
            "bbox_coord_224_object",
            "bbox_coord_original_subject",
            "bbox_coord_original_object",
            "label_name",
            "current_image_id",
            "previous_image_id",
        ],
    },
    Table { name: "silver_dataset/splits/train.csv", columns: &SPLIT },
    Table { name: "silver_dataset/splits/valid.csv", columns: &SPLIT },
    Table { name: "silver_dataset/splits/test.csv", columns: &SPLIT },
    Table { name: "silver_dataset/splits/images_to_avoid.csv", columns: &SPLIT },
];
/// The first column, without a name, numbers the rows.
const SPLIT: [&str; 4] = ["", "subject_id", "study_id", "dicom_id"];

fn frontal(patient: &Patient, visit: usize) -> String {
    ids::dicom(patient, visit, "frontal")
}

/// The path of a frontal image in the MIMIC-CXR layout.
pub fn path(patient: &Patient, visit: usize) -> String {
    let (subject, study) = (ids::subject(patient), ids::study(patient, visit));
    format!("files/p{}/p{subject}/s{study}/{}.jpg", &subject[..2], frontal(patient, visit))
}

/// A row per box.
pub fn ms_cxr(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let mut rows = Vec::new();
    for (visit, pictures) in drawn.visits.iter().enumerate().filter(|_| patient.split == Split::Test) {
        let picture = &pictures.frontal;
        for ((_, present), bounds) in patient.present(visit).iter().zip(&picture.boxes) {
            let Some([x0, y0, x1, y1]) = bounds else { continue };
            let finding = present.finding.name().replace('_', " ");
            let side = if present.finding.has_side() { format!("{} ", present.side.name()) } else { String::new() };
            let ids =
                [frontal(patient, visit), ids::subject(patient), ids::study(patient, visit), path(patient, visit)];
            let words = ["test".into(), finding.clone(), format!("{side}{finding}")];
            let numbers = [*x0, *y0, x1 - x0, y1 - y0, picture.width as u32, picture.height as u32];
            rows.push(ids.into_iter().chain(words).chain(numbers.map(|number| number.to_string())).collect());
        }
    }
    Entries { rows: vec![rows], ..Entries::default() }
}

/// A row per frontal image.
pub fn cxr_lt(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let mut rows = vec![Vec::new(), Vec::new()];
    for (visit, visited) in patient.visits.iter().enumerate() {
        let present = patient.present(visit);
        let view = if visited.has_lateral { "PA" } else { "AP" };
        let fpath = path(patient, visit).trim_start_matches("files/").to_string();
        let ids = [frontal(patient, visit), ids::subject(patient), ids::study(patient, visit), view.into(), fpath];
        let labels = LABELS[5..].iter().map(|name| {
            let there = match mimic_cxr_jpg::finding(name) {
                Some(finding) => present.iter().any(|(_, present)| present.finding == finding),
                None => present.is_empty(),
            };
            u8::from(there).to_string()
        });
        rows[usize::from(patient.split == Split::Test)].push(ids.into_iter().chain(labels).collect());
    }
    Entries { rows, ..Entries::default() }
}

/// A row per finding and side, whose ids of images are written as file names; and the splits of the
/// silver part. Images to avoid are those of which there are gold comparisons.
pub fn imagenome(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let mut rows = vec![Vec::new(); IMAGENOME.len()];
    let split = match patient.split {
        Split::Train => 1,
        Split::Validate => 2,
        Split::Test => 3,
    };
    for visit in 0..patient.visits.len() {
        let image = || {
            let ids = [ids::subject(patient), ids::study(patient, visit), frontal(patient, visit)];
            [vec![visit.to_string()], ids.to_vec()].concat()
        };
        rows[split].push(image());
        if patient.split != Split::Train {
            rows[4].push(image());
        }
    }
    for visit in (1..patient.visits.len()).filter(|_| patient.split != Split::Train) {
        for course in patient.courses.iter().filter(|course| !course.hidden) {
            let word = match course.change(visit) {
                Change::Improving | Change::Resolved => "improved",
                Change::Stable => "no change",
                Change::Worsening | Change::New => "worsened",
                Change::First | Change::Absent => continue,
            };
            let name = match course.finding {
                Finding::Edema => "pulmonary edema/hazy opacity".to_string(),
                Finding::Cardiomegaly => "enlarged cardiac silhouette".to_string(),
                other => other.name().replace('_', " "),
            };
            let sides: &[&str] = match course.side {
                Side::Both => &["left lung", "right lung"],
                Side::Left => &["left lung"],
                Side::Right => &["right lung"],
            };
            for side in sides {
                let file = |visit| format!("{}.dcm", frontal(patient, visit));
                let mut row = vec![String::new(); 15];
                row[0] = ids::subject(patient);
                row[4] = side.to_string();
                row[5] = word.into();
                row[12] = name.clone();
                (row[13], row[14]) = (file(visit), file(visit - 1));
                rows[0].push(row);
            }
        }
    }
    Entries { rows, ..Entries::default() }
}
