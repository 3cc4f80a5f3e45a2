//! Split files: which part every subject, study or image belongs to, as a table that can be published and read again.
//!
//! A split file is a CSV (gzipped or not) with the column `split` and one of `subject_id`, `patientId`, `study_id`,
//! `dicom_id`, `image`, `filename` or `Path`. Every corpus carries one, `splits.csv`.

use std::collections::HashMap;
use std::path::Path;

use super::rows::Rows;
use crate::split::Split;
use crate::study::{StudyId, SubjectId};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Subject,
    Study,
    /// The image's file name without its extension.
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

/// A split file in memory.
#[derive(Clone, Debug)]
pub struct SplitFile {
    key: Key,
    splits: HashMap<String, Split>,
}

impl SplitFile {
    /// Reads a split file.
    ///
    /// # Errors
    /// Names what is missing, the row whose split is unknown, or the key that two rows put in different parts.
    pub fn read(path: &Path) -> Result<SplitFile> {
        let mut rows = Rows::open(path)?;
        let split = rows.column("split")?;
        let found = COLUMNS.iter().find_map(|&(name, key)| Some((rows.find(name)?, key)));
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        let (column, key) = found.ok_or_else(|| rows.fail(format!("needs one of the columns {names}")))?;
        let mut splits: HashMap<String, Split> = HashMap::new();
        rows.each(|row| {
            let conflict = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
            let cell = row.cell(split).unwrap_or_default();
            let split = Split::parse(cell)
                .ok_or_else(|| conflict(format!("split is `{cell}`; expected train, validate or test")))?;
            let Some(name) = row.cell(column) else { return Ok(()) };
            let name = if key == Key::Image { stem(Path::new(name)) } else { name.to_string() };
            match splits.insert(name, split) {
                Some(earlier) if earlier != split => {
                    let name = row.cell(column).unwrap_or_default();
                    Err(conflict(format!("`{name}` is in {split} here and in {earlier} before")))
                }
                _ => Ok(()),
            }
        })?;
        Ok(SplitFile { key, splits })
    }

    /// The part of an image; `None` when the file does not name it.
    pub fn find(&self, subject: &SubjectId, study: &StudyId, image: &Path) -> Option<Split> {
        let found = match self.key {
            Key::Subject => self.splits.get(&subject.0),
            Key::Study => self.splits.get(&study.0),
            Key::Image => self.splits.get(&stem(image)),
        };
        found.copied()
    }
}

pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
