//! JPEG files of the usual kinds, whole and cut.

use medst_data::image::decode::decode;

const KINDS: [(&str, &[u8]); 3] = [
    ("baseline colour", include_bytes!("fixtures/image/colour.jpg")),
    ("progressive colour", include_bytes!("fixtures/image/progressive.jpg")),
    ("grey with restart markers", include_bytes!("fixtures/image/grey.jpg")),
];

#[test]
fn whole_files_are_decoded() {
    for (kind, bytes) in KINDS {
        let image = decode(bytes).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((image.width, image.height), (64, 48), "{kind}");
        assert!(image.pixels.iter().any(|&pixel| pixel != image.pixels[0]), "{kind}");
    }
    // Bytes after the end do no harm.
    let mut longer = KINDS[0].1.to_vec();
    longer.extend([0; 9]);
    assert_eq!(decode(&longer).unwrap(), decode(KINDS[0].1).unwrap());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for (kind, bytes) in KINDS {
        for length in 1..bytes.len() {
            let result = decode(&bytes[..length]);
            assert!(result.is_err(), "{kind}: {length} of {} bytes", bytes.len());
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_bytes_make_no_panic(
        kind in 0usize..3, places in proptest::collection::vec((0usize..1005, 0u8..), 1..8),
    ) {
        let mut bytes = KINDS[kind].1.to_vec();
        for (place, value) in places {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        let _ = decode(&bytes);
    }
}
