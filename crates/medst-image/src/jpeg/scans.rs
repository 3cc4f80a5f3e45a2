//! The markers and scans of a JPEG file (ITU-T T.81, annexes B, F and G), sequential or
//! progressive.
//!
//! Every marker must be in its place and every coded block there: what a damaged file lacks must
//! not pass for a radiograph, and an end marker proves nothing, for programs that save a part of a
//! transfer write one.

use super::Stop;
use super::band::{Band, Target};
use super::frame::Frame;
use super::header::{MALFORMED, read_codes, read_quantisation};
use super::huffman::{Bits, CodeTable, ZIGZAG};
use crate::{ImageError, cancel};

/// Largest number of scans in a file. Progressive files have about ten. Each scan takes time for
/// the whole picture, however few bytes it has, so that a hundred kilobytes of scans would keep a
/// processor busy for minutes.
const MOST_SCANS: usize = 64;
const NO_END: Stop = Stop::truncated("truncated JPEG: the end-of-image marker is missing");

/// Reads a JPEG file up to its end-of-image marker.
///
/// * `wanted`: how many components make the grey, from the first on.
///
/// # Errors
/// Names what is missing or out of place, and where, or an unsupported coding process.
pub fn read(bytes: &[u8], wanted: usize) -> Result<Frame, Stop> {
    let mut markers = Markers { wanted, ..Markers::default() };
    markers.walk(bytes)?;
    markers.frame.ok_or(MALFORMED)
}

/// The definitions in the markers so far.
#[derive(Default)]
struct Markers {
    codes: [[Option<CodeTable>; 4]; 2],
    /// Row by row.
    quantisation: [Option<[u16; 64]>; 4],
    frame: Option<Frame>,
    restart_interval: usize,
    wanted: usize,
}

impl Markers {
    fn walk(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut at = 2;
        loop {
            let Segment { marker, data: segment, end } = Segment::read(bytes, at)?;
            at = end;
            match marker {
                0xd9 => return self.end(),
                0xc0..=0xc2 if self.frame.is_none() => self.frame = Some(Frame::read(marker, segment, self.wanted)?),
                0xc4 => read_codes(segment, &mut self.codes)?,
                0xdb => {
                    let mut tables = [None; 4];
                    read_quantisation(segment, &mut tables)?;
                    for (known, table) in self.quantisation.iter_mut().zip(tables) {
                        *known = table.map(by_rows).or(*known);
                    }
                }
                0xdd => {
                    let [high, low] = *segment.first_chunk::<2>().ok_or(MALFORMED)?;
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xda if self.frame.as_ref().is_some_and(|frame| frame.scans == MOST_SCANS) => {
                    let message = format!("JPEG with more than {MOST_SCANS} scans is not supported");
                    return Err(Stop::Refused(ImageError::unsupported(message)));
                }
                0xda => at = self.scan(bytes, segment, at)?,
                0xc3 | 0xcb => return Err(Stop::unsupported("lossless JPEG is not supported outside of DICOM")),
                0xc9 | 0xca => return Err(Stop::unsupported("arithmetic-coded JPEG is not supported")),
                0xc5..=0xcf | 0xde | 0xdf => return Err(Stop::unsupported("hierarchical JPEG is not supported")),
                0xc0..=0xc2 => return Err(Stop::damaged("damaged JPEG: a second frame")),
                _ => {}
            }
        }
    }

    /// At the end marker: the components that make the grey must be there to the last bit, the
    /// others at all.
    fn end(&self) -> Result<(), Stop> {
        let components = self.frame.as_ref().map(|frame| frame.components.as_slice()).unwrap_or_default();
        let is_whole = components.iter().take(self.wanted).all(|component| component.complete == u64::MAX);
        match !components.is_empty() && is_whole && components.iter().all(|component| component.complete & 1 == 1) {
            true => Ok(()),
            false => Err(Stop::truncated("truncated JPEG: the end-of-image marker comes before all scans")),
        }
    }

    /// Reads a scan; returns where the marker after it begins.
    fn scan(&mut self, bytes: &[u8], segment: &[u8], start: usize) -> Result<usize, Stop> {
        let frame = self.frame.as_mut().ok_or(Stop::damaged("damaged JPEG: a scan without a frame"))?;
        frame.scans += 1;
        let count = usize::from(*segment.first().ok_or(MALFORMED)?);
        if !(1..=4).contains(&count) || segment.len() != 4 + 2 * count {
            return Err(MALFORMED);
        }
        let (selected, parameters) = segment[1..].split_at(2 * count);
        let band = if frame.progressive { Band::of(parameters)? } else { Band::ALL };
        if band.first > 0 && count > 1 {
            return Err(MALFORMED);
        }
        let mut members = Vec::with_capacity(count);
        for pair in selected.chunks_exact(2) {
            let component_index =
                frame.components.iter().position(|component| component.id == pair[0]).ok_or(MALFORMED)?;
            let table = |class: usize, id: u8| self.codes[class].get(usize::from(id)).and_then(Option::as_ref);
            let (dc, ac) = (table(0, pair[1] >> 4), table(1, pair[1] & 15));
            let needs = [band.first == 0 && !band.refines, band.last > 0];
            if (needs[0] && dc.is_none()) || (needs[1] && ac.is_none()) {
                return Err(Stop::damaged("damaged JPEG: a table is missing"));
            }
            let component = &mut frame.components[component_index];
            let steps = self.quantisation.get(usize::from(component.quantisation)).copied().flatten();
            component.steps = component.steps.or(steps);
            members.push((component_index, [dc, ac], 0));
        }
        let (columns, rows) = match *members {
            // A lone component is not interleaved: its unit is one block, and there are only as
            // many as its pixels need.
            [(component_index, ..)] => frame.blocks(&frame.components[component_index]),
            _ => frame.units(),
        };
        let mut bits = Bits::new(bytes, start);
        let (mut run, mut restarts) = (0u32, 0u8);
        for unit in 0..columns * rows {
            if self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0 {
                bits.restart(restarts)?;
                restarts = (restarts + 1) & 7;
                run = 0;
                members.iter_mut().for_each(|(.., prediction)| *prediction = 0);
            }
            let (x, y) = (unit % columns, unit / columns);
            if x == 0 {
                cancel::check().map_err(Stop::Refused)?;
            }
            for (component_index, tables, prediction) in &mut members {
                let component = &mut frame.components[*component_index];
                let (across, down) = if count == 1 { (1, 1) } else { (component.horizontal, component.vertical) };
                for block in 0..across * down {
                    let index = (y * down + block / across) * component.stride + x * across + block % across;
                    let mut none = 0;
                    let known = component.known.get_mut(index).unwrap_or(&mut none);
                    let mut target = Target { block: component.blocks.get_mut(index), known };
                    band.read(&mut bits, *tables, prediction, &mut run, &mut target)?;
                }
            }
            bits.check()?;
        }
        if band.low == 0 {
            let coefficients = (u64::MAX >> (63 - band.last)) & (u64::MAX << band.first);
            members
                .iter()
                .for_each(|&(component_index, ..)| frame.components[component_index].complete |= coefficients);
        }
        Ok(bits.next_marker())
    }
}

/// Width and height that a JPEG file of any kind declares.
///
/// # Errors
/// Names what is out of place before the frame; a missing frame.
pub fn size(bytes: &[u8]) -> Result<[usize; 2], Stop> {
    let mut at = 2;
    loop {
        let Segment { marker, data, end } = Segment::read(bytes, at)?;
        at = end;
        match marker {
            // Huffman tables, extensions and arithmetic conditions share the range of the frames.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                let &[_, h1, h0, w1, w0] = data.first_chunk().ok_or(MALFORMED)?;
                return Ok([[w1, w0], [h1, h0]].map(|size| usize::from(u16::from_be_bytes(size))));
            }
            0xd9 | 0xda => return Err(Stop::damaged("damaged JPEG: it has no size")),
            _ => {}
        }
    }
}

/// A marker with its parameters.
struct Segment<'a> {
    marker: u8,
    data: &'a [u8],
    end: usize,
}

impl Segment<'_> {
    /// The segment that begins at `at`.
    fn read(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, Stop> {
        let stray = bytes.get(at..).ok_or(NO_END)?.iter().take_while(|&&byte| byte != 0xff).count();
        if at + stray >= bytes.len() {
            return Err(NO_END);
        }
        if stray > 0 {
            let bytes = if stray == 1 { "byte" } else { "bytes" };
            let what = format!("damaged JPEG: {stray} stray {bytes} where a marker was expected, at byte {at}");
            return Err(Stop::Refused(ImageError::damaged(what)));
        }
        // Fill bytes.
        at += bytes[at..].iter().take_while(|&&byte| byte == 0xff).count() - 1;
        let marker = match *bytes.get(at + 1).ok_or(NO_END)? {
            0xd9 => return Ok(Segment { marker: 0xd9, data: &[], end: at + 2 }),
            0 | 1 | 0xd0..=0xd8 => return Err(MALFORMED),
            marker => marker,
        };
        let length = bytes.get(at + 2..at + 4).ok_or(NO_END)?;
        let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if end < at + 4 {
            return Err(MALFORMED);
        }
        let data = bytes.get(at + 4..end).ok_or(Stop::truncated("truncated JPEG: the file ends in its header"))?;
        Ok(Segment { marker, data, end })
    }
}

/// A quantisation table from zigzag order to rows.
fn by_rows(table: [f32; 64]) -> [u16; 64] {
    let mut rows = [0; 64];
    for (position, step) in ZIGZAG.into_iter().zip(table) {
        rows[usize::from(position)] = step as u16;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::{Untagged, decode};
    use super::*;

    #[test]
    fn scans_are_counted_outside_of_other_segments() {
        // 16×16 pixels, progressive; every table has a single code of one bit, for symbol 0.
        let segment = |marker: u8, data: &[u8]| [&[0xff, marker, 0, data.len() as u8 + 2], data].concat();
        let table = |kind: u8| segment(0xc4, &[&[kind, 1][..], &[0; 15], &[0]].concat());
        let quantisation = segment(0xdb, &[&[0][..], &[1; 64]].concat());
        let frame = segment(0xc2, &[8, 0, 16, 0, 16, 1, 1, 0x11, 0]);
        // An extension may embed another picture.
        let thumbnail = [&[0xff, 0xe1, 4, 2][..], &[0xff, 0xda].repeat(512)].concat();
        let scan = |first: u8, last: u8| [segment(0xda, &[1, 1, 0, first, last, 0]), vec![0x0f]].concat();
        let file = |count: usize| {
            let head = [&[0xff, 0xd8][..], &thumbnail, &quantisation, &frame, &table(0), &table(0x10)].concat();
            [head, scan(0, 0).repeat(count - 1), scan(1, 63), vec![0xff, 0xd9]].concat()
        };
        let read = |bytes: &[u8]| decode(bytes, Untagged::Ycbcr).map(|image| image.pixels);
        assert_eq!(read(&file(MOST_SCANS)), Ok(vec![128; 256]));
        assert!(read(&file(MOST_SCANS + 1)).unwrap_err().to_string().contains("more than 64 scans"));
        assert!(read(&[file(2), scan(0, 0).repeat(100)].concat()).is_ok(), "what follows the end is not read");
        for length in 0..file(2).len() {
            assert!(read(&file(2)[..length]).is_err());
        }
    }
}
