//! The entropy code of a baseline JPEG (ITU-T T.81, annexes C and F).
//!
//! A code and the bits of its value that follow it are looked up together where both fit [`LOOK`]
//! bits, as they do for nearly every coefficient.

use super::Stop;

/// Bits that are looked up at once.
const LOOK: u32 = 11;

/// The row-major position of the `n`th coefficient of a block.
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

const INVALID: Stop = Stop::damaged("damaged JPEG: an invalid code");
const MISSING: Stop = Stop::truncated("truncated JPEG: entropy-coded data are missing");

/// The class of a code table: the meaning of its codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TableClass {
    /// The number of bits of a difference.
    Dc,
    /// A run of zeros and the number of bits of the coefficient after it.
    Ac,
}

/// A code table. Entries of `look`: bits 0–4 the length (0: longer than [`LOOK`]), bit 5 set where
/// the value is included, bits 8–11 the run, bits 12–15 the size, bits 16–31 the value.
#[derive(Clone)]
pub struct CodeTable {
    look: Box<[u32; 1 << LOOK]>,
    /// For each code length, the value after its last code, left-aligned to 16 bits, and the number
    /// to subtract from a code to get the index of its symbol.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

const WITH_VALUE: u32 = 1 << 5;

impl CodeTable {
    /// * `counts`: number of codes of 1 to 16 bits.
    ///
    /// `None` where no prefix code has these lengths, or a symbol is not valid for the class.
    pub fn new(counts: &[u8; 16], symbols: &[u8], class: TableClass) -> Option<CodeTable> {
        let possible = |&symbol: &u8| if class == TableClass::Dc { symbol <= 11 } else { symbol & 15 <= 10 };
        if !symbols.iter().all(possible) {
            return None;
        }
        let mut table =
            CodeTable { look: Box::new([0; 1 << LOOK]), ends: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            table.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    table.enter(code, length, symbols[index], class);
                }
                code += 1;
                index += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Fills the entries that begin with a code.
    fn enter(&mut self, code: u32, length: u32, symbol: u8, class: TableClass) {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        let free = LOOK - length;
        for rest in 0..1u32 << free {
            // The end of a block and a run of sixteen zeros have no value.
            let included = size <= free && (size > 0 || class == TableClass::Dc);
            let entry = if included {
                let value = extend(rest >> (free - size), size) as u32;
                (length + size) | WITH_VALUE | run << 8 | size << 12 | value << 16
            } else {
                length | run << 8 | size << 12
            };
            self.look[(code << free | rest) as usize] = entry;
        }
    }

    /// The entry of a code that is longer than [`LOOK`] bits.
    #[cold]
    fn find(&self, bits: u32) -> Option<u32> {
        for length in LOOK + 1..=16 {
            if bits < self.ends[length as usize] {
                let index = (bits >> (16 - length)) as i32 + self.offsets[length as usize];
                let symbol = *self.symbols.get(usize::try_from(index).ok()?)?;
                return Some(length | u32::from(symbol >> 4) << 8 | u32::from(symbol & 15) << 12);
            }
        }
        None
    }
}

/// The value whose lower bits are `bits`: those that begin with 0 are negative.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    if size == 0 {
        return 0;
    }
    let negative = (bits >> (size - 1) & 1) ^ 1;
    bits as i32 - (((1 << size) - 1) * negative) as i32
}

/// The bits of the entropy-coded data, first bit highest.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    /// Bits in the buffer.
    count: u32,
    /// Zeros among these bits that replace data after a marker or the end.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0, padding: 0 }
    }

    /// At least 32 bits, of which a code and its value need 27.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..self.at + 8).and_then(|next| next.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*next);
            // No byte is 0xff: none of the complement is zero.
            let complement = !word;
            let zero = complement.wrapping_sub(0x0101_0101_0101_0101) & !complement & 0x8080_8080_8080_8080;
            if zero == 0 {
                self.buffer |= word >> self.count;
                let taken = (63 - self.count) >> 3;
                self.at += taken as usize;
                self.count += taken * 8;
                return;
            }
        }
        self.refill_bytewise();
    }

    #[inline(never)]
    fn refill_bytewise(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.padding += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    /// Drops bits; at most those that are left.
    #[inline(always)]
    fn drop(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// Bits of a value.
    #[inline(always)]
    fn take(&mut self, count: u32) -> u32 {
        // Two shifts, so that `count` = 0 does not shift by 64.
        let value = (self.buffer >> 1 >> (63 - count)) as u32;
        self.drop(count);
        value
    }

    /// Fails where more data were used than the file has.
    ///
    /// Must be called before more zeros than the counter holds can be used: once per unit.
    #[inline(always)]
    pub fn check(&mut self) -> Result<(), Stop> {
        if self.padding > self.count {
            return Err(MISSING);
        }
        Ok(())
    }

    /// Continues after restart marker `number`.
    pub fn restart(&mut self, number: u8) -> Result<(), Stop> {
        const NO_RESTART: Stop = Stop::damaged("damaged JPEG: a restart marker is missing");
        let at = self.end().map_err(|stop| if matches!(stop, Stop::NotServed) { NO_RESTART } else { stop })?;
        let fill = self.bytes[at..].iter().take_while(|&&byte| byte == 0xff).count();
        match self.bytes.get(at + fill) {
            Some(&marker) if fill > 0 && marker == 0xd0 + number => {
                *self = Bits::new(self.bytes, at + fill + 1);
                Ok(())
            }
            Some(_) => Err(NO_RESTART),
            None => Err(MISSING),
        }
    }

    /// One bit.
    pub fn bit(&mut self) -> u32 {
        self.bits(1)
    }

    /// Up to 16 bits.
    pub fn bits(&mut self, count: u32) -> u32 {
        self.refill();
        self.take(count)
    }

    /// A code with its value.
    #[inline(always)]
    pub fn symbol(&mut self, table: &CodeTable) -> Result<Symbol, Stop> {
        self.refill();
        let mut entry = table.look[self.peek(LOOK) as usize];
        if entry == 0 {
            entry = table.find(self.peek(16)).ok_or(INVALID)?;
        }
        self.drop(entry & 31);
        let (zeros, size) = (entry >> 8 & 15, entry >> 12 & 15);
        let value = if entry & WITH_VALUE != 0 { entry as i32 >> 16 } else { extend(self.take(size), size) };
        Ok(Symbol { zeros, size, value })
    }

    /// Position of the next marker other than a restart marker, or the end of the file.
    pub fn next_marker(&self) -> usize {
        // Bytes that were taken in and not used hold no marker.
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7));
        self.at + found.unwrap_or(rest.len())
    }

    /// The end of the data. Fails unless all of them have been used.
    pub fn end(&mut self) -> Result<usize, Stop> {
        self.check()?;
        let unused = (self.count - self.padding) / 8;
        // Whole bytes of data that belong to no block: the full decoder may judge.
        if unused > 0 { Err(Stop::NotServed) } else { Ok(self.at) }
    }
}

/// A value in the stream.
pub struct Symbol {
    /// Zeros before it.
    pub zeros: u32,
    /// Its bits.
    pub size: u32,
    pub value: i32,
}

/// The tables of a component.
pub struct Tables {
    pub dc: CodeTable,
    pub ac: CodeTable,
    /// Quantisation steps in zigzag order.
    pub steps: [f32; 64],
}

impl Tables {
    /// Reads a block: its coefficients row by row, the grey level shifted into the first one.
    ///
    /// Returns the sum of the absolute values of all but the first.
    #[inline(always)]
    pub fn block(&self, bits: &mut Bits, prediction: &mut i32, block: &mut [f32; 64]) -> Result<f32, Stop> {
        *block = [0.0; 64];
        self.difference(bits, prediction)?;
        block[0] = *prediction as f32 * self.steps[0] + 1024.0;
        let mut energy = 0.0;
        self.coefficients(bits, |index, value| {
            let value = value as f32 * self.steps[index];
            energy += value.abs();
            block[usize::from(ZIGZAG[index]) & 63] = value;
        })?;
        Ok(energy)
    }

    /// Reads a block that is not used.
    #[inline(always)]
    pub fn skip(&self, bits: &mut Bits, prediction: &mut i32) -> Result<(), Stop> {
        self.difference(bits, prediction)?;
        self.coefficients(bits, |_, _| {})
    }

    #[inline(always)]
    fn difference(&self, bits: &mut Bits, prediction: &mut i32) -> Result<(), Stop> {
        bits.refill();
        let mut entry = self.dc.look[bits.peek(LOOK) as usize];
        if entry == 0 {
            entry = self.dc.find(bits.peek(16)).ok_or(INVALID)?;
        }
        bits.drop(entry & 31);
        let difference = if entry & WITH_VALUE != 0 {
            entry as i32 >> 16
        } else {
            let size = entry >> 12 & 15;
            extend(bits.take(size), size)
        };
        // Twelve bits hold every prediction of a sound file; a damaged one must not overflow.
        *prediction = prediction.wrapping_add(difference).clamp(-65_536, 65_536);
        Ok(())
    }

    #[inline(always)]
    fn coefficients(&self, bits: &mut Bits, mut set: impl FnMut(usize, i32)) -> Result<(), Stop> {
        let mut index = 1;
        while index < 64 {
            bits.refill();
            let mut entry = self.ac.look[bits.peek(LOOK) as usize];
            if entry == 0 {
                entry = self.ac.find(bits.peek(16)).ok_or(INVALID)?;
            }
            bits.drop(entry & 31);
            let (run, size) = ((entry >> 8 & 15) as usize, entry >> 12 & 15);
            let value = if entry & WITH_VALUE != 0 {
                entry as i32 >> 16
            } else if size == 0 {
                match run {
                    0 => return Ok(()),
                    15 => {
                        index += 16;
                        continue;
                    }
                    _ => return Err(INVALID),
                }
            } else {
                extend(bits.take(size), size)
            };
            index += run;
            if index > 63 {
                return Err(INVALID);
            }
            set(index, value);
            index += 1;
        }
        if index > 64 { Err(INVALID) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_extend_as_the_standard_says() {
        assert_eq!((extend(0, 0), extend(0, 1), extend(1, 1)), (0, -1, 1));
        assert_eq!((extend(0b000, 3), extend(0b011, 3), extend(0b100, 3)), (-7, -4, 4));
    }

    #[test]
    fn lengths_that_no_prefix_code_has_are_refused() {
        let counts = |of_one: u8| {
            let mut counts = [0; 16];
            counts[0] = of_one;
            counts
        };
        assert!(CodeTable::new(&counts(2), &[0, 1], TableClass::Dc).is_some());
        assert!(CodeTable::new(&counts(3), &[0, 1, 2], TableClass::Dc).is_none());
        assert!(CodeTable::new(&counts(1), &[12], TableClass::Dc).is_none());
    }

    #[test]
    fn zigzag_is_a_permutation() {
        let mut positions = ZIGZAG;
        positions.sort_unstable();
        assert!(positions.iter().enumerate().all(|(n, &position)| n == usize::from(position)));
    }
}
