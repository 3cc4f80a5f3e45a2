//! COVIDx with the lists of its sixth version: `train/`, `test/`, and lines
//! `patient file label source`.
//!
//! COVID-19 means edema, a consolidation or a pneumonia on both sides, pneumonia means one on one
//! side, and normal means no finding at all; other visits are left out.

use std::path::Path;

use super::files::{Entries, write_file, write_png};
use super::ids;
use crate::cohort::DrawnPatient;
use crate::finding::{Finding, Present, Side};
use medst_data::Result;
use medst_data::split::Split;

pub const LISTS: &[&str] = &["train_COVIDx6.txt", "test_COVIDx6.txt"];
const SOURCES: [&str; 4] = ["cohen", "fig1", "rsna", "sirm"];

/// Writes a patient's images.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries::default();
    let (list, part) = if patient.split == Split::Test { (1, "test") } else { (0, "train") };
    let source = SOURCES[ids::hashed_draw(patient, 0, "source", 4) as usize];
    for (visit, pictures) in drawn.visits.iter().enumerate() {
        let present: Vec<Present> = patient.present(visit).into_iter().map(|(_, present)| present).collect();
        let Some(label) = label(&present) else { continue };
        let file = format!("{}.png", ids::uuid(patient, visit));
        write_png(&folder.join(part).join(&file), &pictures.frontal)?;
        entries.lines.push((list, format!("{} {file} {label} {source}", patient.number)));
        entries.images += 1;
    }
    let about = folder.join("LICENSE.txt");
    if patient.number == 0 {
        write_file(&about, b"Synthetic images drawn by medst, not radiographs of patients.\n")?;
    }
    Ok(entries)
}

fn label(present: &[Present]) -> Option<&'static str> {
    if present.is_empty() {
        return Some("normal");
    }
    let inflamed =
        present.iter().filter(|present| matches!(present.finding, Finding::Consolidation | Finding::Pneumonia));
    let mut inflamed = inflamed.peekable();
    let edema = present.iter().any(|present| present.finding == Finding::Edema);
    inflamed.peek()?;
    let both = inflamed.any(|present| present.side == Side::Both);
    Some(if edema || both { "COVID-19" } else { "pneumonia" })
}
