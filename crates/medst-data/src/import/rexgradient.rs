//! ReXGradient-160K: `metadata/{train,valid,test}_metadata_view_position.json`, and pictures in
//! `deid_png/` or, in the published form, in the parts of one tar archive, `deid_png.part00` and
//! following.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::assemble::{Assembly, FoundImage};
use super::plan::ReportText;
use super::{Planned, PrepareOptions, values};
use crate::json::Unique;
use crate::split::Split;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Result};

const METADATA: [(&str, Split); 3] = [
    ("train_metadata_view_position.json", Split::Train),
    ("valid_metadata_view_position.json", Split::Validate),
    ("test_metadata_view_position.json", Split::Test),
];
/// Fields whose names differ between versions.
const DATE: [&str; 3] = ["StudyDate", "study_date", "Study Date"];
const SEX: [&str; 3] = ["PatientSex", "sex", "Sex"];
const AGE: [&str; 3] = ["PatientAge", "age", "Age"];
/// The folder of the pictures, and the name of its archive.
const IMAGES: &str = "deid_png";

/// The folder of the collection.
#[derive(Clone, Debug, Default)]
pub struct Rexgradient {
    /// The folder with `metadata`, and `deid_png` or its parts.
    pub root: PathBuf,
}

impl Rexgradient {
    /// The parts of the archive, in order; none where the pictures are unpacked.
    ///
    /// # Errors
    /// A part that is missing between others.
    pub fn parts(&self) -> Result<Vec<PathBuf>> {
        if self.root.join(IMAGES).is_dir() {
            return Ok(Vec::new());
        }
        let mut numbers: Vec<usize> = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(Error::io(&self.root))? {
            let name = entry.map_err(Error::io(&self.root))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("deid_png.part"));
            numbers.extend(number.and_then(|number| number.parse::<usize>().ok()));
        }
        numbers.sort_unstable();
        let path = |number: usize| self.root.join(format!("{IMAGES}.part{number:02}"));
        if let Some(missing) = (0..numbers.len()).find(|number| numbers[*number] != *number) {
            return Err(Error::Usage(format!("{} is missing", path(missing).display())));
        }
        Ok(numbers.into_iter().map(path).collect())
    }
}

/// Reads the metadata.
///
/// # Errors
/// Files that are missing or cannot be understood.
pub fn plan(source: &Rexgradient, options: &PrepareOptions) -> Result<Planned> {
    let root = &source.root;
    let files: Vec<(PathBuf, Split)> = METADATA
        .iter()
        .flat_map(|(name, split)| [root.join("metadata").join(name), root.join(name)].map(|path| (path, *split)))
        .filter(|(path, _)| path.exists())
        .collect();
    let Some((main, _)) = files.first() else {
        let (root, name) = (root.display(), METADATA[0].0);
        return Err(Error::Usage(format!("{root} is not ReXGradient-160K: it has no metadata/{name}")));
    };
    let mut assembly = Assembly::new(main, options)?;
    for (path, split) in &files {
        let mut row = 0;
        each_study(path, |id, study| {
            row += 1;
            add(&mut assembly, root, (path, row), *split, &id, &study)
        })?;
    }
    let parts = source.parts()?;
    if let [first, ..] = parts.as_slice() {
        let name = first.file_name().unwrap_or_default().display();
        let count = parts.len();
        assembly
            .plan
            .warn(format!("pictures are in {count} parts of an archive ({name} …), which --check does not read"));
    }
    Ok(Planned { plan: assembly.finish(options)?, files: files.into_iter().map(|(path, _)| path).collect() })
}

/// Visits the studies of a nested object one by one, because the file has hundreds of megabytes.
///
/// # Errors
/// Those of the visit, with the line where the study ends; a field that a study has twice.
fn each_study(path: &Path, visit: impl FnMut(String, Value) -> Result<()>) -> Result<()> {
    struct Each<F> {
        visit: F,
        error: Option<Error>,
    }
    impl<'de, F: FnMut(String, Value) -> Result<()>> Visitor<'de> for &mut Each<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object of studies by id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some((id, Unique(study))) = map.next_entry()? {
                if let Err(error) = (self.visit)(id, study) {
                    self.error = Some(error);
                    // The reader of JSON adds the line.
                    return Err(de::Error::custom("the study cannot be used"));
                }
            }
            Ok(())
        }
    }
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut each = Each { visit, error: None };
    let read = serde_json::Deserializer::from_reader(file).deserialize_map(&mut each);
    let Err(error) = read else { return Ok(()) };
    let line = error.line();
    Err(match each.error {
        Some(Error::Row { path, row, message }) => {
            Error::Row { path, row, message: format!("{message} (line {line})") }
        }
        Some(other) => other,
        None => Error::Table { path: path.to_path_buf(), message: format!("line {line}: {error}") },
    })
}

fn add(
    assembly: &mut Assembly,
    root: &Path,
    (path, row): (&Path, u64),
    split: Split,
    id: &str,
    study: &Value,
) -> Result<()> {
    let fail = |message: String| Error::Row { path: path.to_path_buf(), row, message };
    let list = |name: &str| study.get(name).and_then(Value::as_array);
    let fields =
        || study.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let lacks = |name: &str| fail(format!("study {id} has no list {name} (fields: {})", fields()));
    let images = list("ImagePath").ok_or_else(|| lacks("ImagePath"))?;
    let views = list("ImageViewPosition").ok_or_else(|| lacks("ImageViewPosition"))?;
    if images.len() != views.len() {
        let (images, views) = (images.len(), views.len());
        return Err(fail(format!("study {id} has {images} in ImagePath and {views} in ImageViewPosition")));
    }
    // The names of some differ between versions.
    for names in [&DATE[..], &SEX, &AGE, &["Impression"], &["Findings"]] {
        if names.iter().all(|name| study.get(*name).is_none()) {
            assembly
                .plan
                .warn(format!("studies without a field {} (the first: {id} in row {row})", names.join(" or ")));
        }
    }
    let text = |names: &[&str]| names.iter().find_map(|name| study.get(*name)?.as_str()).map(str::trim);
    let text = |names: &[&str]| text(names).filter(|text| !text.is_empty()).map(str::to_string);
    let date = text(&DATE);
    let acquired = date.as_deref().and_then(|date| values::dicom_moment(date, None));
    for (image, view) in images.iter().zip(views) {
        let image = image.as_str().ok_or_else(|| fail(format!("study {id} has an ImagePath that is not text")))?;
        // `../deid_png/<patient>/<accession>/studies/…`
        let below: PathBuf =
            Path::new(image).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut folders = below.iter().map(|part| part.to_string_lossy().into_owned());
        let (Some(_), Some(subject), Some(accession)) = (folders.next(), folders.next(), folders.next()) else {
            assembly.plan.skip(image, row, "ImagePath contains no patient and study ID");
            continue;
        };
        let file = root.join(&below);
        let name = view.as_str().unwrap_or_default();
        let Some(view) = parse_view(name) else {
            assembly.know(&subject, &accession, &file);
            let stated = if name.is_empty() { "nothing" } else { name };
            assembly.plan.skip(file.display().to_string(), row, format!("ImageViewPosition is `{stated}`"));
            continue;
        };
        let (subject, study) = (SubjectId(subject), StudyId(accession));
        let index = assembly.add(FoundImage { subject, study, view, path: file, row, acquired, split: Some(split) })?;
        assembly.label_view(index, view);
        let (impression, findings) = (text(&["Impression"]), text(&["Findings"]));
        if impression.is_some() || findings.is_some() {
            assembly.report(index, ReportText::Sections { impression, findings, last_paragraph: None });
        }
        for (label, names) in [("sex", SEX), ("age", AGE)] {
            if let Some(value) = text(&names) {
                assembly.label(index, label, if label == "age" { years(&value) } else { value });
            }
        }
    }
    Ok(())
}

/// `007Y` is 7 years; months and days are less than one.
fn years(age: &str) -> String {
    match age.strip_suffix(['Y', 'y']).unwrap_or(age).parse::<u32>() {
        Ok(years) => years.to_string(),
        Err(_) if age.ends_with(['M', 'W', 'D']) => "0".into(),
        Err(_) => age.to_string(),
    }
}

/// Oblique, decubitus and abdominal views, postures and unknown ones are not used.
fn parse_view(name: &str) -> Option<View> {
    match name.trim().to_uppercase().as_str() {
        "PA" | "POSTERO_ANTERIOR" => Some(View::Pa),
        "AP" | "ANTERO_POSTERIOR" => Some(View::Ap),
        "LATERAL" | "LAT" => Some(View::Lateral),
        "LL" => Some(View::Ll),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_views_are_read_as_they_are_written() {
        assert_eq!(["007Y", "065Y", "42", "003M", "old"].map(years), ["7", "65", "42", "0", "old"]);
        assert_eq!(parse_view("POSTERO_ANTERIOR"), Some(View::Pa));
        assert_eq!(
            (parse_view("LAT"), parse_view("UNKNOWN"), parse_view("AP AXIAL")),
            (Some(View::Lateral), None, None)
        );
    }
}
