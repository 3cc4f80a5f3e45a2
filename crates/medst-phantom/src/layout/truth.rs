//! The truth about a cohort: one row for each visit and finding.

use super::files::Table;
use crate::cohort::DrawnPatient;
use crate::finding::Finding;

pub const TABLE: Table = Table { name: "truth.csv", columns: &COLUMNS };

const COLUMNS: [&str; 20] = [
    "subject_id",
    "study_id",
    "day",
    "finding",
    "present",
    "side",
    "zone",
    "severity",
    "change",
    "visible_on_frontal",
    "visible_on_lateral",
    "mentioned",
    "frontal_left",
    "frontal_top",
    "frontal_right",
    "frontal_bottom",
    "lateral_left",
    "lateral_top",
    "lateral_right",
    "lateral_bottom",
];

/// The rows of a patient.
pub fn rows(drawn: &DrawnPatient) -> Vec<Vec<String>> {
    let patient = &drawn.patient;
    let subject = super::table::subject(patient);
    let mut rows = Vec::new();
    for (number, visit) in patient.visits.iter().enumerate() {
        let study = super::table::study(patient, number);
        let present = patient.present(number);
        let pictures = &drawn.visits[number];
        for finding in Finding::ALL {
            let course = patient.courses.iter().find(|course| course.finding == finding);
            let place = present.iter().position(|(_, present)| present.finding == finding);
            let shown = place.map(|place| &present[place].1);
            let mut row = vec![subject.clone(), study.clone(), visit.day.to_string(), finding.name().into()];
            row.push(u8::from(shown.is_some()).to_string());
            row.push(shown.map_or("", |present| present.side.name()).into());
            row.push(
                shown.filter(|present| present.finding.has_side()).map_or("", |present| present.zone.name()).into(),
            );
            row.push(course.map_or("0.000".into(), |course| format!("{:.3}", course.severities[number])));
            let unaffected = if number == 0 { "first" } else { "absent" };
            row.push(course.map_or(unaffected, |course| course.change(number).name()).into());
            row.push(u8::from(shown.is_some_and(|present| present.visible_on_frontal())).to_string());
            row.push(u8::from(shown.is_some_and(|present| present.visible_on_lateral())).to_string());
            row.push(u8::from(visit.mentioned.contains(&finding)).to_string());
            for picture in [Some(&pictures.frontal), pictures.lateral.as_ref()] {
                let bounds = place.and_then(|place| picture?.boxes[place]);
                row.extend((0..4).map(|side| bounds.map_or(String::new(), |bounds| bounds[side].to_string())));
            }
            rows.push(row);
        }
    }
    rows
}
