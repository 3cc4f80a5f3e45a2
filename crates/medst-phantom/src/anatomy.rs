//! A patient's body: the parameters in which chests differ, and the shapes that follow from them.
//!
//! Centimetres; on the frontal view x = 0 is the spine and the patient's right side is on the left
//! (negative x), as a radiograph is read; y = 0 is the neck, y grows towards the feet.

use rand::Rng;

use super::canvas::{Noise, smooth};

/// Attenuation that the deepest lung removes from that of the body.
pub const AIR: f32 = 1.5;

/// One patient.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// Half the inner width of the rib cage.
    pub half_width: f32,
    /// Height of the right diaphragm's dome.
    pub dome: f32,
    /// Depth of the chest from sternum to back.
    pub depth: f32,
    /// Thickness of soft tissue on the ribs.
    pub tissue: f32,
    /// Width of a normal heart on the frontal view.
    pub heart: f32,
    /// How much lower a rib's front end is than its back end.
    pub rib_slope: f32,
    pub bone: f32,
    /// Vessels and textures.
    pub noise: Noise,
}

impl Anatomy {
    pub fn draw(random: &mut impl Rng) -> Anatomy {
        Anatomy {
            half_width: random.random_range(12.6..14.6),
            dome: random.random_range(24.0..27.0),
            depth: random.random_range(19.0..23.0),
            tissue: random.random_range(1.0..3.2),
            heart: random.random_range(11.2..13.2),
            rib_slope: random.random_range(4.0..6.0),
            bone: random.random_range(0.8..1.15),
            noise: Noise { seed: random.random() },
        }
    }

    /// Distance of the rib cage's inner wall from the spine at a height.
    pub fn wall(&self, y: f32) -> f32 {
        let up = ((23.0 - y) / 18.6).clamp(0.0, 1.0);
        let narrowing = (1.0 - up.powf(2.3)).powf(0.62);
        self.half_width * narrowing * (1.0 - 0.006 * (y - 23.0).max(0.0))
    }

    /// Height of the diaphragm at x; `raised` centimetres higher than at rest.
    pub fn diaphragm(&self, x: f32, raised: f32) -> f32 {
        let (dome, off) = if x < 0.0 { (self.dome, -x - 6.2) } else { (self.dome + 1.1, x - 6.8) };
        let curve = if off > 0.0 { 0.095 } else { 0.02 };
        dome - raised + curve * off * off
    }

    /// Air along the ray of the frontal view, as a share of the deepest lung; 0 outside the lungs.
    pub fn lung(&self, x: f32, y: f32, raised: f32) -> f32 {
        let side = x.abs();
        let from_wall = self.wall(y) - side;
        let from_spine = side - 1.4;
        let from_diaphragm = self.diaphragm(x, raised) - y;
        if from_wall <= 0.0 || from_spine <= 0.0 || from_diaphragm <= 0.0 {
            return 0.0;
        }
        let apex = smooth(4.4, 10.0, y);
        let rim = (from_wall / 3.2).min(1.0).sqrt();
        let medial = smooth(0.0, 2.2, from_spine);
        rim * medial * smooth(0.0, 1.1, from_diaphragm) * (0.55 + 0.45 * apex)
    }

    /// Air along the ray of the lateral view: x from the front (negative) to the back.
    pub fn lung_lateral(&self, x: f32, y: f32, raised: f32) -> f32 {
        let half = self.depth / 2.0;
        let (front, back) = (-half + 2.2 + 3.2 * smooth(12.0, 4.5, y), half - 1.6 - 1.8 * smooth(10.0, 4.5, y));
        let from_front = x - front - 0.06 * (y - 14.0).max(0.0);
        let from_back = back - x;
        let from_diaphragm = self.diaphragm_lateral(x, raised) - y;
        if from_front <= 0.0 || from_back <= 0.0 || from_diaphragm <= 0.0 || y < 3.2 {
            return 0.0;
        }
        let rim = (from_front / 1.6).min(1.0).sqrt() * (from_back / 1.6).min(1.0).sqrt();
        // The shoulders hide the apex: it fades in from above.
        rim * smooth(0.0, 0.9, from_diaphragm) * smooth(3.2, 7.0, y) * (0.4 + 0.6 * smooth(4.0, 11.0, y))
    }

    /// Height of the diaphragm on the lateral view: highest a third of the way from front to back,
    /// deep at the back.
    pub fn diaphragm_lateral(&self, x: f32, raised: f32) -> f32 {
        let off = x + 2.5;
        self.dome + 0.6 - raised + if off > 0.0 { 0.052 * off * off } else { 0.035 * off * off }
    }
}
