//! Small files with oddities from public bug reports, against the grey values that pydicom and
//! OpenCV read from them. Some are in `fixtures/cases`, all of them in `shared/cases` where that
//! exists.

use std::fs;
use std::path::{Path, PathBuf};

use medst_image::{Decoding, GreyImage, ImageError, Notes, load};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases")
}

fn shared() -> PathBuf {
    let shared = std::env::var("MEDST_SHARED_DIR")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    shared.join("cases")
}

/// The values of an 8-bit NumPy array, which follow its header.
fn npy(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.windows(5).any(|word| word == b"'|u1'"), "{}", path.display());
    bytes[10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))..].to_vec()
}

fn read(path: &Path) -> Result<(GreyImage, Vec<&'static str>), ImageError> {
    let mut notes = Notes::default();
    let image = load::picture_noting(&fs::read(path).unwrap(), Decoding::default(), &mut notes)?;
    Ok((image, notes.iter().collect()))
}

/// Compares every file of a folder that has its grey values next to it; returns how many.
fn compare(folder: &Path) -> usize {
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = path.with_extension("expected.npy");
        if path.extension().is_some_and(|end| end == "dcm") && expected.exists() {
            let name = path.display();
            let (image, _) = read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            let expected = npy(&expected);
            assert_eq!(image.pixels.len(), expected.len(), "{name}");
            let off = image.pixels.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // The peer rounds colours and lossy coefficients another way.
            assert!(off <= 1, "{name}: {off} levels");
            compared += 1;
        }
    }
    compared
}

#[test]
fn odd_files_show_what_their_peers_show() {
    assert_eq!(compare(&fixtures()), 4);
    if shared().exists() {
        assert!(compare(&shared().join("dicom")) >= 13);
    } else {
        println!("skipped: no cases in {}", shared().display());
    }
}

#[test]
fn odd_files_are_refused_or_remarked_on_for_the_true_reason() {
    if !shared().exists() {
        println!("skipped: no cases in {}", shared().display());
        return;
    }
    for (name, reason) in [
        ("image/J01_extraneous_before_dqt.jpg", "1 stray byte where a marker was expected, at byte 20"),
        ("image/J07_truncated_half_with_eoi.jpg", "entropy-coded data are missing"),
        ("image/J30_small_half_eoi.jpg", "entropy-coded data are missing"),
        ("image/X03_tiff.tif", "TIFF files are not supported"),
    ] {
        let bytes = fs::read(shared().join(name)).unwrap();
        for exact in [true, false] {
            let decoding = Decoding { exact, ..Decoding::default() };
            let error = load::square_of(&bytes, 60, decoding).expect_err(name).to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }
    for (name, remark) in [
        ("dicom/D07_no_preamble.dcm", "no preamble"),
        ("dicom/D08_implicit_called_explicit.dcm", "encoded differently than its transfer syntax states"),
        ("dicom/D19_slope_zero.dcm", "RescaleSlope is 0"),
        ("dicom/D26_voilut_12in16.dcm", "declares the wrong depth"),
        ("dicom/D47_voilut_empty_descriptor.dcm", "invalid VOI look-up table"),
        ("image/P13_12bit_in_16.png", "are unused"),
    ] {
        let (image, notes) = read(&shared().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(notes.len() <= 2 && notes.iter().any(|note| note.contains(remark)), "{name}: {notes:?}");
        assert!(image.pixels.iter().any(|&grey| grey > 200), "{name} is dark");
    }
    let (image, notes) = read(&shared().join("dicom/D00_control.dcm")).unwrap();
    assert!(notes.is_empty() && image.pixels.len() == 48 * 60);
}

/// A codestream in a DICOM file: what may follow its end, and what may not be missing before it.
#[test]
fn jpeg_2000_ends_where_its_tiles_end() {
    let whole = fs::read(fixtures().join("F03_j2k_ff_padding.dcm")).unwrap();
    let decode = |bytes: &[u8]| load::picture_of(bytes, Decoding::default()).map(|image| image.pixels);
    let expected = decode(&whole).unwrap();
    let start = whole.windows(4).position(|bytes| bytes == [0xff, 0x4f, 0xff, 0x51]).unwrap();
    let end = whole.windows(2).rposition(|bytes| bytes == [0xff, 0xd9]).unwrap();
    // The fragment's length precedes the codestream, the sequence's delimiter comes last.
    let with = |stream: &[u8]| {
        let length = (stream.len() as u32).to_le_bytes();
        [&whole[..start - 4], &length, stream, &[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]].concat()
    };
    let stream = &whole[start..end];
    for padding in [&[][..], &[0, 0], &[0xff; 7], &[0xff, 0xd9, 0xff, 0xd9], b"  ", &[0xff, 0x90, 0, 0]] {
        let padded = [stream, &[0xff, 0xd9], padding].concat();
        assert_eq!(decode(&with(&padded)).as_ref(), Ok(&expected), "{padding:?}");
    }
    for length in 110..stream.len() {
        for tail in [&[][..], &[0xff, 0xd9]] {
            let error = decode(&with(&[&stream[..length], tail].concat())).unwrap_err().to_string();
            assert!(error.contains("truncated") || error.contains("damaged"), "{length}: {error}");
        }
    }
}
