//! Attributes of a DICOM object: their values by tag, and the [`Format`] of its pixels.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::image::decode::check_size;

/// What the attributes say of the pixels.
pub(super) struct Format {
    pub rows: usize,
    pub columns: usize,
    /// 1 or 3.
    pub samples: usize,
    /// Colour planes one after the other, not pixel by pixel.
    pub planar: bool,
    /// 8 or 16.
    pub allocated: u32,
    /// At least 1, at most `allocated`.
    pub stored: u32,
    /// The position of the highest stored bit, at least `stored - 1`, below `allocated`.
    pub high: u32,
    pub signed: bool,
    pub photometric: String,
}

impl Format {
    /// Reads and checks the attributes; nothing is allocated by them before.
    pub fn of(object: &InMemDicomObject) -> Result<Format, String> {
        let required = |tag, name| integer(object, tag).ok_or_else(|| format!("{name} is missing"));
        let small = |tag, name, values: &str, fits: &dyn Fn(i64) -> bool| {
            let value = required(tag, name)?;
            if fits(value) { Ok(value as u32) } else { Err(format!("{name} is {value}; {values} can be read")) }
        };
        let frames = integer(object, tags::NUMBER_OF_FRAMES).unwrap_or(1);
        if frames > 1 {
            return Err(format!("it has {frames} frames; a radiograph has one"));
        }
        let size = |value: i64| usize::try_from(value).unwrap_or(0);
        let rows = size(required(tags::ROWS, "Rows")?);
        let columns = size(required(tags::COLUMNS, "Columns")?);
        check_size(columns, rows)?;
        let photometric = text(object, tags::PHOTOMETRIC_INTERPRETATION)
            .ok_or("PhotometricInterpretation is missing")?
            .to_ascii_uppercase();
        let samples = match photometric.as_str() {
            "MONOCHROME1" | "MONOCHROME2" => 1,
            "RGB" | "YBR_FULL" | "YBR_FULL_422" | "YBR_ICT" | "YBR_RCT" => 3,
            "PALETTE COLOR" => return Err("a picture with a colour palette is no radiograph".into()),
            other => return Err(format!("PhotometricInterpretation {other} is not read")),
        };
        let declared = integer(object, tags::SAMPLES_PER_PIXEL).unwrap_or(samples);
        if declared != samples {
            return Err(format!("SamplesPerPixel is {declared}, but {photometric} has {samples}"));
        }
        let allocated = small(tags::BITS_ALLOCATED, "BitsAllocated", "8 or 16", &|bits| bits == 8 || bits == 16)?;
        let limit = i64::from(allocated);
        let stored = match integer(object, tags::BITS_STORED) {
            None => allocated,
            Some(_) => {
                small(tags::BITS_STORED, "BitsStored", "1 to BitsAllocated", &|bits| (1..=limit).contains(&bits))?
            }
        };
        let lowest = i64::from(stored) - 1;
        let high = match integer(object, tags::HIGH_BIT) {
            None => stored - 1,
            Some(_) => {
                let fits = |bit| (lowest..limit).contains(&bit);
                small(tags::HIGH_BIT, "HighBit", "BitsStored - 1 to BitsAllocated - 1", &fits)?
            }
        };
        if samples == 3 && (allocated, stored) != (8, 8) {
            return Err(format!("colour of {stored} bit in {allocated}; 8 in 8 can be read"));
        }
        let planar = integer(object, tags::PLANAR_CONFIGURATION) == Some(1);
        let signed = integer(object, tags::PIXEL_REPRESENTATION) == Some(1);
        Ok(Format { rows, columns, samples: samples as usize, planar, allocated, stored, high, signed, photometric })
    }

    /// How many pixels the picture has.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }

    /// The stored value whose bits are `code`: two's complement of `stored` bits where the object is signed.
    pub fn value(&self, code: u16) -> i32 {
        let value = i32::from(code);
        if self.signed && value >> (self.stored - 1) & 1 == 1 { value - (1 << self.stored) } else { value }
    }
}

/// The text of an attribute without its padding; `None` where it is missing or empty.
pub(super) fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_string())
}

/// The first number of an attribute.
pub(super) fn integer(object: &InMemDicomObject, tag: Tag) -> Option<i64> {
    object.get(tag)?.to_multi_int::<i64>().ok()?.first().copied()
}

/// The first number of an attribute, which must be finite.
pub(super) fn decimal(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    object.get(tag)?.to_multi_float64().ok()?.first().copied().filter(|value| value.is_finite())
}

/// The first item of a sequence.
pub(super) fn item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    object.get(tag)?.items()?.first()
}
