//! Typed values of elements, whatever value representation a file gives them.
//!
//! A file may write a known attribute as UN (PS3.5, 6.2.2), as bytes, or as another number or text
//! type than the standard's. The file's type applies where it determines how to read the value;
//! otherwise the dictionary's type does.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

use super::dataset::{DataSet, Element};

/// Bytes of a value that are read as numbers. Those that are have a few; tables and pixels are read
/// elsewhere.
const MOST_NUMBERS: usize = 1 << 16;

impl DataSet<'_> {
    /// The text of an attribute without its padding; `None` where it is missing or empty.
    pub fn text(&self, tag: Tag) -> Option<String> {
        let element = self.get(tag).filter(|element| element.vr != VR::SQ && !element.undefined)?;
        let text = match element.type_of() {
            VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD => {
                element.numbers().first().copied().flatten()?.to_string()
            }
            _ => self.character_set().decode(element.value).unwrap_or_else(|_| lossy(element.value)),
        };
        let text = trim(&text);
        (!text.is_empty()).then(|| text.to_string())
    }

    /// The texts of an attribute, without their padding.
    pub fn texts(&self, tag: Tag) -> Vec<String> {
        self.text(tag).map(|text| text.split('\\').map(|text| trim(text).to_string()).collect()).unwrap_or_default()
    }

    /// The values of a numerical attribute in their order; `None` for those that are not finite
    /// numbers.
    pub fn numbers(&self, tag: Tag) -> Vec<Option<f64>> {
        self.get(tag).map(Element::numbers).unwrap_or_default()
    }

    /// The first sound number of an attribute.
    pub fn decimal(&self, tag: Tag) -> Option<f64> {
        self.numbers(tag).into_iter().flatten().next()
    }

    /// The first sound whole number of an attribute.
    pub fn integer(&self, tag: Tag) -> Option<i64> {
        self.numbers(tag).into_iter().flatten().find(|value| value.fract() == 0.0).map(|value| value as i64)
    }

    /// Whether an attribute exists and contains more than padding.
    pub fn has(&self, tag: Tag) -> bool {
        self.get(tag).is_some_and(|element| element.value.iter().any(|byte| !matches!(byte, 0 | b' ' | b'\\')))
    }

    fn character_set(&self) -> SpecificCharacterSet {
        let codes = self.get(tags::SPECIFIC_CHARACTER_SET).map(|element| lossy(element.value)).unwrap_or_default();
        codes.split('\\').next().and_then(|code| SpecificCharacterSet::from_code(trim(code))).unwrap_or_default()
    }
}

impl Element<'_> {
    /// The value representation to read the value by.
    pub fn type_of(&self) -> VR {
        match self.vr {
            VR::UN | VR::OB => StandardDataDictionary.by_tag(self.tag).map_or(self.vr, |entry| match entry.vr() {
                // Bytes that the file calls bytes.
                VirtualVr::Px | VirtualVr::Ox | VirtualVr::Lt if self.vr == VR::OB => VR::OB,
                known => known.relaxed(),
            }),
            named => named,
        }
    }

    /// Whether the value may be read as a text of several values (PS3.5, 6.4), by its type or by
    /// that of the dictionary.
    pub fn may_have_texts(&self) -> bool {
        use VR::{AE, AS, CS, DA, DS, DT, IS, LO, PN, SH, TM, UC, UI};
        let has_values = |vr| matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | PN | SH | TM | UC | UI);
        let known = StandardDataDictionary.by_tag(self.tag).map(|entry| entry.vr().relaxed());
        has_values(self.vr) || known.is_some_and(has_values)
    }

    /// The numbers of the value; `None` for those that are not finite numbers.
    fn numbers(&self) -> Vec<Option<f64>> {
        let value = &self.value[..self.value.len().min(MOST_NUMBERS)];
        let big = self.encoding.big_endian;
        macro_rules! of {
            ($number:ty, $size:literal) => {
                value
                    .chunks_exact($size)
                    .filter_map(|bytes| bytes.first_chunk::<$size>())
                    .map(|&bytes| if big { <$number>::from_be_bytes(bytes) } else { <$number>::from_le_bytes(bytes) })
                    .map(|value| Some(value as f64).filter(|value| value.is_finite()))
                    .collect()
            };
        }
        match self.type_of() {
            _ if self.undefined => Vec::new(),
            VR::US | VR::OW | VR::AT => of!(u16, 2),
            VR::SS => of!(i16, 2),
            VR::UL | VR::OL => of!(u32, 4),
            VR::SL => of!(i32, 4),
            VR::UV | VR::OV => of!(u64, 8),
            VR::SV => of!(i64, 8),
            VR::FL | VR::OF => of!(f32, 4),
            VR::FD | VR::OD => of!(f64, 8),
            VR::SQ => Vec::new(),
            VR::OB | VR::UN => value.iter().map(|&byte| Some(f64::from(byte))).collect(),
            _ => lossy(value).split('\\').map(number).collect(),
        }
    }
}

/// A finite number in text.
fn number(text: &str) -> Option<f64> {
    trim(text).parse().ok().filter(|value: &f64| value.is_finite())
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::encoding::Encoding;
    use super::*;

    /// A data set of one element that is written with these letters and this value.
    fn read<T>(tag: Tag, vr: &[u8; 2], value: &[u8], look: impl Fn(&DataSet) -> T) -> T {
        let mut bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes(), *vr].concat();
        match matches!(vr, b"UN" | b"OB" | b"OW" | b"UT" | b"OF" | b"UC" | b"SV" | b"UV") {
            true => bytes.extend([&[0, 0][..], &(value.len() as u32).to_le_bytes()].concat()),
            false => bytes.extend((value.len() as u16).to_le_bytes()),
        }
        bytes.extend(value);
        look(&DataSet::read(&bytes, bytes.len(), Encoding::EXPLICIT, |_| false).unwrap())
    }

    #[test]
    fn known_attributes_keep_their_type_whatever_a_file_calls_them() {
        for (vr, value) in [
            (b"US", &360u16.to_le_bytes()[..]),
            (b"UN", &360u16.to_le_bytes()),
            (b"OB", &360u16.to_le_bytes()),
            (b"OW", &360u16.to_le_bytes()),
            (b"UL", &360u32.to_le_bytes()),
            (b"SL", &360i32.to_le_bytes()),
            (b"SV", &360i64.to_le_bytes()),
            (b"FL", &360f32.to_le_bytes()),
            (b"FD", &360f64.to_le_bytes()),
            (b"IS", b"360 "),
            (b"DS", b"360.0\0"),
            (b"UT", b" 360"),
        ] {
            assert_eq!(read(tags::ROWS, vr, value, |set| set.integer(tags::ROWS)), Some(360), "{vr:?}");
        }
        for (vr, value) in [
            (b"DS", &b"-0.5"[..]),
            (b"UN", b"-0.5"),
            (b"LO", b"-0.5"),
            (b"FL", &(-0.5f32).to_le_bytes()),
            (b"FD", &(-0.5f64).to_le_bytes()),
        ] {
            let slope = |set: &DataSet| set.decimal(tags::RESCALE_SLOPE);
            assert_eq!(read(tags::RESCALE_SLOPE, vr, value, slope), Some(-0.5), "{vr:?}");
        }
        let id = |set: &DataSet| set.text(tags::PATIENT_ID);
        for vr in [b"UN", b"LO", b"OB"] {
            assert_eq!(read(tags::PATIENT_ID, vr, b"p7\0 ", id).as_deref(), Some("p7"));
        }
    }

    #[test]
    fn the_first_sound_value_counts() {
        for (text, expected) in [
            ("2000\\", Some(2000.0)),
            ("\\2000", Some(2000.0)),
            ("x\\nan\\ 7 \\8", Some(7.0)),
            ("inf", None),
            ("\\", None),
            ("", None),
        ] {
            let center = |set: &DataSet| set.decimal(tags::WINDOW_CENTER);
            assert_eq!(read(tags::WINDOW_CENTER, b"DS", text.as_bytes(), center), expected, "{text}");
        }
        let numbers = read(tags::WINDOW_CENTER, b"DS", b"\\5\\x", |set| set.numbers(tags::WINDOW_CENTER));
        assert_eq!(numbers, [None, Some(5.0), None]);
    }
}
