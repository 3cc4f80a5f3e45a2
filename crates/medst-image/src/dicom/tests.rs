//! Attributes that few radiographs have and [`Wrap`] does not write: look-up tables, colour models,
//! several frames, views in attributes other than ViewPosition.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::write::{Pixels, Wrap, file};
use super::{ViewSource, Window, decode, header_of};
use crate::View;

fn text(tag: Tag, vr: VR, value: &str) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

fn number(tag: Tag, value: u16) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, VR::US, PrimitiveValue::from(value))
}

/// A sequence of one item that holds a look-up table of `bits` from the value `first` on.
fn table(tag: Tag, first: u16, bits: u16, entries: &[u16]) -> DataElement<InMemDicomObject> {
    let descriptor = PrimitiveValue::U16([entries.len() as u16, first, bits].as_slice().into());
    let item = InMemDicomObject::from_element_iter([
        DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor),
        DataElement::new(tags::LUT_DATA, VR::OW, PrimitiveValue::U16(entries.into())),
    ]);
    DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![item]))
}

/// A row of pixels with more attributes, or others.
fn bytes(pixels: Pixels, elements: impl IntoIterator<Item = DataElement<InMemDicomObject>>) -> Vec<u8> {
    let columns = match pixels {
        Pixels::Grey8(bytes) | Pixels::Coded(bytes) => bytes.len(),
        Pixels::Grey16(words) => words.len(),
        Pixels::Colour(bytes) => bytes.len() / 3,
    };
    let mut object = Wrap::new(pixels, columns as u16, 1).object();
    elements.into_iter().for_each(|element| {
        object.put(element);
    });
    file(object, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap()
}

fn greys(bytes: &[u8]) -> Vec<u8> {
    decode(bytes, Window::Declared).unwrap().pixels
}

#[test]
fn look_up_tables_are_applied() {
    let values = Pixels::Grey16(&[5, 10, 11, 12, 13, 99]);
    let interest = || table(tags::VOILUT_SEQUENCE, 10, 8, &[0, 40, 80, 255]);
    // Values below and above the table have its first and last entry (PS3.3, C.11.1.1.1).
    assert_eq!(greys(&bytes(values, [interest()])), [0, 0, 40, 80, 255, 255]);
    // The table has precedence over a window, and is applied after the rescale.
    let window = [text(tags::WINDOW_CENTER, VR::DS, "5"), text(tags::WINDOW_WIDTH, VR::DS, "2")];
    let rescale = [text(tags::RESCALE_SLOPE, VR::DS, "1"), text(tags::RESCALE_INTERCEPT, VR::DS, "-1")];
    let all = window.into_iter().chain(rescale).chain([interest()]);
    assert_eq!(greys(&bytes(values, all)), [0, 0, 0, 40, 80, 255]);
    // A modality table's output is what a window or the full range is applied to.
    let modality = table(tags::MODALITY_LUT_SEQUENCE, 10, 16, &[100, 150, 200, 300]);
    assert_eq!(greys(&bytes(values, [modality])), [0, 0, 64, 128, 255, 255]);
    // 16-bit entries are scaled by their declared depth.
    let deep = table(tags::VOILUT_SEQUENCE, 10, 12, &[0, 2048, 4095]);
    assert_eq!(greys(&bytes(values, [deep])), [0, 0, 128, 255, 255, 255]);
}

#[test]
fn broken_look_up_tables_are_refused() {
    let values = Pixels::Grey16(&[1, 2]);
    let mut short = table(tags::VOILUT_SEQUENCE, 0, 8, &[1, 2, 3]);
    short.update_value(|value| {
        let item = &mut value.items_mut().unwrap()[0];
        let descriptor = PrimitiveValue::U16([900, 0, 8].as_slice().into());
        item.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor));
    });
    let bare =
        DataElement::new(tags::VOILUT_SEQUENCE, VR::SQ, DataSetSequence::from(vec![InMemDicomObject::new_empty()]));
    for (element, expected) in [(short, "expected 900"), (bare, "without LUTDescriptor")] {
        let error = decode(&bytes(values, [element]), Window::Declared).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn colour_is_read_as_its_luma() {
    let samples = [255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 90, 90];
    let luma = [76, 150, 29, 90];
    let pixels = Pixels::Colour(&samples);
    let close = |found: Vec<u8>, expected: &[u8]| {
        assert!(found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{found:?} for {expected:?}");
        assert_eq!(found.len(), expected.len());
    };
    close(greys(&bytes(pixels, [])), &luma);
    // Plane by plane: all reds, all greens, all blues.
    let planes = [255, 0, 0, 90, 0, 255, 0, 90, 0, 0, 255, 90];
    close(greys(&bytes(Pixels::Colour(&planes), [number(tags::PLANAR_CONFIGURATION, 1)])), &luma);
    // In YBR, the first sample is the luma.
    let ybr = |name| text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, name);
    assert_eq!(greys(&bytes(pixels, [ybr("YBR_FULL")])), [255, 0, 0, 90]);
    // At half resolution: two lumas, then the two colours that they share.
    let halved = [10, 20, 128, 128, 30, 40, 128, 128];
    let shape = || [ybr("YBR_FULL_422"), number(tags::COLUMNS, 4)];
    assert_eq!(greys(&bytes(Pixels::Colour(&halved), shape())), [10, 20, 30, 40]);
}

#[test]
fn what_is_no_single_frame_of_a_known_kind_is_refused() {
    let grey = Pixels::Grey8(&[1, 2, 3, 4]);
    let cases = [
        (bytes(grey, [text(tags::NUMBER_OF_FRAMES, VR::IS, "2")]), "2 frames"),
        (bytes(grey, [number(tags::BITS_ALLOCATED, 32)]), "BitsAllocated is 32"),
        (bytes(grey, [number(tags::HIGH_BIT, 9)]), "HighBit is 9"),
        (bytes(grey, [number(tags::SAMPLES_PER_PIXEL, 3)]), "SamplesPerPixel is 3"),
        (
            bytes(grey, [text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "HSV")]),
            "unsupported PhotometricInterpretation HSV",
        ),
        (
            bytes(
                grey,
                [
                    text(tags::WINDOW_CENTER, VR::DS, "5"),
                    text(tags::WINDOW_WIDTH, VR::DS, "2"),
                    text(tags::VOILUT_FUNCTION, VR::CS, "CUBIC"),
                ],
            ),
            "VOILUTFunction CUBIC",
        ),
    ];
    for (bytes, expected) in cases {
        let error = decode(&bytes, Window::Declared).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(greys(&bytes(grey, [text(tags::NUMBER_OF_FRAMES, VR::IS, "1")])), [1, 2, 3, 4]);
}

#[test]
fn lossy_jpeg_of_12_bit_and_unknown_transfer_syntaxes_are_named() {
    // A start of image, and a frame header of extended JPEG: 12 bit, one component, 4×1 pixels.
    let jpeg = [0xff, 0xd8, 0xff, 0xc1, 0, 11, 12, 0, 1, 0, 4, 1, 1, 0x11, 0, 0xff, 0xd9, 0];
    let wrap = |transfer_syntax| Wrap { transfer_syntax, bits_stored: 12, ..Wrap::new(Pixels::Coded(&jpeg), 4, 1) };
    let error = decode(&wrap(uids::JPEG_EXTENDED12_BIT).to_bytes().unwrap(), Window::Declared).unwrap_err().to_string();
    assert!(error.contains("12-bit lossy JPEG is not supported"), "{error}");
    let error = decode(&wrap(uids::HTJ2K).to_bytes().unwrap(), Window::Declared).unwrap_err().to_string();
    assert!(error.contains("High-Throughput JPEG 2000"), "{error}");
}

/// The view of a file whose ViewPosition, PatientOrientation and descriptions are given.
fn view(position: &str, orientation: &str, series: &str, protocol: &str) -> (Option<View>, ViewSource) {
    let elements = [
        text(tags::VIEW_POSITION, VR::CS, position),
        text(tags::PATIENT_ORIENTATION, VR::CS, orientation),
        text(tags::SERIES_DESCRIPTION, VR::LO, series),
        text(tags::PROTOCOL_NAME, VR::LO, protocol),
    ];
    let header = header_of(&bytes(Pixels::Grey8(&[1, 2]), elements)).unwrap();
    (header.view, header.view_source)
}

#[test]
fn the_view_is_told_by_the_first_attribute_that_knows_it() {
    use ViewSource::{PatientOrientation, Text, Unknown, ViewPosition};
    for (attributes, expected) in [
        (("PA", "A\\F", "lateral", ""), (Some(View::Pa), ViewPosition)),
        (("LL", "", "", ""), (Some(View::Ll), ViewPosition)),
        (("LLD", "L\\F", "PA", ""), (None, ViewPosition)),
        (("", "A\\F", "PA", ""), (Some(View::Lateral), PatientOrientation)),
        (("", "L\\F", "", ""), (Some(View::Pa), PatientOrientation)),
        (("", "L\\F", "Thorax a.p. liegend: AP", ""), (Some(View::Ap), Text)),
        (("", "", "", "chest lateral"), (Some(View::Lateral), Text)),
        (("", "", "PA", "chest lateral"), (Some(View::Pa), Text)),
        (("XYZ", "", "", ""), (None, Unknown)),
    ] {
        let (position, orientation, series, protocol) = attributes;
        assert_eq!(view(position, orientation, series, protocol), expected, "{attributes:?}");
    }
}
