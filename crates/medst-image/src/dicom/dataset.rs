//! The elements of a data set, read in place (PS3.5, chapter 7).
//!
//! Values are slices of the file, and a sequence is not opened until one of its items is requested.
//! Reading therefore takes no more memory than the file has bytes, whatever lengths it declares.
//! Files do not always follow the transfer syntax that they name; see [`Encoding::settle`].

use std::borrow::Cow;
use std::cell::Cell;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::encoding::{Encoding, Head, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED};
use crate::ImageError;

/// Deeper nesting is refused: a radiograph has none of it, and it would exhaust the stack.
const DEEPEST: usize = 32;
/// Largest number of elements and items in a file, at any depth; a radiograph has a few hundred.
/// The limit is needed because an element can consist of a header only.
const MOST_ELEMENTS: usize = 1 << 17;
/// Bytes of all texts that may have several values, which are a backslash apart, and each of which
/// takes memory when they are read.
const MOST_TEXT: usize = 1 << 20;

/// Why a data set could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The data set continues after the bytes that were given, but not after the end of the file.
    Short,
    Refused(ImageError),
}

impl Stop {
    pub fn reason(self) -> ImageError {
        match self {
            Stop::Short => ImageError::truncated("truncated DICOM: its data set ends early"),
            Stop::Refused(reason) => reason,
        }
    }
}

fn damaged(what: impl Into<Cow<'static, str>>) -> Stop {
    Stop::Refused(ImageError::damaged(what))
}

fn out_of_place(at: usize) -> Stop {
    damaged(format!("damaged DICOM: an item or delimiter is out of place (byte {at} of the data set)"))
}

/// An element of a data set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub tag: Tag,
    /// The value representation in the file; UN if the file states none.
    pub vr: VR,
    /// The value. Of sequences and encapsulated pixels: items with their headers.
    pub value: &'a [u8],
    /// A value of undefined length, which consists of items.
    pub undefined: bool,
    /// Encoding of the element, and of its items unless they turn out to use another.
    pub encoding: Encoding,
}

/// A data set up to its pixels, these included.
#[derive(Clone, Debug)]
pub(super) struct DataSet<'a> {
    elements: Vec<Element<'a>>,
    /// Bytes that were read.
    pub end: usize,
}

impl<'a> DataSet<'a> {
    /// Reads the elements in front of the first that `until` holds for, and no further than the
    /// pixels.
    ///
    /// * `length`: bytes of the whole data set, of which `bytes` may be only the beginning.
    ///
    /// # Errors
    /// More is needed than is given; an element that is longer than the data set; items out of
    /// place; too many elements.
    pub fn read(
        bytes: &'a [u8],
        length: usize,
        encoding: Encoding,
        until: impl Fn(Tag) -> bool,
    ) -> Result<DataSet<'a>, Stop> {
        let walk = Walk { bytes, length, count: Cell::new(0) };
        let (mut elements, mut at, mut text) = (Vec::new(), 0, 0);
        while let Some(head) = Head::read(bytes, at, encoding) {
            if until(head.tag) {
                return Ok(DataSet { elements, end: at });
            }
            if head.tag.0 == 0xfffe {
                // The end of an item, or a delimiter that nothing was open for.
                if head.tag == ITEM || head.length != 0 {
                    return Err(out_of_place(at));
                }
                at = head.value;
                continue;
            }
            let undefined = head.length == UNDEFINED;
            let inner = Walk::inner(&head, encoding);
            let pixels = head.tag == tags::PIXEL_DATA;
            let end = match undefined {
                // A file may end within its last fragments; their decoder finds out.
                true => walk.items(head.value, inner, pixels, 1)?,
                false => walk.end(&head, length)?,
            };
            let Some(value) = bytes.get(head.value..end) else {
                return Err(Stop::Short);
            };
            walk.count()?;
            let element = Element { tag: head.tag, vr: head.vr(), value, undefined, encoding: inner };
            if !undefined && element.type_of() == VR::SQ {
                walk.count_items(value, encoding)?;
            } else if element.may_have_texts() {
                text += value.len();
                if text > MOST_TEXT {
                    return Err(damaged(format!(
                        "damaged DICOM: more than {MOST_TEXT} bytes of short texts, such as element {}",
                        head.tag
                    )));
                }
            }
            elements.push(element);
            at = end;
            if pixels {
                return Ok(DataSet { elements, end });
            }
        }
        if bytes.len() < length { Err(Stop::Short) } else { Ok(DataSet { elements, end: at }) }
    }

    /// The element of a tag; the last where a file has several. Empty ones count as missing.
    pub fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.iter().rev().find(|element| element.tag == tag).filter(|element| !element.value.is_empty())
    }

    /// The items of a sequence, as far as they can be read.
    pub fn items(&self, tag: Tag) -> impl Iterator<Item = DataSet<'a>> + use<'a> {
        let element = self.get(tag).copied();
        element.into_iter().flat_map(|element| {
            element.items().map_while(move |item| {
                let encoding = element.encoding.settle(item, item.len());
                DataSet::read(item, item.len(), encoding, |tag| tag == ITEM_END).ok()
            })
        })
    }
}

impl<'a> Element<'a> {
    /// The contents of the items: of a sequence, or the offset table and the fragments of
    /// encapsulated pixels.
    pub fn items(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (value, encoding) = (self.value, self.encoding);
        let walk = Walk { bytes: value, length: value.len(), count: Cell::new(0) };
        let mut at = 0;
        std::iter::from_fn(move || {
            let head = Head::read(value, at, encoding).filter(|head| head.tag == ITEM)?;
            at = walk.item(&head, encoding, false, 1).ok()?;
            value.get(head.value..at)
        })
    }
}

/// Passes over values of undefined length without keeping anything.
struct Walk<'a> {
    bytes: &'a [u8],
    /// Length of the whole data set; `bytes` may be only its beginning.
    length: usize,
    /// Number of elements and items so far.
    count: Cell<usize>,
}

impl Walk<'_> {
    /// Counts an element or item.
    fn count(&self) -> Result<(), Stop> {
        self.count.set(self.count.get() + 1);
        match self.count.get() > MOST_ELEMENTS {
            true => Err(damaged(format!("damaged DICOM: more than {MOST_ELEMENTS} elements and items"))),
            false => Ok(()),
        }
    }

    /// Counts the items of a sequence of defined length without looking into them.
    fn count_items(&self, value: &[u8], encoding: Encoding) -> Result<(), Stop> {
        let mut at = 0;
        while let Some(head) = Head::read(value, at, encoding).filter(|head| head.tag == ITEM) {
            self.count()?;
            if head.length == UNDEFINED {
                break;
            }
            at = head.value.saturating_add(head.length as usize);
        }
        Ok(())
    }

    /// The encoding of the items of an element.
    fn inner(head: &Head, encoding: Encoding) -> Encoding {
        // PS3.5, 6.2.2: unknown sequences of undefined length hold implicit little-endian elements.
        match head.named == Some(*b"UN") && head.length == UNDEFINED {
            true => Encoding::IMPLICIT,
            false => encoding,
        }
    }

    /// The end of a value of defined length.
    fn end(&self, head: &Head, limit: usize) -> Result<usize, Stop> {
        let end = head.value.checked_add(head.length as usize).filter(|&end| end <= limit);
        end.ok_or_else(|| {
            damaged(format!(
                "damaged DICOM: element {} declares {} bytes, which is more than what contains it; the file may be \
                 truncated",
                head.tag, head.length
            ))
        })
    }

    /// The end of the items that begin at `at`, their delimiter included.
    fn items(&self, mut at: usize, encoding: Encoding, fragments: bool, depth: usize) -> Result<usize, Stop> {
        if depth > DEEPEST {
            return Err(damaged("damaged DICOM: its sequences are nested too deeply"));
        }
        loop {
            let Some(head) = Head::read(self.bytes, at, encoding) else { return self.exhausted() };
            match head.tag {
                ITEM => at = self.item(&head, encoding, fragments, depth)?,
                SEQUENCE_END if head.length == 0 => return Ok(head.value),
                _ => return Err(out_of_place(at)),
            }
        }
    }

    /// The end of an item.
    fn item(&self, head: &Head, encoding: Encoding, fragment: bool, depth: usize) -> Result<usize, Stop> {
        self.count()?;
        if head.length != UNDEFINED {
            return self.end(head, self.length);
        }
        if fragment {
            return Err(out_of_place(head.value));
        }
        let mut at = head.value;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let encoding = encoding.settle(rest, self.length.saturating_sub(at));
        loop {
            let Some(head) = Head::read(self.bytes, at, encoding) else { return self.exhausted() };
            if head.tag.0 == 0xfffe {
                return if head.tag == ITEM_END { Ok(head.value) } else { Err(out_of_place(at)) };
            }
            self.count()?;
            at = match head.length {
                UNDEFINED => {
                    let fragments = head.tag == tags::PIXEL_DATA;
                    self.items(head.value, Walk::inner(&head, encoding), fragments, depth + 1)?
                }
                _ => self.end(&head, self.length)?,
            };
        }
    }

    /// The bytes end within items.
    fn exhausted(&self) -> Result<usize, Stop> {
        if self.bytes.len() < self.length { Err(Stop::Short) } else { Ok(self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_items_and_values_are_counted() {
        // (0008,1140) SQ with empty items; empty elements; (0008,0008) UC of backslashes.
        let items = |items: usize| [0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0].repeat(items);
        let sequence = |count: usize| {
            let length = (8 * count as u32).to_le_bytes();
            [&[0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0][..], &length, &items(count)].concat()
        };
        let open = |count: usize| {
            let end = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
            [&[0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0][..], &[0xff; 4], &items(count), &end].concat()
        };
        let elements = |count: usize| [0x09, 0, 0x10, 0x10, b'L', b'O', 0, 0].repeat(count);
        let text = |vr: &[u8; 2], bytes: usize| {
            [&[0x08, 0, 0x08, 0][..], vr, &[0, 0], &(bytes as u32).to_le_bytes(), &vec![b'\\'; bytes]].concat()
        };
        let read = |bytes: &[u8]| DataSet::read(bytes, bytes.len(), Encoding::EXPLICIT, |_| false).map(|set| set.end);
        let most = [sequence(30_000), open(30_000), elements(60_000), text(b"UC", 1 << 19), text(b"UT", 1 << 19)];
        assert_eq!(read(&most.concat()), Ok(most.concat().len()));
        for (data, expected) in [
            (sequence(1 << 17), "elements and items"),
            (open(1 << 17), "elements and items"),
            (elements((1 << 17) + 1), "elements and items"),
            (text(b"UC", (1 << 20) + 2), "short texts"),
            (text(b"UN", (1 << 20) + 2), "short texts"),
            (text(b"UT", 1 << 18).repeat(5), "short texts"),
        ] {
            let error = read(&data).unwrap_err().reason().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
