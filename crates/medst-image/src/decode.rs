//! Decodes JPEG and PNG files to 8-bit grey like OpenCV's grey reading (with the exceptions in
//! docs/data.md), rotated according to the Exif data. DICOM files are handled by [`super::dicom`].
//! The format is recognised by content, not by name.

use super::exif::Orientation;
use super::{GreyImage, ImageError, Notes, dicom, jpeg, png};

/// Reads a radiograph from the bytes of a JPEG, PNG or DICOM file, the last with the window that it
/// declares.
///
/// # Errors
/// A reason, without the file's name.
pub fn decode(bytes: &[u8]) -> Result<GreyImage, ImageError> {
    decode_noting(bytes, &mut Notes::default())
}

/// Like [`decode`]; adds remarks on how the file was read to `notes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_noting(bytes: &[u8], notes: &mut Notes) -> Result<GreyImage, ImageError> {
    match bytes {
        [] => Err(ImageError::Empty),
        [0xff, 0xd8, ..] => Ok(Orientation::of_jpeg(bytes).apply(jpeg::decode(bytes, jpeg::Untagged::Ycbcr)?)),
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, notes),
        _ if dicom::is_dicom(bytes) => dicom::decode_noting(bytes, dicom::Window::Declared, notes),
        _ => Err(unsupported(bytes)),
    }
}

/// Why a file of another format is not read, by the name of that format where it is known.
pub(super) fn unsupported(bytes: &[u8]) -> ImageError {
    let name = match bytes {
        [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => "TIFF",
        [b'G', b'I', b'F', b'8', ..] => "GIF",
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => "BMP",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "WebP",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "JPEG XL",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a' | b'h' | b'm', ..] => "HEIF or AVIF",
        [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', ..] => "PNM",
        [b'%', b'P', b'D', b'F', ..] => "PDF",
        [0x1f, 0x8b, ..] => "gzip",
        [b'P', b'K', 3, 4, ..] => "zip",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "NumPy",
        [b'<', b'!' | b'?' | b'h' | b'H', ..] => "HTML or XML",
        _ if bytes.get(344..348).is_some_and(|magic| magic == b"n+1\0" || magic == b"ni1\0") => "NIfTI",
        _ => return ImageError::unsupported("not a JPEG, PNG or DICOM file"),
    };
    ImageError::unsupported(format!("{name} files are not supported; convert it to PNG, JPEG or DICOM"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::png::{BitDepth, ColorType};
    use proptest::prelude::*;

    fn png_bytes(color: ColorType, depth: BitDepth, width: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_png_gives_its_grey_values() {
        let grey = |color, depth, width, data: &[u8]| decode(&png_bytes(color, depth, width, data)).unwrap().pixels;
        assert_eq!(grey(ColorType::Grayscale, BitDepth::Eight, 3, &[0, 7, 255]), [0, 7, 255]);
        assert_eq!(grey(ColorType::Grayscale, BitDepth::Sixteen, 2, &[0x12, 0xff, 0xfe, 0]), [0x12, 0xfe]);
        assert_eq!(grey(ColorType::Grayscale, BitDepth::One, 2, &[0b0100_0000]), [0, 255]);
        assert_eq!(grey(ColorType::GrayscaleAlpha, BitDepth::Eight, 2, &[9, 0, 200, 255]), [9, 200]);
        assert_eq!(grey(ColorType::Rgb, BitDepth::Eight, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]), [76, 149, 29]);
        assert_eq!(grey(ColorType::Rgba, BitDepth::Eight, 1, &[100, 100, 100, 3]), [100]);
    }

    #[test]
    fn damaged_files_are_refused_with_a_reason() {
        let whole = png_bytes(ColorType::Grayscale, BitDepth::Eight, 200, &[90; 200]);
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"GIF89a", "GIF files are not supported"),
            (b"II*\0\x08\0\0\0", "TIFF files are not supported"),
            (b"no picture", "not a JPEG, PNG or DICOM file"),
            (&whole[..whole.len() - 20], "PNG"),
            (&[0xff, 0xd8, 0xff, 0xe0], "truncated JPEG"),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_picture_bomb_is_refused_before_memory_is_taken() {
        let mut bytes = png_bytes(ColorType::Grayscale, BitDepth::Eight, 4, &[1; 4]);
        // Bytes 16…24 hold width and height, bytes 29…33 their checksum.
        bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let checksum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(decode(&bytes), Err(ImageError::TooLarge { width: 65_536, height: 65_536 }));
    }

    /// PNG's checksum, bit by bit.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let signatures: [&[u8]; 3] = [&[], &[0xff, 0xd8, 0xff, 0xe0], &[0x89, b'P', b'N', b'G', 13, 10, 26, 10]];
            let _ = decode(&[signatures[start], &bytes].concat());
        }
    }
}
