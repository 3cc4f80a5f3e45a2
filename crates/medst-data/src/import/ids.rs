//! Matches IDs that are written in different forms, and decides when they refer to the same
//! patient, study or image.
//!
//! Programs rewrite ids: a data frame makes `10000032.0` of `10000032`, a spreadsheet
//! `1.0000032E+07`, or `7` of `007`; MIMIC-CXR writes a subject as `10000032` in tables and as
//! `p10000032` in paths. An id of one file (an exclusion list, a split file, a table of reports) is
//! looked up among the ids of another:
//!
//! 1. The identical id matches.
//! 2. Otherwise the only id with the same [`key`] matches, and this is counted. The key ignores
//!    case, leading zeros, a `p` or `s` in front of digits, and how a program writes a whole
//!    number.
//! 3. Where several ids have that key, or where the id is a number that lost digits
//!    (`1.23457E+11`), it is an error that shows the forms: a guess could put a patient into the
//!    wrong part.
//!
//! Ids themselves are never changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::{Error, Reason, Result};

/// The normalised form by which IDs are compared if they are not identical.
pub fn key(id: &str) -> String {
    let id = id.trim().to_lowercase();
    // The way to keep zeros in a spreadsheet's CSV file: `="007"`.
    let id = id.strip_prefix("=\"").and_then(|id| id.strip_suffix('"')).unwrap_or(&id);
    let id = match number(id) {
        Some(Number::Whole(digits)) => digits,
        _ => id.to_string(),
    };
    let bare = id.strip_prefix(['p', 's']).filter(|rest| is_digits(rest)).unwrap_or(&id);
    if !is_digits(bare) {
        return id;
    }
    let significant = bare.trim_start_matches('0');
    if significant.is_empty() { "0".into() } else { significant.into() }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A whole number as a program writes a floating-point one.
#[derive(Debug, PartialEq, Eq)]
enum Number {
    Whole(String),
    /// Fewer digits are left than it had.
    Rounded,
}

/// `10000032.0`, `1.0000032e+07`. Without a point or a sign `12e4` may as well be hexadecimal: not
/// a number.
fn number(id: &str) -> Option<Number> {
    let (mantissa, exponent) = match id.split_once('e') {
        None => (id, 0),
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix('+').unwrap_or(exponent);
            let written = mantissa.contains('.') || digits.len() < exponent.len();
            let exponent = digits.parse::<usize>().ok().filter(|&exponent| written && exponent < 40)?;
            (mantissa, exponent)
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !is_digits(whole) || !(fraction.is_empty() || is_digits(fraction)) || (exponent == 0 && fraction.is_empty()) {
        return None;
    }
    if fraction.len() < exponent {
        return Some(Number::Rounded);
    }
    let (digits, rest) = fraction.split_at(exponent);
    rest.bytes().all(|digit| digit == b'0').then(|| Number::Whole(format!("{whole}{digits}")))
}

/// The ids of a source, to be looked up.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    by_key: HashMap<String, Vec<String>>,
}

impl Ids {
    pub fn insert(&mut self, id: &str) {
        let forms = self.by_key.entry(key(id)).or_default();
        if !forms.iter().any(|form| form == id) {
            forms.push(id.to_string());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many different ids there are.
    pub fn len(&self) -> usize {
        self.by_key.values().map(Vec::len).sum()
    }

    /// Some id, for a message: the first in the order of keys.
    pub fn example(&self) -> &str {
        let first = self.by_key.iter().min_by_key(|(key, _)| *key);
        first.and_then(|(_, forms)| forms.first()).map_or("nothing", String::as_str)
    }

    /// Looks up an id by the rule of this module; `None` where the source does not have it.
    ///
    /// # Errors
    /// Why no id can be chosen, showing the forms.
    pub fn find(&self, id: &str) -> Result<Option<&str>, Reason> {
        let forms = self.by_key.get(&key(id)).map(Vec::as_slice).unwrap_or_default();
        if let Some(same) = forms.iter().find(|form| *form == id) {
            return Ok(Some(same));
        }
        match forms {
            [only] => Ok(Some(only)),
            [] if number(&id.to_lowercase()) == Some(Number::Rounded) => {
                let example = self.example();
                Err(format!("`{id}` is a number that has lost digits; write IDs as text, such as `{example}`").into())
            }
            [] => Ok(None),
            several => {
                let forms = several.join("`, `");
                Err(format!("`{id}` may mean any of `{forms}`; write IDs alike in both files").into())
            }
        }
    }
}

impl<'a> FromIterator<&'a str> for Ids {
    fn from_iter<I: IntoIterator<Item = &'a str>>(ids: I) -> Ids {
        let mut found = Ids::default();
        ids.into_iter().for_each(|id| found.insert(id));
        found
    }
}

/// Looks the ids of one file up, and counts how that went.
#[derive(Debug)]
pub struct Lookup<'a> {
    list: &'a Path,
    /// Ids that were found in another form, and the first pair.
    reformed: u64,
    first: Option<(String, String)>,
    found: u64,
    missed: u64,
    /// An id that the source does not have.
    stranger: Option<String>,
}

impl<'a> Lookup<'a> {
    /// * `list`: the file whose ids are looked up.
    pub fn new(list: &'a Path) -> Lookup<'a> {
        Lookup { list, reformed: 0, first: None, found: 0, missed: 0, stranger: None }
    }

    /// The id of the source that `id` in a row of the list means.
    ///
    /// # Errors
    /// Names list and row, and shows the forms.
    pub fn find<'b>(&mut self, ids: &'b Ids, id: &str, row: u64) -> Result<Option<&'b str>> {
        let fail = |reason: Reason| Error::Row { path: self.list.to_path_buf(), row, message: reason.into() };
        let found = ids.find(id).map_err(fail)?;
        match found {
            Some(written) => {
                self.found += 1;
                if written != id {
                    self.reformed += 1;
                    self.first.get_or_insert_with(|| (id.to_string(), written.to_string()));
                }
            }
            None => {
                self.missed += 1;
                self.stranger.get_or_insert_with(|| id.to_string());
            }
        }
        Ok(found)
    }

    /// For the summary: the number of IDs that were matched in another form.
    pub fn note(&self) -> Option<(String, u64)> {
        let (theirs, ours) = self.first.as_ref()?;
        let name = self.list.file_name().unwrap_or_default().to_string_lossy();
        Some((format!("IDs of {name} are written in another form (`{theirs}` for `{ours}`)"), self.reformed))
    }

    /// Fails where the list has ids and the source has none of them.
    ///
    /// * `what`: the effect that is missing, such as "keeps no subject out".
    ///
    /// # Errors
    /// Shows an id of either.
    pub fn check_any(&self, what: &str, ids: &Ids) -> Result<()> {
        if self.found > 0 || self.missed == 0 || ids.is_empty() {
            return Ok(());
        }
        let (missed, example) = (self.missed, ids.example());
        let theirs = self.stranger.as_deref().unwrap_or_default();
        let message = format!(
            "{what}: the source has none of its {missed} IDs (such as `{theirs}`; the source has IDs such as \
             `{example}`); write IDs as the source does"
        );
        Err(Error::Table { path: self.list.to_path_buf(), message })
    }
}

/// Image files by name, to be looked up by a name or path that another file gives them.
#[derive(Clone, Debug, Default)]
pub struct Images {
    names: Ids,
    paths: Vec<PathBuf>,
    /// Positions in `paths` by the hash of a name and up to [`FOLDERS`] folders above it.
    by_end: HashMap<u64, Vec<u32>>,
}

/// How many folders of a path are compared.
const FOLDERS: usize = 4;

impl Images {
    pub fn insert(&mut self, path: &Path) {
        let (name, index) = (image_name(path), self.paths.len() as u32);
        self.names.insert(&name);
        for end in ends(&name, path) {
            self.by_end.entry(end).or_default().push(index);
        }
        self.paths.push(path.to_path_buf());
    }

    pub fn names(&self) -> &Ids {
        &self.names
    }

    /// The files that `name` means: those of that name whose folders agree with its own for
    /// longest. (CheXpert calls the first frontal image of each of its 65,240 patients
    /// `view1_frontal.jpg`.)
    ///
    /// # Errors
    /// As [`Lookup::find`].
    pub fn find(&self, lookup: &mut Lookup, name: &str, row: u64) -> Result<Vec<&Path>> {
        let path = Path::new(name);
        let Some(name) = lookup.find(&self.names, &image_name(path), row)? else { return Ok(Vec::new()) };
        let longest = ends(name, path).into_iter().rev().find_map(|end| self.by_end.get(&end));
        Ok(longest.into_iter().flatten().map(|&index| self.paths[index as usize].as_path()).collect())
    }
}

/// Hashes of a name, of the name in its folder, of that in the folder above, ….
fn ends(name: &str, path: &Path) -> Vec<u64> {
    let mut hash = DefaultHasher::new();
    let folders = path.components().rev().skip(1).take(FOLDERS).map(|part| part.as_os_str());
    let parts = std::iter::once(name.as_ref()).chain(folders);
    parts
        .map(|part: &std::ffi::OsStr| {
            part.hash(&mut hash);
            hash.finish()
        })
        .collect()
}

/// A file's name without the ending of a picture. Other points belong to the name: a DICOM UID is
/// full of them.
pub fn image_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let endings = [".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff"];
    let lower = name.to_ascii_lowercase();
    let ending = endings.iter().find(|ending| lower.ends_with(*ending)).map_or(0, |ending| ending.len());
    name[..name.len() - ending].to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_id_have_one_key() {
        for form in ["10000032", "10000032.0", "1.0000032e7", "1.0000032E+07", "p10000032", "P10000032", "0010000032"] {
            assert_eq!(key(form), "10000032", "{form}");
        }
        assert_eq!(key("=\"007\""), "7");
        assert_eq!((key("000"), key("P1"), key("s1")), ("0".into(), "1".into(), "1".into()));
        // Not numbers: hexadecimal ids, versions, names.
        for (one, other) in [("12e4", "120000"), ("1.5", "15"), ("a7", "7"), ("p1-v1", "1-v1"), ("7.25", "7")] {
            assert_ne!(key(one), key(other), "{one}");
        }
    }

    #[test]
    fn an_id_matches_itself_then_its_only_other_form() {
        let ids: Ids = ["7", "007", "12", "p5"].into_iter().collect();
        assert_eq!(ids.find("007"), Ok(Some("007")));
        assert_eq!(ids.find("12.0"), Ok(Some("12")));
        assert_eq!(ids.find("P005"), Ok(Some("p5")));
        assert_eq!(ids.find("8"), Ok(None));
        let error = ids.find("7.0").unwrap_err().to_string();
        assert!(error.contains("`7.0`") && error.contains("`7`, `007`"), "{error}");
        let error = ids.find("1.23457E+11").unwrap_err().to_string();
        assert!(error.contains("lost digits"), "{error}");
    }

    #[test]
    fn images_are_found_by_as_much_of_their_path_as_is_given() {
        let mut images = Images::default();
        let paths = ["/r/train/p1/s1/view1.jpg", "/r/train/p2/s1/view1.jpg", "/r/1.2.840.5.dcm", "/r/1.2.840.6.dcm"];
        paths.iter().for_each(|path| images.insert(Path::new(path)));
        let find = |name: &str| images.find(&mut Lookup::new(Path::new("list.csv")), name, 1).unwrap();
        assert_eq!(find("CheXpert-v1.0/train/p2/s1/view1.jpg"), [Path::new(paths[1])]);
        assert_eq!(find("view1").len(), 2);
        assert_eq!(find("1.2.840.5"), [Path::new(paths[2])]);
        assert!(find("1.2.840").is_empty());
    }

    proptest! {
        #[test]
        fn any_id_matches_itself_whatever_else_there_is(ids in proptest::collection::vec("[pPsS]?[0-9]{1,4}(\\.0|e\\+1)?|\\PC{1,6}", 1..8)) {
            let all: Ids = ids.iter().map(String::as_str).collect();
            for id in &ids {
                prop_assert_eq!(all.find(id), Ok(Some(id.as_str())));
            }
        }

        #[test]
        fn what_programs_make_of_a_number_has_its_key(number in 1u64..10_000_000_000, zeros in 0usize..4) {
            let plain = number.to_string();
            let scientific = format!("{:e}", number as f64);
            let digits = scientific.split_once('e').map_or(0, |(mantissa, _)| mantissa.len().saturating_sub(2));
            // Rust trims zeros at the end, which cannot be told from lost digits.
            if digits + 1 == plain.len() && digits > 0 {
                prop_assert_eq!(key(&scientific), plain.clone());
            }
            prop_assert_eq!(key(&format!("{plain}.0")), plain.clone());
            prop_assert_eq!(key(&format!("{}{plain}", "0".repeat(zeros))), plain);
        }
    }
}
