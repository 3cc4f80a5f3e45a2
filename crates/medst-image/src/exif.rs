//! The orientation in the Exif data of a JPEG or PNG file. OpenCV rotates pictures accordingly, and
//! so does the reference; exports of some viewers and photographs of films have such data.

use super::GreyImage;

/// How a stored picture must be turned for display, by the numbers of Exif's tag 0x0112: 1
/// unchanged, 2 mirrored, 3 turned by 180°, 4 upside down, 5 transposed, 6 turned by 90° clockwise,
/// 7 transposed the other way, 8 turned by 90° counter-clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

impl Orientation {
    /// The orientation of a JPEG file. A picture without readable Exif data is shown unchanged.
    pub fn of_jpeg(bytes: &[u8]) -> Orientation {
        let found = segments(bytes).find_map(|(marker, segment)| match marker {
            0xe1 => segment.strip_prefix(b"Exif\0\0").and_then(tag),
            _ => None,
        });
        Orientation(found.unwrap_or(1))
    }

    /// The orientation in Exif data, which start with the byte order, as in the `eXIf` chunk of
    /// PNG.
    pub fn of_exif(data: &[u8]) -> Orientation {
        Orientation(tag(data).unwrap_or(1))
    }

    /// Turns a picture the way it is to be shown.
    pub fn apply(self, image: GreyImage) -> GreyImage {
        let Orientation(number) = self;
        if number == 1 {
            return image;
        }
        let GreyImage { width, height, pixels } = image;
        let (across, down) = if number >= 5 { (height, width) } else { (width, height) };
        let mut turned = Vec::with_capacity(pixels.len());
        for y in 0..down {
            for x in 0..across {
                let (row, column) = match number {
                    2 => (y, width - 1 - x),
                    3 => (height - 1 - y, width - 1 - x),
                    4 => (height - 1 - y, x),
                    5 => (x, y),
                    6 => (height - 1 - x, y),
                    7 => (height - 1 - x, width - 1 - y),
                    _ => (x, width - 1 - y),
                };
                turned.push(pixels[row * width + column]);
            }
        }
        GreyImage { width: across, height: down, pixels: turned }
    }
}

/// The segments of a JPEG file before its scan: markers and what they hold.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        while let [0xff, 0xff, ..] = rest {
            rest = &rest[1..];
        }
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        rest = &rest[2 + length..];
        (marker != 0xda).then_some((marker, segment))
    })
}

/// The orientation of the first directory of a TIFF structure, which Exif data are.
fn tag(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let directory = long(4)?;
    let entries = usize::from(short(directory)?);
    let at = (0..entries).map(|entry| directory + 2 + entry * 12).find(|&at| short(at) == Some(ORIENTATION))?;
    let value = (short(at + 2)? == SHORT).then(|| short(at + 8)).flatten()?;
    (1..=8).contains(&value).then_some(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exif data of either byte order whose second entry is the orientation.
    fn exif(orientation: u16, little: bool) -> Vec<u8> {
        let short = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let mut data = if little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        data.extend(long(8));
        data.extend(short(2));
        for (tag, value) in [(0x0100, 9), (ORIENTATION, orientation)] {
            data.extend([short(tag), short(SHORT)].concat());
            data.extend([&long(1)[..], &short(value), &[0, 0]].concat());
        }
        data
    }

    #[test]
    fn every_orientation_shows_the_letter_upright() {
        // An F of 3×4 pixels; the stored pictures follow from the definition: where row 0 and
        // column 0 are shown.
        let upright: Vec<u8> = b"###\
                                 #..\
                                 ##.\
                                 #.."
        .to_vec();
        let stored: [(u16, usize, &[u8]); 8] = [
            (1, 3, b"####..##.#.."),
            (2, 3, b"###..#.##..#"),
            (3, 3, b"..#.##..####"),
            (4, 3, b"#..##.#..###"),
            (5, 4, b"#####.#.#..."),
            (6, 4, b"#...#.#.####"),
            (7, 4, b"...#.#.#####"),
            (8, 4, b"####.#.#...#"),
        ];
        for (number, width, pixels) in stored {
            for little in [true, false] {
                let image = GreyImage { width, height: 12 / width, pixels: pixels.to_vec() };
                let shown = Orientation::of_exif(&exif(number, little)).apply(image);
                assert_eq!((shown.width, shown.height), (3, 4), "{number}");
                assert_eq!(shown.pixels, upright, "{number}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_turns_nothing() {
        let whole = exif(6, true);
        assert_eq!(Orientation::of_exif(&whole), Orientation(6));
        for length in 0..whole.len() - 2 {
            assert_eq!(Orientation::of_exif(&whole[..length.min(whole.len() - 4)]), Orientation(1), "{length}");
        }
        for number in [0, 9, 700] {
            assert_eq!(Orientation::of_exif(&exif(number, false)), Orientation(1));
        }
    }

    #[test]
    fn exif_is_found_behind_other_segments() {
        let data = exif(8, false);
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xe1];
        jpeg.extend((data.len() as u16 + 8).to_be_bytes());
        jpeg.extend([b"Exif\0\0", &data[..]].concat());
        assert_eq!(Orientation::of_jpeg(&jpeg), Orientation(8));
        jpeg[2..4].copy_from_slice(&[0xff, 0xda]);
        assert_eq!(Orientation::of_jpeg(&jpeg), Orientation(1));
    }
}
