//! The two projections: everything a ray meets, frontal and lateral.

use std::f32::consts::PI;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::anatomy::{AIR, Anatomy};
use super::canvas::{Canvas, Noise, Point, smooth};
use super::finding::{Finding, Present};

/// A picture's attenuation, and what each finding added to it (in the order of the findings).
pub struct Projected {
    pub canvas: Canvas,
    pub shares: Vec<Canvas>,
}

/// A bone's wall is dense, its marrow is not.
fn bone(strength: f32) -> impl Fn(f32) -> f32 {
    move |d: f32| {
        if d >= 1.12 {
            return 0.0;
        }
        let wall = smooth(0.45, 0.92, d);
        strength * (0.62 + 0.5 * wall) * smooth(1.12, 0.9, d)
    }
}

fn vessel(strength: f32) -> impl Fn(f32) -> f32 {
    move |d: f32| strength * (1.0 - d * d).max(0.0).sqrt()
}

/// How much wider the largest heart is.
const ENLARGEMENT: f32 = 0.42;

/// How much larger than normal the heart is.
fn heart_factor(findings: &[Present]) -> f32 {
    let enlarged = findings.iter().filter(|present| present.finding == Finding::Cardiomegaly);
    1.0 + enlarged.map(|present| ENLARGEMENT * present.severity * present.contrast).sum::<f32>()
}

fn raised(findings: &[Present]) -> f32 {
    findings.iter().map(Present::raises_diaphragm).sum()
}

/// The frontal view. `canvas` is empty.
pub fn frontal(anatomy: &Anatomy, findings: &[Present], mut canvas: Canvas) -> Projected {
    let raised = raised(findings);
    frontal_soft_tissue(anatomy, &mut canvas, raised);
    frontal_heart(anatomy, &mut canvas, heart_factor(findings), raised);
    frontal_vessels(anatomy, &mut canvas, raised);
    canvas.blur(1);
    frontal_bones(anatomy, &mut canvas);
    with_findings(canvas, findings, Present::visible_on_frontal, |present, share| match present.finding {
        Finding::Cardiomegaly => {
            enlargement(share, present, |canvas, factor| frontal_heart(anatomy, canvas, factor, raised))
        }
        _ => present.draw_frontal(anatomy, share, raised),
    })
}

/// Adds what each finding adds, drawn on a separate canvas.
fn with_findings(
    mut canvas: Canvas,
    findings: &[Present],
    visible: impl Fn(&Present) -> bool,
    draw: impl Fn(&Present, &mut Canvas),
) -> Projected {
    let mut shares = Vec::with_capacity(findings.len());
    for present in findings {
        let mut share = canvas.blank();
        if visible(present) {
            draw(present, &mut share);
            share.blur(1);
            // The anatomy has drawn an enlarged heart already; its share is only recorded.
            if present.finding != Finding::Cardiomegaly {
                share.values.iter_mut().for_each(|value| *value *= present.contrast);
                canvas.add_canvas(&share);
            }
        }
        shares.push(share);
    }
    Projected { canvas, shares }
}

/// The excess of an enlarged heart over a normal one.
fn enlargement(share: &mut Canvas, present: &Present, heart: impl Fn(&mut Canvas, f32)) {
    heart(share, 1.0);
    share.values.iter_mut().for_each(|value| *value = -*value);
    heart(share, 1.0 + ENLARGEMENT * present.severity * present.contrast);
}

fn frontal_soft_tissue(anatomy: &Anatomy, canvas: &mut Canvas, raised: f32) {
    let noise = anatomy.noise;
    canvas.add_everywhere(|x, y| {
        let side = x.abs();
        // Trunk with shoulders: wide above, the neck in the middle of the top.
        let shoulder = 3.4 + 0.55 * (side - 4.0).max(0.0).powf(0.9) - 3.0 * smooth(5.5, 3.0, side);
        let outer = anatomy.half_width + anatomy.tissue + 9.0 * smooth(17.0, 6.5, y) + 1.2;
        let across = (side / outer).min(1.0);
        let body = 2.15 * (1.0 - across.powi(4)).max(0.0).sqrt() * smooth(shoulder - 1.5, shoulder + 1.5, y);
        let fold =
            0.14 * anatomy.tissue * smooth(anatomy.wall(y) + 0.6, anatomy.wall(y) + 1.8, side) * smooth(6.0, 11.0, y);
        let abdomen = 0.85 * smooth(-0.6, 1.4, y - anatomy.diaphragm(x, raised)) * smooth(outer, outer - 3.0, side);
        let air = anatomy.lung(x, y, raised);
        let texture = 0.05 * noise.at(x * 0.8, y * 0.8) * air;
        body + fold + abdomen - AIR * air + texture + 0.04 * noise.at(x * 0.25, y * 0.25)
    });
    // Breast or pectoral shadow, stomach bubble, the column of the mediastinum, trachea.
    for sign in [-1.0, 1.0] {
        canvas.ellipsoid((sign * 8.6, 22.5), (5.4, 4.6), sign * 0.25, 0.11 * anatomy.tissue);
        canvas.ellipsoid((sign * 9.4, 9.2), (4.6, 4.2), sign * -0.5, 0.1 * anatomy.tissue);
    }
    canvas.ellipsoid((6.2, anatomy.dome + 4.0 - raised), (2.4, 1.5), 0.1, -0.55);
    canvas.add((-6.0, 0.0), (6.0, 40.0), |x, y| {
        let half = 2.5 + 0.55 * smooth(9.0, 15.0, y);
        let column = smooth(half + 0.5, half - 0.9, (x - 0.15).abs())
            * smooth(2.0, 5.5, y)
            * (1.0 - 0.75 * smooth(14.0, 20.0, y));
        let trachea = smooth(0.95, 0.55, x.abs()) * smooth(14.2, 13.0, y) * smooth(0.0, 1.0, y);
        0.2 * column - 0.4 * trachea
    });
    for sign in [-1.0, 1.0f32] {
        let bronchus = [(0.0, 13.4), (sign * 1.6, 14.9), (sign * 3.0, 16.2)];
        canvas.tube(&bronchus, (0.62, 0.5), |d| -0.26 * smooth(1.2, 0.5, d));
    }
}

/// Attenuation that the heart adds where it replaces soft tissue, relative to where it replaces
/// air.
const IN_TISSUE: f32 = 0.2;

/// Aortic knob, right atrium and left ventricle as ellipsoids, sized to the heart's width.
fn frontal_heart(anatomy: &Anatomy, canvas: &mut Canvas, factor: f32, raised: f32) {
    let width = anatomy.heart * factor;
    let bottom = anatomy.dome + 0.8;
    let centre = (0.13 * width, bottom - 0.36 * width);
    let mut heart = canvas.blank();
    heart.ellipsoid(centre, (0.47 * width, 0.36 * width), 0.55, 1.35);
    heart.ellipsoid((-0.1 * width, bottom - 0.4 * width), (0.3 * width, 0.4 * width), -0.1, 0.6);
    heart.ellipsoid((0.9, bottom - 0.78 * width), (2.6, 3.6), 0.2, 0.36);
    // The chest is not deeper where the heart is: it displaces lung, or tissue nearly as dense as
    // itself.
    let mut place = canvas.blank();
    let reach = 0.8 * width;
    place.add((-reach, bottom - 1.3 * width), (reach, bottom + 0.4 * width), |x, y| {
        IN_TISSUE + (1.0 - IN_TISSUE) * anatomy.lung(x, y, raised)
    });
    heart.values.iter_mut().zip(&place.values).for_each(|(value, place)| *value *= place);
    canvas.add_canvas(&heart);
    canvas.ellipsoid((2.5, 11.6), (1.7, 1.7), 0.0, 0.46);
    // Descending aorta, posterior to the heart.
    canvas.tube(&[(2.2, 11.8), (2.0, 18.0), (1.6, 26.0), (1.3, 32.0)], (1.15, 1.0), vessel(0.24));
}

/// Arteries and veins: two trees that branch from the hila.
fn frontal_vessels(anatomy: &Anatomy, canvas: &mut Canvas, raised: f32) {
    let mut random = ChaCha8Rng::seed_from_u64(anatomy.noise.seed.into());
    let mut layer = canvas.blank();
    for sign in [-1.0f32, 1.0] {
        let hilum = (sign * 3.4, if sign < 0.0 { 16.6 } else { 15.6 });
        layer.ellipsoid((hilum.0 - sign * 0.2, hilum.1), (1.5, 2.5), sign * -0.2, 0.34);
        for trunk in 0..9 {
            let angle = -1.25 + 2.75 * trunk as f32 / 8.0 + random.random_range(-0.12..0.12);
            let start = (hilum.0 + sign * 0.8 * angle.cos(), hilum.1 + 1.7 * angle.sin());
            branch(&mut layer, start, sign, angle, 0.34, 4, &mut random);
        }
    }
    // Vessels are seen against air only.
    let mask = {
        let mut mask = canvas.blank();
        mask.add_everywhere(|x, y| smooth(0.02, 0.4, anatomy.lung(x, y, raised)));
        mask
    };
    layer.values.iter_mut().zip(&mask.values).for_each(|(value, mask)| *value *= mask);
    canvas.add_canvas(&layer);
}

fn branch(canvas: &mut Canvas, from: Point, sign: f32, angle: f32, radius: f32, depth: u32, random: &mut ChaCha8Rng) {
    let length = 1.3 + 1.5 * radius / 0.34 + random.random_range(0.0..0.9);
    let bend = random.random_range(-0.28..0.28);
    let step =
        |point: Point, angle: f32| (point.0 + sign * angle.cos() * length / 2.0, point.1 + angle.sin() * length / 2.0);
    let middle = step(from, angle);
    let end = step(middle, angle + bend);
    canvas.tube_over(&[from, middle, end], (radius, radius * 0.74), vessel(0.14 + 0.5 * radius));
    if depth > 0 {
        for spread in [-0.38, 0.38] {
            let angle = angle + bend + spread + random.random_range(-0.16..0.16);
            branch(canvas, end, sign, angle, radius * 0.66, depth - 1, random);
        }
    }
}

fn frontal_bones(anatomy: &Anatomy, canvas: &mut Canvas) {
    let strength = anatomy.bone;
    // Vertebrae with their discs, and spinous processes.
    for vertebra in 0..14 {
        let y = 1.8 + vertebra as f32 * (2.25 + 0.03 * vertebra as f32);
        let half = 1.25 + 0.035 * vertebra as f32;
        canvas.add((-3.0, y - 1.2), (3.0, y + 1.2), |x, dy| {
            let body = smooth(half, half - 0.22, x.abs()) * smooth(0.98, 0.8, (dy - y).abs());
            let rim = 0.35 * smooth(0.3, 0.0, (x.abs() - half + 0.2).abs()) * smooth(0.98, 0.8, (dy - y).abs());
            let process = 0.7 * smooth(0.24, 0.1, x.abs()) * smooth(0.62, 0.3, (dy - y - 0.3).abs());
            strength * (0.26 * body + 0.2 * rim + 0.16 * process)
        });
        canvas.tube(&[(-half - 1.0, y - 0.3), (half + 1.0, y - 0.3)], (0.34, 0.34), bone(0.1 * strength));
    }
    for sign in [-1.0f32, 1.0] {
        for rib in 0..10 {
            let n = rib as f32;
            let top = 5.4 + 2.12 * n;
            // Behind: from the spine up and out, then down along the wall.
            let wall = anatomy.wall((top + 1.6).clamp(5.6, 30.0)).max(3.6);
            let behind: Vec<Point> = (0..=22)
                .map(|step| {
                    let t = step as f32 / 22.0;
                    let x = 1.7 + (wall - 1.55) * (t * PI / 2.0).sin().powf(0.86);
                    let y = top - 0.75 * (t * PI * 0.9).sin()
                        + (1.1 + 0.22 * n) * t * t
                        + 0.34 * anatomy.rib_slope * t.powi(4);
                    (sign * x, y)
                })
                .collect();
            canvas.tube(&behind, (0.5, 0.52), bone(0.25 * strength));
            // In front: fainter, from the wall down to the middle, ending in cartilage.
            if rib < 8 {
                let &(start_x, start_y) = behind.last().unwrap_or(&(0.0, 0.0));
                let reach = if rib < 2 { 0.62 } else { 0.52 };
                let front: Vec<Point> = (0..=16)
                    .map(|step| {
                        let t = step as f32 / 16.0;
                        let x = start_x.abs() * (1.0 - reach * (t * PI / 2.0).sin().powi(2));
                        let y = start_y + anatomy.rib_slope * (0.5 + 0.05 * n) * t - 0.4 * (t * PI).sin();
                        (sign * x, y)
                    })
                    .collect();
                canvas.tube(&front, (0.52, 0.66), bone(0.13 * strength));
            }
        }
        let clavicle: Vec<Point> = (0..=14)
            .map(|step| {
                let t = step as f32 / 14.0;
                (sign * (1.5 + 12.6 * t), 7.6 - 2.3 * t - 0.55 * (t * 2.0 * PI).sin())
            })
            .collect();
        canvas.tube(&clavicle, (0.72, 0.58), bone(0.34 * strength));
        // Scapula: its inner edge crosses the upper lung's side; humeral head at the corner.
        let edge = [(sign * 11.2, 6.6), (sign * 12.4, 10.5), (sign * 13.4, 14.5), (sign * 14.6, 18.0)];
        canvas.tube(&edge, (0.4, 0.3), bone(0.16 * strength));
        canvas.tube(&[(sign * 11.4, 6.4), (sign * 15.0, 5.4), (sign * 18.0, 5.0)], (0.5, 0.6), bone(0.22 * strength));
        canvas.ellipsoid((sign * 18.3, 7.2), (2.3, 2.5), 0.0, 0.6 * strength);
        canvas.tube(&[(sign * 18.6, 8.5), (sign * 19.6, 18.0)], (1.2, 1.1), bone(0.42 * strength));
    }
}

/// The lateral view: the front is on the left. `canvas` is empty.
pub fn lateral(anatomy: &Anatomy, findings: &[Present], mut canvas: Canvas) -> Projected {
    let raised = raised(findings);
    let noise = Noise { seed: anatomy.noise.seed ^ 0x5bd1_e995 };
    let half = anatomy.depth / 2.0;
    canvas.add_everywhere(|x, y| {
        let front = -half - anatomy.tissue * (0.7 + 0.5 * smooth(9.0, 20.0, y)) + 4.0 * smooth(9.0, 3.0, y);
        let back = half + 1.6 + 0.4 * anatomy.tissue - 1.4 * smooth(8.0, 3.0, y);
        let inside = smooth(front - 0.3, front + 1.8, x) * smooth(back + 0.3, back - 1.8, x);
        let air = anatomy.lung_lateral(x, y, raised);
        // Shoulders above, liver and spleen below.
        let shoulders = 0.5 * smooth(12.5, 4.0, y) * smooth(half + 2.0, half - 5.0, x.abs());
        let abdomen = 0.7 * smooth(-0.3, 0.9, y - anatomy.diaphragm_lateral(x, raised));
        let second = 0.3 * smooth(-0.2, 0.5, y - anatomy.diaphragm_lateral(x + 1.2, raised) - 0.9);
        (2.3 + shoulders + abdomen + second) * inside - AIR * 1.05 * air + 0.06 * noise.at(x * 0.7, y * 0.7) * air
    });
    lateral_heart(anatomy, &mut canvas, heart_factor(findings));
    canvas.add((-4.0, 0.0), (6.0, 17.0), |x, y| {
        let trachea = smooth(0.95, 0.5, (x - 0.9 - 0.08 * y).abs()) * smooth(15.5, 14.0, y) * smooth(1.0, 3.0, y);
        -0.5 * trachea
    });
    let mut random = ChaCha8Rng::seed_from_u64(u64::from(anatomy.noise.seed) + 1);
    let mut vessels = canvas.blank();
    vessels.ellipsoid((1.4, 16.2), (1.8, 2.4), 0.2, 0.3);
    for trunk in 0..14 {
        let angle = trunk as f32 * PI / 7.0 + random.random_range(-0.2..0.2);
        let start = (1.4 + 1.2 * angle.cos(), 16.2 + 1.5 * angle.sin());
        branch(&mut vessels, start, 1.0, angle, 0.28, 3, &mut random);
    }
    let mut mask = canvas.blank();
    mask.add_everywhere(|x, y| smooth(0.02, 0.4, anatomy.lung_lateral(x, y, raised)));
    vessels.values.iter_mut().zip(&mask.values).for_each(|(value, mask)| *value *= mask);
    canvas.add_canvas(&vessels);
    canvas.blur(1);
    lateral_bones(anatomy, &mut canvas);
    with_findings(canvas, findings, Present::visible_on_lateral, |present, share| match present.finding {
        Finding::Cardiomegaly => enlargement(share, present, |canvas, factor| lateral_heart(anatomy, canvas, factor)),
        _ => present.draw_lateral(anatomy, share, raised),
    })
}

fn lateral_heart(anatomy: &Anatomy, canvas: &mut Canvas, factor: f32) {
    let size = anatomy.heart * factor;
    let front = -anatomy.depth / 2.0 + 2.6;
    canvas.ellipsoid((front + 0.42 * size, anatomy.dome - 0.2 * size), (0.44 * size, 0.35 * size), -0.5, 1.0);
    canvas.ellipsoid((front + 0.42 * size, anatomy.dome - 0.62 * size), (0.2 * size, 0.28 * size), -0.35, 0.4);
    let arch =
        [(front + 3.6, 16.0), (front + 4.4, 12.6), (1.6, 11.4), (4.4, 13.2), (5.4, 17.0), (5.6, 24.0), (5.2, 31.0)];
    canvas.tube(&arch, (1.25, 1.1), vessel(0.26));
}

fn lateral_bones(anatomy: &Anatomy, canvas: &mut Canvas) {
    let strength = anatomy.bone;
    let half = anatomy.depth / 2.0;
    // The spine, a gentle kyphosis; the lung behind makes lower vertebrae darker.
    for vertebra in 0..14 {
        let y = 3.0 + vertebra as f32 * 2.42;
        let centre = half - 2.2 - 0.9 * ((y - 18.0) / 15.0).powi(2);
        canvas.add((centre - 2.6, y - 1.3), (centre + 3.4, y + 1.3), |x, dy| {
            let (u, v) = ((x - centre).abs(), (dy - y).abs());
            let body = smooth(1.5, 1.3, u) * smooth(1.0, 0.85, v);
            let rim = smooth(0.28, 0.05, (u - 1.32).abs()).max(smooth(0.25, 0.05, (v - 0.86).abs()));
            let process = smooth(1.6, 1.2, (x - centre - 2.2).abs()) * smooth(0.5, 0.3, (dy - y - 0.4).abs());
            strength * (0.3 * body + 0.13 * body * rim + 0.12 * process)
        });
    }
    let sternum: Vec<Point> = (0..=10)
        .map(|step| {
            let t = step as f32 / 10.0;
            (-half + 2.0 - 1.7 * t + 0.9 * t * t, 8.0 + 14.0 * t)
        })
        .collect();
    canvas.tube(&sternum, (0.55, 0.5), bone(0.4 * strength));
    // Ribs of both sides, oblique from the spine to the front.
    for side in 0..2 {
        let shift = 0.85 * side as f32;
        for rib in 0..10 {
            let top = 5.6 + 2.15 * rib as f32 + shift;
            let points: Vec<Point> = (0..=18)
                .map(|step| {
                    let t = step as f32 / 18.0;
                    let x = half - 2.4 + 1.5 * (t * PI * 0.55).sin() - (anatomy.depth - 4.5) * t.powf(1.25);
                    (x, top + anatomy.rib_slope * 1.15 * t + 0.5 * (t * PI).sin())
                })
                .collect();
            canvas.tube(&points, (0.44, 0.4), bone((0.14 - 0.05 * side as f32) * strength));
        }
    }
    // A scapula seen from its side.
    canvas.tube(&[(half - 3.4, 5.0), (half - 1.6, 10.0), (half - 1.0, 15.0)], (0.35, 0.25), bone(0.22 * strength));
}
