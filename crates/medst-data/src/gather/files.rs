//! Radiographs and text files, named individually or found in folders.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{DeclaredView, FoundStudy, Gathered, PictureLocation};
use crate::image::dicom::{self, Header, ViewSource};
use crate::image::{self, ImageError};
use crate::import::values;
use crate::report::{self, Rule};
use crate::{Error, Result, input};

/// A text file above this size is not taken for a report.
const LONGEST_REPORT: u64 = 1 << 20;

/// The type of a file, by its first bytes (by its name if it is text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Picture,
    Dicom,
    Text,
    Other,
}

/// The files that were named or found, in order.
#[derive(Debug, Default)]
pub struct Files {
    files: Vec<(PathBuf, FileKind)>,
}

impl Files {
    /// Adds a file, or the files of a folder. Anything that exists but cannot be read is left out.
    ///
    /// # Errors
    /// A path that does not exist.
    pub fn add(&mut self, path: &Path, gathered: &mut Gathered) -> Result<()> {
        if path.is_dir() {
            self.add_folder(path, gathered);
            return Ok(());
        }
        let kind = match kind(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::io(path)(error)),
            Err(error) => {
                gathered.leave_out(path.display(), error.to_string());
                return Ok(());
            }
            Ok(kind) => kind,
        };
        match kind {
            FileKind::Other => {
                gathered.leave_out(path.display(), "unsupported file type (expected JPEG, PNG, DICOM or .txt)")
            }
            kind => self.files.push((path.to_path_buf(), kind)),
        }
        Ok(())
    }

    /// Adds the files of a folder, at any depth. Anything that cannot be listed or opened is left
    /// out.
    fn add_folder(&mut self, folder: &Path, gathered: &mut Gathered) {
        let entries = std::fs::read_dir(folder);
        let paths = entries.and_then(|all| all.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>());
        let mut paths = match paths {
            Ok(paths) => paths,
            Err(error) => return gathered.leave_out(folder.display(), format!("cannot be listed: {error}")),
        };
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden {
                gathered.ignored += 1;
                continue;
            }
            // The target of a link may be one of the folders above it.
            let found = match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {
                    self.add_folder(&path, gathered);
                    continue;
                }
                Ok(_) if path.is_dir() => Ok(FileKind::Other),
                Ok(_) => kind(&path),
                Err(error) => Err(error),
            };
            match found {
                Ok(FileKind::Other) => gathered.ignored += 1,
                Ok(kind) => self.files.push((path, kind)),
                Err(error) => gathered.leave_out(path.display(), error.to_string()),
            }
        }
    }

    /// Joins files to studies.
    pub fn finish(self, view: DeclaredView, rule: Rule, gathered: &mut Gathered) {
        // Studies by the path of their image without its extension, and by the ID in their DICOM
        // headers.
        let mut by_stem: HashMap<PathBuf, usize> = HashMap::new();
        let mut by_uid: HashMap<String, usize> = HashMap::new();
        let (texts, pictures): (Vec<_>, Vec<_>) = self.files.into_iter().partition(|file| file.1 == FileKind::Text);
        for (path, kind) in pictures {
            let header = match (kind == FileKind::Dicom).then(|| image::dicom_header(&path)).transpose() {
                Ok(header) => header,
                Err(error) => {
                    gathered.leave_out(path.display(), reason(error));
                    continue;
                }
            };
            let frontal = match is_frontal(header.as_ref(), view) {
                Ok(frontal) => frontal,
                Err(reason) => {
                    gathered.leave_out(path.display(), reason.to_string());
                    continue;
                }
            };
            let uid = header.as_ref().and_then(|header| header.study_uid.clone());
            let has_room = |study: &FoundStudy| if frontal { study.frontal.is_none() } else { study.lateral.is_none() };
            let known = uid.as_ref().and_then(|uid| by_uid.get(uid).copied());
            let known = known.filter(|&known| has_room(&gathered.studies[known]));
            let at = known.unwrap_or_else(|| {
                let mut study = FoundStudy::new(path.display().to_string());
                if let Some(header) = &header {
                    study.subject.clone_from(&header.subject_id);
                    let time = header.study_time.as_deref();
                    study.acquired = header.study_date.as_deref().and_then(|date| values::dicom_moment(date, time));
                }
                gathered.studies.push(study);
                gathered.studies.len() - 1
            });
            if let Some(uid) = uid {
                by_uid.entry(uid).or_insert(at);
            }
            by_stem.insert(path.with_extension(""), at);
            let study = &mut gathered.studies[at];
            let slot = if frontal { &mut study.frontal } else { &mut study.lateral };
            *slot = Some(PictureLocation::File(path));
        }
        for (path, _) in texts {
            match read_report(&path, rule) {
                Ok(report) => match by_stem.get(&path.with_extension("")) {
                    Some(&at) => gathered.studies[at].report = Some(report),
                    None => gathered
                        .studies
                        .push(FoundStudy { report: Some(report), ..FoundStudy::new(path.display().to_string()) }),
                },
                Err(error) => gathered.leave_out(path.display(), error.to_string()),
            }
        }
    }
}

/// Determines the type of a file; an error if it cannot be opened.
fn kind(path: &Path) -> std::io::Result<FileKind> {
    let mut start = Vec::with_capacity(132);
    input::open(path)?.take(132).read_to_end(&mut start)?;
    Ok(match start.as_slice() {
        [0xff, 0xd8, ..] | [0x89, b'P', b'N', b'G', ..] => FileKind::Picture,
        start if dicom::is_dicom(start) => FileKind::Dicom,
        _ => match path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase()).as_deref() {
            Some("txt") => FileKind::Text,
            // Its name promises a picture; decoding will report what is wrong with it.
            Some("jpg" | "jpeg" | "png" | "dcm" | "dicom") => FileKind::Picture,
            _ => FileKind::Other,
        },
    })
}

/// Whether an image is a frontal view: by its header, else as declared.
///
/// # Errors
/// A header that states another view than was declared, or one that is neither frontal nor lateral.
pub(super) fn is_frontal(header: Option<&Header>, view: DeclaredView) -> Result<bool, ImageError> {
    let stated = header.and_then(|header| header.view);
    let other = header.is_some_and(|header| header.view.is_none() && header.view_source != ViewSource::Unknown);
    match (view, stated) {
        (_, None) if other => Err(ImageError::NeitherView),
        (DeclaredView::Auto, stated) => Ok(stated.is_none_or(|view| view.is_frontal())),
        (DeclaredView::Frontal, Some(view)) if !view.is_frontal() => {
            Err(ImageError::OtherView { declared: "frontal", found: view })
        }
        (DeclaredView::Lateral, Some(view)) if view.is_frontal() => {
            Err(ImageError::OtherView { declared: "lateral", found: view })
        }
        (declared, _) => Ok(declared == DeclaredView::Frontal),
    }
}

/// Checks the view of one file against the declared one.
///
/// # Errors
/// A file that does not exist; a header that states another view. The error names the file.
pub fn check_view(path: &Path, view: DeclaredView) -> Result<bool> {
    let header =
        (kind(path).map_err(Error::io(path))? == FileKind::Dicom).then(|| image::dicom_header(path)).transpose()?;
    is_frontal(header.as_ref(), view).map_err(Error::image(path))
}

/// Like [`check_view`], for the bytes of a file.
///
/// # Errors
/// A reason, without the file's name.
pub fn check_view_of(bytes: &[u8], view: DeclaredView) -> Result<bool, ImageError> {
    let header = dicom::is_dicom(bytes).then(|| dicom::header_of(bytes)).transpose()?;
    is_frontal(header.as_ref(), view)
}

/// Reads a text file as a report, cleaned.
///
/// # Errors
/// A reason: not UTF-8, too long, or without words.
pub fn read_report(path: &Path, rule: Rule) -> Result<String, ReportError> {
    let text = String::from_utf8(input::read(path, LONGEST_REPORT)?).map_err(|_| ReportError::NotText)?;
    report::prepare(&text, None, rule).map_err(ReportError::Rejected)
}

/// Why a text file gives no report; the message does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not there, unreadable or too long.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not UTF-8 text")]
    NotText,
    #[error("{0}")]
    Rejected(report::Rejection),
}

fn reason(error: Error) -> String {
    match error {
        Error::Image { reason, .. } => reason.to_string(),
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
