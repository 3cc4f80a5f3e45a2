//! Cancels a decode whose result has become useless, such as that of a request that has timed out.
//!
//! Decoders check at every row, block of rows or piece of input. The flag belongs to the thread,
//! because a decode stays on one thread, and passing it through every decoder would put it into
//! dozens of signatures.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ImageError;

thread_local! {
    static CANCELLED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Does work whose decoders fail soon after the flag was set.
pub fn until<T>(cancelled: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    /// Puts back what was there before, after a panic as well.
    struct Before(Option<Arc<AtomicBool>>);
    impl Drop for Before {
        fn drop(&mut self) {
            CANCELLED.set(self.0.take());
        }
    }
    let _before = Before(CANCELLED.replace(Some(cancelled.clone())));
    work()
}

/// # Errors
/// The flag was set.
pub(crate) fn check() -> Result<(), ImageError> {
    let cancelled = CANCELLED.with_borrow(|flag| flag.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)));
    if cancelled { Err(ImageError::Cancelled) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoding;
    use crate::dicom::write::{Pixels, Wrap};
    use crate::load::picture_of;

    #[test]
    fn what_is_not_wanted_is_not_decoded() {
        let grey: Vec<u8> = (0..64 * 64).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&grey, 64, 64, jpeg_encoder::ColorType::Luma).unwrap();
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 64, 64);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&grey).unwrap();
        let wrap = Wrap { transfer_syntax: "1.2.840.10008.1.2.1.99", ..Wrap::new(Pixels::Grey8(&grey), 64, 64) };
        let flag = Arc::new(AtomicBool::new(false));
        for file in [jpeg, png, wrap.to_bytes().unwrap()] {
            let decode = || until(&flag, || picture_of(&file, Decoding::default()));
            flag.store(false, Ordering::Relaxed);
            let picture = decode().unwrap();
            flag.store(true, Ordering::Relaxed);
            assert_eq!(decode(), Err(ImageError::Cancelled));
            // The flag holds for that work alone.
            assert_eq!(picture_of(&file, Decoding::default()), Ok(picture));
        }
    }
}
