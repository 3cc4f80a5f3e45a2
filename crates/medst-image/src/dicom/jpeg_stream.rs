//! The marker segments that JPEG, lossless JPEG and JPEG-LS streams share (ISO 10918-1, B.1).

/// A marker with its parameters.
pub(super) struct Segment<'a> {
    pub marker: u8,
    pub data: &'a [u8],
    /// The rest of the stream, which is the coded picture where the segment is a start of scan.
    pub rest: &'a [u8],
}

pub(super) const START_OF_SCAN: u8 = 0xda;
pub(super) const RESTART_INTERVAL: u8 = 0xdd;
pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
pub(super) const FRAME_LOSSLESS: u8 = 0xc3;
pub(super) const FRAME_LS: u8 = 0xf7;
pub(super) const PRESET_LS: u8 = 0xf8;

/// The segments up to the first start of scan, that included.
pub(super) fn segments(stream: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = stream.strip_prefix(&[0xff, 0xd8]).unwrap_or_default();
    std::iter::from_fn(move || {
        while rest.starts_with(&[0xff, 0xff]) {
            rest = &rest[1..]; // fill bytes
        }
        let &[0xff, marker, high, low] = rest.first_chunk::<4>()? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let data = rest.get(4..2 + length)?;
        let after = &rest[2 + length..];
        rest = if marker == START_OF_SCAN { &[] } else { after };
        Some(Segment { marker, data, rest: after })
    })
}

/// The contents of a start-of-frame marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The process: the start-of-frame marker.
    pub marker: u8,
    pub precision: u32,
    pub rows: usize,
    pub columns: usize,
    pub components: usize,
}

impl Frame {
    /// Reads the first start of frame in a stream.
    pub fn of(stream: &[u8]) -> Option<Frame> {
        segments(stream).find_map(|segment| Frame::parse(&segment))
    }

    /// `None` where the segment does not start a frame.
    pub fn parse(segment: &Segment) -> Option<Frame> {
        let frame = matches!(segment.marker, 0xc0..=0xcf | FRAME_LS) && !matches!(segment.marker, 0xc4 | 0xc8 | 0xcc);
        let &[precision, y1, y0, x1, x0, components] = segment.data.first_chunk::<6>().filter(|_| frame)?;
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        Some(Frame {
            marker: segment.marker,
            precision: u32::from(precision),
            rows: size(y1, y0),
            columns: size(x1, x0),
            components: usize::from(components),
        })
    }
}
