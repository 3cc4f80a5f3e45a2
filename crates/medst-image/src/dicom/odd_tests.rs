//! Files with peculiarities that devices and archives produce: attributes of representation UN,
//! invalid values among valid ones, headers that contradict the data. Each file is built byte by
//! byte and must give the same picture as the regular file.

use std::io::Write;

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use proptest::prelude::*;

use super::{Window, decode, decode_noting, header_of, is_dicom};
use crate::{Notes, size};

const ROWS: u16 = 300;
const COLUMNS: u16 = 7;

/// How a data set is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Explicit,
    Implicit,
    BigEndian,
}

const FORMS: [(Form, &str); 3] = [
    (Form::Implicit, "1.2.840.10008.1.2"),
    (Form::Explicit, "1.2.840.10008.1.2.1"),
    (Form::BigEndian, "1.2.840.10008.1.2.2"),
];

/// A value before it is written.
#[derive(Clone, Debug)]
enum Value {
    Words(Vec<u16>),
    Bytes(Vec<u8>),
}

fn text(value: &str) -> Value {
    Value::Bytes(if value.len().is_multiple_of(2) { value.into() } else { format!("{value} ").into() })
}

#[derive(Clone, Debug)]
struct Element {
    tag: Tag,
    vr: [u8; 2],
    value: Value,
    undefined: bool,
}

fn element(tag: Tag, vr: &[u8; 2], value: Value) -> Element {
    Element { tag, vr: *vr, value, undefined: false }
}

/// A 12-bit picture with a window, a rescale and a padding value.
fn regular() -> Vec<Element> {
    let pixels = (0..u32::from(ROWS * COLUMNS)).map(|n| (n * 37 % 4096) as u16).collect();
    vec![
        element(tags::SOP_INSTANCE_UID, b"UI", text("1.2.3.4")),
        element(tags::MODALITY, b"CS", text("DX")),
        element(tags::PATIENT_ID, b"LO", text("p7")),
        element(tags::VIEW_POSITION, b"CS", text("PA")),
        element(tags::SAMPLES_PER_PIXEL, b"US", Value::Words(vec![1])),
        element(tags::PHOTOMETRIC_INTERPRETATION, b"CS", text("MONOCHROME1")),
        element(tags::NUMBER_OF_FRAMES, b"IS", text("1")),
        element(tags::ROWS, b"US", Value::Words(vec![ROWS])),
        element(tags::COLUMNS, b"US", Value::Words(vec![COLUMNS])),
        element(tags::BITS_ALLOCATED, b"US", Value::Words(vec![16])),
        element(tags::BITS_STORED, b"US", Value::Words(vec![12])),
        element(tags::HIGH_BIT, b"US", Value::Words(vec![11])),
        element(tags::PIXEL_REPRESENTATION, b"US", Value::Words(vec![0])),
        element(tags::PIXEL_PADDING_VALUE, b"US", Value::Words(vec![37])),
        element(tags::WINDOW_CENTER, b"DS", text("1000")),
        element(tags::WINDOW_WIDTH, b"DS", text("1500")),
        element(tags::RESCALE_INTERCEPT, b"DS", text("-20")),
        element(tags::RESCALE_SLOPE, b"DS", text("0.5")),
        element(tags::PIXEL_DATA, b"OW", Value::Words(pixels)),
    ]
}

fn with(elements: &[Element], tag: Tag, change: impl Fn(&mut Element)) -> Vec<Element> {
    let mut changed = elements.to_vec();
    changed.iter_mut().filter(|element| element.tag == tag).for_each(change);
    changed
}

fn bytes_of(element: &Element, form: Form) -> Vec<u8> {
    let big = form == Form::BigEndian;
    let word = |word: u16| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let long = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let value: Vec<u8> = match &element.value {
        Value::Words(words) => words.iter().flat_map(|&value| word(value)).collect(),
        Value::Bytes(bytes) => bytes.clone(),
    };
    let length = if element.undefined { u32::MAX } else { value.len() as u32 };
    let mut bytes = [word(element.tag.0), word(element.tag.1)].concat();
    match (form, &element.vr) {
        (Form::Implicit, _) => bytes.extend(long(length)),
        (_, vr @ (b"OB" | b"OW" | b"SQ" | b"UN" | b"UT")) => {
            bytes.extend([&vr[..], &[0, 0], &long(length)].concat());
        }
        (_, vr) => bytes.extend([&vr[..], &word(length as u16)].concat()),
    }
    bytes.extend(value);
    bytes
}

fn data_set(elements: &[Element], form: Form) -> Vec<u8> {
    elements.iter().flat_map(|element| bytes_of(element, form)).collect()
}

/// A meta group that names a transfer syntax, with a length that may be wrong or missing.
fn meta(syntax: &str, length: Option<u32>) -> Vec<u8> {
    let syntax = element(tags::TRANSFER_SYNTAX_UID, b"UI", text(syntax));
    let version = element(tags::FILE_META_INFORMATION_VERSION, b"OB", Value::Bytes(vec![0, 1]));
    let rest = data_set(&[version, syntax], Form::Explicit);
    let length = length.map(|length| {
        let value = Value::Bytes(length.to_le_bytes().into());
        bytes_of(&element(tags::FILE_META_INFORMATION_GROUP_LENGTH, b"UL", value), Form::Explicit)
    });
    [length.unwrap_or_default(), rest].concat()
}

fn file(elements: &[Element]) -> Vec<u8> {
    let meta = meta("1.2.840.10008.1.2.1", Some(0));
    [&[0; 128], &b"DICM"[..], &meta, &data_set(elements, Form::Explicit)].concat()
}

fn greys(bytes: &[u8]) -> Vec<u8> {
    decode(bytes, Window::Declared).unwrap().pixels
}

/// Grey values and remarks.
fn noted(elements: &[Element]) -> (Vec<u8>, Vec<&'static str>) {
    let mut notes = Notes::default();
    let image = decode_noting(&file(elements), Window::Declared, &mut notes).unwrap();
    (image.pixels, notes.iter().collect())
}

#[test]
fn a_regular_file_shows_what_its_attributes_say() {
    let (pixels, notes) = noted(&regular());
    assert!(notes.is_empty(), "{notes:?}");
    let shown = |stored: f64| {
        let value = stored * 0.5 - 20.0;
        255.0 - (((value - 999.5) / 1499.0 + 0.5) * 255.0).clamp(0.0, 255.0).round()
    };
    for (n, &grey) in pixels.iter().enumerate() {
        let stored = n * 37 % 4096;
        assert_eq!(f64::from(grey), if stored == 37 { 0.0 } else { shown(stored as f64) }, "pixel {n}");
    }
}

#[test]
fn attributes_called_unknown_keep_their_meaning() {
    let regular = regular();
    let expected = greys(&file(&regular));
    for element in &regular {
        for vr in [b"UN", b"OB"] {
            let changed = with(&regular, element.tag, |element| element.vr = *vr);
            assert_eq!(greys(&file(&changed)), expected, "{} as {vr:?}", element.tag);
        }
    }
    let all: Vec<Element> = regular.iter().map(|known| element(known.tag, b"UN", known.value.clone())).collect();
    let bytes = file(&all);
    assert_eq!(greys(&bytes), expected);
    assert_eq!(size::declared(&bytes), Ok([usize::from(COLUMNS), usize::from(ROWS)]));
    assert_eq!(header_of(&bytes), header_of(&file(&regular)));
}

/// An item of implicit elements, of undefined length where `open`.
fn item(elements: &[Element], open: bool, form: Form) -> Vec<u8> {
    let inner = data_set(elements, form);
    let length = if open { u32::MAX } else { inner.len() as u32 };
    let end: &[u8] = if open { &[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0] } else { &[] };
    [&[0xfe, 0xff, 0x00, 0xe0][..], &length.to_le_bytes(), &inner, end].concat()
}

const SEQUENCE_END: [u8; 8] = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];

#[test]
fn sequences_called_unknown_are_read() {
    let table = [
        element(tags::LUT_DESCRIPTOR, b"US", Value::Words(vec![3, 100, 8])),
        element(tags::LUT_DATA, b"US", Value::Words(vec![10, 100, 255])),
    ];
    let mut expected = None;
    for (vr, form) in
        [(b"SQ", Form::Explicit), (b"UN", Form::Implicit), (b"SQ", Form::Implicit), (b"UN", Form::Explicit)]
    {
        for (open_item, open) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut value = item(&table, open_item, form);
            value.extend(if open { &SEQUENCE_END[..] } else { &[] });
            let sequence = Element { undefined: open, ..element(tags::VOILUT_SEQUENCE, vr, Value::Bytes(value)) };
            let mut elements = regular();
            elements.insert(elements.len() - 1, sequence);
            let (pixels, notes) = noted(&elements);
            assert!(notes.is_empty(), "{vr:?} {form:?}: {notes:?}");
            let expected = expected.get_or_insert_with(|| pixels.clone());
            assert_eq!(&pixels, expected, "{vr:?} {form:?}, item of undefined length: {open_item}, sequence: {open}");
        }
    }
    assert_ne!(expected.unwrap(), greys(&file(&regular())));
}

#[test]
fn private_sequences_called_unknown_are_passed_over() {
    let expected = greys(&file(&regular()));
    let inner = element(Tag(0x0009, 0x1001), b"LO", text("inside"));
    for depth in 1..8 {
        let mut value = [item(std::slice::from_ref(&inner), true, Form::Implicit), SEQUENCE_END.to_vec()].concat();
        for _ in 1..depth {
            let nested = Element { undefined: true, ..element(Tag(0x0009, 0x100c), b"UN", Value::Bytes(value)) };
            value = [item(&[nested], true, Form::Implicit), SEQUENCE_END.to_vec()].concat();
        }
        let sequence = Element { undefined: true, ..element(Tag(0x0009, 0x100c), b"UN", Value::Bytes(value)) };
        let mut elements = regular();
        elements.insert(2, sequence);
        assert_eq!(greys(&file(&elements)), expected, "depth {depth}");
    }
}

#[test]
fn lengths_that_no_file_can_have_are_refused() {
    let whole = file(&regular());
    let at = whole.windows(4).position(|bytes| bytes == [0x10, 0, 0x20, 0]).unwrap();
    for vr in [b"UN", b"OW", b"UT", b"SQ"] {
        // An element of nearly four gigabytes.
        let head = [&[9, 0, 0x0c, 0x10][..], vr, &[0, 0, 0xf0, 0xff, 0xff, 0xff]].concat();
        let error = decode(&[&whole[..at], &head, &whole[at..]].concat(), Window::Declared).unwrap_err().to_string();
        assert!(error.contains("more than what contains it"), "{error}");
    }
    let mut deep = whole[..at].to_vec();
    for _ in 0..100_000 {
        deep.extend([&[8, 0, 0x40, 0x11, b'S', b'Q', 0, 0][..], &[0xff; 4]].concat());
        deep.extend([&[0xfe, 0xff, 0, 0xe0][..], &[0xff; 4]].concat());
    }
    assert!(decode(&deep, Window::Declared).unwrap_err().to_string().contains("nested too deeply"));
}

/// A deflated file whose elements are these, and zeros after them.
fn deflated(elements: &[Element], zeros: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&data_set(elements, Form::Explicit)).unwrap();
    (0..zeros >> 16).for_each(|_| encoder.write_all(&[0; 1 << 16]).unwrap());
    let data = encoder.finish().unwrap();
    [&[0; 128], &b"DICM"[..], &meta("1.2.840.10008.1.2.1.99", None), &data].concat()
}

#[test]
fn deflated_data_are_inflated_as_far_as_the_picture_needs() {
    let regular = regular();
    assert_eq!(greys(&deflated(&regular, 0)), greys(&file(&regular)));
    assert_eq!(greys(&deflated(&regular, 1 << 26)), greys(&file(&regular)), "zeros after the pixels");
    // 64 MiB of private data, or of pixels for a small picture, in a small file.
    let length = 1usize << 26;
    let mut private = regular[..2].to_vec();
    private.push(element(Tag(9, 0x1010), b"OB", Value::Bytes(vec![0; length])));
    let mut pixels = regular[..regular.len() - 1].to_vec();
    pixels.push(element(tags::PIXEL_DATA, b"OW", Value::Bytes(vec![0; length])));
    for (elements, expected) in [(private, "larger than those of a radiograph"), (pixels, "bytes, expected 4200")] {
        let bytes = deflated(&elements, 0);
        assert!(bytes.len() < 1 << 17);
        let error = decode(&bytes, Window::Declared).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // A picture of more than what may be in front of it is read as a whole.
    let mut large = with(&regular, tags::ROWS, |element| element.value = Value::Words(vec![3000]));
    large = with(&large, tags::COLUMNS, |element| element.value = Value::Words(vec![3000]));
    large = with(&large, tags::PIXEL_DATA, |element| element.value = Value::Words(vec![4095; 9_000_000]));
    assert!(greys(&deflated(&large, 0)).iter().all(|&grey| grey == 0));
}

#[test]
fn the_first_sound_window_is_applied() {
    let window = |center: &str, width: &str| {
        let elements = with(&regular(), tags::WINDOW_CENTER, |element| element.value = text(center));
        noted(&with(&elements, tags::WINDOW_WIDTH, |element| element.value = text(width)))
    };
    let expected = window("1000", "1500").0;
    for (center, width, has_note) in [
        ("1000\\", "1500\\", false),
        ("1000\\700", "1500\\300", false),
        ("\\1000", "\\1500", true),
        ("x\\1000", "200\\1500", true),
        ("700\\1000", "0\\1500", true),
        ("nan\\1000\\3", "9\\1500\\4", true),
        ("\\1000", "1500", true),
    ] {
        let (pixels, notes) = window(center, width);
        assert_eq!(pixels, expected, "{center} and {width}");
        assert_eq!(!notes.is_empty(), has_note, "{center} and {width}: {notes:?}");
    }
    let none = window("", "").0;
    for (center, width, has_note) in [("\\", "\\", false), ("5", "0", false), ("many", "some", true), ("5", "-3", true)]
    {
        let (pixels, notes) = window(center, width);
        assert_eq!(pixels, none, "{center} and {width}");
        assert_eq!(!notes.is_empty(), has_note, "{center} and {width}: {notes:?}");
    }
}

#[test]
fn a_rescale_that_makes_no_sense_is_remarked_on() {
    let slope = |slope: &str| noted(&with(&regular(), tags::RESCALE_SLOPE, |element| element.value = text(slope)));
    let (unscaled, notes) = slope("1");
    assert!(notes.is_empty());
    assert_eq!(slope("0"), (unscaled.clone(), vec!["DICOM: RescaleSlope is 0; 1 was used instead"]));
    assert_eq!(slope("steep"), (unscaled.clone(), vec!["DICOM: the rescale is not a number; ignored"]));
    assert_eq!(slope(""), (unscaled, vec![]));
}

/// A sequence of look-up tables: descriptor and data each.
fn tables(tables: &[(&[u16], &[u16])]) -> Element {
    let items = tables.iter().flat_map(|(descriptor, data)| {
        let descriptor = element(tags::LUT_DESCRIPTOR, b"US", Value::Words(descriptor.to_vec()));
        item(&[descriptor, element(tags::LUT_DATA, b"OW", Value::Words(data.to_vec()))], false, Form::Explicit)
    });
    element(tags::VOILUT_SEQUENCE, b"SQ", Value::Bytes(items.collect()))
}

#[test]
fn an_unusable_table_gives_way_to_the_next_one_or_the_window() {
    let shown = |sequence: Element| {
        let mut elements = regular();
        elements.insert(elements.len() - 1, sequence);
        noted(&elements)
    };
    let window = greys(&file(&regular()));
    let good: (&[u16], &[u16]) = (&[3, 100, 8], &[10, 100, 255]);
    let table = shown(tables(&[good])).0;
    assert_ne!(table, window);
    let unusable = "DICOM: invalid VOI look-up table; the window was applied instead";
    for bad in [(&[][..], &[1u16, 2, 3][..]), (&[900, 0, 8], &[1, 2, 3]), (&[3, 0], &[1, 2, 3]), (&[3, 0, 8], &[])] {
        assert_eq!(shown(tables(&[bad])), (window.clone(), vec![unusable]), "{bad:?}");
        let (pixels, notes) = shown(tables(&[bad, good]));
        assert_eq!((pixels, notes.len()), (table.clone(), 1), "{bad:?}");
    }
    assert_eq!(shown(tables(&[])), (window, vec![]));
    // The same for the look-up table of the modality.
    let mut elements = regular();
    elements.insert(18, Element { tag: tags::MODALITY_LUT_SEQUENCE, ..tables(&[(&[], &[1, 2, 3])]) });
    let note = "DICOM: invalid modality look-up table; the rescale was applied instead";
    assert_eq!(noted(&elements), (greys(&file(&regular())), vec![note]));
    elements.retain(|element| element.tag != tags::RESCALE_SLOPE);
    assert!(decode(&file(&elements), Window::Declared).unwrap_err().to_string().contains("LUTDescriptor"));
    // Entries of 12 bits in a table that says 16, or 8, or nonsense.
    let deep: &[u16] = &[0, 2048, 4095];
    let expected = shown(tables(&[(&[3, 100, 12], deep)]));
    assert!(expected.1.is_empty(), "{:?}", expected.1);
    for bits in [16, 14, 8, 0, 99] {
        let (pixels, notes) = shown(tables(&[(&[3, 100, bits], deep)]));
        assert_eq!((pixels, notes.len()), (expected.0.clone(), 1), "{bits}");
    }
}

/// With and without a preamble or meta group, and with the data set in another encoding than the
/// transfer syntax states.
#[test]
fn files_are_read_by_what_they_are_not_by_what_they_say() {
    let elements = regular();
    let expected = greys(&file(&elements));
    let preamble = [&[0u8; 128], &b"DICM"[..]].concat();
    for (form, syntax) in FORMS {
        let data = data_set(&elements, form);
        for start in [&preamble[..], &[]] {
            let bare = [start, &data].concat();
            assert_eq!(greys(&bare), expected, "{form:?} without meta group, preamble of {}", start.len());
            for (_, declared) in FORMS {
                for length in [None, Some(0), Some(60), Some(100_000)] {
                    let bytes = [start, &meta(declared, length), &data].concat();
                    let mut notes = Notes::default();
                    let image = decode_noting(&bytes, Window::Declared, &mut notes).unwrap();
                    assert_eq!(image.pixels, expected, "{form:?} called {declared}, preamble of {}", start.len());
                    let is_said =
                        notes.iter().any(|note| note.contains("encoded differently than its transfer syntax states"));
                    assert_eq!(is_said, syntax != declared, "{form:?} called {declared}");
                    assert_eq!(header_of(&bytes).unwrap().subject_id.as_deref(), Some("p7"));
                }
            }
        }
    }
}

#[test]
fn compressed_pixels_and_their_syntax_must_agree() {
    let regular = regular();
    let native = data_set(&regular, Form::Explicit);
    let preamble = [&[0u8; 128], &b"DICM"[..]].concat();
    let bytes = [&preamble[..], &meta("1.2.840.10008.1.2.4.70", None), &native].concat();
    let error = decode(&bytes, Window::Declared).unwrap_err().to_string();
    assert!(error.contains("its pixels are not compressed, but its transfer syntax is a compressed one"), "{error}");
    let fragments =
        [item(&[], false, Form::Explicit), item(&regular[..1], false, Form::Explicit), SEQUENCE_END.to_vec()];
    let compressed = with(&regular, tags::PIXEL_DATA, |element| {
        (element.value, element.undefined) = (Value::Bytes(fragments.concat()), true);
    });
    let error = decode(&file(&compressed), Window::Declared).unwrap_err().to_string();
    assert!(error.contains("its pixels are compressed, but"), "{error}");
}

/// A size limit must look at the size that is decoded.
#[test]
fn the_header_has_the_size_that_is_decoded() {
    let regular = regular();
    // Elements out of order, and a duplicate.
    let mut elements = regular.clone();
    elements.insert(7, element(Tag(0x7fe1, 0x1010), b"LO", text("early")));
    elements.insert(7, element(tags::ROWS, b"US", Value::Words(vec![2])));
    let bytes = file(&elements);
    assert_eq!(greys(&bytes), greys(&file(&regular)));
    assert_eq!(size::declared(&bytes), Ok([usize::from(COLUMNS), usize::from(ROWS)]));
}

#[test]
fn other_files_are_not_taken_for_dicom() {
    for bytes in
        [&b"GIF89a and so on"[..], b"PK\x03\x04\x14\0\0\0", b"\x08\0\0\0\0\0\0\0", b"\x02\0\0\0\0\0\0\0", b"", b"\x08"]
    {
        assert!(!is_dicom(bytes), "{bytes:?}");
    }
    let start = data_set(&regular(), Form::Implicit);
    assert!(is_dicom(&start[..132]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// A type that the dictionary does not know for a tag changes nothing as long as it can hold
    /// the value.
    #[test]
    fn any_mixture_of_types_shows_the_same(unknown in proptest::collection::vec(any::<bool>(), 19)) {
        let elements: Vec<Element> = regular()
            .into_iter()
            .zip(unknown)
            .map(|(element, unknown)| Element { vr: if unknown { *b"UN" } else { element.vr }, ..element })
            .collect();
        prop_assert_eq!(greys(&file(&elements)), greys(&file(&regular())));
    }

    #[test]
    fn damaged_headers_make_no_panic(
        form in 0usize..3, changes in proptest::collection::vec((0usize..520, 0u8..), 1..6), cut in 0usize..520,
    ) {
        let (form, syntax) = FORMS[form];
        let mut bytes = [&[0u8; 128], &b"DICM"[..], &meta(syntax, Some(44)), &data_set(&regular(), form)].concat();
        for (offset, value) in changes {
            bytes[132 + offset % 480] = value;
        }
        let _ = decode(&bytes, Window::Declared);
        let _ = decode(&bytes[..bytes.len() - cut], Window::Declared);
        let _ = header_of(&bytes);
    }
}

/// The types of [`regular`] are the dictionary's.
#[test]
fn the_regular_file_is_regular() {
    for element in regular() {
        let known = StandardDataDictionary.by_tag(element.tag).unwrap().vr().relaxed();
        assert_eq!(known.to_string().as_bytes(), element.vr, "{}", element.tag);
    }
}
