//! covid-chestxray-dataset: `metadata.csv` and `images/`. Radiographs are read, computed tomography
//! is counted and left out.
//!
//! `offset` (days since onset or admission) is the time of a study, `clinical_notes` its report.

use std::path::{Path, PathBuf};

use super::assemble::{Assembly, FoundImage};
use super::plan::ReportText;
use super::rows::Rows;
use super::{Planned, PrepareOptions, values};
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Reason, Result};

/// Columns that are used for something else, or hold nothing about the patient's chest.
const USED: [&str; 9] =
    ["patientid", "offset", "view", "modality", "folder", "filename", "clinical_notes", "url", "Unnamed: 29"];

/// Reads the table.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(root: &Path, options: &PrepareOptions) -> Result<Planned> {
    let table = root.join("metadata.csv");
    if !table.exists() {
        let folder = root.display();
        return Err(Error::Usage(format!("{folder} is not a covid-chestxray-dataset folder: it has no metadata.csv")));
    }
    let mut rows = Rows::open(&table)?;
    let [patient, view, modality, filename] =
        [rows.column("patientid")?, rows.column("view")?, rows.column("modality")?, rows.column("filename")?];
    let labels: Vec<(usize, String)> = rows.columns().iter().cloned().enumerate().collect();
    for (_, name) in labels.iter().filter(|(_, name)| !name.is_empty()) {
        rows.find(name)?;
    }
    let mut assembly = Assembly::new(&table, options)?;
    let mut optional = |name: &str| rows.optional(name, &mut assembly.plan);
    let [offset, folder, notes] = [optional("offset")?, optional("folder")?, optional("clinical_notes")?];
    rows.each(|row| {
        let optional = |column: Option<usize>| column.and_then(|column| row.cell(column));
        let [Some(patient), Some(filename)] = [patient, filename].map(|column| row.cell(column)) else {
            assembly.plan.skip("", row.number, "patientid or filename is missing");
            return Ok(());
        };
        let path: PathBuf = root.join(optional(folder).unwrap_or("images")).join(filename);
        let unusable: Result<View, Reason> = match (row.cell(modality), row.cell(view)) {
            (Some("X-ray"), Some(name)) => match parse_view(name) {
                Some(view) => Ok(view),
                None => Err(format!("view is `{name}`").into()),
            },
            (Some("X-ray"), None) => Err("view is missing".into()),
            (modality, _) => Err(format!("modality is {}, not X-ray", modality.unwrap_or("missing")).into()),
        };
        let view = match unusable {
            Ok(view) => view,
            Err(reason) => {
                assembly.know(patient, "", &path);
                assembly.plan.skip(path.display().to_string(), row.number, reason);
                return Ok(());
            }
        };
        let acquired = optional(offset).and_then(values::day);
        if acquired.is_none() {
            assembly.plan.warn("images without an offset, not used in sequences");
        }
        let study = match acquired {
            Some(day) => format!("{patient}-day{}", day.0),
            None => format!("{patient}-row{}", row.number),
        };
        let (subject, study) = (SubjectId(patient.to_string()), StudyId(study));
        let found = FoundImage { subject, study, view, path, row: row.number, acquired, split: None };
        let index = assembly.add(found)?;
        assembly.label_view(index, view);
        if let Some(notes) = optional(notes) {
            assembly.report(index, ReportText::Whole(notes.to_string()));
        }
        for (column, name) in labels.iter().filter(|(_, name)| !USED.contains(&name.as_str())) {
            if let Some(value) = row.cell(*column) {
                assembly.label(index, name, value.to_string());
            }
        }
        Ok(())
    })?;
    Ok(Planned { plan: assembly.finish(options)?, files: vec![table] })
}

/// `PA`, `AP`, `AP Supine`, `AP Erect`, `L`; axial and coronal are slices of computed tomography.
fn parse_view(name: &str) -> Option<View> {
    match name.split_whitespace().next()? {
        "L" => Some(View::Lateral),
        first => View::parse(first),
    }
}
