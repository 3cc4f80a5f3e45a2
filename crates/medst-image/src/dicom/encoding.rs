//! The encoding of a data set: byte order, and whether elements name their types.

use dicom_core::{Tag, VR};

/// Elements that [`Encoding::settle`] looks at.
const PROBED: usize = 4;
pub(super) const UNDEFINED: u32 = u32::MAX;
pub(super) const ITEM: Tag = Tag(0xfffe, 0xe000);
pub(super) const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
pub(super) const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);

/// How the elements of a data set are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Elements name their value representation.
    pub explicit: bool,
    pub big_endian: bool,
}

impl Encoding {
    pub const EXPLICIT: Encoding = Encoding { explicit: true, big_endian: false };
    pub const IMPLICIT: Encoding = Encoding { explicit: false, big_endian: false };
    const BIG_ENDIAN: Encoding = Encoding { explicit: true, big_endian: true };

    /// The encoding that a data set really has: the expected one, unless the first elements cannot
    /// be read by it and can be by another.
    ///
    /// * `length`: bytes of the whole data set, of which `bytes` may be only the beginning.
    pub fn settle(self, bytes: &[u8], length: usize) -> Encoding {
        let candidates = [self, Encoding::EXPLICIT, Encoding::IMPLICIT, Encoding::BIG_ENDIAN];
        candidates.into_iter().find(|encoding| encoding.fits(bytes, length)).unwrap_or(self)
    }

    /// Whether the first elements have ascending tags, known value representations and lengths
    /// within the data set.
    pub fn fits(self, bytes: &[u8], length: usize) -> bool {
        let (mut at, mut last) = (0, None);
        for _ in 0..PROBED {
            let Some(head) = Head::read(bytes, at, self) else { return at >= length || bytes.len() < length };
            if matches!(head.tag, ITEM_END | SEQUENCE_END) {
                return at > 0 || head.length == 0;
            }
            let named = !self.explicit || head.named.is_some_and(|code| VR::from_binary(code).is_some());
            let fits = head.length == UNDEFINED || head.value.saturating_add(head.length as usize) <= length;
            if !named || !fits || last.is_some_and(|last| head.tag <= last) {
                return false;
            }
            if head.length == UNDEFINED {
                return true;
            }
            last = Some(head.tag);
            at = head.value + head.length as usize;
        }
        true
    }

    /// The length that the element at a place declares.
    pub fn length_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        Head::read(bytes, at, self).map(|head| head.length)
    }

    pub fn number16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn number32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

/// The header of an element, which precedes its value.
pub(super) struct Head {
    pub tag: Tag,
    /// The two letters of the value representation, where the element names it.
    pub named: Option<[u8; 2]>,
    pub length: u32,
    /// Position of the value.
    pub value: usize,
}

impl Head {
    /// `None` where the bytes end before.
    pub fn read(bytes: &[u8], at: usize, encoding: Encoding) -> Option<Head> {
        let tag = Tag(encoding.number16(bytes, at)?, encoding.number16(bytes, at + 2)?);
        let implicit = |named| Some(Head { tag, named, length: encoding.number32(bytes, at + 4)?, value: at + 8 });
        let code = *bytes.get(at + 4..)?.first_chunk::<2>()?;
        // Some writers switch to the implicit form for elements whose type they do not know.
        if tag.0 == 0xfffe || !encoding.explicit || !code.iter().all(u8::is_ascii_uppercase) {
            return implicit(None);
        }
        if SHORT.contains(&&code) {
            let length = u32::from(encoding.number16(bytes, at + 6)?);
            return Some(Head { tag, named: Some(code), length, value: at + 8 });
        }
        Some(Head { tag, named: Some(code), length: encoding.number32(bytes, at + 8)?, value: at + 12 })
    }

    pub fn vr(&self) -> VR {
        self.named.and_then(VR::from_binary).unwrap_or(VR::UN)
    }
}

/// Value representations with lengths of 16 bits (PS3.5, 7.1.2). Those that this program does not
/// know have the long form.
const SHORT: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
];
