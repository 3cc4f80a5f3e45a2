//! Lossless JPEG of one component (ISO 10918-1, annex H; processes 14 and 14 SV1 of DICOM).
//!
//! Implemented here because the only available decoder ignores restart markers with the predictor
//! that DICOM uses, and misreads the point transform; both would give a wrong picture without an
//! error.

use super::bits::{Bits, Stuffing};
use super::jpeg_stream::{FRAME_LOSSLESS, Frame, HUFFMAN_TABLES, RESTART_INTERVAL, START_OF_SCAN, segments};
use crate::{ImageError, cancel};

/// Decodes a stream whose frame (size already checked) is `frame`.
pub(super) fn decode(stream: &[u8], frame: Frame) -> Result<Vec<u16>, ImageError> {
    if frame.marker != FRAME_LOSSLESS || frame.components != 1 || !(2..=16).contains(&frame.precision) {
        let Frame { marker, precision, components, .. } = frame;
        return Err(ImageError::unsupported(format!(
            "unsupported JPEG process {marker:#x} with {components} components of {precision} bits (only lossless \
             grey is supported)"
        )));
    }
    let mut tables: [Option<Vec<(u8, u8)>>; 4] = [const { None }; 4];
    let mut interval = 0;
    for segment in segments(stream) {
        match segment.marker {
            HUFFMAN_TABLES => read_tables(segment.data, &mut tables)?,
            RESTART_INTERVAL => {
                let &[high, low] = segment
                    .data
                    .first_chunk()
                    .ok_or_else(|| ImageError::damaged("damaged JPEG: invalid restart interval"))?;
                interval = usize::from(u16::from_be_bytes([high, low]));
            }
            START_OF_SCAN => {
                let &[1, _, table, predictor, _, transform] = segment.data else {
                    return Err(ImageError::damaged("damaged JPEG: its scan has several components"));
                };
                let table = tables.get(usize::from(table >> 4)).and_then(Option::as_ref);
                let table = table.ok_or_else(|| ImageError::damaged("damaged JPEG: a Huffman table is missing"))?;
                let transform = u32::from(transform & 15);
                if !(1..=7).contains(&predictor) || transform >= frame.precision || interval % frame.columns != 0 {
                    return Err(ImageError::damaged(
                        "damaged JPEG: impossible predictor, point transform or restart interval",
                    ));
                }
                let mut bits = Bits::new(segment.rest, Stuffing::Byte);
                let mut values = scan(&mut bits, table, frame, predictor, transform, interval / frame.columns)?;
                values.iter_mut().for_each(|value| *value <<= transform);
                return Ok(values);
            }
            _ => {}
        }
    }
    Err(ImageError::truncated("truncated JPEG: it has no scan"))
}

/// Tables of symbol and code length by the next 16 bits; a length of 0 means that no code matches.
fn read_tables(mut data: &[u8], tables: &mut [Option<Vec<(u8, u8)>>; 4]) -> Result<(), ImageError> {
    let damaged = || ImageError::damaged("damaged JPEG: invalid Huffman table");
    while let Some((&head, rest)) = data.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (symbols, rest) =
            rest.split_at_checked(counts.iter().map(|&n| usize::from(n)).sum()).ok_or_else(damaged)?;
        data = rest;
        let mut table = Vec::with_capacity(1 << 16);
        let mut symbols = symbols.iter();
        for (length, &count) in (1u8..).zip(counts) {
            for &symbol in symbols.by_ref().take(usize::from(count)) {
                table.resize(table.len() + (1 << (16 - length)), (symbol, length));
            }
        }
        if table.len() > 1 << 16 {
            return Err(damaged());
        }
        table.resize(1 << 16, (0, 0));
        *tables.get_mut(usize::from(head)).ok_or_else(damaged)? = Some(table);
    }
    Ok(())
}

fn scan(
    bits: &mut Bits,
    table: &[(u8, u8)],
    frame: Frame,
    predictor: u8,
    transform: u32,
    lines: usize,
) -> Result<Vec<u16>, ImageError> {
    let width = frame.columns;
    let mut values = vec![0u16; width * frame.rows];
    for y in 0..frame.rows {
        cancel::check()?;
        let restarted = lines > 0 && y > 0 && y % lines == 0;
        if restarted {
            bits.restart()?;
        }
        let (above, line) = values.split_at_mut(y * width);
        let above = if y == 0 || restarted { None } else { Some(&above[(y - 1) * width..]) };
        for x in 0..width {
            let prediction = match (x, above) {
                (0, None) => 1 << (frame.precision - transform - 1),
                (0, Some(above)) => i32::from(above[0]),
                (_, None) => i32::from(line[x - 1]),
                (_, Some(above)) => {
                    let (a, b, c) = (i32::from(line[x - 1]), i32::from(above[x]), i32::from(above[x - 1]));
                    match predictor {
                        1 => a,
                        2 => b,
                        3 => c,
                        4 => a + b - c,
                        5 => a + ((b - c) >> 1),
                        6 => b + ((a - c) >> 1),
                        _ => (a + b) >> 1,
                    }
                }
            };
            line[x] = (prediction + difference(bits, table)?) as u16; // modulo 2^16
        }
    }
    Ok(values)
}

fn difference(bits: &mut Bits, table: &[(u8, u8)]) -> Result<i32, ImageError> {
    let (size, length) = table[bits.peek16()];
    if length == 0 {
        return Err(ImageError::damaged("damaged JPEG: invalid code"));
    }
    bits.skip(u32::from(length))?;
    match size {
        0 => Ok(0),
        1..=15 => {
            let value = bits.take(u32::from(size))? as i32;
            Ok(if value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value })
        }
        16 => Ok(32768),
        _ => Err(ImageError::damaged("damaged JPEG: invalid difference")),
    }
}
