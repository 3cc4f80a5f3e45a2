//! Checks into how many parts a JPEG 2000 codestream divides the tiles of its picture (ITU-T T.800,
//! annex A). The decoder allocates memory for all precincts and code-blocks before it reads the
//! first one, and a code-block may have as few as four pixels.

/// Bytes that the decoder takes, about, for a precinct or code-block, and for each layer of a
/// code-block.
const PART: usize = 150;
const LAYER: usize = 24;
/// Memory limit for all parts in bytes: per pixel, plus a constant. Encoders make code-blocks of
/// 1024 or 4096 pixels.
const PER_PIXEL: usize = 4;
const BESIDES: usize = 16 << 20;

/// The reason for refusing a codestream, as text.
type Reason = &'static str;
const SHORT: Reason = "truncated in a header";
const MANY: Reason = "too many tiles, precincts or code-blocks";

/// Checks the header of the codestream or of a tile's part.
///
/// * `stream`: from the start-of-codestream marker on.
/// * `at`: where the header begins: the main one with the size, a tile's with its number and
///   length.
///
/// # Errors
/// A header that ends early, or parts so small that there would be too many of them.
pub fn check(stream: &[u8], at: usize, [columns, rows]: [usize; 2]) -> Result<(), Reason> {
    let most = columns * rows * PER_PIXEL + BESIDES;
    Stream(stream).styles(at, |style| check_style(style, [columns, rows], most))
}

struct Stream<'a>(&'a [u8]);

impl Stream<'_> {
    fn number16(&self, at: usize) -> Option<usize> {
        Some(u16::from_be_bytes(*self.0.get(at..)?.first_chunk()?).into())
    }

    /// Looks at the coding styles of a header.
    fn styles(&self, start: usize, check: impl Fn(Style) -> Result<(), Reason>) -> Result<(), Reason> {
        let components = self.number16(40).ok_or(SHORT)?;
        let mut at = start;
        loop {
            let marker = self.number16(at).ok_or(SHORT)?;
            if marker == 0xff93 || marker == 0xff90 && at > start {
                return Ok(());
            }
            let length = self.number16(at + 2).ok_or(SHORT)?;
            let segment = self.0.get(at + 4..at + 2 + length.max(2)).ok_or(SHORT)?;
            match marker {
                // COD, for all components: whether precincts are given, order, layers, transform,
                // then the style.
                0xff52 => {
                    let (&flags, rest) = segment.split_first().ok_or(SHORT)?;
                    let layers = rest.get(1..3).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])));
                    check(Style { flags, layers: layers.ok_or(SHORT)?, values: rest.get(4..).ok_or(SHORT)? })?;
                }
                // COC, for one component: its number (two bytes if there are many), whether
                // precincts are given, then the style.
                0xff53 => {
                    let rest = segment.get(if components < 257 { 1 } else { 2 }..).ok_or(SHORT)?;
                    let (&flags, values) = rest.split_first().ok_or(SHORT)?;
                    check(Style { flags, layers: 1, values })?;
                }
                _ => {}
            }
            at += 2 + length.max(2);
        }
    }
}

/// A coding style: levels, exponents of a code-block's sides, two more, and exponents of the
/// precincts' sides by resolution.
struct Style<'a> {
    flags: u8,
    layers: usize,
    values: &'a [u8],
}

/// * `most`: bytes for all parts.
fn check_style(style: Style, [columns, rows]: [usize; 2], most: usize) -> Result<(), Reason> {
    let &[levels, width, height, _, _, ..] = style.values else { return Err(SHORT) };
    if levels > 32 || width > 8 || height > 8 {
        return Err("damaged coding style");
    }
    let block = 1usize << (width + height + 4);
    let mut bytes = (columns * rows / block).saturating_mul(PART + LAYER * style.layers);
    if style.flags & 1 == 1 {
        for level in 0..=levels {
            let exponents = style.values.get(5 + usize::from(level)).ok_or(SHORT)?;
            let count = |side: usize, exponent: u8| {
                let reduced = side.div_ceil(1usize << (levels - level).min(31));
                reduced.div_ceil(1 << exponent)
            };
            bytes = bytes.saturating_add(count(columns, exponents & 15) * count(rows, exponents >> 4) * PART);
        }
    }
    if bytes > most { Err(MANY) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::jpeg_2000;
    use super::*;
    use proptest::prelude::*;

    /// A picture of 4096×4096 pixels, tiles of a size, a style in the main header and one in that
    /// of its first tile.
    fn stream(tile: u32, main: &[u8], first: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0];
        [4096, 4096, 0, 0, tile, tile, 0, 0].iter().for_each(|number: &u32| bytes.extend(number.to_be_bytes()));
        bytes.extend([0, 1, 7, 1, 1]);
        let style = |style: &[u8]| [&[0xff, 0x52, 0, style.len() as u8 + 2][..], style].concat();
        bytes.extend(style(main));
        let part = [&[0xff, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1][..], &style(first), &[0xff, 0x93]].concat();
        [bytes, part].concat()
    }

    /// The main header and that of the first tile, which follows.
    fn checked(stream: &[u8], size: [usize; 2]) -> Result<(), Reason> {
        check(stream, 2, size)?;
        let tile = stream.windows(2).rposition(|marker| marker == [0xff, 0x90]);
        tile.map_or(Ok(()), |at| check(stream, at, size))
    }

    #[test]
    fn a_picture_is_cut_into_pieces_of_a_sound_size() {
        let usual = [0, 0, 0, 1, 0, 5, 4, 4, 0, 1];
        let precincts = [1, 0, 0, 1, 0, 5, 4, 4, 0, 1, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        assert_eq!(checked(&stream(4096, &usual, &usual), [4096, 4096]), Ok(()));
        assert_eq!(checked(&stream(128, &precincts, &usual), [4096, 4096]), Ok(()));
        let small_blocks = [0, 0, 0, 1, 0, 5, 0, 0, 0, 1];
        let many_layers = [0, 0, 0xff, 0xff, 0, 5, 1, 1, 0, 1];
        let small_precincts = [1, 0, 0, 1, 0, 5, 4, 4, 0, 1, 0x88, 0x88, 0x88, 0x88, 0x88, 0];
        for style in [&small_blocks[..], &many_layers, &small_precincts] {
            assert_eq!(checked(&stream(4096, style, &usual), [4096, 4096]), Err(MANY));
            assert_eq!(checked(&stream(4096, &usual, style), [4096, 4096]), Err(MANY));
        }
        let tiles = jpeg_2000::end(&stream(8, &usual, &usual), [4096, 4096]).unwrap_err().to_string();
        assert!(tiles.contains("impossible number of tiles"), "{tiles}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tile in any::<u32>(), main in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..200) {
            let mut bytes = stream(tile, &main, &main);
            bytes.truncate(cut);
            let _ = checked(&bytes, [60_000, 3_000]);
        }
    }
}
