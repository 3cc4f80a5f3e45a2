//! From attenuation to an 8-bit picture: dose, noise, the film's curve, and the side marker.

use rand::Rng;

use super::canvas::Canvas;

/// How a picture was taken and processed.
#[derive(Clone, Copy, Debug)]
pub struct Exposure {
    /// Attenuation shown as black, and the range up to white.
    pub window: (f32, f32),
    /// Quantum noise where nothing attenuates.
    pub noise: f32,
    pub gamma: f32,
}

impl Exposure {
    /// An exposure as departments vary it.
    pub fn draw(random: &mut impl Rng) -> Exposure {
        Exposure {
            window: (random.random_range(0.1..0.34), random.random_range(3.4..4.0)),
            noise: random.random_range(0.006..0.016),
            gamma: random.random_range(0.8..1.05),
        }
    }
}

impl Exposure {
    /// The same exposure, darker (above 0) or lighter, by a share of its range.
    pub fn shifted(self, share: f32) -> Exposure {
        let (black, range) = self.window;
        Exposure { window: (black + share * range, range), ..self }
    }

    /// The same exposure with fewer quanta.
    pub fn noisier(self, factor: f32) -> Exposure {
        Exposure { noise: self.noise * factor, ..self }
    }
}

/// Develops a picture; dense is white.
pub fn develop(canvas: &Canvas, exposure: &Exposure, marker: Option<Marker>, random: &mut impl Rng) -> Vec<u8> {
    let (black, range) = exposure.window;
    let mut pixels: Vec<u8> = canvas
        .values
        .iter()
        .map(|&attenuation| {
            // Fewer quanta arrive behind dense tissue, so its logarithm is noisier.
            let sigma = exposure.noise * (attenuation.max(0.0) / 2.0).exp();
            let noisy = attenuation + sigma * gaussian(random);
            let share = ((noisy - black) / range).clamp(0.0, 1.0).powf(exposure.gamma);
            // A film's curve: flat at both ends.
            let curved = 0.35 * share + 0.65 * share * share * (3.0 - 2.0 * share);
            (curved * 248.0 + 4.0) as u8
        })
        .collect();
    if let Some(marker) = marker {
        marker.stamp(&mut pixels, canvas.width, canvas.height);
    }
    pixels
}

/// The sum of four uniform values, close enough to a normal one, and the same on every machine.
fn gaussian(random: &mut impl Rng) -> f32 {
    let bits: u64 = random.random();
    let sum: u32 = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as u32).sum();
    (sum as f32 / 65535.0 - 2.0) * 1.732
}

/// The lead letter that marks which side is which.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    pub letter: char,
    /// Left edge and top, as shares of the picture.
    pub place: (f32, f32),
}

impl Marker {
    fn stamp(self, pixels: &mut [u8], width: usize, height: usize) {
        // Five by seven dots.
        let rows: [u8; 7] = match self.letter {
            'L' => [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111],
            _ => [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001],
        };
        let dot = (height / 110).max(1);
        let (left, top) = ((self.place.0 * width as f32) as usize, (self.place.1 * height as f32) as usize);
        for (row, dots) in rows.iter().enumerate() {
            for column in (0..5).filter(|column| dots >> (4 - column) & 1 == 1) {
                for (dy, dx) in (0..dot).flat_map(|dy| (0..dot).map(move |dx| (dy, dx))) {
                    let (y, x) = (top + row * dot + dy, left + column * dot + dx);
                    if y < height && x < width {
                        pixels[y * width + x] = 250;
                    }
                }
            }
        }
    }
}
