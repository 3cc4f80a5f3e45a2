//! CheXpert: `train.csv` and `valid.csv` (and `test.csv` where it is there), in the full or the small release.
//!
//! `valid.csv` is the usual test set; 5 % of the training patients, by a hash of their id, validate. With a `test.csv`,
//! `valid.csv` validates. CheXpert tells no dates, so its studies join no sequence.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::assemble::{Assembly, FoundImage};
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Result};

/// Columns that say what an image is rather than what it shows.
const OF_IMAGE: [&str; 3] = ["Path", "Frontal/Lateral", "AP/PA"];

/// Reads the tables.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(root: &Path, options: &PrepareOptions) -> Result<Planned> {
    let tables = ["train.csv", "valid.csv", "test.csv"].map(|name| root.join(name));
    let [train, valid, test] = &tables;
    if !train.exists() && !valid.exists() {
        return Err(Error::Usage(format!(
            "{} is not a CheXpert folder: it has neither train.csv nor valid.csv",
            root.display()
        )));
    }
    let mut assembly = Assembly::new(train, options)?;
    let mut files = Vec::new();
    for table in tables.iter().filter(|table| table.exists()) {
        let split = |subject: &SubjectId| match () {
            () if table == test => Split::Test,
            () if table == valid && test.exists() => Split::Validate,
            () if table == valid => Split::Test,
            () if test.exists() => Split::Train,
            () => held_out(subject),
        };
        read(table, root, split, &mut assembly)?;
        files.push(table.clone());
    }
    Ok(Planned { plan: assembly.finish(options)?, files })
}

fn held_out(subject: &SubjectId) -> Split {
    if Sha256::digest(subject.0.as_bytes())[0] < 13 { Split::Validate } else { Split::Train }
}

fn read(table: &Path, root: &Path, split: impl Fn(&SubjectId) -> Split, assembly: &mut Assembly) -> Result<()> {
    let mut rows = Rows::open(table)?;
    let path = rows.column("Path")?;
    let [position, projection] = ["Frontal/Lateral", "AP/PA"].map(|name| rows.find(name));
    let labels: Vec<(usize, String)> = rows.columns().iter().cloned().enumerate().collect();
    rows.each(|row| {
        let Some(cell) = row.cell(path) else {
            assembly.plan.skip("", row.number, "Path is missing");
            return Ok(());
        };
        let image = locate(root, Path::new(cell));
        let Some((subject, study)) = ids(Path::new(cell)) else {
            assembly.plan.skip(cell, row.number, "Path contains no patient and study");
            return Ok(());
        };
        let column = |column: Option<usize>| column.and_then(|column| row.cell(column)).unwrap_or_default();
        let view = view(column(position), column(projection), cell);
        let split = Some(split(&subject));
        let found = FoundImage { subject, study, view, path: image, row: row.number, acquired: None, split };
        let place = assembly.add(found)?;
        for (column, name) in labels.iter().filter(|(_, name)| !OF_IMAGE.contains(&name.as_str())) {
            if let Some(value) = row.cell(*column) {
                assembly.label(place, name, value.strip_suffix(".0").unwrap_or(value).to_string());
            }
        }
        Ok(())
    })
}

/// The table tells the view; where it does not (the test set), the file's name does.
fn view(position: &str, projection: &str, path: &str) -> View {
    let lateral = if position.is_empty() { path.contains("lateral") } else { position == "Lateral" };
    match (lateral, projection) {
        (true, "LL") => View::Ll,
        (true, _) => View::Lateral,
        (false, "AP") => View::Ap,
        (false, _) => View::Pa,
    }
}

/// `…/train/patient00001/study1/view1_frontal.jpg`: the patient, and the study within the patient.
fn ids(path: &Path) -> Option<(SubjectId, StudyId)> {
    let study = path.parent()?.file_name()?.to_str()?;
    let subject = path.parent()?.parent()?.file_name()?.to_str()?;
    subject.starts_with("patient").then(|| (SubjectId(subject.into()), StudyId(format!("{subject}-{study}"))))
}

/// Paths begin with the name of the release (`CheXpert-v1.0-small/train/…`), whatever its folder is called here.
fn locate(root: &Path, path: &Path) -> PathBuf {
    let below: PathBuf = path.components().skip(1).collect();
    let begins_inside = path.components().next().is_some_and(
        |first| matches!(first, Component::Normal(name) if ["train", "valid", "test"].iter().any(|part| name == *part)),
    );
    if begins_inside { root.join(path) } else { root.join(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_below_the_root_whatever_the_release_is_called() {
        let at = |path: &str| locate(Path::new("/data/chex"), Path::new(path));
        let expected = Path::new("/data/chex/train/patient00001/study1/view1_frontal.jpg");
        assert_eq!(at("CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"), expected);
        assert_eq!(at("train/patient00001/study1/view1_frontal.jpg"), expected);
        let (subject, study) = ids(expected).unwrap();
        assert_eq!((subject.0.as_str(), study.0.as_str()), ("patient00001", "patient00001-study1"));
        assert_eq!(ids(Path::new("a/b.jpg")), None);
    }

    #[test]
    fn views_are_told_by_table_or_name() {
        assert_eq!(view("Frontal", "AP", ""), View::Ap);
        assert_eq!(view("Frontal", "", ""), View::Pa);
        assert_eq!(view("Lateral", "", ""), View::Lateral);
        assert_eq!(view("", "", "test/patient1/study1/view2_lateral.jpg"), View::Lateral);
    }
}
