//! The frame of a JPEG file: its components, and the coefficients of those that make the grey.

use super::Stop;
use super::header::MALFORMED;
use crate::ImageError;
use crate::error::check_size;

/// The coefficients of a block, row by row.
pub type Block = [i16; 64];

pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    /// Scans that were read.
    pub scans: usize,
    pub components: Vec<Component>,
}

pub struct Component {
    pub id: u8,
    pub horizontal: usize,
    pub vertical: usize,
    /// The place of its quantisation table, and the table at its first scan, row by row.
    pub quantisation: u8,
    pub steps: Option<[u16; 64]>,
    /// Coefficients whose last bit has come, one bit each, in zigzag order.
    pub complete: u64,
    /// Blocks of a row: those of whole interleaved units.
    pub stride: usize,
    /// The blocks of a component that makes the grey; else none.
    pub blocks: Vec<Block>,
    /// In progressive files, the coefficients of every block that are nonzero so far, as one bit
    /// each, in zigzag order.
    pub known: Vec<u64>,
}

impl Frame {
    /// * `wanted`: how many components make the grey.
    pub fn read(marker: u8, segment: &[u8], wanted: usize) -> Result<Frame, Stop> {
        let [precision, h1, h0, w1, w0, count] = *segment.first_chunk::<6>().ok_or(MALFORMED)?;
        let (height, width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
        if precision != 8 {
            let message = format!("{precision}-bit JPEG is not supported (only 8-bit is)");
            return Err(Stop::Refused(ImageError::unsupported(message)));
        }
        check_size(width, height).map_err(Stop::Refused)?;
        match count {
            1 | 3 => {}
            4 => return Err(Stop::unsupported("CMYK JPEG is not supported")),
            _ => {
                let message =
                    format!("JPEG with {count} components is not supported (only 1, grey, and 3, colour, are)");
                return Err(Stop::Refused(ImageError::unsupported(message)));
            }
        }
        let components = segment[6..].chunks_exact(3).map(|part| Component {
            id: part[0],
            horizontal: usize::from(part[1] >> 4),
            vertical: usize::from(part[1] & 15),
            quantisation: part[2],
            steps: None,
            complete: 0,
            stride: 0,
            blocks: Vec::new(),
            known: Vec::new(),
        });
        let components: Vec<Component> = components.collect();
        let sampled = |c: &Component| (1..=4).contains(&c.horizontal) && (1..=4).contains(&c.vertical);
        if components.len() != usize::from(count) || !components.iter().all(sampled) {
            return Err(MALFORMED);
        }
        let mut frame = Frame { width, height, progressive: marker == 0xc2, scans: 0, components };
        let (columns, rows) = frame.units();
        for (index, component) in frame.components.iter_mut().enumerate() {
            component.stride = columns * component.horizontal;
            let blocks = component.stride * rows * component.vertical;
            if index < wanted {
                component.blocks = vec![[0; 64]; blocks];
            }
            if frame.progressive {
                component.known = vec![0; blocks];
            }
        }
        Ok(frame)
    }

    /// The largest sampling factors.
    pub fn sampling(&self) -> (usize, usize) {
        let largest = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        (largest(|component| component.horizontal), largest(|component| component.vertical))
    }

    /// Interleaved units, across and down.
    pub fn units(&self) -> (usize, usize) {
        let (horizontal, vertical) = self.sampling();
        (self.width.div_ceil(8 * horizontal), self.height.div_ceil(8 * vertical))
    }

    /// Samples that the pixels need of a component, across and down.
    pub fn samples(&self, component: &Component) -> (usize, usize) {
        let (horizontal, vertical) = self.sampling();
        let across = (self.width * component.horizontal).div_ceil(horizontal);
        (across, (self.height * component.vertical).div_ceil(vertical))
    }

    /// Blocks of these samples, across and down.
    pub fn blocks(&self, component: &Component) -> (usize, usize) {
        let (across, down) = self.samples(component);
        (across.div_ceil(8), down.div_ceil(8))
    }
}
