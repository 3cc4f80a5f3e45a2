//! The attributes that importers need in addition to the picture. Nothing else about the patient is
//! kept.

use dicom_dictionary_std::tags;

use super::dataset::{DataSet, Stop};
use super::file::with_data_set;
use crate::{ImageError, Notes, View};

/// Bytes in which the header of a radiograph ends, as a rule.
pub const HEADER_BYTES: u64 = 1 << 16;

/// The attributes of a radiograph that say whose and of which visit it is. `None` where the file
/// leaves one out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// PatientID.
    pub subject_id: Option<String>,
    pub study_uid: Option<String>,
    pub series_uid: Option<String>,
    pub instance_uid: Option<String>,
    /// StudyDate as written, `YYYYMMDD`.
    pub study_date: Option<String>,
    /// StudyTime as written, `HHMMSS.FFFFFF` or its start.
    pub study_time: Option<String>,
    /// `None` where the file does not say, or names a view that is neither frontal nor lateral
    /// (oblique, decubitus).
    pub view: Option<View>,
    pub view_source: ViewSource,
    /// CR, DX, …
    pub modality: Option<String>,
    pub rows: Option<usize>,
    pub columns: Option<usize>,
}

/// Which attribute gave the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewSource {
    /// ViewPosition.
    ViewPosition,
    /// PatientOrientation. It cannot tell PA from AP; PA is taken.
    PatientOrientation,
    /// The words of ViewCodeSequence, SeriesDescription or ProtocolName.
    Text,
    /// None of them.
    Unknown,
}

/// Reads the header of a DICOM file, up to its pixels, from the file's bytes.
///
/// # Errors
/// A reason, without the file's name: not DICOM, damaged.
pub fn header_of(bytes: &[u8]) -> Result<Header, ImageError> {
    read(bytes, bytes.len()).map_err(Stop::reason)
}

/// Like [`header_of`], from the first bytes of a file of `length` bytes; [`HEADER_BYTES`] of them
/// are enough as a rule. `None` if the header is longer than `start`.
pub fn header_of_start(start: &[u8], length: usize) -> Option<Result<Header, ImageError>> {
    match read(start, length.max(start.len())) {
        Err(Stop::Short) => None,
        header => Some(header.map_err(Stop::reason)),
    }
}

/// * `length`: bytes of the whole file, of which `bytes` may be only the beginning.
fn read(bytes: &[u8], length: usize) -> Result<Header, Stop> {
    // The same elements that decoding sees, so that a size that passes here is the one that is
    // decoded.
    let until = |tag| tag == tags::PIXEL_DATA;
    with_data_set(bytes, length, until, &mut Notes::default(), |set, _, _| Ok(Header::of(set)))
}

impl Header {
    fn of(set: &DataSet) -> Header {
        let (view, view_source) = view(set);
        let size = |tag| usize::try_from(set.integer(tag)?).ok();
        Header {
            subject_id: set.text(tags::PATIENT_ID),
            study_uid: set.text(tags::STUDY_INSTANCE_UID),
            series_uid: set.text(tags::SERIES_INSTANCE_UID),
            instance_uid: set.text(tags::SOP_INSTANCE_UID),
            study_date: set.text(tags::STUDY_DATE),
            study_time: set.text(tags::STUDY_TIME),
            view,
            view_source,
            modality: set.text(tags::MODALITY),
            rows: size(tags::ROWS),
            columns: size(tags::COLUMNS),
        }
    }
}

fn view(set: &DataSet) -> (Option<View>, ViewSource) {
    if let Some(position) = set.text(tags::VIEW_POSITION) {
        match position.to_ascii_uppercase().as_str() {
            "RL" | "LAT" => return (Some(View::Lateral), ViewSource::ViewPosition),
            // Decubitus and oblique: the file states its view, but this program has no such view.
            "LLD" | "RLD" | "LLO" | "RLO" => return (None, ViewSource::ViewPosition),
            name => {
                if let Some(view) = View::parse(name) {
                    return (Some(view), ViewSource::ViewPosition);
                }
            }
        }
    }
    let words = described(set);
    let orientation = set.texts(tags::PATIENT_ORIENTATION);
    // The directions in which a row and a column run: to the left, right, front (anterior), back,
    // head or feet.
    let direction = |index: usize| orientation.get(index)?.chars().next();
    match (direction(0), direction(1)) {
        (Some('A' | 'P'), Some('F' | 'H')) => (Some(View::Lateral), ViewSource::PatientOrientation),
        (Some('L' | 'R'), Some('F' | 'H')) => match words {
            Some(view) if view.is_frontal() => (Some(view), ViewSource::Text),
            _ => (Some(View::Pa), ViewSource::PatientOrientation),
        },
        _ if words.is_some() => (words, ViewSource::Text),
        _ => (None, ViewSource::Unknown),
    }
}

/// The view that descriptions name, the most specific description first.
fn described(set: &DataSet) -> Option<View> {
    let code = set.items(tags::VIEW_CODE_SEQUENCE).next().and_then(|item| item.text(tags::CODE_MEANING));
    let texts = [code, set.text(tags::SERIES_DESCRIPTION), set.text(tags::PROTOCOL_NAME)];
    texts.into_iter().flatten().find_map(|text| view_in(&text))
}

/// The view that a text names by a separate word; `None` where it names none or several ("PA and
/// lateral").
fn view_in(text: &str) -> Option<View> {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
    let pair = |first: &[&str], second: &str| words.windows(2).any(|two| first.contains(&two[0]) && two[1] == second);
    if has(&["decubitus", "decub", "oblique"]) {
        return None;
    }
    let pa = has(&["pa", "posteroanterior"]) || pair(&["postero", "posterior"], "anterior");
    let ap = has(&["ap", "anteroposterior"]) || pair(&["antero", "anterior"], "posterior");
    let lateral = has(&["lateral", "lat"]);
    match (pa, ap, lateral) {
        (true, false, false) => Some(View::Pa),
        (false, true, false) => Some(View::Ap),
        (false, false, true) if !has(&["frontal"]) => Some(View::Lateral),
        (false, false, false) if has(&["frontal"]) => Some(View::Pa),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_a_view_by_whole_words() {
        for (text, expected) in [
            ("Chest PA", Some(View::Pa)),
            ("view: AP", Some(View::Ap)),
            ("THORAX_LAT", Some(View::Lateral)),
            ("postero-anterior", Some(View::Pa)),
            ("antero-posterior", Some(View::Ap)),
            ("left lateral", Some(View::Lateral)),
            ("frontal", Some(View::Pa)),
            ("AP frontal", Some(View::Ap)),
            ("Chest PA and lateral", None),
            ("frontal and lateral", None),
            ("left lateral decubitus", None),
            ("bilateral lap pad", None),
        ] {
            assert_eq!(view_in(text), expected, "{text}");
        }
    }
}
