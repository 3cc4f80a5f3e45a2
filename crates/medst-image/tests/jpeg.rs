//! JPEG files of the usual kinds, whole and cut.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use medst_image::decode::decode;
use medst_image::{Decoding, ImageError, load, size};

const KINDS: [(&str, &[u8]); 3] = [
    ("baseline colour", include_bytes!("fixtures/image/colour.jpg")),
    ("progressive colour", include_bytes!("fixtures/image/progressive.jpg")),
    ("grey with restart markers", include_bytes!("fixtures/image/grey.jpg")),
];

#[test]
fn whole_files_are_decoded() {
    for (kind, bytes) in KINDS {
        let image = decode(bytes).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((image.width, image.height), (64, 48), "{kind}");
        assert!(image.pixels.iter().any(|&pixel| pixel != image.pixels[0]), "{kind}");
    }
    // Bytes after the end do no harm.
    let mut longer = KINDS[0].1.to_vec();
    longer.extend([0; 9]);
    assert_eq!(decode(&longer).unwrap(), decode(KINDS[0].1).unwrap());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for (kind, bytes) in KINDS {
        for length in 1..bytes.len() {
            let result = decode(&bytes[..length]);
            assert!(result.is_err(), "{kind}: {length} of {} bytes", bytes.len());
        }
    }
}

/// `make.py` next to the files has the version of OpenCV.
#[test]
fn every_kind_of_file_is_the_grey_of_opencv_to_the_last_bit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg");
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<u8>> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() >= 19);
    for (name, expected) in expected {
        let bytes = fs::read(folder.join(format!("{name}.jpg"))).unwrap();
        let image = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width, image.height), (61, 45), "{name}");
        let different = image.pixels.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "{name}");
    }
}

#[test]
fn kinds_that_are_not_supported_are_named() {
    let whole = KINDS[0].1;
    let frame = whole.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    for (at, value, expected) in [
        (1, 0xc9, "arithmetic-coded JPEG"),
        (1, 0xc3, "lossless JPEG"),
        (1, 0xc5, "hierarchical JPEG"),
        (4, 12, "12-bit JPEG"),
        (9, 2, "2 components"),
        (9, 4, "CMYK"),
    ] {
        let mut bytes = whole.to_vec();
        bytes[frame + at] = value;
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("damaged"), "{expected}: {error}");
    }
}

/// The results of both ways of reading a file: the small square, or the error.
fn both(bytes: &[u8]) -> [Result<Vec<u8>, ImageError>; 2] {
    [true, false].map(|exact| load::square_of(bytes, 8, Decoding { exact, ..Decoding::default() }))
}

/// Where the coded data of the first scan begin.
fn data(bytes: &[u8]) -> usize {
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))
}

#[test]
fn an_end_marker_does_not_make_a_cut_file_whole() {
    for (kind, bytes) in KINDS {
        for length in data(bytes)..bytes.len() - 3 {
            let cut = [&bytes[..length], &[0xff, 0xd9]].concat();
            for result in both(&cut) {
                let error = result.expect_err(&format!("{kind}: {length} of {} bytes", bytes.len())).to_string();
                assert!(error.contains("truncated") || error.contains("damaged"), "{error}");
            }
        }
    }
    let half = include_bytes!("fixtures/cases/J30_small_half_eoi.jpg");
    let [exact, fast] = both(half);
    assert!(exact.as_ref().unwrap_err().to_string().contains("entropy-coded data are missing"), "{exact:?}");
    assert_eq!(exact, fast);
}

#[test]
fn what_is_out_of_place_is_named() {
    let whole = KINDS[0].1;
    let second = whole.windows(2).skip(2).position(|pair| pair == [0xff, 0xdb]).unwrap() + 2;
    let stray = [&whole[..second], &[7, 7, 7], &whole[second..]].concat();
    for error in both(&stray).map(|result| result.unwrap_err().to_string()) {
        assert!(error.contains(&format!("3 stray bytes where a marker was expected, at byte {second}")), "{error}");
    }
    let error = size::declared(&stray).unwrap_err().to_string();
    assert!(error.contains("3 stray bytes"), "{error}");
    assert_eq!(size::declared(whole), Ok([64, 48]));
    let unmarked = &KINDS[2].1;
    let restart = unmarked.windows(2).position(|pair| pair == [0xff, 0xd0]).unwrap();
    let without = [&unmarked[..restart], &unmarked[restart + 2..]].concat();
    for error in both(&without).map(|result| result.unwrap_err().to_string()) {
        assert!(error.contains("restart marker is missing"), "{error}");
    }
    // Fill bytes in front of a marker belong to it (B.1.1.2).
    let filled = [&whole[..second], &[0xff, 0xff], &whole[second..]].concat();
    assert_eq!(decode(&filled).unwrap(), decode(whole).unwrap());
}

/// A picture of three components, which are called by `names`, with `head` where the JFIF marker
/// was.
fn colours(head: &[u8], names: [u8; 3]) -> Vec<u8> {
    let pixels: Vec<u8> = (0..64 * 48).flat_map(|n: usize| [(n % 64 * 4) as u8, (n / 64 * 5) as u8, 40]).collect();
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 97);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
    encoder.encode(&pixels, 64, 48, jpeg_encoder::ColorType::Ycbcr).unwrap();
    // The encoder begins with a JFIF marker.
    let mut bytes = [&bytes[..2], head, &bytes[20..]].concat();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    for (component, name) in names.into_iter().enumerate() {
        bytes[frame + 10 + 3 * component] = name;
        bytes[scan + 5 + 2 * component] = name;
    }
    bytes
}

#[test]
fn markers_and_names_of_components_say_what_three_components_are() {
    let jfif: &[u8] = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
    let adobe = |transform: u8| [&b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"[..], &[transform]].concat();
    let short: &[u8] = b"\xff\xee\0\x0cAdobe\0\0\0\0\0";
    let (rgb, usual) = (*b"RGB", [1, 2, 3]);
    let luma = decode(&colours(jfif, usual)).unwrap().pixels;
    let weighed = decode(&colours(&adobe(0), usual)).unwrap().pixels;
    for (n, (&luma, &weighed)) in luma.iter().zip(&weighed).enumerate() {
        let [r, g, b] = [n % 64 * 4, n / 64 * 5, 40].map(|sample| sample as f64);
        assert!((f64::from(luma) - r).abs() <= 4.0, "pixel {n}: {luma} for {r}");
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        assert!((f64::from(weighed) - grey).abs() <= 4.0, "pixel {n}: {weighed} for {grey}");
    }
    for (head, names, is_rgb) in [
        (&adobe(1)[..], usual, false),
        (&adobe(2), usual, false),
        (&adobe(0), rgb, true),
        (&adobe(1), rgb, false),
        (&[], usual, false),
        (&[], rgb, true),
        (&[], [9, 8, 7], false),
        (short, usual, false),
        (short, rgb, true),
        (&[jfif, &adobe(0)].concat(), usual, false),
    ] {
        let pixels = decode(&colours(head, names)).unwrap_or_else(|error| panic!("{head:?} {names:?}: {error}")).pixels;
        assert_eq!(pixels, if is_rgb { &weighed[..] } else { &luma }, "{head:?} {names:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
    #[test]
    fn both_ways_agree_on_what_is_damaged(
        kind in 0usize..3, changes in proptest::collection::vec((0usize..1005, 0u8..), 1..8),
    ) {
        let mut bytes = KINDS[kind].1.to_vec();
        for (offset, value) in changes {
            let length = bytes.len();
            bytes[offset % length] = value;
        }
        let [exact, fast] = both(&bytes);
        proptest::prop_assert_eq!(exact.is_ok(), fast.is_ok(), "{:?} against {:?}", exact, fast);
    }
}
