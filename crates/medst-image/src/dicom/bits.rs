//! Reads the bits of an entropy-coded scan. To distinguish data from markers, JPEG inserts a zero
//! byte after 0xff, and JPEG-LS a zero bit.

use crate::ImageError;

/// The meaning of the byte after 0xff in the coded data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuffing {
    /// A byte of zero, which is dropped (JPEG).
    Byte,
    /// A bit of zero, which is dropped (JPEG-LS).
    Bit,
}

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    stuffing: Stuffing,
    after_ff: bool,
    /// The next bits, from the highest down; below them zeros.
    next: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], stuffing: Stuffing) -> Bits<'a> {
        Bits { bytes, at: 0, stuffing, after_ff: false, next: 0, count: 0 }
    }

    /// Takes in bytes up to the next marker or the end.
    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            let mut width = 8;
            match self.stuffing {
                Stuffing::Byte if byte == 0xff => {
                    if self.bytes.get(self.at + 1) != Some(&0) {
                        return;
                    }
                    self.at += 1;
                }
                Stuffing::Byte => {}
                Stuffing::Bit => {
                    if self.after_ff {
                        if byte >= 0x80 {
                            return;
                        }
                        width = 7;
                    } else if byte == 0xff && self.bytes.get(self.at + 1).is_none_or(|&next| next >= 0x80) {
                        return;
                    }
                    self.after_ff = byte == 0xff;
                }
            }
            self.at += 1;
            self.next |= u64::from(byte) << (64 - width - self.count);
            self.count += width;
        }
    }

    /// The next 16 bits without taking them; beyond the end there are zeros.
    pub fn peek16(&mut self) -> usize {
        if self.count < 16 {
            self.fill();
        }
        (self.next >> 48) as usize
    }

    /// Drops bits, at most 32.
    pub fn skip(&mut self, count: u32) -> Result<(), ImageError> {
        if self.count < count {
            self.fill();
            if self.count < count {
                return Err(ImageError::truncated("truncated: the compressed data end early"));
            }
        }
        self.next <<= count;
        self.count -= count;
        Ok(())
    }

    /// Takes bits, at most 32.
    pub fn take(&mut self, count: u32) -> Result<u32, ImageError> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.fill();
        }
        let value = (self.next >> (64 - count)) as u32;
        self.skip(count)?;
        Ok(value)
    }

    /// Takes zeros and the one after them; how many zeros. More than `most` are an error.
    pub fn zeros(&mut self, most: u32) -> Result<u32, ImageError> {
        let mut zeros = 0;
        loop {
            if self.count < 32 {
                self.fill();
            }
            let here = self.next.leading_zeros().min(self.count);
            if zeros + here > most {
                return Err(ImageError::damaged("damaged: a code is too long"));
            }
            zeros += here;
            if here < self.count {
                self.next <<= here;
                self.count -= here;
                self.skip(1)?;
                return Ok(zeros);
            }
            (self.next, self.count) = (0, 0);
            self.fill();
            if self.count == 0 {
                return Err(ImageError::truncated("truncated: the compressed data end early"));
            }
        }
    }

    /// Goes past the next restart marker (JPEG only).
    pub fn restart(&mut self) -> Result<(), ImageError> {
        (self.next, self.count) = (0, 0);
        while let Some(&[first, second]) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<2>()) {
            if first == 0xff && (0xd0..=0xd7).contains(&second) {
                self.at += 2;
                return Ok(());
            }
            if first == 0xff && !matches!(second, 0 | 0xff) {
                break;
            }
            self.at += 1;
        }
        Err(ImageError::damaged("damaged: a restart marker is missing"))
    }
}
