//! Whether a JPEG file is whole: every marker in its place and every coded block there, without
//! making a picture of them.
//!
//! Decoders fill what a damaged file lacks with grey, which must not pass for a radiograph, and an
//! end marker proves nothing: programs that save a part of a transfer write one. So the entropy
//! code of every scan is read to its end, of sequential and progressive files alike (ITU-T T.81,
//! annexes B, F and G).

use super::Stop;
use super::header::{MALFORMED, read_codes};
use super::huffman::{Bits, CodeTable};
use crate::image::decode::check_size;

const NO_END: Stop = Stop::Damaged("truncated JPEG: the end-of-image marker is missing");

/// Checks a JPEG file up to its end-of-image marker. Coding processes that no decoder here knows
/// pass.
///
/// # Errors
/// A reason: what is missing, or out of place and where.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    match Markers::default().walk(bytes) {
        Ok(()) | Err(Stop::NotServed) => Ok(()),
        Err(Stop::Damaged(reason)) => Err(reason.into()),
        Err(Stop::Stray { count, at }) => {
            let bytes = if count == 1 { "byte" } else { "bytes" };
            Err(format!("damaged JPEG: {count} stray {bytes} where a marker was expected, at byte {at}"))
        }
    }
}

/// What the markers so far have said.
#[derive(Default)]
struct Markers {
    codes: [[Option<CodeTable>; 4]; 2],
    frame: Option<Frame>,
    restart_interval: usize,
}

struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
    /// Coefficients whose last bit has come, one bit each.
    complete: u64,
    /// Of progressive files, for every block the coefficients that are not zero so far, one bit
    /// each; the blocks of a row one after the other, `stride` of them.
    known: Vec<u64>,
    stride: usize,
}

/// The part of the coefficients that a scan brings.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    /// The lowest bits come with it.
    completes: bool,
    /// It makes known coefficients finer instead of bringing the first bits of others.
    refines: bool,
}

impl Markers {
    fn walk(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut at = 2;
        loop {
            let stray = bytes.get(at..).ok_or(NO_END)?.iter().take_while(|&&byte| byte != 0xff).count();
            if at + stray >= bytes.len() {
                return Err(NO_END);
            }
            if stray > 0 {
                return Err(Stop::Stray { count: stray, at });
            }
            let marker = match *bytes.get(at + 1).ok_or(NO_END)? {
                0xff => {
                    at += 1; // fill byte
                    continue;
                }
                0xd9 => return self.end(),
                0 | 1 | 0xd0..=0xd8 => return Err(MALFORMED),
                marker => marker,
            };
            let length = bytes.get(at + 2..at + 4).ok_or(NO_END)?;
            let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            let segment = bytes.get(at + 4..end).ok_or(match end < at + 4 {
                true => MALFORMED,
                false => Stop::Damaged("truncated JPEG: the file ends in its header"),
            })?;
            at = end;
            match marker {
                0xc0..=0xc2 if self.frame.is_none() => self.frame = Some(Frame::read(marker, segment)?),
                0xc4 => read_codes(segment, &mut self.codes)?,
                0xdd => {
                    let [high, low] = *segment.first_chunk::<2>().ok_or(MALFORMED)?;
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xda => at = self.scan(bytes, segment, at)?,
                // Arithmetic, hierarchical and lossless files.
                0xc0..=0xcf | 0xdc | 0xde | 0xdf => return Err(Stop::NotServed),
                _ => {}
            }
        }
    }

    /// At the end marker: the first component, which is the luma, must be there to the last bit,
    /// the others at all.
    fn end(&self) -> Result<(), Stop> {
        let components = self.frame.as_ref().map(|frame| frame.components.as_slice()).unwrap_or_default();
        let is_whole = components.first().is_some_and(|first| first.complete == u64::MAX);
        match is_whole && components.iter().all(|component| component.complete & 1 == 1) {
            true => Ok(()),
            false => Err(Stop::Damaged("truncated JPEG: the end-of-image marker comes before all scans")),
        }
    }

    /// Reads a scan; returns where the marker after it begins.
    fn scan(&mut self, bytes: &[u8], segment: &[u8], start: usize) -> Result<usize, Stop> {
        let frame = self.frame.as_mut().ok_or(Stop::Damaged("damaged JPEG: a scan without a frame"))?;
        let count = usize::from(*segment.first().ok_or(MALFORMED)?);
        if !(1..=4).contains(&count) || segment.len() != 4 + 2 * count {
            return Err(MALFORMED);
        }
        let (selected, parameters) = segment[1..].split_at(2 * count);
        let band = match frame.progressive {
            true => Band::of(parameters)?,
            false => Band { first: 0, last: 63, completes: true, refines: false },
        };
        if band.first > 0 && count > 1 {
            return Err(MALFORMED);
        }
        let mut members = Vec::with_capacity(count);
        for pair in selected.chunks_exact(2) {
            let place = frame.components.iter().position(|component| component.id == pair[0]).ok_or(MALFORMED)?;
            let table = |class: usize, place: u8| self.codes[class].get(usize::from(place)).and_then(Option::as_ref);
            let (dc, ac) = (table(0, pair[1] >> 4), table(1, pair[1] & 15));
            let needs = [band.first == 0 && !band.refines, band.last > 0];
            if (needs[0] && dc.is_none()) || (needs[1] && ac.is_none()) {
                return Err(Stop::Damaged("damaged JPEG: a table is missing"));
            }
            members.push((place, [dc, ac]));
        }
        let (columns, rows) = match *members {
            // A lone component is not interleaved: its unit is one block, and there are no more
            // than its pixels need.
            [(place, _)] => frame.blocks(place),
            _ => frame.units(),
        };
        let mut bits = Bits::new(bytes, start);
        let (mut run, mut restarts) = (0u32, 0u8);
        for unit in 0..columns * rows {
            if self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0 {
                bits.restart(restarts)?;
                restarts = (restarts + 1) & 7;
                run = 0;
            }
            let (x, y) = (unit % columns, unit / columns);
            for &(place, tables) in &members {
                let component = &mut frame.components[place];
                let (across, down) = if count == 1 { (1, 1) } else { (component.horizontal, component.vertical) };
                for block in 0..across * down {
                    let index = (y * down + block / across) * component.stride + x * across + block % across;
                    let known = component.known.get_mut(index);
                    band.block(&mut bits, tables, &mut run, known)?;
                }
            }
            bits.check()?;
        }
        if band.completes {
            let coefficients = (u64::MAX >> (63 - band.last)) & (u64::MAX << band.first);
            members.iter().for_each(|&(place, _)| frame.components[place].complete |= coefficients);
        }
        Ok(bits.next_marker())
    }
}

impl Frame {
    fn read(marker: u8, segment: &[u8]) -> Result<Frame, Stop> {
        let [precision, h1, h0, w1, w0, count] = *segment.first_chunk::<6>().ok_or(MALFORMED)?;
        let (height, width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
        if precision != 8 || check_size(width, height).is_err() {
            return Err(Stop::NotServed); // the decoder says why
        }
        let components = segment[6..].chunks_exact(3).map(|part| Component {
            id: part[0],
            horizontal: usize::from(part[1] >> 4),
            vertical: usize::from(part[1] & 15),
            complete: 0,
            known: Vec::new(),
            stride: 0,
        });
        let components: Vec<Component> = components.collect();
        let sampled = |c: &Component| (1..=4).contains(&c.horizontal) && (1..=4).contains(&c.vertical);
        if components.len() != usize::from(count) || !(1..=4).contains(&count) || !components.iter().all(sampled) {
            return Err(MALFORMED);
        }
        let mut frame = Frame { width, height, progressive: marker == 0xc2, components };
        if frame.progressive {
            let (columns, rows) = frame.units();
            for component in &mut frame.components {
                component.stride = columns * component.horizontal;
                component.known = vec![0; component.stride * rows * component.vertical];
            }
        }
        Ok(frame)
    }

    /// The largest sampling factors.
    fn sampling(&self) -> (usize, usize) {
        let largest = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        (largest(|component| component.horizontal), largest(|component| component.vertical))
    }

    /// Interleaved units, across and down.
    fn units(&self) -> (usize, usize) {
        let (horizontal, vertical) = self.sampling();
        (self.width.div_ceil(8 * horizontal), self.height.div_ceil(8 * vertical))
    }

    /// Blocks that the pixels of a component need, across and down.
    fn blocks(&self, place: usize) -> (usize, usize) {
        let (horizontal, vertical) = self.sampling();
        let component = &self.components[place];
        let blocks = |size: usize, own: usize, most: usize| (size * own).div_ceil(most).div_ceil(8);
        (blocks(self.width, component.horizontal, horizontal), blocks(self.height, component.vertical, vertical))
    }
}

impl Band {
    fn of(parameters: &[u8]) -> Result<Band, Stop> {
        let &[first, last, bits] = parameters else { return Err(MALFORMED) };
        let (first, last) = (usize::from(first), usize::from(last));
        if last > 63 || first > last || (first == 0 && last > 0) {
            return Err(MALFORMED);
        }
        Ok(Band { first, last, completes: bits & 15 == 0, refines: bits >> 4 > 0 })
    }

    /// Reads what the band has of one block.
    ///
    /// * `run`: blocks, this one included, in which nothing else begins.
    /// * `known`: as [`Component::known`]; `None` in sequential files.
    fn block(
        self,
        bits: &mut Bits,
        [dc, ac]: [Option<&CodeTable>; 2],
        run: &mut u32,
        known: Option<&mut u64>,
    ) -> Result<(), Stop> {
        let mut none = 0;
        let is_progressive = known.is_some();
        let known = known.unwrap_or(&mut none);
        let mut place = self.first;
        if place == 0 {
            match dc {
                Some(table) if !self.refines => _ = bits.symbol(table)?,
                _ => _ = bits.bit(),
            }
            place = 1;
        }
        let Some(ac) = ac.filter(|_| self.last > 0) else { return Ok(()) };
        while *run == 0 && place <= self.last {
            let (zeros, size) = bits.symbol(ac)?;
            if size == 0 && zeros < 15 {
                if zeros > 0 && !is_progressive {
                    return Err(Stop::Damaged("damaged JPEG: an invalid code"));
                }
                *run = (1 << zeros) | bits.bits(zeros);
                break;
            }
            place += if self.refines { self.refine(bits, *known, place, zeros) } else { zeros as usize };
            if size > 0 {
                if place > self.last {
                    return Err(Stop::Damaged("damaged JPEG: an invalid code"));
                }
                *known |= 1 << place;
            }
            place += 1;
        }
        if *run > 0 {
            if self.refines {
                self.refine(bits, *known, place, u32::MAX);
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Passes over coefficients up to the one after `zeros` that are not known, reading a bit for
    /// each that is.
    fn refine(self, bits: &mut Bits, known: u64, from: usize, mut zeros: u32) -> usize {
        for place in from..=self.last {
            if known >> place & 1 == 1 {
                bits.bit();
            } else if zeros == 0 {
                return place - from;
            } else {
                zeros -= 1;
            }
        }
        self.last + 1 - from.min(self.last + 1)
    }
}
