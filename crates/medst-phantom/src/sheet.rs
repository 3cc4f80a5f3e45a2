//! A contact sheet: one patient's frontal and lateral view without a finding, each finding at its
//! worst, and a course over time. Order, from the top left: normal frontal, normal lateral, then
//! each finding's frontal view in the order of
//! [`Finding::ALL`] (the effusion also from the side), then four visits of a worsening effusion.

use std::path::Path;

use super::canvas::Noise;
use super::cohort::{DrawnPicture, Patient, Visit};
use super::course::Course;
use super::finding::{Finding, Side, Zone};
use super::layout::write_png;
use medst_data::Result;

const CELL: usize = 288;
const COLUMNS: usize = 5;
const GAP: usize = 4;

/// Draws the sheet of a seed to a PNG file.
pub fn contact_sheet(path: &Path, seed: u64) -> Result<()> {
    let mut pictures = Vec::new();
    let show = |n: u32, finding: Option<Finding>, severity: f32| {
        let mut patient = Patient::draw(seed, n);
        let zone = if finding == Some(Finding::Consolidation) { Zone::Mid } else { Zone::Lower };
        let side = match finding {
            Some(finding) if !finding.has_side() => Side::Both,
            Some(Finding::Pneumothorax | Finding::Consolidation) => Side::Left,
            _ => Side::Right,
        };
        let noise = Noise { seed: n.wrapping_mul(77) + 5 };
        patient.courses = finding
            .map(|finding| Course {
                finding,
                side,
                zone,
                noise,
                hidden: false,
                contrast: 1.0,
                severities: vec![severity],
            })
            .into_iter()
            .collect();
        patient.visits = vec![Visit { day: 0, has_lateral: true, report: String::new(), mentioned: Vec::new() }];
        patient
    };
    let normal = show(1, None, 0.0);
    pictures.push(normal.frontal(0, CELL));
    pictures.push(normal.lateral(0, CELL));
    for (n, finding) in Finding::ALL.into_iter().enumerate() {
        let patient = show(n as u32 + 2, Some(finding), 0.75);
        pictures.push(patient.frontal(0, CELL));
        if finding == Finding::PleuralEffusion {
            pictures.push(patient.lateral(0, CELL));
        }
    }
    for severity in [0.0, 0.35, 0.6, 0.9, 1.0] {
        pictures.push(show(12, Some(Finding::PleuralEffusion), severity).frontal(0, CELL));
    }
    write_png(path, &grid(&pictures))
}

fn grid(pictures: &[DrawnPicture]) -> DrawnPicture {
    let (cell_width, rows) = (CELL * 15 / 16 + GAP, pictures.len().div_ceil(COLUMNS));
    let (width, height) = (COLUMNS * cell_width + GAP, rows * (CELL + GAP) + GAP);
    let mut pixels = vec![24; width * height];
    for (place, picture) in pictures.iter().enumerate() {
        let left = GAP + (place % COLUMNS) * cell_width + (cell_width - GAP - picture.width) / 2;
        let top = GAP + (place / COLUMNS) * (CELL + GAP);
        for (row, line) in picture.pixels.chunks_exact(picture.width).enumerate() {
            let start = (top + row) * width + left;
            pixels[start..start + picture.width].copy_from_slice(line);
        }
    }
    DrawnPicture { width, height, pixels, boxes: Vec::new() }
}
