//! RSNA Pneumonia Detection, stage 2: square 8-bit DICOM files with baseline JPEG inside, a row of
//! labels for each box.
//!
//! One image per patient, of the first visit; consolidation and pneumonia are the opacities with
//! boxes.

use std::path::Path;

use super::files::{Entries, Squared, Table, jpeg, square, write_file};
use super::ids;
use crate::cohort::DrawnPatient;
use crate::finding::Finding;
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::{Error, Result};

pub const TABLES: &[Table] = &[
    Table { name: "stage_2_train_labels.csv", columns: &["patientId", "x", "y", "width", "height", "Target"] },
    Table { name: "stage_2_detailed_class_info.csv", columns: &["patientId", "class"] },
];

/// Writes a patient's image.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let Some((visit, pictures)) = patient.visits.first().zip(drawn.visits.first()) else {
        return Ok(Entries { rows: vec![Vec::new(); 2], ..Entries::default() });
    };
    let id = ids::uuid(patient, 0);
    let Squared { picture: square, left, top } = square(&pictures.frontal);
    let side = u16::try_from(square.width).unwrap_or(u16::MAX);
    let frame = jpeg(&square)?;
    let view = if visit.has_lateral { "PA" } else { "AP" };
    let uid =
        |kind: u32| format!("1.2.276.0.7230010.3.1.{kind}.8323329.{}.{}", patient.number, patient.seed() % 100_000);
    let [study_uid, series_uid, instance_uid] = [2, 3, 4].map(uid);
    let series = format!("view: {view}");
    let wrap = Wrap {
        subject_id: &id,
        study_uid: &study_uid,
        series_uid: &series_uid,
        instance_uid: &instance_uid,
        study_date: "19010101",
        study_time: "000000.00",
        view_position: Some(view),
        series_description: Some(&series),
        ..Wrap::new(Pixels::Coded(&frame), side, side)
    };
    let bytes = wrap.to_bytes().map_err(|error| Error::Usage(error.to_string()))?;
    write_file(&folder.join("stage_2_train_images").join(format!("{id}.dcm")), &bytes)?;

    let present = patient.present(0);
    let opacities = present
        .iter()
        .zip(&pictures.frontal.boxes)
        .filter(|((_, present), _)| matches!(present.finding, Finding::Consolidation | Finding::Pneumonia))
        .filter_map(|(_, bounds)| *bounds);
    let mut labels: Vec<Vec<String>> = opacities
        .map(|[x0, y0, x1, y1]| {
            let number = |value: u32| format!("{value}.0");
            let place = [x0 + left as u32, y0 + top as u32, x1 - x0, y1 - y0].map(number);
            [&id].into_iter().chain(&place).cloned().chain(["1".to_string()]).collect()
        })
        .collect();
    let class = match (labels.is_empty(), present.is_empty()) {
        (false, _) => "Lung Opacity",
        (true, false) => "No Lung Opacity / Not Normal",
        (true, true) => "Normal",
    };
    // The class table repeats a patient as often as the labels do.
    let rows = labels.len().max(1);
    if labels.is_empty() {
        labels.push([&id, "", "", "", "", "0"].map(String::from).to_vec());
    }
    let classes = vec![vec![id.clone(), class.to_string()]; rows];
    Ok(Entries { rows: vec![labels, classes], images: 1, ..Entries::default() })
}
