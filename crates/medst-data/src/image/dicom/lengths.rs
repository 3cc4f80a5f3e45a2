//! A look at every declared length before the file is parsed: the parser takes memory for an element as soon as it has read
//! its length, so that a file of a hundred bytes could ask for four gigabytes. It also takes memory for every element, item
//! and value of a text, of which some have no bytes at all, so they are counted.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

/// Deeper nesting is no radiograph, and would exhaust the stack.
const DEEPEST: usize = 16;
/// Elements and items of a file; radiographs have some hundred.
const MOST_ELEMENTS: usize = 1 << 17;
/// Bytes of all texts that the parser cuts into values, which are a backslash apart.
const MOST_TEXT: usize = 1 << 20;
const UNDEFINED: u32 = u32::MAX;
/// Where this walk loses its way the parser might find another one.
const OUT_OF_PLACE: &str = "damaged DICOM: items or delimiters out of place";

/// Checks the meta group and the data set behind it, as far as they are at hand.
///
/// * `bytes`: a file from its preamble on, or its beginning.
/// * `length`: of the whole file.
///
/// Returns whether all elements in front of the pixels were at hand.
///
/// # Errors
/// An element that is longer than the file.
pub fn check(bytes: &[u8], length: usize, transfer_syntax: &str) -> Result<bool, String> {
    let start = check_meta(bytes, length)?;
    let syntax = transfer_syntax.trim_end_matches(['\0', ' ']);
    let (explicit, big_endian) = (syntax != "1.2.840.10008.1.2", syntax == "1.2.840.10008.1.2.2");
    let seen_pixels = Walk::new(bytes, start, explicit, big_endian).all(length)?;
    Ok(seen_pixels || bytes.len() == length)
}

/// Where the pixels of a data set are.
pub struct PixelPlace {
    /// Where their element begins.
    pub element: usize,
    /// Bytes of their value.
    pub length: u64,
}

/// Finds the pixels of an explicit little-endian data set of which the beginning is at hand.
///
/// # Errors
/// Pixels without a length, items or delimiters out of place, or too many of them.
pub fn pixels(bytes: &[u8], start: usize) -> Result<Option<PixelPlace>, String> {
    let mut walk = Walk::new(bytes, start, true, false);
    loop {
        let element = walk.at;
        let is_pixels = walk.number16(element) == Some(0x7fe0) && walk.number16(element + 2) == Some(0x0010);
        if is_pixels && let (_, Some(length), _) = walk.explicit_length() {
            let known = (length != UNDEFINED).then_some(PixelPlace { element, length: length.into() });
            return known.map(Some).ok_or_else(|| "damaged DICOM: its pixels have no length".into());
        }
        // The whole data set may be longer than what is at hand.
        match walk.element(usize::MAX, 0)? {
            Seen::Element => {}
            Seen::ItemEnd => return Err(OUT_OF_PLACE.into()),
            Seen::End => return Ok(None),
        }
    }
}

/// Checks the meta group alone, which tells the transfer syntax; returns where it ends.
///
/// # Errors
/// An element that is longer than the file.
pub fn check_meta(bytes: &[u8], length: usize) -> Result<usize, String> {
    let mut meta = Walk::new(bytes, 132, true, false);
    // The first element tells the group's length, by which the parser finds the data set.
    let is_first = bytes.get(132..140) == Some(&[2, 0, 0, 0, b'U', b'L', 4, 0]);
    let group = meta.number32(140).filter(|_| is_first).ok_or("damaged DICOM: its meta group has no length")?;
    let start = 144usize.checked_add(group as usize).filter(|&start| start <= length);
    let start = start.ok_or("damaged DICOM: its meta group is longer than the file; it may be truncated")?;
    meta.at = 144;
    while meta.at < start {
        if meta.element(start, 0)? != Seen::Element {
            // The rest of the group may not be at hand.
            return if bytes.len() < start { Ok(start) } else { Err(OUT_OF_PLACE.into()) };
        }
    }
    Ok(start)
}

/// A place in a data set.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    explicit: bool,
    big_endian: bool,
    seen_pixels: bool,
    /// Elements and items so far.
    count: usize,
    /// Bytes of texts of several values so far.
    text: usize,
}

/// What an element was.
#[derive(PartialEq, Eq)]
enum Seen {
    Element,
    /// The end of an item of undefined length.
    ItemEnd,
    /// Nothing more that could be an element.
    End,
}

impl Walk<'_> {
    fn new(bytes: &[u8], at: usize, explicit: bool, big_endian: bool) -> Walk<'_> {
        Walk { bytes, at, explicit, big_endian, seen_pixels: false, count: 0, text: 0 }
    }

    /// Counts an element or item.
    fn count(&mut self) -> Result<(), String> {
        self.count += 1;
        match self.count > MOST_ELEMENTS {
            true => Err(format!("damaged DICOM: more than {MOST_ELEMENTS} elements and items")),
            false => Ok(()),
        }
    }

    fn all(mut self, end: usize) -> Result<bool, String> {
        loop {
            match self.element(end, 0)? {
                Seen::Element => {}
                Seen::ItemEnd => return Err(OUT_OF_PLACE.into()),
                Seen::End => return Ok(self.seen_pixels),
            }
        }
    }

    /// Passes over one element that must end at or before `end`.
    fn element(&mut self, end: usize, depth: usize) -> Result<Seen, String> {
        let header = (self.number16(self.at), self.number16(self.at + 2));
        let (Some(group), Some(number)) = header else { return Ok(Seen::End) };
        let tag = Tag(group, number);
        if group == 0xfffe {
            if number != 0xe00d || self.number32(self.at + 4) != Some(0) {
                return Err(OUT_OF_PLACE.into());
            }
            self.at += 8;
            return Ok(Seen::ItemEnd);
        }
        self.seen_pixels |= depth == 0 && tag == tags::PIXEL_DATA;
        let (vr, length, value) = if self.explicit { self.explicit_length() } else { self.implicit_length(tag) };
        let Some(length) = length else { return Ok(Seen::End) };
        self.count()?;
        self.at = value;
        if length == UNDEFINED {
            let explicit = self.explicit;
            // PS3.5 6.2.2: unknown sequences of undefined length hold implicit elements.
            self.explicit &= vr != VR::UN;
            self.items(end, tag == tags::PIXEL_DATA, depth + 1)?;
            self.explicit = explicit;
            return Ok(Seen::Element);
        }
        let stop = self.stop(length, end)?;
        // The parser reads whole numbers, and goes on behind the last whole one.
        if stop < end && !length.is_multiple_of(unit(vr)) {
            return Err(format!("damaged DICOM: element {tag} of type {vr} has {length} bytes"));
        }
        if has_values(vr) {
            self.text += length as usize;
            if self.text > MOST_TEXT {
                return Err(format!(
                    "damaged DICOM: more than {MOST_TEXT} bytes of short texts, such as element {tag}"
                ));
            }
        }
        if vr == VR::SQ {
            self.items(stop, false, depth + 1)?;
        }
        self.at = stop;
        Ok(Seen::Element)
    }

    /// The items of a sequence, or the fragments of encapsulated pixels.
    fn items(&mut self, end: usize, fragments: bool, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("damaged DICOM: its sequences are nested too deeply".into());
        }
        while self.at < end {
            let header = (self.number16(self.at), self.number16(self.at + 2), self.number32(self.at + 4));
            let (Some(group), Some(number), Some(length)) = header else { return Ok(()) };
            self.count()?;
            self.at += 8;
            match (group, number) {
                (0xfffe, 0xe000) if length == UNDEFINED && !fragments => loop {
                    match self.element(end, depth)? {
                        Seen::Element => {}
                        Seen::ItemEnd => break,
                        Seen::End => return Ok(()),
                    }
                },
                (0xfffe, 0xe000) => {
                    let stop = self.stop(length, end)?;
                    while !fragments && self.at < stop {
                        match self.element(stop, depth)? {
                            Seen::Element => {}
                            Seen::ItemEnd => return Err(OUT_OF_PLACE.into()),
                            Seen::End => return Ok(()),
                        }
                    }
                    self.at = stop;
                }
                (0xfffe, 0xe0dd) if length == 0 => return Ok(()),
                _ => return Err(OUT_OF_PLACE.into()),
            }
        }
        Ok(())
    }

    fn stop(&self, length: u32, end: usize) -> Result<usize, String> {
        let stop = self.at.checked_add(length as usize).filter(|&stop| stop <= end);
        stop.ok_or_else(|| "damaged DICOM: an element is longer than what holds it; the file may be truncated".into())
    }

    /// Value representation, length and the place of the value.
    fn explicit_length(&self) -> (VR, Option<u32>, usize) {
        let code = self.bytes.get(self.at + 4..self.at + 6).and_then(|code| code.first_chunk::<2>());
        // As dicom-rs: what is unknown has the long form.
        let vr = code.and_then(|code| VR::from_binary(*code)).unwrap_or(VR::UN);
        let long = matches!(
            vr,
            VR::OB
                | VR::OD
                | VR::OF
                | VR::OL
                | VR::OV
                | VR::OW
                | VR::SQ
                | VR::SV
                | VR::UC
                | VR::UN
                | VR::UR
                | VR::UT
                | VR::UV
        );
        if long {
            (vr, self.number32(self.at + 8), self.at + 12)
        } else {
            (vr, self.number16(self.at + 6).map(u32::from), self.at + 8)
        }
    }

    fn implicit_length(&self, tag: Tag) -> (VR, Option<u32>, usize) {
        let known = StandardDataDictionary.by_tag(tag);
        let vr = known.map_or(VR::UN, |entry| entry.vr().relaxed());
        (vr, self.number32(self.at + 4), self.at + 8)
    }

    fn number16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn number32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

/// Whether a text may have several values (PS3.5, 6.4).
fn has_values(vr: VR) -> bool {
    use VR::{AE, AS, CS, DA, DS, DT, IS, LO, PN, SH, TM, UC, UI};
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | PN | SH | TM | UC | UI)
}

/// Bytes of one number of a value representation.
fn unit(vr: VR) -> u32 {
    match vr {
        VR::US | VR::SS | VR::OW => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL | VR::AT => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::{Pixels, Wrap};
    use super::*;

    const EXPLICIT: &str = "1.2.840.10008.1.2.1";

    #[test]
    fn sound_files_pass_and_long_elements_are_refused() {
        let pixels = [3u8; 16];
        let whole = Wrap::new(Pixels::Grey8(&pixels), 4, 4).to_bytes().unwrap();
        assert!(check(&whole, whole.len(), EXPLICIT).unwrap());
        assert!(!check(&whole[..200], whole.len(), EXPLICIT).unwrap(), "not all was at hand");
        let at = whole.windows(4).position(|bytes| bytes == [0xe0, 0x7f, 0x10, 0x00]).unwrap();
        let mut long = whole.clone();
        long[at + 8..at + 12].copy_from_slice(&0xf000_0000u32.to_le_bytes());
        assert!(check(&long, long.len(), EXPLICIT).unwrap_err().contains("longer than what holds it"));
        assert!(check(&whole[..whole.len() - 2], whole.len() - 2, EXPLICIT).is_err());
    }

    #[test]
    fn nesting_ends() {
        let mut bytes = vec![0; 132];
        bytes.extend([2, 0, 0, 0, b'U', b'L', 4, 0, 0, 0, 0, 0]);
        for _ in 0..100_000 {
            // (0008,1140) SQ of undefined length, an item of undefined length.
            bytes.extend([0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff]);
            bytes.extend([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        assert!(check(&bytes, bytes.len(), EXPLICIT).unwrap_err().contains("nested too deeply"));
    }

    #[test]
    fn elements_items_and_values_are_counted() {
        let head = [&[0; 132][..], &[2, 0, 0, 0, b'U', b'L', 4, 0, 0, 0, 0, 0]].concat();
        // (0008,1140) SQ with empty items; empty elements; (0008,0008) UC of backslashes.
        let sequence = |items: usize| {
            let length = (8 * items as u32).to_le_bytes();
            let items = [0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0].repeat(items);
            [&[0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0][..], &length, &items].concat()
        };
        let elements = |count: usize| [0x09, 0, 0x10, 0x10, b'L', b'O', 0, 0].repeat(count);
        let text = |bytes: usize| {
            [&[0x08, 0, 0x08, 0, b'U', b'C', 0, 0][..], &(bytes as u32).to_le_bytes(), &vec![b'\\'; bytes]].concat()
        };
        let checked = |data: Vec<u8>| {
            let bytes = [head.clone(), data].concat();
            check(&bytes, bytes.len(), EXPLICIT)
        };
        assert_eq!(checked([sequence(60_000), elements(60_000), text(1 << 19), text(1 << 19)].concat()), Ok(true));
        for (data, expected) in [
            (sequence(1 << 17), "elements and items"),
            (elements((1 << 17) + 1), "elements and items"),
            (text((1 << 20) + 2), "short texts"),
            (text(1 << 18).repeat(5), "short texts"),
        ] {
            let error = checked(data).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
