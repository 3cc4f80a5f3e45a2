//! Reads the size that a picture file declares without decoding it, so that pictures can be refused
//! before memory is allocated.

use super::decode::unsupported;
use super::{ImageError, dicom, jpeg};

/// Width and height in pixels of a JPEG, PNG or DICOM file.
///
/// # Errors
/// A reason, without the file's name: of an unknown format, or without a size where it should be.
pub fn declared(bytes: &[u8]) -> Result<[usize; 2], ImageError> {
    match bytes {
        [] => Err(ImageError::Empty),
        [0xff, 0xd8, ..] => jpeg::size(bytes),
        [0x89, b'P', b'N', b'G', ..] => of_png(bytes).ok_or_else(|| ImageError::damaged("damaged PNG: it has no size")),
        _ if dicom::is_dicom(bytes) => {
            let header = dicom::header_of(bytes)?;
            let size = header.columns.zip(header.rows).map(|(width, height)| [width, height]);
            size.ok_or_else(|| ImageError::damaged("damaged DICOM: it has no size"))
        }
        _ => Err(unsupported(bytes)),
    }
}

/// Bytes of memory per pixel that decoding a file takes at most, besides the file: the picture as
/// it is decoded, copies of it on its way to grey values, and those.
pub fn memory_per_pixel(bytes: &[u8]) -> usize {
    match bytes {
        [0xff, 0xd8, ..] => jpeg::memory_per_pixel(bytes),
        [0x89, b'P', b'N', b'G', ..] => {
            // Grey and colour, each with the transparency that a chunk may add.
            let samples = if matches!(bytes.get(25), Some(0 | 4)) { 2 } else { 4 };
            // With a value of 16 bits or of grey for each pixel (measured: RGBA 9.8 and 4.8, grey
            // 3.8 and 0.8).
            if bytes.get(24) == Some(&16) { 2 * samples + 2 } else { samples + 1 }
        }
        _ => dicom::memory_per_pixel(bytes),
    }
}

/// The header chunk comes first.
fn of_png(bytes: &[u8]) -> Option<[usize; 2]> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some([number(16)?, number(20)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::write::{Pixels, Wrap};
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_that_decoding_gives() {
        let pixels = vec![7u8; 6 * 4];
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&pixels, 6, 4, jpeg_encoder::ColorType::Luma).unwrap();
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 6, 4);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        let dicom = Wrap::new(Pixels::Grey8(&pixels), 6, 4).to_bytes().unwrap();
        for (bytes, memory) in [(jpeg, 4), (png, 3), (dicom, 8)] {
            assert_eq!(memory_per_pixel(&bytes), memory);
            assert_eq!(declared(&bytes), Ok([6, 4]));
            assert!(declared(&bytes[..20]).is_err());
        }
        assert!(declared(b"").is_err() && declared(b"GIF89a").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let signatures: [&[u8]; 3] = [&[], &[0xff, 0xd8], &[0x89, b'P', b'N', b'G', 13, 10, 26, 10]];
            let _ = declared(&[signatures[start], &bytes].concat());
        }
    }
}
