//! The segments before the entropy-coded data of a baseline JPEG (ITU-T T.81, annex B).

use super::Stop;
use super::huffman::{CodeTable, TableClass, Tables};
use crate::error::check_size;

/// A file that can be decoded here.
pub struct Header {
    pub width: usize,
    pub height: usize,
    /// Luma first, then chroma where there is any.
    pub components: Vec<Component>,
    pub mcu_columns: usize,
    pub mcu_rows: usize,
    /// Units between two restart markers; 0 without any.
    pub restart_interval: usize,
    /// Position at which the entropy-coded data begin.
    pub data: usize,
}

/// One component: its blocks in a unit, and its tables.
pub struct Component {
    pub horizontal: usize,
    pub vertical: usize,
    pub tables: Tables,
}

/// A component as the frame declares it.
struct Declared {
    id: u8,
    horizontal: usize,
    vertical: usize,
    quantisation: usize,
}

struct Frame {
    width: usize,
    height: usize,
    components: Vec<Declared>,
}

const TRUNCATED: Stop = Stop::truncated("truncated JPEG: the file ends in its header");
pub(super) const MALFORMED: Stop = Stop::damaged("damaged JPEG: a header segment is malformed");

/// Reads everything up to the scan.
pub fn parse(bytes: &[u8]) -> Result<Header, Stop> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Err(Stop::NotServed);
    }
    let mut quantisation: [Option<[f32; 64]>; 4] = [None; 4];
    let mut codes: [[Option<CodeTable>; 4]; 2] = Default::default();
    let mut frame: Option<Frame> = None;
    let mut restart_interval = 0;
    let mut at = 2;
    loop {
        let (&mark, &marker) = (bytes.get(at).ok_or(TRUNCATED)?, bytes.get(at + 1).ok_or(TRUNCATED)?);
        if mark != 0xff {
            return Err(MALFORMED);
        }
        if marker == 0xff {
            at += 1; // fill byte
            continue;
        }
        let length = bytes.get(at + 2..at + 4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let end = at + 2 + length.ok_or(TRUNCATED)?;
        let segment = bytes.get(at + 4..end).ok_or(TRUNCATED)?;
        match marker {
            0xc0 | 0xc1 if frame.is_none() => frame = Some(read_frame(segment)?),
            0xc4 => read_codes(segment, &mut codes)?,
            0xdb => read_quantisation(segment, &mut quantisation)?,
            0xdd => {
                let [high, low] = *segment.first_chunk::<2>().ok_or(MALFORMED)?;
                restart_interval = usize::from(u16::from_be_bytes([high, low]));
            }
            // Without the YCbCr transform the first component is not luma.
            0xee if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return Err(Stop::NotServed),
            0xe0..=0xef | 0xfe => {}
            0xda => {
                let frame = frame.ok_or(Stop::damaged("damaged JPEG: a scan without a frame"))?;
                return scan(segment, frame, &quantisation, &codes, restart_interval, end);
            }
            // Progressive, arithmetic, hierarchical and lossless files, and a second frame.
            0xc0..=0xcf | 0xdc | 0xde | 0xdf => return Err(Stop::NotServed),
            _ => return Err(MALFORMED),
        }
        at = end;
    }
}

fn read_frame(segment: &[u8]) -> Result<Frame, Stop> {
    let [precision, h1, h0, w1, w0, count] = *segment.first_chunk::<6>().ok_or(MALFORMED)?;
    let (height, width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
    if precision != 8 || !matches!(count, 1 | 3) || height == 0 {
        return Err(Stop::NotServed);
    }
    check_size(width, height).map_err(|_| Stop::NotServed)?; // the full decoder reports why
    let declared = segment[6..].chunks_exact(3).map(|part| Declared {
        id: part[0],
        horizontal: usize::from(part[1] >> 4),
        vertical: usize::from(part[1] & 15),
        quantisation: usize::from(part[2]),
    });
    let components: Vec<Declared> = declared.collect();
    let sampled = |c: &Declared| (1..=4).contains(&c.horizontal) && (1..=4).contains(&c.vertical) && c.quantisation < 4;
    if components.len() != usize::from(count) || !components.iter().all(sampled) {
        return Err(MALFORMED);
    }
    let first = &components[0];
    let luma_is_whole =
        components.iter().all(|other| other.horizontal <= first.horizontal && other.vertical <= first.vertical);
    let is_rgb = count == 3 && components.iter().map(|component| component.id).eq(*b"RGB");
    if !luma_is_whole || is_rgb {
        return Err(Stop::NotServed);
    }
    Ok(Frame { width, height, components })
}

/// Sums of quantisation steps stay small, so that values fit `f32` exactly.
pub(super) fn read_quantisation(mut segment: &[u8], tables: &mut [Option<[f32; 64]>; 4]) -> Result<(), Stop> {
    while let Some((&kind, rest)) = segment.split_first() {
        let (wide, id) = (kind >> 4 == 1, usize::from(kind & 15));
        let length = if wide { 128 } else { 64 };
        if kind >> 4 > 1 || id > 3 || rest.len() < length {
            return Err(MALFORMED);
        }
        let step = |n: usize| match wide {
            true => f32::from(u16::from_be_bytes([rest[2 * n], rest[2 * n + 1]])),
            false => f32::from(rest[n]),
        };
        let mut table = [0.0; 64];
        (0..64).for_each(|n| table[n] = step(n));
        tables[id] = Some(table);
        segment = &rest[length..];
    }
    Ok(())
}

pub(super) fn read_codes(mut segment: &[u8], tables: &mut [[Option<CodeTable>; 4]; 2]) -> Result<(), Stop> {
    while !segment.is_empty() {
        let (&kind, rest) = segment.split_first().ok_or(MALFORMED)?;
        let counts = rest.first_chunk::<16>().ok_or(MALFORMED)?;
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let symbols = rest.get(16..16 + total).ok_or(MALFORMED)?;
        let (class, id) = (usize::from(kind >> 4), usize::from(kind & 15));
        if class > 1 || id > 3 {
            return Err(MALFORMED);
        }
        let kind = if class == 0 { TableClass::Dc } else { TableClass::Ac };
        let table =
            CodeTable::new(counts, symbols, kind).ok_or(Stop::damaged("damaged JPEG: an impossible code table"))?;
        tables[class][id] = Some(table);
        segment = &rest[16 + total..];
    }
    Ok(())
}

fn scan(
    segment: &[u8],
    frame: Frame,
    quantisation: &[Option<[f32; 64]>; 4],
    codes: &[[Option<CodeTable>; 4]; 2],
    restart_interval: usize,
    data: usize,
) -> Result<Header, Stop> {
    let count = frame.components.len();
    if segment.len() != 4 + 2 * count || usize::from(segment[0]) != count {
        return Err(Stop::NotServed); // components in separate scans
    }
    if segment[1 + 2 * count..] != [0, 63, 0] {
        return Err(MALFORMED);
    }
    let missing = || Stop::damaged("damaged JPEG: a table is missing");
    let mut components = Vec::with_capacity(count);
    for (declared, selected) in frame.components.iter().zip(segment[1..].chunks_exact(2)) {
        if declared.id != selected[0] {
            return Err(Stop::NotServed);
        }
        let code = |class: usize, id: u8| codes[class].get(usize::from(id)).and_then(Option::as_ref).cloned();
        let tables = Tables {
            dc: code(0, selected[1] >> 4).ok_or_else(missing)?,
            ac: code(1, selected[1] & 15).ok_or_else(missing)?,
            steps: quantisation[declared.quantisation].ok_or_else(missing)?,
        };
        components.push(Component { horizontal: declared.horizontal, vertical: declared.vertical, tables });
    }
    // A lone component is not interleaved: its unit is one block, whatever sampling it declares.
    if let [only] = components.as_mut_slice() {
        (only.horizontal, only.vertical) = (1, 1);
    }
    let (across, down) = (8 * components[0].horizontal, 8 * components[0].vertical);
    Ok(Header {
        width: frame.width,
        height: frame.height,
        mcu_columns: frame.width.div_ceil(across),
        mcu_rows: frame.height.div_ceil(down),
        components,
        restart_interval,
        data,
    })
}
