//! Folders in the form that a workstation exports: one folder per patient, one file per picture,
//! named by date and view; every second visit as DICOM; the report as a text file next to its
//! frontal picture.
//!
//! No table states what belongs together: names and DICOM headers do.

use std::path::Path;

use chrono::{Days, NaiveDate};

use super::files::{Entries, write_file, write_png};
use super::{ids, table};
use crate::cohort::{DrawnPatient, DrawnPicture};
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::{Error, Result};

/// Writes a patient's folder.
pub fn write(folder: &Path, drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let subject = table::subject(patient);
    let folder = folder.join(&subject);
    // In the future, so that it cannot be taken for a real date.
    let first = NaiveDate::from_ymd_opt(2101, 1, 1).expect("a date")
        + Days::new(ids::hashed_draw(patient, 0, "date", 300).into());
    let mut images = 0;
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let date = first + Days::new(visit.day.into());
        let study_uid = format!("2.25.{}{number:02}", ids::study(patient, number));
        let mut add = |name: &str, view: &str, picture: &DrawnPicture| {
            let stem = folder.join(format!("{date}_{name}"));
            images += 1;
            if number % 2 == 0 {
                return write_png(&stem.with_extension("png"), picture);
            }
            let size = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
            let series_uid = format!("{study_uid}.{images}");
            let instance_uid = format!("{series_uid}.1");
            let wrap = Wrap {
                subject_id: &subject,
                study_uid: &study_uid,
                series_uid: &series_uid,
                instance_uid: &instance_uid,
                study_date: &date.format("%Y%m%d").to_string(),
                study_time: "080000",
                view_position: Some(view),
                modality: "DX",
                ..Wrap::new(Pixels::Grey8(&picture.pixels), size(picture.width), size(picture.height))
            };
            write_file(&stem.with_extension("dcm"), &wrap.to_bytes().map_err(|error| Error::Usage(error.to_string()))?)
        };
        add("frontal", if visit.has_lateral { "PA" } else { "AP" }, &pictures.frontal)?;
        if let Some(lateral) = &pictures.lateral {
            add("lateral", "LL", lateral)?;
        }
        write_file(&folder.join(format!("{date}_frontal.txt")), visit.report.as_bytes())?;
    }
    Ok(Entries { images, ..Entries::default() })
}
