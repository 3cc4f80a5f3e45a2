//! JPEG and PNG files of any bytes, the fast way and the full one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medst_data::image::{decode, jpeg, resize};

fuzz_target!(|bytes: &[u8]| {
    let fast = jpeg::to_square(bytes, 16);
    // Pictures that are large for their few bytes are sound, but slow to look at again and again.
    let Ok(image) = decode::decode(bytes) else {
        assert!(fast.is_none(), "the fast way reads what the full one refuses");
        return;
    };
    assert_eq!(image.pixels.len(), image.width * image.height);
    let exact = resize::to_square(&image, 16);
    if let (Some(fast), Ok(exact)) = (fast, exact) {
        assert_eq!(fast.len(), exact.len());
    }
});
