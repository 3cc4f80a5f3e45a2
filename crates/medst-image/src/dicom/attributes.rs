//! The pixel format in the attributes of a DICOM file.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::dataset::DataSet;
use crate::ImageError;
use crate::error::check_size;

/// The format of the pixels according to the attributes.
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
    pub fn of(set: &DataSet) -> Result<Format, ImageError> {
        let required = |tag: Tag, name: &str| {
            set.integer(tag).ok_or_else(|| {
                let what = if set.has(tag) { "not a whole number" } else { "missing" };
                ImageError::damaged(format!("{name} is {what}"))
            })
        };
        let small = |tag, name, values: &str, fits: &dyn Fn(i64) -> bool| {
            let value = required(tag, name)?;
            if fits(value) {
                Ok(value as u32)
            } else {
                Err(ImageError::damaged(format!("{name} is {value} (expected {values})")))
            }
        };
        let frames = set.integer(tags::NUMBER_OF_FRAMES).unwrap_or(1);
        if frames > 1 {
            return Err(ImageError::unsupported(format!(
                "{frames} frames are not supported (only single-frame images are)"
            )));
        }
        let size = |value: i64| usize::try_from(value).unwrap_or(0);
        let rows = size(required(tags::ROWS, "Rows")?);
        let columns = size(required(tags::COLUMNS, "Columns")?);
        check_size(columns, rows)?;
        let photometric = set
            .text(tags::PHOTOMETRIC_INTERPRETATION)
            .ok_or_else(|| ImageError::damaged("PhotometricInterpretation is missing"))?
            .to_ascii_uppercase();
        let samples = match photometric.as_str() {
            "MONOCHROME1" | "MONOCHROME2" => 1,
            "RGB" | "YBR_FULL" | "YBR_FULL_422" | "YBR_ICT" | "YBR_RCT" => 3,
            "PALETTE COLOR" => return Err(ImageError::unsupported("palette colour is not supported")),
            other => return Err(ImageError::unsupported(format!("unsupported PhotometricInterpretation {other}"))),
        };
        let declared = set.integer(tags::SAMPLES_PER_PIXEL).unwrap_or(samples);
        if declared != samples {
            return Err(ImageError::damaged(format!("SamplesPerPixel is {declared}, but {photometric} has {samples}")));
        }
        let allocated = small(tags::BITS_ALLOCATED, "BitsAllocated", "8 or 16", &|bits| bits == 8 || bits == 16)?;
        let limit = i64::from(allocated);
        let stored = match set.integer(tags::BITS_STORED) {
            None => allocated,
            Some(_) => {
                small(tags::BITS_STORED, "BitsStored", "1 to BitsAllocated", &|bits| (1..=limit).contains(&bits))?
            }
        };
        let lowest = i64::from(stored) - 1;
        let high = match set.integer(tags::HIGH_BIT) {
            None => stored - 1,
            Some(_) => {
                let fits = |bit| (lowest..limit).contains(&bit);
                small(tags::HIGH_BIT, "HighBit", "BitsStored - 1 to BitsAllocated - 1", &fits)?
            }
        };
        if samples == 3 && (allocated, stored) != (8, 8) {
            return Err(ImageError::unsupported(format!(
                "colour with {stored} of {allocated} bits is not supported (only 8 of 8 is)"
            )));
        }
        let planar = set.integer(tags::PLANAR_CONFIGURATION) == Some(1);
        let signed = set.integer(tags::PIXEL_REPRESENTATION) == Some(1);
        Ok(Format { rows, columns, samples: samples as usize, planar, allocated, stored, high, signed, photometric })
    }

    /// How many pixels the picture has.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of the pixels when they are not compressed.
    pub fn bytes(&self) -> usize {
        // Colour at half resolution: two lumas, then the two colours that they share.
        let samples = if self.is_halved() { 2 } else { self.samples };
        self.count() * samples * self.allocated as usize / 8
    }

    /// Whether two neighbours share their colour.
    pub fn is_halved(&self) -> bool {
        self.photometric == "YBR_FULL_422"
    }

    /// The stored value whose bits are `code`: two's complement of `stored` bits where the object
    /// is signed.
    pub fn value(&self, code: u16) -> i32 {
        let value = i32::from(code);
        if self.signed && value >> (self.stored - 1) & 1 == 1 { value - (1 << self.stored) } else { value }
    }
}
