//! DICOM files as other programs write them, and real radiographs wrapped into DICOM.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use medst_image::View;
use medst_image::dicom::write::{Pixels, Wrap};
use medst_image::dicom::{self, ViewSource, Window, decode, header_of};
use medst_image::{Notes, decode as plain, scale_by_maximum};
use proptest::prelude::*;

const ROWS: usize = 43;
const COLUMNS: usize = 53;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dicom")
}

/// What a file without a window shows: 8-bit values unchanged, deeper ones over their range.
fn grey(values: &[i32], bits: u32) -> Vec<u8> {
    if bits == 8 {
        return values.iter().map(|&value| value as u8).collect();
    }
    let (low, high) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
    let scale = 255.0 / f64::from(high - low);
    values.iter().map(|&value| (f64::from(value - low) * scale).round() as u8).collect()
}

/// See `make.py` next to the files for the codecs that wrote them.
#[test]
fn files_of_other_codecs_give_their_values() {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<i32>> = serde_json::from_str(&text).unwrap();
    let mut names: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().into_string().unwrap().strip_suffix(".dcm")?.to_string()))
        .collect();
    names.sort();
    assert!(names.len() >= 24);
    for name in &names {
        let kind = if name.contains("near") { name } else { name.rsplit_once('-').unwrap().1 };
        let values = &expected[kind];
        let bytes = fs::read(fixtures().join(format!("{name}.dcm"))).unwrap();
        let bits: u32 = name.rsplit_once(['u', 's']).unwrap().1.parse().unwrap();
        let image = decode(&bytes, Window::Declared).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width, image.height), (COLUMNS, ROWS), "{name}");
        let off = image.pixels.iter().zip(grey(values, bits)).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        // A value exactly between two grey levels may be rounded either way.
        assert!(off <= u8::from(bits > 8), "{name}: {off} levels");
        if !name.contains("-s") {
            let image = decode(&bytes, Window::Reference).unwrap();
            assert_eq!(image.pixels, scale_by_maximum(values, false), "{name}");
        }
    }
}

#[test]
fn headers_tell_whose_image_it_is_without_its_pixels() {
    for name in ["explicit-u8", "implicit-u12", "big-endian-u12", "deflated-u12", "jpeg-ls-u16"] {
        let bytes = fs::read(fixtures().join(format!("{name}.dcm"))).unwrap();
        let found = header_of(&bytes).unwrap();
        assert_eq!((found.view, found.view_source), (Some(View::Pa), ViewSource::ViewPosition), "{name}");
        assert_eq!(found.subject_id.as_deref(), Some("p7"));
        assert_eq!((found.study_date.as_deref(), found.study_time.as_deref()), (Some("21000203"), Some("040506.7")));
        assert_eq!((found.rows, found.columns), (Some(ROWS), Some(COLUMNS)));
    }
    let error = header_of(&fs::read(fixtures().join("make.py")).unwrap()).unwrap_err().to_string();
    assert!(error.contains("not a DICOM file"), "{error}");
}

/// A 16-bit wrap of the values, changed, decoded as declared.
fn shown(values: &[u16], change: impl Fn(&mut Wrap)) -> Vec<u8> {
    let mut wrap = Wrap::new(Pixels::Grey16(values), values.len() as u16, 1);
    change(&mut wrap);
    decode(&wrap.to_bytes().unwrap(), Window::Declared).unwrap().pixels
}

#[test]
fn windows_are_applied_as_the_standard_says() {
    let values = [0, 100, 200, 300, 400, 4095];
    // PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) · 255, clamped.
    let linear = |value: f64, center: f64, width: f64| {
        (((value - (center - 0.5)) / (width - 1.0) + 0.5) * 255.0).clamp(0.0, 255.0).round() as u8
    };
    let with = |function: Option<&'static str>| {
        shown(&values, |wrap| {
            wrap.bits_stored = 12;
            wrap.window = Some((200.0, 400.0));
            wrap.window_function = function;
        })
    };
    assert_eq!(with(None), values.map(|value| linear(value.into(), 200.0, 400.0)));
    let exact =
        values.map(|value| (((f64::from(value) - 200.0) / 400.0 + 0.5) * 255.0).clamp(0.0, 255.0).round() as u8);
    assert_eq!(with(Some("LINEAR_EXACT")), exact);
    let sigmoid = values.map(|value| (255.0 / (1.0 + (-4.0 * (f64::from(value) - 200.0) / 400.0).exp())).round() as u8);
    assert_eq!(with(Some("SIGMOID")), sigmoid);
    // The rescale comes first: half a slope and an intercept move the window.
    let rescaled = shown(&values, |wrap| {
        wrap.bits_stored = 12;
        wrap.rescale = Some((0.5, -100.0));
        wrap.window = Some((50.0, 100.0));
    });
    assert_eq!(rescaled, values.map(|value| linear(f64::from(value) * 0.5 - 100.0, 50.0, 100.0)));
    // MONOCHROME1 is dark where values are high.
    let inverted = shown(&values, |wrap| {
        wrap.bits_stored = 12;
        wrap.photometric = "MONOCHROME1";
        wrap.window = Some((200.0, 400.0));
    });
    assert_eq!(inverted, with(None).iter().map(|grey| 255 - grey).collect::<Vec<u8>>());
}

#[test]
fn padding_is_black_and_counts_in_no_range() {
    let values = [9999, 1000, 1500, 2000];
    for photometric in ["MONOCHROME1", "MONOCHROME2"] {
        let pixels = shown(&values, |wrap| {
            wrap.photometric = photometric;
            wrap.padding = Some((9999, 9999));
        });
        let expected = if photometric == "MONOCHROME1" { [0, 255, 128, 0] } else { [0, 0, 128, 255] };
        assert!(pixels.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1), "{photometric}: {pixels:?}");
    }
}

#[test]
fn bits_above_those_stored_are_ignored() {
    // Old objects keep an overlay in the upper bits.
    let clean = shown(&[0, 1000, 4095], |wrap| wrap.bits_stored = 12);
    assert_eq!(shown(&[0x8000, 0x4000 | 1000, 0xf000 | 4095], |wrap| wrap.bits_stored = 12), clean);
}

#[test]
fn what_is_no_radiograph_is_refused_with_a_reason() {
    let pixels = [7u8; 16];
    let bytes = |change: &dyn Fn(&mut Wrap)| {
        let mut wrap = Wrap::new(Pixels::Grey8(&pixels), 4, 4);
        change(&mut wrap);
        wrap.to_bytes().unwrap()
    };
    let whole = bytes(&|_| {});
    assert_eq!(decode(&whole, Window::Declared).unwrap().pixels, pixels);
    for (bytes, expected) in [
        (bytes(&|wrap| wrap.rows = 5), "pixel"),
        (bytes(&|wrap| wrap.rows = 0), "pixels"),
        (bytes(&|wrap| (wrap.rows, wrap.columns) = (60_000, 60_000)), "image too large"),
        (bytes(&|wrap| wrap.photometric = "PALETTE COLOR"), "palette"),
        (whole[..200].to_vec(), "DICOM"),
    ] {
        let error = decode(&bytes, Window::Declared).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// The stream shows what it is, whatever the transfer syntax says.
#[test]
fn compressed_pictures_are_read_by_what_they_are() {
    let syntaxes = ["4.50", "4.70", "4.80", "4.90", "5"];
    for (name, actual) in [("jpeg-lossless-u12", 1), ("jpeg-ls-u12", 2), ("jpeg-2000-u12", 3)] {
        let bytes = fs::read(fixtures().join(format!("{name}.dcm"))).unwrap();
        let expected = decode(&bytes, Window::Declared).unwrap();
        let start = bytes.windows(20).position(|text| text == b"1.2.840.10008.1.2.4.").unwrap();
        for (number, syntax) in syntaxes.iter().enumerate() {
            let mut changed = bytes.clone();
            changed[start + 18..start + 22].fill(0);
            changed[start + 18..start + 18 + syntax.len()].copy_from_slice(syntax.as_bytes());
            let mut notes = Notes::default();
            let image = dicom::decode_noting(&changed, Window::Declared, &mut notes).unwrap();
            assert_eq!(image, expected, "{name} called {syntax}");
            assert_eq!(notes.iter().count(), usize::from(number != actual), "{name} called {syntax}");
        }
    }
}

/// The offset table may be empty, full or missing, and a frame may come in several fragments.
#[test]
fn fragments_are_put_together() {
    for name in ["jpeg-lossless-u12", "jpeg-ls-u12", "jpeg-2000-u12"] {
        let whole = fs::read(fixtures().join(format!("{name}.dcm"))).unwrap();
        let expected = decode(&whole, Window::Declared).unwrap();
        let at = whole.windows(4).rposition(|bytes| bytes == [0xe0, 0x7f, 0x10, 0]).unwrap() + 12;
        let length = |at: usize| u32::from_le_bytes(whole[at + 4..at + 8].try_into().unwrap()) as usize;
        let frame = at + 8 + length(at);
        let frame = &whole[frame + 8..frame + 8 + length(frame)];
        let item = |bytes: &[u8]| [&[0xfe, 0xff, 0, 0xe0][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat();
        let (first, second) = frame.split_at(frame.len() / 4 * 2);
        for items in [
            vec![item(&[]), item(frame)],
            vec![item(&[0; 4]), item(frame)],
            vec![item(frame)],
            vec![item(&[]), item(first), item(second)],
            vec![item(first), item(second)],
        ] {
            for end in [&[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0][..], &[]] {
                let bytes = [&whole[..at], &items.concat(), end].concat();
                assert_eq!(decode(&bytes, Window::Declared).as_ref(), Ok(&expected), "{name}: {} items", items.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_bytes_make_no_panic(
        file in 0usize..6, changes in proptest::collection::vec((0usize..100_000, 0u8..), 1..6), cut in 0usize..100_000,
    ) {
        let names = ["explicit-u12", "rle-u16", "jpeg-ls-u12", "jpeg-2000-u8", "jpeg-lossless-u12", "jpeg-ls-near-u8"];
        let mut bytes = fs::read(fixtures().join(format!("{}.dcm", names[file]))).unwrap();
        for (offset, value) in changes {
            let length = bytes.len();
            bytes[offset % length] = value;
        }
        bytes.truncate(bytes.len().max(1) - cut % 64);
        let _ = decode(&bytes, Window::Declared);
    }
}

/// Wrapped into DICOM, a radiograph has the pixels that it has as a JPEG file.
#[test]
fn real_radiographs_are_the_same_through_dicom() {
    let shared = std::env::var("MEDST_SHARED_DIR")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let mut paths = Vec::new();
    for folder in ["data/open-cxr/images", "data/hannover/images"] {
        let Ok(entries) = fs::read_dir(shared.join(folder)) else {
            println!("skipped: no radiographs in {}", shared.join(folder).display());
            return;
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        paths.extend(files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "jpg")).take(15));
    }
    assert!(paths.len() >= 20);
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let image = plain::decode(&bytes).unwrap();
        let (columns, rows) = (image.width as u16, image.height as u16);
        let native = Wrap { view_position: Some("AP"), ..Wrap::new(Pixels::Grey8(&image.pixels), columns, rows) };
        let coded = Wrap { view_position: Some("AP"), ..Wrap::new(Pixels::Coded(&bytes), columns, rows) };
        for wrap in [native, coded] {
            let wrapped = wrap.to_bytes().unwrap();
            assert!(dicom::is_dicom(&wrapped));
            assert_eq!(decode(&wrapped, Window::Declared).unwrap(), image, "{}", path.display());
            assert_eq!(header_of(&wrapped).unwrap().view, Some(View::Ap));
        }
    }
}
