//! NIH ChestX-ray14: frontal images in twelve folders, findings separated by bars, boxes in pixels
//! of 1024×1024 whatever the original size was, and headers that commas cut into pieces.

use std::path::Path;

use super::files::{Entries, Squared, Table, square, write_png};
use super::ids;
use crate::cohort::{DrawnPatient, DrawnPicture};
use crate::finding::Finding;
use medst_data::Result;
use medst_data::split::Split;

pub const TABLES: &[Table] = &[
    Table { name: "Data_Entry_2017.csv", columns: &COLUMNS },
    Table {
        name: "BBox_List_2017.csv",
        columns: &["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""],
    },
];
pub const LISTS: &[&str] = &["train_val_list.txt", "test_list.txt"];

const COLUMNS: [&str; 12] = [
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
    "",
];

/// NIH's name of a finding; in the table of boxes an infiltration has another one.
fn name(finding: Finding) -> &'static str {
    match finding {
        Finding::Consolidation => "Consolidation",
        Finding::Edema => "Edema",
        Finding::PleuralEffusion => "Effusion",
        Finding::Pneumonia => "Pneumonia",
        Finding::Pneumothorax => "Pneumothorax",
        Finding::Atelectasis => "Atelectasis",
        Finding::Cardiomegaly => "Cardiomegaly",
    }
}

/// Writes a patient's images.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new(); 2], ..Entries::default() };
    let list = usize::from(patient.split == Split::Test);
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let file = format!("{:08}_{number:03}.png", patient.number + 1);
        let Squared { picture, left, top } = square(&pictures.frontal);
        let place = format!("images_{:03}/images", patient.number % 12 + 1);
        write_png(&folder.join(place).join(&file), &picture)?;
        entries.images += 1;
        entries.lines.push((list, file.clone()));
        let present = patient.present(number);
        let names: Vec<&str> = present.iter().map(|(_, present)| name(present.finding)).collect();
        let labels = if names.is_empty() { "No Finding".to_string() } else { names.join("|") };
        let DrawnPicture { width, height, .. } = &pictures.frontal;
        let row: [&str; 12] = [
            &file,
            &labels,
            &number.to_string(),
            &(patient.number + 1).to_string(),
            &(20 + ids::hashed_draw(patient, 0, "age", 70)).to_string(),
            ["F", "M"][ids::hashed_draw(patient, 0, "sex", 2) as usize],
            if visit.has_lateral { "PA" } else { "AP" },
            &(width * 5).to_string(),
            &(height * 5).to_string(),
            "0.143",
            "0.143",
            "",
        ];
        entries.rows[0].push(row.map(String::from).to_vec());
        if patient.split != Split::Test {
            continue;
        }
        let pixel = |value: usize| (value as f64 * 1024.0 / picture.width as f64).to_string();
        for ((_, present), bounds) in present.iter().zip(&pictures.frontal.boxes) {
            let Some([x0, y0, x1, y1]) = bounds.map(|bounds| bounds.map(|side| side as usize)) else { continue };
            let sides = [pixel(x0 + left), pixel(y0 + top), pixel(x1 - x0), pixel(y1 - y0)];
            let ids = [file.clone(), name(present.finding).to_string()].into_iter();
            entries.rows[1].push(ids.chain(sides).chain(vec![String::new(); 3]).collect());
        }
    }
    Ok(entries)
}
