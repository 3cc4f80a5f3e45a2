//! Writing radiographs as DICOM files: synthetic cohorts in the layout of public data sets, and
//! tests.

use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// The pixels to write.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// 8-bit grey.
    Grey8(&'a [u8]),
    /// Up to 16-bit grey, stored in the lower bits.
    Grey16(&'a [u16]),
    /// 8-bit samples, three a pixel.
    Colour(&'a [u8]),
    /// A coded frame of 8-bit grey, such as a whole JPEG file, of the transfer syntax.
    Coded(&'a [u8]),
}

/// A radiograph and the attributes of its DICOM file. Start with [`Wrap::new`] and change what
/// should differ.
#[derive(Clone, Debug)]
pub struct Wrap<'a> {
    pub pixels: Pixels<'a>,
    pub columns: u16,
    pub rows: u16,
    /// The UID of a transfer syntax: native or deflated for pixels, else that of the coded frame.
    pub transfer_syntax: &'a str,
    pub bits_stored: u16,
    /// Leaves HighBit out, as some archives do.
    pub without_high_bit: bool,
    pub signed: bool,
    pub photometric: &'a str,
    /// CR, or DX for Digital X-Ray.
    pub modality: &'a str,
    pub subject_id: &'a str,
    pub study_uid: &'a str,
    pub series_uid: &'a str,
    pub instance_uid: &'a str,
    /// `YYYYMMDD`.
    pub study_date: &'a str,
    /// `HHMMSS`.
    pub study_time: &'a str,
    pub view_position: Option<&'a str>,
    /// `L\F` and the like.
    pub patient_orientation: Option<&'a str>,
    pub series_description: Option<&'a str>,
    /// Center and width.
    pub window: Option<(f64, f64)>,
    /// LINEAR, LINEAR_EXACT or SIGMOID.
    pub window_function: Option<&'a str>,
    /// Slope and intercept.
    pub rescale: Option<(f64, f64)>,
    /// The stored values, first and last, that mean "no picture here".
    pub padding: Option<(i32, i32)>,
}

impl<'a> Wrap<'a> {
    /// Grey pixels of full depth without window, JPEG where they are coded, else explicit
    /// little-endian.
    pub fn new(pixels: Pixels<'a>, columns: u16, rows: u16) -> Wrap<'a> {
        let (bits_stored, photometric, transfer_syntax) = match pixels {
            Pixels::Grey8(_) => (8, "MONOCHROME2", uids::EXPLICIT_VR_LITTLE_ENDIAN),
            Pixels::Grey16(_) => (16, "MONOCHROME2", uids::EXPLICIT_VR_LITTLE_ENDIAN),
            Pixels::Colour(_) => (8, "RGB", uids::EXPLICIT_VR_LITTLE_ENDIAN),
            Pixels::Coded(_) => (8, "MONOCHROME2", uids::JPEG_BASELINE8_BIT),
        };
        Wrap {
            pixels,
            columns,
            rows,
            transfer_syntax,
            bits_stored,
            without_high_bit: false,
            signed: false,
            photometric,
            modality: "CR",
            subject_id: "1",
            study_uid: "2.25.1",
            series_uid: "2.25.2",
            instance_uid: "2.25.3",
            study_date: "20000101",
            study_time: "000000",
            view_position: None,
            patient_orientation: None,
            series_description: None,
            window: None,
            window_function: None,
            rescale: None,
            padding: None,
        }
    }

    /// The bytes of the DICOM file.
    ///
    /// # Errors
    /// A transfer syntax that does not exist, or cannot hold these pixels.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        file(self.object(), self.transfer_syntax)
    }

    /// The attributes, which tests add more to.
    pub(super) fn object(&self) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        let mut text = |tag, vr, value: &str| {
            object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        };
        text(tags::SOP_CLASS_UID, VR::UI, self.sop_class());
        text(tags::SOP_INSTANCE_UID, VR::UI, self.instance_uid);
        text(tags::STUDY_INSTANCE_UID, VR::UI, self.study_uid);
        text(tags::SERIES_INSTANCE_UID, VR::UI, self.series_uid);
        text(tags::STUDY_DATE, VR::DA, self.study_date);
        text(tags::STUDY_TIME, VR::TM, self.study_time);
        text(tags::MODALITY, VR::CS, self.modality);
        text(tags::PATIENT_ID, VR::LO, self.subject_id);
        text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, self.photometric);
        // Required, though they may be empty.
        for (tag, vr) in [
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::PATIENT_SEX, VR::CS),
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
            (tags::STUDY_ID, VR::SH),
            (tags::SERIES_NUMBER, VR::IS),
            (tags::INSTANCE_NUMBER, VR::IS),
            (tags::MANUFACTURER, VR::LO),
        ] {
            text(tag, vr, "");
        }
        text(tags::VIEW_POSITION, VR::CS, self.view_position.unwrap_or_default());
        text(tags::PATIENT_ORIENTATION, VR::CS, self.patient_orientation.unwrap_or_default());
        if let Some(description) = self.series_description {
            text(tags::SERIES_DESCRIPTION, VR::LO, description);
        }
        for (pair, first, second) in [
            (self.window, tags::WINDOW_CENTER, tags::WINDOW_WIDTH),
            (self.rescale, tags::RESCALE_INTERCEPT, tags::RESCALE_SLOPE),
        ] {
            let Some((a, b)) = pair else { continue };
            let (a, b) = if first == tags::RESCALE_INTERCEPT { (b, a) } else { (a, b) };
            text(first, VR::DS, &a.to_string());
            text(second, VR::DS, &b.to_string());
        }
        if let Some(function) = self.window_function {
            text(tags::VOILUT_FUNCTION, VR::CS, function);
        }
        if matches!(self.pixels, Pixels::Coded(_)) && self.transfer_syntax == uids::JPEG_BASELINE8_BIT {
            text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        }
        self.put_format(&mut object);
        self.put_pixels(&mut object);
        object
    }

    fn put_format(&self, object: &mut InMemDicomObject) {
        let mut number = |tag: Tag, value: u16| {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        };
        let samples = if matches!(self.pixels, Pixels::Colour(_)) { 3 } else { 1 };
        number(tags::SAMPLES_PER_PIXEL, samples);
        if samples == 3 {
            number(tags::PLANAR_CONFIGURATION, 0);
        }
        number(tags::ROWS, self.rows);
        number(tags::COLUMNS, self.columns);
        number(tags::BITS_ALLOCATED, if self.bits_stored > 8 || self.is_wide() { 16 } else { 8 });
        number(tags::BITS_STORED, self.bits_stored);
        if !self.without_high_bit {
            number(tags::HIGH_BIT, self.bits_stored.saturating_sub(1));
        }
        number(tags::PIXEL_REPRESENTATION, u16::from(self.signed));
        if let Some((first, last)) = self.padding {
            for (tag, value) in [(tags::PIXEL_PADDING_VALUE, first), (tags::PIXEL_PADDING_RANGE_LIMIT, last)] {
                object.put(if self.signed {
                    DataElement::new(tag, VR::SS, PrimitiveValue::from(value as i16))
                } else {
                    DataElement::new(tag, VR::US, PrimitiveValue::from(value as u16))
                });
            }
        }
    }

    fn put_pixels(&self, object: &mut InMemDicomObject) {
        let (vr, value) = match self.pixels {
            Pixels::Grey16(words) => (VR::OW, PrimitiveValue::U16(words.into())),
            // Implicit VR takes every pixel data for words, which little-endian bytes are alike.
            Pixels::Grey8(bytes) | Pixels::Colour(bytes) => (VR::OB, PrimitiveValue::U8(even(bytes).into())),
            Pixels::Coded(frame) => {
                let frames = PixelFragmentSequence::new_fragments(vec![even(frame)]);
                object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, frames));
                return;
            }
        };
        object.put(DataElement::new(tags::PIXEL_DATA, vr, value));
    }

    fn is_wide(&self) -> bool {
        matches!(self.pixels, Pixels::Grey16(_))
    }

    fn sop_class(&self) -> &'static str {
        match self.modality {
            "DX" => uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
            _ => uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        }
    }
}

fn even(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

/// The bytes of a file with these attributes.
pub(super) fn file(object: InMemDicomObject, transfer_syntax: &str) -> Result<Vec<u8>, WriteError> {
    let object = object.with_meta(FileMetaTableBuilder::new().transfer_syntax(transfer_syntax));
    let mut bytes = Vec::new();
    object.map_err(reason)?.write_all(&mut bytes).map_err(reason)?;
    Ok(bytes)
}

/// An error of dicom-rs with its causes, in one line.
fn reason(error: impl std::error::Error) -> WriteError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    WriteError(message)
}

/// Why a file cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write DICOM: {0}")]
pub struct WriteError(String);
