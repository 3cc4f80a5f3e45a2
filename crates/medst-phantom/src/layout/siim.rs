//! SIIM-ACR Pneumothorax: DICOM files two folders deep, and masks as runs down the columns of
//! 1024×1024 pixels, each counted from the end of the one before. The column is called
//! ` EncodedPixels`, with a blank.

use std::fmt::Write;
use std::path::Path;

use super::files::{Entries, Squared, Table, jpeg, square, write_file};
use super::ids;
use crate::cohort::DrawnPatient;
use crate::finding::Finding;
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::{Error, Result};

pub const TABLES: &[Table] = &[Table { name: "train-rle.csv", columns: &["ImageId", " EncodedPixels"] }];
const SIDE: u32 = 1024;

/// Writes a patient's frontal images.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries { rows: vec![Vec::new()], ..Entries::default() };
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let Squared { picture, left, top } = square(&pictures.frontal);
        let uid = |kind: u32| format!("1.2.276.0.7230010.3.1.{kind}.8323329.{}.{number}", patient.number);
        let [study_uid, series_uid, instance_uid] = [2, 3, 4].map(uid);
        let (subject, side) = (ids::uuid(patient, 0), u16::try_from(picture.width).unwrap_or(u16::MAX));
        let frame = jpeg(&picture)?;
        let wrap = Wrap {
            subject_id: &subject,
            study_uid: &study_uid,
            series_uid: &series_uid,
            instance_uid: &instance_uid,
            view_position: Some(if visit.has_lateral { "PA" } else { "AP" }),
            ..Wrap::new(Pixels::Coded(&frame), side, side)
        };
        let place = folder.join("dicom-images-train").join(&study_uid).join(&series_uid);
        write_file(
            &place.join(format!("{instance_uid}.dcm")),
            &wrap.to_bytes().map_err(|error| Error::Usage(error.to_string()))?,
        )?;
        entries.images += 1;
        let present = patient.present(number);
        let pneumothorax = present
            .iter()
            .zip(&pictures.frontal.boxes)
            .find(|((_, present), _)| present.finding == Finding::Pneumothorax);
        let bounds = pneumothorax.and_then(|(_, bounds)| *bounds);
        let scale = |value: u32| value * SIDE / picture.width as u32;
        let mask = bounds.map(|[x0, y0, x1, y1]| {
            let (left, top) = (left as u32, top as u32);
            mask([scale(x0 + left), scale(y0 + top), scale(x1 + left), scale(y1 + top)])
        });
        entries.rows[0].push(vec![instance_uid, mask.unwrap_or_else(|| " -1".into())]);
    }
    Ok(entries)
}

/// The runs of a rectangle.
fn mask([left, top, right, bottom]: [u32; 4]) -> String {
    let (mut text, mut end) = (String::new(), 0);
    for column in left..right {
        let start = column * SIDE + top;
        write!(text, " {} {}", start - end, bottom - top).expect("writing to a string cannot fail");
        end = column * SIDE + bottom;
    }
    text
}
