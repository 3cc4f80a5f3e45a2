//! JPEG straight to the corpus square, against decoding every pixel first.

use std::path::{Path, PathBuf};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use medst_image::{Decoding, decode, jpeg, load, resize};

/// What a picture shows.
#[derive(Clone, Copy, Debug)]
enum Content {
    Noise,
    /// Saturated black and white with sharp edges, where a decoder clamps.
    Letters,
    Gradient,
    /// Nearly black noise under a bright edge.
    Dark,
}

const CONTENTS: [Content; 4] = [Content::Noise, Content::Letters, Content::Gradient, Content::Dark];

fn noise(x: usize, y: usize) -> u32 {
    let mixed = (x as u32).wrapping_mul(2_654_435_761) ^ (y as u32).wrapping_mul(2_246_822_519);
    (mixed ^ mixed >> 15).wrapping_mul(2_654_435_761) >> 24
}

fn grey(content: Content, x: usize, y: usize, width: usize) -> u8 {
    match content {
        Content::Noise => noise(x, y) as u8,
        Content::Letters => 255 * u8::from((x / 11 + y / 7).is_multiple_of(3) || noise(x / 9, y / 9) < 60),
        Content::Gradient => (x * 255 / width) as u8,
        Content::Dark if x > width * 9 / 10 => 255,
        Content::Dark => (noise(x, y) / 64) as u8,
    }
}

/// How a file is written.
struct EncoderSettings {
    quality: u8,
    colour: Option<SamplingFactor>,
    restarts: Option<u16>,
}

fn encode(content: Content, width: usize, height: usize, settings: &EncoderSettings) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, settings.quality);
    if let Some(interval) = settings.restarts {
        encoder.set_restart_interval(interval);
    }
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    match settings.colour {
        None => {
            let pixels: Vec<u8> = places().map(|(x, y)| grey(content, x, y, width)).collect();
            encoder.encode(&pixels, width as u16, height as u16, ColorType::Luma).unwrap();
        }
        Some(sampling) => {
            encoder.set_sampling_factor(sampling);
            let colour = |(x, y)| [grey(content, x, y, width), (x / 3) as u8, noise(y, x) as u8];
            let pixels: Vec<u8> = places().flat_map(colour).collect();
            encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb).unwrap();
        }
    }
    bytes
}

/// The largest difference to the full path; `None` where the file is left to it.
fn difference(bytes: &[u8], side: usize) -> Option<u8> {
    let fast = jpeg::to_square(bytes, side)?;
    let exact = resize::to_square(&decode::decode(bytes).unwrap(), side).unwrap();
    assert_eq!(fast.len(), exact.len());
    fast.iter().zip(&exact).map(|(a, b)| a.abs_diff(*b)).max()
}

#[test]
fn one_decoding_gives_the_picture_and_the_square_of_two() {
    let kinds = [(75, None, Some(7)), (95, None, None), (40, Some(SamplingFactor::F_2_2), Some(3))].into_iter().chain(
        [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_1_2]
            .map(|sampling| (90, Some(sampling), None)),
    );
    for (quality, colour, restarts) in kinds {
        for content in CONTENTS {
            for (width, height, side) in [(1013, 771, 64), (523, 299, 96), (300, 200, 256)] {
                let file = encode(content, width, height, &EncoderSettings { quality, colour, restarts });
                for exact in [false, true] {
                    let decoding = Decoding { exact, ..Decoding::default() };
                    let (picture, square) = load::picture_and_square(&file, side, decoding).unwrap();
                    assert!(picture == load::picture_of(&file, decoding).unwrap());
                    assert!(square == load::square_of(&file, side, decoding).unwrap(), "{content:?} {width} {quality}");
                }
            }
        }
    }
    let damaged = encode(Content::Noise, 300, 200, &EncoderSettings { quality: 90, colour: None, restarts: None });
    assert!(load::picture_and_square(&damaged[..2000], 64, Decoding::default()).is_err());
}

#[test]
fn no_pixel_is_further_than_one_level_from_the_exact_one() {
    let kinds = [(30, None, None), (75, None, Some(7)), (95, None, None), (100, None, Some(1))].into_iter().chain(
        [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2, SamplingFactor::F_1_2]
            .map(|sampling| (90, Some(sampling), Some(5))),
    );
    for (quality, colour, restarts) in kinds {
        for (width, height) in [(1013, 771), (523, 1299), (640, 512), (513, 1030), (512, 512)] {
            for content in CONTENTS {
                let bytes = encode(content, width, height, &EncoderSettings { quality, colour, restarts });
                let name = format!("{content:?} {width}×{height} at {quality}, {colour:?}, restarts {restarts:?}");
                let found = difference(&bytes, 200).unwrap_or_else(|| panic!("{name}: not served"));
                assert!(found <= 1, "{name}: {found} levels");
            }
        }
    }
}

#[test]
fn whole_scales_agree_too() {
    for scale in [2, 3, 4, 8, 11] {
        let settings = EncoderSettings { quality: 92, colour: None, restarts: None };
        let bytes = encode(Content::Letters, 64 * scale, 64 * scale, &settings);
        assert!(difference(&bytes, 64).unwrap() <= 1, "scale {scale}");
    }
}

/// A JPEG file with Exif data that hold an orientation.
fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    let exif = [&b"Exif\0\0MM\0*"[..], &[0, 0, 0, 8, 0, 1], &entry, &[0; 4]].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn both_paths_turn_a_picture_as_its_exif_data_say() {
    let settings = EncoderSettings { quality: 92, colour: None, restarts: None };
    let bytes = encode(Content::Letters, 301, 200, &settings);
    let plain = jpeg::to_square(&bytes, 64).unwrap();
    let squares = [1, 2, 3, 4, 5, 6, 7, 8].map(|orientation| {
        let turned = oriented(&bytes, orientation);
        assert!(difference(&turned, 64).unwrap() <= 1, "orientation {orientation}");
        let both = load::picture_and_square(&turned, 64, Decoding::default()).unwrap();
        assert!(both == (decode::decode(&turned).unwrap(), jpeg::to_square(&turned, 64).unwrap()));
        jpeg::to_square(&turned, 64).unwrap()
    });
    assert_eq!(squares[0], plain);
    assert!((1..8).all(|orientation| !squares[..orientation].contains(&squares[orientation])));
    assert_eq!(squares[2], plain.iter().rev().copied().collect::<Vec<u8>>());
}

#[test]
fn other_files_are_left_to_the_full_decoder() {
    let grey = EncoderSettings { quality: 90, colour: None, restarts: None };
    assert!(jpeg::to_square(&encode(Content::Noise, 300, 300, &grey), 256).is_none(), "little shrinking");
    assert!(jpeg::to_square(&encode(Content::Noise, 2000, 300, &grey), 256).is_some(), "thin");
    assert!(jpeg::to_square(include_bytes!("fixtures/image/progressive.jpg"), 16).is_none(), "progressive");
    assert!(jpeg::to_square(b"\x89PNG\r\n\x1a\n", 16).is_none());
    let mut rgb = Vec::new();
    let pixels: Vec<u8> = (0..100 * 100 * 4).map(|n| noise(n, n) as u8).collect();
    Encoder::new(&mut rgb, 90).encode(&pixels, 100, 100, ColorType::Cmyk).unwrap();
    assert!(jpeg::to_square(&rgb, 16).is_none(), "four components");
}

#[test]
fn cut_and_damaged_files_are_refused_where_the_full_decoder_refuses_them() {
    let settings = EncoderSettings { quality: 85, colour: Some(SamplingFactor::F_2_2), restarts: Some(9) };
    let whole = encode(Content::Noise, 120, 90, &settings);
    assert!(jpeg::to_square(&whole, 40).is_some());
    for length in 0..whole.len() {
        let result = jpeg::to_square(&whole[..length], 40);
        assert!(result.is_none(), "{length} of {} bytes", whole.len());
    }
    // Without a restart marker two intervals run into each other.
    let marker = whole.windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    let without = [&whole[..marker], &whole[marker + 2..]].concat();
    assert!(jpeg::to_square(&without, 40).is_none());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3000))]
    #[test]
    fn what_is_served_is_read_by_the_full_decoder(
        colour: bool, changes in proptest::collection::vec((0usize..10_000, 0u8..), 1..8),
    ) {
        let sampling = colour.then_some(SamplingFactor::F_2_1);
        let settings = EncoderSettings { quality: 60, colour: sampling, restarts: colour.then_some(3) };
        let mut bytes = encode(Content::Letters, 70, 60, &settings);
        for (offset, value) in changes {
            let length = bytes.len();
            bytes[offset % length] = value;
        }
        if jpeg::to_square(&bytes, 20).is_some() {
            proptest::prop_assert!(decode::decode(&bytes).is_ok(), "the full way says {:?}", decode::decode(&bytes));
        }
    }
}

/// The real radiographs, where they are available.
#[test]
fn real_radiographs_agree() {
    let shared = std::env::var("MEDST_SHARED_DIR")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let mut served = 0;
    for folder in ["data/open-cxr/images", "data/hannover/images"] {
        let Ok(entries) = std::fs::read_dir(shared.join(folder)) else {
            println!("skipped: no radiographs in {}", shared.join(folder).display());
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            // These are 512 pixels wide: halved, as far as this path serves.
            if let Some(found) = difference(&std::fs::read(&path).unwrap(), 192) {
                assert!(found <= 1, "{}: {found} levels", path.display());
                served += 1;
            }
        }
    }
    assert!(served >= 20, "{served} radiographs went this way");
    println!("{served} radiographs within one grey level");
}
