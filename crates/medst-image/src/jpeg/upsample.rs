//! Upsamples components that have fewer samples than pixels, like libjpeg: by triangles if the
//! factor is 2, otherwise by repetition. Radiographs have no such components, but some programs
//! subsample colours stored as RGB.

/// Samples row by row.
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub samples: Vec<u8>,
}

impl Plane {
    /// * `across`, `down`: pixels for a sample.
    ///
    /// Returns `width · height` samples.
    pub fn spread(self, across: usize, down: usize, width: usize, height: usize) -> Vec<u8> {
        let smooth = |row: usize| self.smooth(row, across == 2, down == 2);
        let is_smooth = match (across, down) {
            (2, 1 | 2) => self.width > 2,
            (1, 2) => true,
            _ => false,
        };
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            if is_smooth {
                pixels.extend(smooth(y).into_iter().take(width));
            } else {
                let row = &self.samples[y / down * self.width..];
                pixels.extend((0..width).map(|x| row[x / across]));
            }
        }
        pixels
    }

    /// A row of pixels, each of 3/4 of the nearest and 1/4 of the next sample in every direction
    /// that is doubled.
    fn smooth(&self, y: usize, across: bool, down: bool) -> Vec<u8> {
        let row = |at: usize| &self.samples[at * self.width..][..self.width];
        // The upper pixel of a pair leans on the row above, the lower on the one below.
        let (near, next) = match (down, y % 2) {
            (false, _) => (row(y), row(y)),
            (true, 0) => (row(y / 2), row((y / 2).saturating_sub(1))),
            (true, _) => (row(y / 2), row((y / 2 + 1).min(self.height - 1))),
        };
        let weights = if down { (3, 1) } else { (1, 0) };
        let sums: Vec<u32> = near
            .iter()
            .zip(next)
            .map(|(&near, &next)| u32::from(near) * weights.0 + u32::from(next) * weights.1)
            .collect();
        if !across {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            return sums.into_iter().map(|sum| ((sum + bias) >> 2) as u8).collect();
        }
        // Halves are rounded up and down by turns, so that the picture does not drift.
        let (shift, even, odd) = if down { (4, 8, 7) } else { (2, 1, 2) };
        let last = sums.len() - 1;
        let pair = |at: usize| {
            let sum = sums[at];
            let (left, right) = (sums[at.saturating_sub(1)], sums[(at + 1).min(last)]);
            [(3 * sum + left + even) >> shift, (3 * sum + right + odd) >> shift].map(|value| value as u8)
        };
        (0..sums.len()).flat_map(pair).collect()
    }
}
