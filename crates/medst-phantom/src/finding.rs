//! The findings, and their appearance in the two views.
//!
//! A finding is drawn on an empty canvas as the attenuation that it adds (or, for air, removes), so
//! that its box is exact. Severity runs from 0 (absent) to 1.

use serde::{Deserialize, Serialize};

use super::anatomy::{AIR, Anatomy};
use super::canvas::{Canvas, Noise, smooth};

/// The findings that a phantom radiograph can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Consolidation,
    Edema,
    PleuralEffusion,
    Pneumonia,
    Pneumothorax,
    Atelectasis,
    Cardiomegaly,
}

impl Finding {
    pub const ALL: [Finding; 7] = [
        Finding::Consolidation,
        Finding::Edema,
        Finding::PleuralEffusion,
        Finding::Pneumonia,
        Finding::Pneumothorax,
        Finding::Atelectasis,
        Finding::Cardiomegaly,
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Finding::Consolidation => "consolidation",
            Finding::Edema => "edema",
            Finding::PleuralEffusion => "pleural_effusion",
            Finding::Pneumonia => "pneumonia",
            Finding::Pneumothorax => "pneumothorax",
            Finding::Atelectasis => "atelectasis",
            Finding::Cardiomegaly => "cardiomegaly",
        }
    }

    /// Whether it can be where only the lateral view shows it.
    pub fn can_hide(self) -> bool {
        matches!(self, Finding::Consolidation | Finding::PleuralEffusion | Finding::Pneumonia | Finding::Atelectasis)
    }

    /// Edema and an enlarged heart have no side.
    pub fn has_side(self) -> bool {
        !matches!(self, Finding::Edema | Finding::Cardiomegaly)
    }
}

/// The patient's side; the right one is on the left of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Right,
    Left,
    Both,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Right => "right",
            Side::Left => "left",
            Side::Both => "bilateral",
        }
    }

    /// Signs of x on the frontal view.
    fn signs(self) -> &'static [f32] {
        match self {
            Side::Right => &[-1.0],
            Side::Left => &[1.0],
            Side::Both => &[-1.0, 1.0],
        }
    }
}

/// A third of the lung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    Upper,
    Mid,
    Lower,
}

impl Zone {
    pub fn name(self) -> &'static str {
        match self {
            Zone::Upper => "upper",
            Zone::Mid => "mid",
            Zone::Lower => "lower",
        }
    }

    fn height(self) -> f32 {
        match self {
            Zone::Upper => 10.5,
            Zone::Mid => 16.5,
            Zone::Lower => 22.0,
        }
    }
}

/// A finding as one patient has it on one day.
#[derive(Clone, Debug)]
pub struct Present {
    pub finding: Finding,
    pub side: Side,
    pub zone: Zone,
    pub severity: f32,
    /// Shape and place; the same at all visits of a patient.
    pub noise: Noise,
    /// Whether it is where a frontal picture does not show it: posterior to the heart or to the
    /// dome of the diaphragm.
    pub hidden: bool,
    /// Strength of its effect on the picture, relative to a plain case.
    pub contrast: f32,
}

/// Pictures below this severity do not show it.
const VISIBLE: f32 = 0.12;

impl Present {
    /// How far a small collapse draws the diaphragm up, in centimetres.
    pub fn raises_diaphragm(&self) -> f32 {
        if self.finding == Finding::Atelectasis && !self.hidden { 1.6 * self.severity } else { 0.0 }
    }

    pub fn visible_on_frontal(&self) -> bool {
        // A small effusion is hidden posterior to the dome of the diaphragm, where only the lateral
        // view shows it.
        let least = if self.finding == Finding::PleuralEffusion { 0.28 } else { VISIBLE };
        self.severity >= least && !self.hidden
    }

    pub fn visible_on_lateral(&self) -> bool {
        match self.finding {
            Finding::Pneumothorax => false,
            Finding::PleuralEffusion => self.severity >= 0.08,
            Finding::Cardiomegaly => self.severity >= 0.3,
            _ => self.severity >= VISIBLE,
        }
    }

    /// Shift within its zone in centimetres, specific to the patient.
    fn shift(&self, n: f32) -> f32 {
        self.noise.at(7.3 * n + 0.37, 3.1 * n + 0.71) * 2.2
    }

    /// Adds it to an empty frontal canvas. An enlarged heart is drawn by the anatomy.
    pub fn draw_frontal(&self, anatomy: &Anatomy, canvas: &mut Canvas, raised: f32) {
        for &sign in self.side.signs() {
            match self.finding {
                Finding::Consolidation => self.consolidation(anatomy, canvas, sign, raised),
                Finding::Pneumonia => self.pneumonia(anatomy, canvas, sign, raised),
                Finding::Edema => self.edema(anatomy, canvas, sign, raised),
                Finding::PleuralEffusion => self.effusion(anatomy, canvas, sign, raised),
                Finding::Pneumothorax => self.pneumothorax(anatomy, canvas, sign, raised),
                Finding::Atelectasis => self.atelectasis(anatomy, canvas, sign, raised),
                Finding::Cardiomegaly => {}
            }
        }
    }

    /// One dense, nearly homogeneous area with fluffy edges and air bronchograms.
    fn consolidation(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let (cx, cy) = (sign * (7.2 + 0.5 * self.shift(1.0)), self.zone.height() + 0.5 * self.shift(2.0));
        let radius = 2.2 + 2.6 * self.severity;
        let noise = self.noise;
        canvas.add((cx - 8.0, cy - 8.0), (cx + 8.0, cy + 8.0), |x, y| {
            let ragged = 1.0 + 0.38 * noise.at(x * 0.55, y * 0.55);
            let distance = (x - cx).hypot(y - cy) / (radius * ragged);
            let bronchi = 1.0 - 0.22 * smooth(0.25, 0.0, (noise.at(x * 0.9 + 40.0, y * 0.9)).abs());
            let body = smooth(1.15, 0.55, distance) * bronchi;
            (0.55 + 0.75 * self.severity) * body * lung_edge(anatomy, x, y, raised)
        });
    }

    /// Several patches of different density, in one zone and its neighbour.
    fn pneumonia(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let patches = 3 + (4.0 * self.severity) as usize;
        let noise = self.noise;
        for patch in 0..patches {
            let n = patch as f32 + 3.0;
            let (cx, cy) =
                (sign * (7.2 + 3.4 * self.shift(n)).clamp(3.6, 11.5), self.zone.height() + 3.0 * self.shift(n + 20.0));
            let radius = 1.0 + 0.9 * self.severity + 0.6 * self.shift(n + 40.0).abs();
            canvas.add((cx - 5.0, cy - 5.0), (cx + 5.0, cy + 5.0), |x, y| {
                let ragged = 1.0 + 0.5 * noise.at(x * 1.1 + n, y * 1.1);
                let distance = (x - cx).hypot(y - cy) / (radius * ragged);
                (0.26 + 0.3 * self.severity) * smooth(1.4, 0.1, distance) * lung_edge(anatomy, x, y, raised)
            });
        }
    }

    /// Haze spreading from the hila like wings, and short horizontal lines at the wall (Kerley B).
    fn edema(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let (cx, cy) = (sign * 4.6, 16.6);
        let noise = self.noise;
        let reach = 3.4 + 4.2 * self.severity;
        let wing = |x: f32, y: f32| {
            let distance = ((x - cx) / reach).hypot((y - cy) / (reach * 1.35));
            let texture = 0.82 + 0.3 * noise.at(x * 1.3, y * 1.3);
            (0.22 + 0.72 * self.severity) * smooth(1.25, 0.1, distance) * texture * lung_edge(anatomy, x, y, raised)
        };
        canvas.add((cx - 14.0, 2.0), (cx + 14.0, 34.0), wing);
        for line in 0..6 {
            let y = anatomy.dome - 4.4 + line as f32 * 0.9 + 0.1 * self.shift(line as f32);
            let wall = anatomy.wall(y) - 0.3;
            let points = [(sign * wall, y), (sign * (wall - 1.6), y + 0.08)];
            let strength = 0.3 * self.severity;
            canvas.tube(&points, (0.07, 0.05), |d| strength * smooth(1.3, 0.3, d));
        }
    }

    /// Fluid that fills the costophrenic angle and climbs the wall: a meniscus.
    fn effusion(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let bottom = anatomy.diaphragm(sign * anatomy.half_width, raised);
        let level = bottom - 1.0 - 9.5 * (self.severity - 0.18).max(0.0);
        let severity = self.severity;
        let (low, high) = if sign < 0.0 { (-16.0, 0.0) } else { (0.0, 16.0) };
        canvas.add((low, 6.0), (high, 36.0), |x, y| {
            let from_wall = anatomy.wall(y) - x.abs();
            if from_wall < -0.2 || x.abs() < 1.4 {
                return 0.0;
            }
            let surface = level - 3.0 * severity.sqrt() * (-from_wall.max(0.0) / 1.5).exp();
            let depth = smooth(surface - 0.35, surface + 1.8, y);
            let air = anatomy.lung(x, y, raised);
            (AIR * air + 0.28 * smooth(0.0, 0.3, air)) * depth * smooth(0.1, 0.3, severity)
        });
    }

    /// Air outside the lung: a dark rim without vessels, and the fine line of the lung's edge.
    fn pneumothorax(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let gap = |y: f32| (0.9 + 4.8 * self.severity) * smooth(29.0, 7.0, y).max(0.18);
        let severity = self.severity;
        let (low, high) = if sign < 0.0 { (-16.0, 0.0) } else { (0.0, 16.0) };
        canvas.add((low, 3.5), (high, 33.0), |x, y| {
            let from_wall = anatomy.wall(y) - x.abs();
            if from_wall < 0.0 || y > anatomy.diaphragm(x, raised) || x.abs() < 1.8 {
                return 0.0;
            }
            let gap = gap(y) + 1.5 * severity * smooth(9.5, 4.6, y);
            let air = smooth(gap + 0.05, gap - 0.1, from_wall);
            let line = smooth(0.13, 0.0, (from_wall - gap).abs());
            let squeezed = 0.16 * severity * smooth(gap, gap + 3.0, from_wall) * anatomy.lung(x, y, raised);
            -0.36 * air * anatomy.lung(x, y, raised).sqrt() + 0.3 * line + squeezed
        });
    }

    /// Bands across the lower lung, and (through the anatomy) a raised diaphragm.
    fn atelectasis(&self, anatomy: &Anatomy, canvas: &mut Canvas, sign: f32, raised: f32) {
        let bands = 1 + (2.2 * self.severity) as usize;
        for band in 0..bands {
            let n = band as f32;
            let y = anatomy.dome - 1.6 - raised - 1.5 * n + 0.25 * self.shift(n + 5.0);
            let (from, to) = (sign * (3.2 + 0.3 * self.shift(n)), sign * (9.2 + 2.2 * self.severity));
            let points = [(from, y - 0.4), ((from + to) / 2.0, y), (to, y + 0.75)];
            let strength = 0.35 + 0.5 * self.severity;
            canvas.tube(&points, (0.34 + 0.2 * self.severity, 0.2), |d| strength * smooth(1.45, 0.2, d));
        }
    }

    /// Adds it to an empty lateral canvas.
    pub fn draw_lateral(&self, anatomy: &Anatomy, canvas: &mut Canvas, raised: f32) {
        if !self.visible_on_lateral() {
            return;
        }
        let noise = self.noise;
        let severity = self.severity;
        let edge = |x: f32, y: f32| smooth(0.0, 0.25, anatomy.lung_lateral(x, y, raised));
        match self.finding {
            Finding::Cardiomegaly | Finding::Pneumothorax => {}
            Finding::Edema => canvas.add((-12.0, 4.0), (12.0, 34.0), |x, y| {
                let distance = ((x - 0.5) / (4.0 + 4.0 * severity)).hypot((y - 16.5) / (4.5 + 5.0 * severity));
                let texture = 0.82 + 0.3 * noise.at(x * 1.3, y * 1.3);
                (0.16 + 0.5 * severity) * smooth(1.3, 0.1, distance) * texture * edge(x, y)
            }),
            Finding::PleuralEffusion => {
                let back = anatomy.depth / 2.0 - 1.6;
                let level = anatomy.diaphragm_lateral(back, raised) - 0.9 - 10.0 * severity;
                canvas.add((-12.0, 6.0), (13.0, 38.0), |x, y| {
                    let surface = level - 2.2 * severity.sqrt() * (-(back - x).max(0.0) / 1.4).exp();
                    let depth = smooth(surface - 0.3, surface + 1.4, y);
                    let air = anatomy.lung_lateral(x, y, raised);
                    (AIR * air + 0.2 * smooth(0.0, 0.3, air)) * depth
                });
            }
            Finding::Atelectasis => {
                let y = anatomy.dome - 1.0 - raised;
                let points = [(-3.0, y - 1.2), (2.0, y), (6.0, y + 1.8)];
                canvas.tube(&points, (0.42, 0.28), |d| (0.28 + 0.42 * severity) * smooth(1.45, 0.2, d));
            }
            Finding::Consolidation | Finding::Pneumonia => {
                // Lower zones are posterior to the heart, upper ones nearer the front.
                let cx = if self.zone == Zone::Lower { 4.2 } else { 1.0 } + 0.6 * self.shift(9.0);
                let cy = self.zone.height() + 0.8 + 0.5 * self.shift(2.0);
                let patchy = if self.finding == Finding::Pneumonia { 0.75 } else { 0.3 };
                let radius = 2.0 + 2.3 * severity;
                canvas.add((cx - 8.0, cy - 8.0), (cx + 8.0, cy + 8.0), |x, y| {
                    let ragged = 1.0 + 0.38 * noise.at(x * 0.6, y * 0.6);
                    let texture = 1.0 + patchy * noise.at(x * 1.2 + 9.0, y * 1.2);
                    let distance = (x - cx).hypot(y - cy) / (radius * ragged);
                    (0.34 + 0.56 * severity) * smooth(1.25, 0.35, distance) * texture.max(0.0) * edge(x, y)
                });
            }
        }
    }
}

/// 1 well inside the lung, falling to 0 at its edge.
fn lung_edge(anatomy: &Anatomy, x: f32, y: f32, raised: f32) -> f32 {
    smooth(0.0, 0.3, anatomy.lung(x, y, raised))
}
