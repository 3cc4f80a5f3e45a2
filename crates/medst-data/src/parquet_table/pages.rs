//! Pages whose declared counts are possible: the decoders of `parquet` take the memory that a page
//! asks for before they look at its bytes.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

/// Most elements of lists in a page: so many, and so many per byte. Equal values take no room, but
/// every list begins with another level.
const ELEMENTS: usize = 1 << 20;
const ELEMENTS_PER_BYTE: usize = 1 << 14;
/// Most lengths of texts that one byte can encode, where all are equal.
const LENGTHS_PER_BYTE: usize = 1 << 10;

/// The pages of a leaf in a row group; a page that asks for too much is an error.
pub struct Checked {
    pub pages: Box<dyn PageReader>,
    pub leaf: ColumnDescPtr,
}

impl Iterator for Checked {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        match page.as_ref().is_none_or(|page| is_possible(page, &self.leaf)) {
            true => Ok(page),
            false => Err(ParquetError::General("a page declares more values than it can hold".into())),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

fn is_possible(page: &Page, leaf: &ColumnDescPtr) -> bool {
    let (values, size) = (page.num_values() as usize, page.buffer().len());
    if !page.is_data_page() {
        // Every value takes a byte, and texts take four.
        return values <= size;
    }
    if leaf.max_rep_level() > 0 && values > ELEMENTS.saturating_add(size.saturating_mul(ELEMENTS_PER_BYTE)) {
        return false;
    }
    let streams = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return true,
    };
    let mut bytes = values_of(page, leaf);
    let most = size.saturating_mul(LENGTHS_PER_BYTE).min(values);
    (0..streams).all(|_| {
        let stream = bytes.and_then(skip_integers);
        bytes = stream.map(|(_, rest)| rest);
        stream.is_some_and(|(count, _)| count <= most as u64)
    })
}

/// The bytes of a data page behind its levels.
fn values_of<'a>(page: &'a Page, leaf: &ColumnDescPtr) -> Option<&'a [u8]> {
    let bytes: &[u8] = page.buffer();
    match page {
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            bytes.get(*def_levels_byte_len as usize + *rep_levels_byte_len as usize..)
        }
        _ => [leaf.max_rep_level(), leaf.max_def_level()].iter().filter(|&&level| level > 0).try_fold(
            bytes,
            |bytes, _| {
                let (length, rest) = bytes.split_first_chunk()?;
                rest.get(u32::from_le_bytes(*length) as usize..)
            },
        ),
    }
}

/// The number of integers in a stream of the encoding `DELTA_BINARY_PACKED`, and what follows it.
fn skip_integers(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let block = number(&mut bytes)?;
    let parts = number(&mut bytes)?;
    let count = number(&mut bytes)?;
    number(&mut bytes)?;
    let part = block.checked_div(parts).filter(|&part| part > 0)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        number(&mut bytes)?;
        let (widths, mut rest) = bytes.split_at_checked(usize::try_from(parts).ok()?)?;
        for &width in widths.iter().take(usize::try_from(left.div_ceil(part)).ok()?) {
            let length = usize::try_from(part.checked_mul(u64::from(width))? / 8).ok()?;
            rest = rest.get(length..)?;
        }
        bytes = rest;
        left = left.saturating_sub(block);
    }
    Some((count, bytes))
}

/// Takes a number of seven bits per byte from the front.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Type as Physical;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};

    use super::*;

    /// * `levels`: definition and repetition.
    fn leaf(levels: [i16; 2]) -> ColumnDescPtr {
        let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY).build().unwrap();
        Arc::new(ColumnDescriptor::new(Arc::new(text), levels[0], levels[1], ColumnPath::from("text")))
    }

    fn data(bytes: &[u8], num_values: u32, encoding: Encoding) -> Page {
        Page::DataPage {
            buf: bytes.to_vec().into(),
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    #[test]
    fn dictionaries_hold_no_more_values_than_bytes() {
        for (num_values, expected) in [(8, true), (9, false), (u32::MAX, false)] {
            let buf = vec![0; 8].into();
            let page = Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, is_sorted: false };
            assert_eq!(is_possible(&page, &leaf([0, 0])), expected);
        }
    }

    #[test]
    fn lists_hold_no_more_elements_than_can_be_told_apart() {
        let page = |num_values| data(&[0; 100], num_values, Encoding::PLAIN);
        assert!(is_possible(&page(2_000_000), &leaf([2, 1])));
        assert!(!is_possible(&page(3_000_000), &leaf([2, 1])));
        assert!(is_possible(&page(3_000_000), &leaf([1, 0])));
    }

    #[test]
    fn lengths_of_texts_are_counted_where_they_are_stored() {
        // Blocks of 128 values in 4 parts, so many values from 1; each block begins with the
        // smallest step and the bits of each part, of which only the first is used.
        let stream = |count: [u8; 2]| {
            let header = [0x80, 0x01, 4, count[0], count[1], 2];
            let block = [0, 2, 9, 9, 9];
            [&header[..], &block, &[0x55; 8]].concat()
        };
        let (honest, absurd) = (stream([0x83, 0x00]), [&[0x80, 0x01, 4], &[0xff; 8][..], &[1, 2]].concat());
        assert_eq!(skip_integers(&[&honest[..], b"text"].concat()), Some((3, &b"text"[..])));
        assert_eq!(skip_integers(&honest[..10]), None);
        assert_eq!(skip_integers(&absurd), None);
        let levels = [&[2, 0, 0, 0, 6, 1][..], &honest].concat();
        let both = [&honest[..], &honest].concat();
        let mixed = [&honest[..], &absurd].concat();
        for (bytes, values, encoding, levels, expected) in [
            (&honest, 3, Encoding::DELTA_LENGTH_BYTE_ARRAY, [0, 0], true),
            (&honest, 2, Encoding::DELTA_LENGTH_BYTE_ARRAY, [0, 0], false),
            (&levels, 3, Encoding::DELTA_LENGTH_BYTE_ARRAY, [1, 0], true),
            (&levels, 3, Encoding::DELTA_LENGTH_BYTE_ARRAY, [0, 0], false),
            (&both, 3, Encoding::DELTA_BYTE_ARRAY, [0, 0], true),
            (&honest, 3, Encoding::DELTA_BYTE_ARRAY, [0, 0], false),
            (&mixed, 3, Encoding::DELTA_BYTE_ARRAY, [0, 0], false),
            (&absurd, 3, Encoding::DELTA_BINARY_PACKED, [0, 0], true),
        ] {
            assert_eq!(is_possible(&data(bytes, values, encoding), &leaf(levels)), expected, "{encoding} {values}");
        }
    }
}
