//! From the bytes of a file to its data set: preamble, meta group, transfer syntax (PS3.10, chapter
//! 7).
//!
//! Files without a preamble, without a meta group or without its length are accepted, as are files
//! whose data set is not encoded as their transfer syntax states: the encoding is then inferred
//! from the first elements.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::dataset::{DataSet, Stop};
use super::encoding::Encoding;
use super::inflate::inflate;
use crate::{ImageError, Notes};

/// Whether bytes, at least the first 132 of a file, are those of a DICOM file: "DICM" after a
/// preamble of 128 bytes, or the first element of a meta group or data set without preamble.
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM") || is_bare(bytes)
}

/// The first element is one of group 2 or 8 whose length is that of an identifier or number, not of
/// a text.
fn is_bare(bytes: &[u8]) -> bool {
    let Some(&[a, b, c, d, e, f, g, h]) = bytes.first_chunk() else { return false };
    let group_of = |low, high| matches!(low, 2 | 8) && high == 0;
    let is_named = VR::from_binary([e, f]).is_some();
    let is_implicit = a == 8 && (1..=256).contains(&u32::from_le_bytes([e, f, g, h]));
    (group_of(a, b) && d == 0 && (is_named || is_implicit)) || (group_of(b, a) && c == 0 && is_named)
}

/// Reads a file up to its pixels and hands on what it holds, with its transfer syntax where it
/// names one.
///
/// * `length`: bytes of the whole file, of which `bytes` may be only the beginning.
///
/// # Errors
/// Not a DICOM file; more is needed than is given; damaged.
pub(super) fn with_data_set<T>(
    bytes: &[u8],
    length: usize,
    until: impl Fn(Tag) -> bool,
    notes: &mut Notes,
    work: impl FnOnce(&DataSet, Option<&str>, &mut Notes) -> Result<T, ImageError>,
) -> Result<T, Stop> {
    if !is_dicom(bytes) {
        let reason = "not a DICOM file: neither \"DICM\" at byte 128 nor a data element at its start";
        return Err(Stop::Refused(ImageError::unsupported(reason)));
    }
    let start = if bytes.get(128..132) == Some(b"DICM") { 132 } else { 0 };
    let (bytes, length) = (&bytes[start..], length - start);
    // The group's length is often missing or wrong; its end is where another group begins.
    let encoding = Encoding::EXPLICIT.settle(bytes, length);
    let meta = DataSet::read(bytes, length, encoding, |tag| tag.0 != 2)?;
    let (bytes, length) = (&bytes[meta.end..], length - meta.end);
    let syntax = meta.text(tags::TRANSFER_SYNTAX_UID);
    if start == 0 {
        notes.add("DICOM: no preamble; encoding inferred from the elements");
    }
    if syntax.is_none() {
        notes.add("DICOM: no transfer syntax; encoding inferred from the elements");
    }
    let work = |set: &DataSet, notes: &mut Notes| work(set, syntax.as_deref(), notes).map_err(Stop::Refused);
    if syntax.as_deref() == Some("1.2.840.10008.1.2.1.99") {
        if bytes.len() < length {
            return Err(Stop::Short);
        }
        let inflated = inflate(bytes, until(tags::PIXEL_DATA))?;
        let set = DataSet::read(&inflated, inflated.len(), Encoding::EXPLICIT, until)?;
        return work(&set, notes);
    }
    let declared = match syntax.as_deref() {
        Some("1.2.840.10008.1.2") | None => Encoding::IMPLICIT,
        Some("1.2.840.10008.1.2.2") => Encoding { explicit: true, big_endian: true },
        Some(_) => Encoding::EXPLICIT,
    };
    let encoding = declared.settle(bytes, length);
    if syntax.is_some() && encoding != declared {
        notes.add(
            "DICOM: data set encoded differently than its transfer syntax states; encoding inferred from the elements",
        );
    }
    let set = DataSet::read(bytes, length, encoding, until)?;
    work(&set, notes)
}
