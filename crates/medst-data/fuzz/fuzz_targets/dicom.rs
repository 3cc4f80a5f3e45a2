//! DICOM files of any bytes: their headers, and their pictures with either window.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medst_data::image::dicom::{self, Window};

fuzz_target!(|bytes: &[u8]| {
    let header = dicom::header_of(bytes);
    for window in [Window::Declared, Window::Reference] {
        if let Ok(image) = dicom::decode(bytes, window) {
            assert_eq!(image.pixels.len(), image.width * image.height);
            let header = header.as_ref().expect("a file with a picture has a header");
            assert_eq!((header.columns, header.rows), (Some(image.width), Some(image.height)));
        }
    }
});
