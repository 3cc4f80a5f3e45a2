//! Split files: a table of the split of every subject, study or image, which can be published and
//! read again.
//!
//! A split file is a CSV (gzipped or not) with the column `split` and one of `subject_id`,
//! `patientId`, `study_id`, `dicom_id`, `image`, `filename` or `Path`. Every corpus carries one,
//! `splits.csv`. Ids are matched by the rule of `super::ids`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ids::Lookup;
use super::known::Known;
use super::rows::Rows;
use crate::split::Split;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Subject,
    Study,
    /// The image's file name without its ending, or the end of its path.
    Image,
}

const COLUMNS: [(&str, Key); 8] = [
    ("subject_id", Key::Subject),
    ("patientId", Key::Subject),
    ("patient_id", Key::Subject),
    ("study_id", Key::Study),
    ("dicom_id", Key::Image),
    ("image", Key::Image),
    ("filename", Key::Image),
    ("Path", Key::Image),
];

/// A split file as read.
#[derive(Clone, Debug)]
pub struct SplitFile {
    path: PathBuf,
    key: Key,
    /// Each id once, with the row that names it first.
    entries: Vec<(u64, String, Split)>,
}

/// The parts of a source's subjects, studies or images.
#[derive(Debug)]
pub struct Parts {
    key: Key,
    of_id: HashMap<String, Split>,
    of_image: HashMap<PathBuf, Split>,
    /// A remark for the summary on IDs that were matched in another form.
    pub note: Option<(String, u64)>,
}

impl SplitFile {
    /// Reads a split file.
    ///
    /// # Errors
    /// Names what is missing, the row whose split is unknown, or the key that two rows put in
    /// different parts.
    pub fn read(path: &Path) -> Result<SplitFile> {
        let mut rows = Rows::open(path)?;
        let split = rows.column("split")?;
        let mut found = None;
        for (name, key) in COLUMNS {
            found = found.or(rows.find(name)?.map(|column| (column, key)));
        }
        let (column, key) = found.ok_or_else(|| {
            let (names, columns) = (COLUMNS.map(|(name, _)| name).join(", "), rows.columns().join(", "));
            rows.fail_in_header(&format!("needs one of the columns {names} (columns: {columns})"))
        })?;
        let mut seen: HashMap<String, Split> = HashMap::new();
        let mut entries = Vec::new();
        rows.each(|row| {
            let conflict = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
            let cell = row.cell(split).unwrap_or_default();
            let split = Split::parse(cell)
                .ok_or_else(|| conflict(format!("split is `{cell}`; expected train, validate or test")))?;
            let Some(name) = row.cell(column) else { return Ok(()) };
            match seen.insert(name.to_string(), split) {
                Some(earlier) if earlier != split => {
                    return Err(conflict(format!("`{name}` is in {split} here but in {earlier} in an earlier row")));
                }
                Some(_) => {}
                None => entries.push((row.number, name.to_string(), split)),
            }
            Ok(())
        })?;
        Ok(SplitFile { path: path.to_path_buf(), key, entries })
    }

    /// Whether it names images rather than subjects or studies.
    pub fn names_images(&self) -> bool {
        self.key == Key::Image
    }

    /// Finds what the file names in a source.
    ///
    /// # Errors
    /// A file that names nothing of the source; an id that may mean several; two forms of one id in
    /// different parts.
    pub fn resolve(&self, known: &Known) -> Result<Parts> {
        let mut lookup = Lookup::new(&self.path);
        let mut parts = Parts { key: self.key, of_id: HashMap::new(), of_image: HashMap::new(), note: None };
        let mut forms: HashMap<String, &str> = HashMap::new();
        let ids = match self.key {
            Key::Subject => &known.subjects,
            Key::Study => &known.studies,
            Key::Image => known.images.names(),
        };
        for (row, id, split) in &self.entries {
            let mut add = |id_here: &str, before: Option<Split>| match (before, forms.insert(id_here.to_string(), id)) {
                (Some(earlier), Some(form)) if earlier != *split => Err(Error::Row {
                    path: self.path.clone(),
                    row: *row,
                    message: format!(
                        "`{id}` is in {split} here but `{form}` is in {earlier} in an earlier row; both mean \
                         `{id_here}` in the source"
                    ),
                }),
                _ => Ok(()),
            };
            if self.key == Key::Image {
                for image in known.images.find(&mut lookup, id, *row)? {
                    add(&image.display().to_string(), parts.of_image.insert(image.to_path_buf(), *split))?;
                }
            } else if let Some(id_here) = lookup.find(ids, id, *row)? {
                add(id_here, parts.of_id.insert(id_here.to_string(), *split))?;
            }
        }
        lookup.check_any("assigns no split to the source", ids)?;
        parts.note = lookup.note();
        Ok(parts)
    }
}

impl Parts {
    /// The part of an image; `None` when the file does not name it.
    pub fn find(&self, subject: &str, study: &str, image: &Path) -> Option<Split> {
        let found = match self.key {
            Key::Subject => self.of_id.get(subject),
            Key::Study => self.of_id.get(study),
            Key::Image => self.of_image.get(image),
        };
        found.copied()
    }
}
