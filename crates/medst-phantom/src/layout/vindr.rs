//! VinDr-CXR: `.dicom` files, some of them MONOCHROME1, with three readers in the training set, who
//! do not always agree.

use std::path::Path;

use super::files::{Entries, Table, write_file};
use super::ids;
use crate::cohort::{DrawnPatient, DrawnPicture};
use crate::finding::Finding;
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::split::Split;
use medst_data::{Error, Result};

pub const TABLES: &[Table] = &[
    Table { name: "annotations/image_labels_train.csv", columns: &TRAIN_LABELS },
    Table { name: "annotations/image_labels_test.csv", columns: &TEST_LABELS },
    Table {
        name: "annotations/annotations_train.csv",
        columns: &["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"],
    },
    Table {
        name: "annotations/annotations_test.csv",
        columns: &["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"],
    },
];

const FINDINGS: [(&str, Option<Finding>); 8] = [
    ("Atelectasis", Some(Finding::Atelectasis)),
    ("Cardiomegaly", Some(Finding::Cardiomegaly)),
    ("Consolidation", Some(Finding::Consolidation)),
    ("Edema", Some(Finding::Edema)),
    ("Pleural effusion", Some(Finding::PleuralEffusion)),
    ("Pneumothorax", Some(Finding::Pneumothorax)),
    ("Pneumonia", Some(Finding::Pneumonia)),
    ("No finding", None),
];
const TRAIN_LABELS: [&str; 10] = labels(["image_id", "rad_id"]);
const TEST_LABELS: [&str; 9] = labels(["image_id"]);

const fn labels<const IDS: usize, const ALL: usize>(ids: [&'static str; IDS]) -> [&'static str; ALL] {
    let mut columns = [""; ALL];
    let mut place = 0;
    while place < ALL {
        columns[place] = if place < IDS { ids[place] } else { FINDINGS[place - IDS].0 };
        place += 1;
    }
    columns
}

/// Writes a patient's frontal images; the tables do not show that they belong to one patient.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new(); 4], ..Entries::default() };
    let is_test = patient.split == Split::Test;
    for (number, pictures) in drawn.visits.iter().enumerate() {
        let (picture, id) = (&pictures.frontal, ids::uuid(patient, number).replace('-', ""));
        let part = if is_test { "test" } else { "train" };
        let inverted = ids::hashed_draw(patient, number, "inverted", 5) == 0;
        write_file(&folder.join(part).join(format!("{id}.dicom")), &dicom(picture, inverted)?)?;
        entries.images += 1;
        let present = patient.present(number);
        // One of three readers misses the first finding.
        let readers: &[&str] = if is_test { &[""] } else { &["R8", "R9", "R10"] };
        for (n, reader) in readers.iter().enumerate() {
            let seen = &present[usize::from(n == 2).min(present.len())..];
            let labels = FINDINGS.iter().map(|(_, finding)| {
                let there = match finding {
                    Some(finding) => seen.iter().any(|(_, present)| present.finding == *finding),
                    None => seen.is_empty(),
                };
                u8::from(there).to_string()
            });
            let ids = [id.clone(), reader.to_string()].into_iter().take(if is_test { 1 } else { 2 });
            entries.rows[usize::from(is_test)].push(ids.clone().chain(labels).collect());
            let mut boxes = 0;
            for ((_, present), bounds) in present.iter().zip(&picture.boxes).skip(present.len() - seen.len()) {
                let class = FINDINGS.iter().find(|(_, finding)| *finding == Some(present.finding));
                let (Some(bounds), Some((class, _))) = (bounds, class) else { continue };
                boxes += 1;
                let sides = bounds.map(|side| format!("{side}.5"));
                entries.rows[2 + usize::from(is_test)]
                    .push(ids.clone().chain([class.to_string()]).chain(sides).collect());
            }
            if boxes == 0 {
                let class = ["No finding".to_string()].into_iter();
                entries.rows[2 + usize::from(is_test)].push(ids.chain(class).chain(vec![String::new(); 4]).collect());
            }
        }
    }
    Ok(entries)
}

fn dicom(picture: &DrawnPicture, inverted: bool) -> Result<Vec<u8>> {
    let value = |value: u8| u16::from(if inverted { 255 - value } else { value }) << 4;
    let values: Vec<u16> = picture.pixels.iter().map(|&pixel| value(pixel)).collect();
    let side = |pixels: usize| u16::try_from(pixels).unwrap_or(u16::MAX);
    let wrap = Wrap {
        bits_stored: 12,
        photometric: if inverted { "MONOCHROME1" } else { "MONOCHROME2" },
        modality: "DX",
        subject_id: "",
        ..Wrap::new(Pixels::Grey16(&values), side(picture.width), side(picture.height))
    };
    wrap.to_bytes().map_err(|error| Error::Usage(error.to_string()))
}
