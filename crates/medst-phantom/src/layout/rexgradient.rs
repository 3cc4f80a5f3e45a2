//! ReXGradient-160K: three objects of metadata, and pictures in the parts of one tar archive packed
//! by zstd.

use serde_json::json;

use super::files::{Entries, png};
use super::ids;
use crate::cohort::{DrawnPatient, Patient};
use medst_data::Result;
use medst_data::report::sections;
use medst_data::split::Split;

pub const LISTS: &[&str] = &[
    "metadata/train_metadata_view_position.json",
    "metadata/valid_metadata_view_position.json",
    "metadata/test_metadata_view_position.json",
];
/// The stem of the archive's parts, and the size of each.
pub const ARCHIVE: &str = "deid_png.part";
/// Bytes of each part but the last.
pub const PART: u64 = 100_000;

/// A picture's place in the archive.
pub fn member(patient: &Patient, visit: usize, kind: &str) -> String {
    let (subject, study) = (ids::subject(patient), ids::study(patient, visit));
    let uid = |part: u32| format!("1.2.826.0.1.3680043.8.498.{part}{study}");
    let image = format!("{}.{}", uid(3), ids::hashed_draw(patient, visit, kind, 1_000_000));
    format!("deid_png/{subject}/{study}/studies/{}/series/{}/instances/{image}.png", uid(1), uid(2))
}

/// The entries of the metadata and of the archive.
pub fn write(drawn: &DrawnPatient) -> Result<Entries> {
    let patient = &drawn.patient;
    let mut entries = Entries::default();
    let list = match patient.split {
        Split::Train => 0,
        Split::Validate => 1,
        Split::Test => 2,
    };
    for (number, (visit, pictures)) in patient.visits.iter().zip(&drawn.visits).enumerate() {
        let frontal = match (visit.has_lateral, ids::hashed_draw(patient, number, "odd", 12)) {
            (_, 0) => json!("UNKNOWN"),
            (_, 1) => json!(null),
            (true, 2..6) => json!("POSTERO_ANTERIOR"),
            (true, _) => json!("PA"),
            (false, 2..6) => json!("ANTERO_POSTERIOR"),
            (false, _) => json!("AP"),
        };
        let side = ["LATERAL", "LL", "LAT"][ids::hashed_draw(patient, number, "side", 3) as usize];
        let views =
            [("frontal", frontal, Some(&pictures.frontal)), ("lateral", json!(side), pictures.lateral.as_ref())];
        let (mut paths, mut positions) = (Vec::new(), Vec::new());
        for (kind, view, picture) in views {
            let Some(picture) = picture else { continue };
            let member = member(patient, number, kind);
            paths.push(format!("../{member}"));
            positions.push(view);
            entries.members.push((member, png(picture)?));
            entries.images += 1;
        }
        let read = sections::choose(&visit.report);
        let age = 20 + ids::hashed_draw(patient, 0, "age", 70);
        let study = json!({
            "ImagePath": paths, "ImageViewPosition": positions, "Indication": "Cough.", "Comparison": read.comparison,
            "Findings": read.findings, "Impression": read.impression,
            "PatientSex": (["F", "M"][ids::hashed_draw(patient, 0, "sex", 2) as usize]), "PatientAge": format!("{age:03}Y"),
            "StudyDate": super::mimic_cxr_jpg::date(patient, visit.day),
        });
        let id = format!("p{}_{}", ids::subject(patient), ids::study(patient, number));
        entries.lines.push((list, format!("{}:{study}", json!(id))));
    }
    Ok(entries)
}
