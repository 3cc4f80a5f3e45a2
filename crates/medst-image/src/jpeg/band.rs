//! The range of coefficients that a scan contains (ITU-T T.81, annexes F and G).

use super::Stop;
use super::frame::Block;
use super::header::MALFORMED;
use super::huffman::{Bits, CodeTable, Symbol, ZIGZAG};

const INVALID: Stop = Stop::damaged("damaged JPEG: an invalid code");

#[derive(Clone, Copy)]
pub struct Band {
    pub first: usize,
    pub last: usize,
    /// It makes known coefficients finer instead of bringing the first bits of others.
    pub refines: bool,
    /// The place of the lowest bit that it brings.
    pub low: u32,
    /// Whether the file is progressive, so that several blocks can end together.
    progressive: bool,
}

/// A block while a scan is read.
pub struct Target<'a> {
    /// `None` for a component that is read and not used.
    pub block: Option<&'a mut Block>,
    /// Coefficients that are not zero so far, one bit each, in zigzag order.
    pub known: &'a mut u64,
}

impl Target<'_> {
    fn set(&mut self, index: usize, value: i32) {
        *self.known |= u64::from(value != 0) << index;
        if let Some(block) = &mut self.block {
            block[usize::from(ZIGZAG[index]) & 63] = value as i16;
        }
    }

    /// Adds a bit to a coefficient, away from zero.
    fn refine(&mut self, index: usize, bit: i16) {
        if let Some(block) = &mut self.block {
            let value = &mut block[usize::from(ZIGZAG[index]) & 63];
            *value = value.wrapping_add(if *value < 0 { -bit } else { bit });
        }
    }
}

impl Band {
    /// The band of a sequential file: all coefficients.
    pub const ALL: Band = Band { first: 0, last: 63, refines: false, low: 0, progressive: false };

    /// The band of a progressive scan, from the last three bytes of its start-of-scan marker.
    pub fn of(parameters: &[u8]) -> Result<Band, Stop> {
        let &[first, last, bits] = parameters else { return Err(MALFORMED) };
        let (first, last, low) = (usize::from(first), usize::from(last), u32::from(bits & 15));
        if last > 63 || first > last || (first == 0 && last > 0) || low > 13 {
            return Err(MALFORMED);
        }
        Ok(Band { first, last, refines: bits >> 4 > 0, low, progressive: true })
    }

    /// Reads what the band has of one block.
    ///
    /// * `prediction`: of the first coefficient, by the block before.
    /// * `run`: blocks, this one included, in which nothing else begins.
    #[inline]
    pub fn read(
        self,
        bits: &mut Bits,
        [dc, ac]: [Option<&CodeTable>; 2],
        prediction: &mut i32,
        run: &mut u32,
        target: &mut Target,
    ) -> Result<(), Stop> {
        let mut index = self.first;
        if index == 0 {
            match dc {
                Some(table) if !self.refines => {
                    let difference = bits.symbol(table)?.value;
                    // Twelve bits hold every prediction of a sound file; a damaged one must not
                    // overflow.
                    *prediction = prediction.wrapping_add(difference).clamp(-65_536, 65_536);
                    target.set(0, *prediction << self.low);
                }
                _ => {
                    let bit = (bits.bit() << self.low) as i16;
                    if let Some(block) = &mut target.block {
                        block[0] |= bit;
                    }
                }
            }
            index = 1;
        }
        let Some(ac) = ac.filter(|_| self.last > 0) else { return Ok(()) };
        while *run == 0 && index <= self.last {
            let Symbol { zeros, size, value } = bits.symbol(ac)?;
            if size == 0 && zeros < 15 {
                if zeros > 0 && !self.progressive {
                    return Err(INVALID);
                }
                *run = (1 << zeros) | bits.bits(zeros);
                break;
            }
            index += if self.refines { self.pass(bits, target, index, zeros) } else { zeros as usize };
            if size > 0 {
                if index > self.last {
                    return Err(INVALID);
                }
                target.set(index, value << self.low);
            }
            index += 1;
        }
        if *run > 0 {
            if self.refines {
                self.pass(bits, target, index, u32::MAX);
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Passes over coefficients up to the one after `zeros` that are not known, refining those that
    /// are; how many.
    fn pass(self, bits: &mut Bits, target: &mut Target, from: usize, mut zeros: u32) -> usize {
        for index in from..=self.last {
            if *target.known >> index & 1 == 1 {
                if bits.bit() == 1 {
                    target.refine(index, 1 << self.low);
                }
            } else if zeros == 0 {
                return index - from;
            } else {
                zeros -= 1;
            }
        }
        (self.last + 1).saturating_sub(from)
    }
}
