//! DICOM files of any bytes, with either window.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medst_data::image::dicom::{self, Window};

fuzz_target!(|bytes: &[u8]| {
    for window in [Window::Declared, Window::Reference] {
        if let Ok(image) = dicom::decode(bytes, window) {
            assert_eq!(image.pixels.len(), image.width * image.height);
        }
    }
});
