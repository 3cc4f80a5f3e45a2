//! RSNA Pneumonia Detection Challenge, stage 2: `stage_2_train_images/<patientId>.dcm`,
//! `stage_2_train_labels.csv` (a row a box) and, where it is there,
//! `stage_2_detailed_class_info.csv`.
//!
//! The reference (after MGCA) sorts patients by id and draws 70 % for training, 15 % for the test
//! and 15 % for validation with scikit-learn's `train_test_split(random_state=0)`, twice. The same
//! permutation is drawn here. Images of the challenge's own test set have no labels and are not
//! read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::assemble::{Assembly, FoundImage};
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::boxes::{self, Boxes, Region};
use crate::image;
use crate::permutation::{test_count, train_test_split};
use crate::progress::Progress;
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Reason, Result};

const LABELS: &str = "stage_2_train_labels.csv";
const CLASSES: &str = "stage_2_detailed_class_info.csv";
const IMAGES: &str = "stage_2_train_images";
/// The finding in the boxes of the challenge.
const PHRASE: &str = "pneumonia";
/// Headers that are read between two looks at the stop request.
const BLOCK: usize = 1024;

/// The folder of the challenge's data.
#[derive(Clone, Debug, Default)]
pub struct Rsna {
    /// The folder with the labels and `stage_2_train_images`.
    pub root: PathBuf,
}

/// The entries of a patient in the tables.
#[derive(Default)]
struct Patient {
    row: u64,
    target: bool,
    /// `[x, y, width, height]` in pixels.
    boxes: Vec<[f64; 4]>,
    class: Option<String>,
}

/// Reads labels and headers.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(source: &Rsna, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let labels = existing(&source.root, LABELS)?;
    let mut files = vec![labels.clone()];
    let mut patients = read_labels(&labels)?;
    let classes = existing(&source.root, CLASSES).ok();
    if let Some(classes) = &classes {
        read_classes(classes, &mut patients)?;
        files.push(classes.clone());
    }
    let splits = reference_splits(patients.len());
    let mut assembly = Assembly::new(&labels, options)?;
    if classes.is_none() {
        assembly.plan.warn(format!("{CLASSES} absent: studies have no label class"));
    }
    let patients: Vec<(String, Patient)> = patients.into_iter().collect();
    progress.begin("reading DICOM headers", Some(patients.len() as u64));
    for (patients, splits) in patients.chunks(BLOCK).zip(splits.chunks(BLOCK)) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let images: Vec<(PathBuf, Result<Seen, Reason>)> = patients
            .par_iter()
            .map(|(id, _)| {
                let path = source.root.join(IMAGES).join(format!("{id}.dcm"));
                let seen = look(&path);
                progress.advance(1);
                (path, seen)
            })
            .collect();
        for (((id, patient), (path, seen)), &split) in patients.iter().zip(images).zip(splits) {
            let Seen { view, width, height } = match seen {
                Ok(seen) => seen,
                Err(reason) => {
                    assembly.know(id, id, &path);
                    assembly.plan.skip(path.display().to_string(), patient.row, reason);
                    continue;
                }
            };
            let (subject, study) = (SubjectId(id.clone()), StudyId(id.clone()));
            let image = FoundImage { subject, study, view, path, row: patient.row, acquired: None, split: Some(split) };
            let index = assembly.add(image)?;
            assembly.label_view(index, view);
            assembly.label(index, "Target", u8::from(patient.target).to_string());
            if let Some(class) = &patient.class {
                assembly.label(index, "class", class.clone());
            }
            if !patient.boxes.is_empty() {
                let region = |&[x, y, w, h]: &[f64; 4]| Region {
                    phrase: PHRASE.into(),
                    left: x,
                    top: y,
                    right: x + w,
                    bottom: y + h,
                };
                let boxes = Boxes { width, height, regions: patient.boxes.iter().map(region).collect() };
                assembly.label(index, boxes::LABEL, boxes.to_label());
            }
        }
    }
    progress.end();
    Ok(Planned { plan: assembly.finish(options)?, files })
}

/// The part of each patient, in the order of their ids: the reference's permutation.
fn reference_splits(count: usize) -> Vec<Split> {
    let mut splits = vec![Split::Train; count];
    let (_, rest) = train_test_split(count, test_count(count, 0.3), 0);
    let (test, validate) = train_test_split(rest.len(), test_count(rest.len(), 0.5), 0);
    for (places, split) in [(test, Split::Test), (validate, Split::Validate)] {
        for index in places {
            splits[rest[index]] = split;
        }
    }
    splits
}

/// The attributes that are read from the header of a picture.
struct Seen {
    view: View,
    width: f64,
    height: f64,
}

fn look(path: &Path) -> Result<Seen, Reason> {
    if !path.exists() {
        return Err("image file does not exist".into());
    }
    let header = image::dicom_header(path).map_err(Reason::of_picture)?;
    let view = header.view.ok_or("DICOM header states no view")?;
    let side = |pixels: Option<usize>| pixels.map(|pixels| pixels as f64).ok_or("DICOM header states no size");
    Ok(Seen { view, width: side(header.columns)?, height: side(header.rows)? })
}

fn read_labels(path: &Path) -> Result<BTreeMap<String, Patient>> {
    let mut rows = Rows::open(path)?;
    let (id, target) = (rows.column("patientId")?, rows.column("Target")?);
    let sides = [rows.column("x")?, rows.column("y")?, rows.column("width")?, rows.column("height")?];
    let mut patients: BTreeMap<String, Patient> = BTreeMap::new();
    rows.each(|row| {
        let fail = |message: &str| Error::Row { path: path.to_path_buf(), row: row.number, message: message.into() };
        let id = row.cell(id).ok_or_else(|| fail("patientId is missing"))?;
        let target = match row.cell(target) {
            Some("0" | "0.0") => false,
            Some("1" | "1.0") => true,
            _ => return Err(fail("Target is neither 0 nor 1")),
        };
        let patient = patients.entry(id.to_string()).or_default();
        if patient.row == 0 {
            patient.row = row.number;
        }
        patient.target |= target;
        let numbers = sides.map(|side| row.cell(side).and_then(|cell| cell.parse::<f64>().ok()));
        match numbers {
            [Some(x), Some(y), Some(width), Some(height)] => patient.boxes.push([x, y, width, height]),
            [None, None, None, None] => {}
            _ => return Err(fail("a box has a missing or invalid number")),
        }
        Ok(())
    })?;
    Ok(patients)
}

fn read_classes(path: &Path, patients: &mut BTreeMap<String, Patient>) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let (id, class) = (rows.column("patientId")?, rows.column("class")?);
    rows.each(|row| {
        if let (Some(id), Some(class)) = (row.cell(id), row.cell(class))
            && let Some(patient) = patients.get_mut(id)
        {
            patient.class = Some(class.to_string());
        }
        Ok(())
    })
}

fn existing(root: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [root.join(name), root.join(format!("{name}.gz"))];
    candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Error::Usage(format!(
            "{} is not an RSNA Pneumonia Detection (stage 2) folder: it has no {name}",
            root.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.9.1 gives these parts for 20 patients, and these first ones for the 26,684 of
    /// the challenge.
    #[test]
    fn parts_are_the_references() {
        let splits = reference_splits(20);
        let of = |split: Split| (0..20).filter(|&index| splits[index] == split).collect::<Vec<_>>();
        assert_eq!((of(Split::Test), of(Split::Validate)), (vec![8, 10, 18], vec![1, 17, 19]));
        let all = reference_splits(26_684);
        let count = |split: Split| all.iter().filter(|&&part| part == split).count();
        assert_eq!([count(Split::Train), count(Split::Validate), count(Split::Test)], [18_678, 4_003, 4_003]);
        assert!([25_106, 18_356, 8_000].iter().all(|&index| all[index] == Split::Test));
        assert!([13_610, 15_308, 13_503].iter().all(|&index| all[index] == Split::Validate));
    }
}
