//! PNG files of every kind of colour against OpenCV, and of values that do not fill their 16 bits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use medst_image::decode::{decode, decode_noting};
use medst_image::{GreyImage, Notes};
use png::{BitDepth, ColorType};
use proptest::prelude::*;

/// `make.py` next to the files has the version of OpenCV.
#[test]
fn colours_are_the_grey_of_opencv_to_the_last_bit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/png");
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<u8>> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() >= 16);
    for (name, expected) in expected {
        let bytes = fs::read(folder.join(format!("{name}.png"))).unwrap();
        let image = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let different = image.pixels.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!((different, image.pixels.len()), (0, expected.len()), "{name}");
    }
}

fn grey16(values: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, values.len() as u32, 1);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Sixteen);
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    bytes
}

fn read(values: &[u16]) -> (Vec<u8>, usize) {
    let mut notes = Notes::default();
    let GreyImage { pixels, .. } = decode_noting(&grey16(values), &mut notes).unwrap();
    (pixels, notes.iter().count())
}

#[test]
fn unused_upper_bits_are_found() {
    assert_eq!(read(&[0, 2048, 4095]), (vec![0, 128, 255], 1), "12 bits");
    assert_eq!(read(&[0, 500, 1023]), (vec![0, 125, 255], 1), "10 bits");
    assert_eq!(read(&[0, 8192, 16_383]), (vec![0, 128, 255], 1), "14 bits");
    assert_eq!(read(&[0, 7, 255]), (vec![0, 7, 255], 1), "8 bits");
    assert_eq!(read(&[0, 4095, 16_384]), (vec![0, 15, 64], 0), "16 bits: the high byte");
    assert_eq!(read(&[0, 0, 0]), (vec![0, 0, 0], 0), "nothing");
}

proptest! {
    /// Greys keep their order, and the depth of the values is that of the largest, whatever the
    /// others are.
    #[test]
    fn greys_follow_values(mut values in proptest::collection::vec(0u16.., 1..40)) {
        values.sort_unstable();
        let (pixels, _) = read(&values);
        prop_assert!(pixels.is_sorted());
        let largest = *values.last().unwrap();
        prop_assert!(largest < 2 || *pixels.last().unwrap() >= 62 || largest <= 255, "{} of {}", pixels[0], largest);
    }
}
