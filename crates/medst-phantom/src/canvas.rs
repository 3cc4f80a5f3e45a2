//! A field of X-ray attenuation over the film, drawn with shapes in centimetres.
//!
//! Attenuation adds along a ray, so every structure is drawn by adding its own share: the chord of
//! an ellipsoid, the wall of a tube. Shapes only touch the pixels under their bounding box.

/// Points and lengths are in centimetres on the film: x to the right, y down.
pub type Point = (f32, f32);

/// The patient's position in front of the film.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// Film coordinates of the picture's centre.
    pub centre: Point,
    /// Radians, clockwise.
    pub rotation: f32,
    /// Height of the picture in centimetres.
    pub height: f32,
}

/// Attenuation of each pixel.
#[derive(Clone, Debug)]
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
    pose: Pose,
    /// Centimetres of a pixel.
    scale: f32,
}

impl Canvas {
    pub fn new(width: usize, height: usize, pose: Pose) -> Canvas {
        Canvas { width, height, values: vec![0.0; width * height], pose, scale: pose.height / height as f32 }
    }

    /// An empty canvas of the same geometry.
    pub fn blank(&self) -> Canvas {
        Canvas { values: vec![0.0; self.values.len()], ..self.clone() }
    }

    /// Centimetres of a pixel's side.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    fn to_film(&self, column: usize, row: usize) -> Point {
        let x = (column as f32 + 0.5 - self.width as f32 / 2.0) * self.scale;
        let y = (row as f32 + 0.5 - self.height as f32 / 2.0) * self.scale;
        let (sin, cos) = self.pose.rotation.sin_cos();
        (self.pose.centre.0 + x * cos - y * sin, self.pose.centre.1 + x * sin + y * cos)
    }

    fn to_pixel(&self, (x, y): Point) -> (f32, f32) {
        let (x, y) = (x - self.pose.centre.0, y - self.pose.centre.1);
        let (sin, cos) = self.pose.rotation.sin_cos();
        let (column, row) = ((x * cos + y * sin) / self.scale, (y * cos - x * sin) / self.scale);
        (column + self.width as f32 / 2.0 - 0.5, row + self.height as f32 / 2.0 - 0.5)
    }

    /// Columns and rows that a box of the film covers.
    fn window(&self, low: Point, high: Point) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let corners = [low, (low.0, high.1), (high.0, low.1), high].map(|corner| self.to_pixel(corner));
        let range = |values: [f32; 4], size: usize| {
            let (low, high) = values.into_iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
            let start = low.floor().clamp(0.0, size as f32) as usize;
            start..(high.ceil() + 1.0).clamp(start as f32, size as f32) as usize
        };
        (range(corners.map(|c| c.0), self.width), range(corners.map(|c| c.1), self.height))
    }

    /// Adds `f(x, y)` to every pixel of a box of the film.
    pub fn add(&mut self, low: Point, high: Point, f: impl Fn(f32, f32) -> f32) {
        let (columns, rows) = self.window(low, high);
        for row in rows {
            for column in columns.clone() {
                let (x, y) = self.to_film(column, row);
                self.values[row * self.width + column] += f(x, y);
            }
        }
    }

    /// Adds `f(x, y)` everywhere.
    pub fn add_everywhere(&mut self, f: impl Fn(f32, f32) -> f32) {
        for row in 0..self.height {
            for column in 0..self.width {
                let (x, y) = self.to_film(column, row);
                self.values[row * self.width + column] += f(x, y);
            }
        }
    }

    /// Adds another canvas of the same geometry.
    pub fn add_canvas(&mut self, other: &Canvas) {
        self.values.iter_mut().zip(&other.values).for_each(|(value, other)| *value += other);
    }

    /// Adds an ellipsoid: `density` times its chord, as a share of the longest.
    pub fn ellipsoid(&mut self, centre: Point, radii: Point, angle: f32, density: f32) {
        let reach = radii.0.max(radii.1);
        let (sin, cos) = angle.sin_cos();
        self.add((centre.0 - reach, centre.1 - reach), (centre.0 + reach, centre.1 + reach), |x, y| {
            let (x, y) = (x - centre.0, y - centre.1);
            let (u, v) = ((x * cos + y * sin) / radii.0, (y * cos - x * sin) / radii.1);
            density * (1.0 - u * u - v * v).max(0.0).sqrt()
        });
    }

    /// Adds a tube along a line of points, its radius running from `radii.0` to `radii.1`.
    /// `profile` gives the attenuation at a distance from the axis, as a share of the radius (0 on
    /// the axis, 1 at the wall).
    pub fn tube(&mut self, points: &[Point], radii: Point, profile: impl Fn(f32) -> f32) {
        self.trace(points, radii, |value, distance| *value += profile(distance));
    }

    /// Like [`Canvas::tube`], but raises values to the profile instead of adding it, so that the
    /// joints of a branching tree are not denser than its branches.
    pub fn tube_over(&mut self, points: &[Point], radii: Point, profile: impl Fn(f32) -> f32) {
        self.trace(points, radii, |value, distance| *value = value.max(profile(distance)));
    }

    fn trace(&mut self, points: &[Point], radii: Point, apply: impl Fn(&mut f32, f32)) {
        let reach = radii.0.max(radii.1) + self.scale;
        let bounds = points.iter().fold(((f32::MAX, f32::MAX), (f32::MIN, f32::MIN)), |(low, high), &(x, y)| {
            ((low.0.min(x), low.1.min(y)), (high.0.max(x), high.1.max(y)))
        });
        let (low, high) = ((bounds.0.0 - reach, bounds.0.1 - reach), (bounds.1.0 + reach, bounds.1.1 + reach));
        let (columns, rows) = self.window(low, high);
        let stride = columns.len();
        // The nearest segment counts, so that joints are not drawn twice.
        let mut nearest = vec![f32::MAX; stride * rows.len()];
        let segments = points.len().saturating_sub(1).max(1) as f32;
        for (number, pair) in points.windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            let low = (from.0.min(to.0) - reach, from.1.min(to.1) - reach);
            let high = (from.0.max(to.0) + reach, from.1.max(to.1) + reach);
            let (part_columns, part_rows) = self.window(low, high);
            let direction = (to.0 - from.0, to.1 - from.1);
            let square = (direction.0 * direction.0 + direction.1 * direction.1).max(1e-9);
            for row in part_rows {
                for column in part_columns.clone() {
                    let (x, y) = self.to_film(column, row);
                    let (x, y) = (x - from.0, y - from.1);
                    let along = ((x * direction.0 + y * direction.1) / square).clamp(0.0, 1.0);
                    let distance = (x - along * direction.0).hypot(y - along * direction.1);
                    let radius = radii.0 + (radii.1 - radii.0) * (number as f32 + along) / segments;
                    let place = &mut nearest[(row - rows.start) * stride + column - columns.start];
                    *place = place.min(distance / radius.max(1e-3));
                }
            }
        }
        for (line, row) in nearest.chunks_exact(stride.max(1)).zip(rows) {
            for (&distance, column) in line.iter().zip(columns.clone()) {
                if distance < 1.5 {
                    apply(&mut self.values[row * self.width + column], distance);
                }
            }
        }
    }

    /// Softens everything with a box of `2·radius + 1` pixels, twice in each direction (close to a
    /// Gaussian).
    pub fn blur(&mut self, radius: usize) {
        if radius == 0 {
            return;
        }
        let mut line = Vec::new();
        for _ in 0..2 {
            for row in 0..self.height {
                let start = row * self.width;
                box_filter(&mut self.values[start..start + self.width], radius, &mut line);
            }
            let mut lines = vec![0.0; self.height];
            for column in 0..self.width {
                let values = &mut self.values[column..];
                lines.iter_mut().zip(values.iter().step_by(self.width)).for_each(|(line, value)| *line = *value);
                box_filter(&mut lines, radius, &mut line);
                values.iter_mut().step_by(self.width).zip(&lines).for_each(|(value, line)| *value = *line);
            }
        }
    }

    /// The box of pixels `[left, top, right, bottom]` (ends exclusive) whose values exceed a share
    /// of the largest in size.
    pub fn bounds(&self, share: f32) -> Option<[u32; 4]> {
        let largest = self.values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        if largest < 1e-4 {
            return None;
        }
        let mut bounds = [u32::MAX, u32::MAX, 0, 0];
        for (place, value) in self.values.iter().enumerate() {
            if value.abs() > share * largest {
                let (column, row) = ((place % self.width) as u32, (place / self.width) as u32);
                bounds[0] = bounds[0].min(column);
                bounds[1] = bounds[1].min(row);
                bounds[2] = bounds[2].max(column + 1);
                bounds[3] = bounds[3].max(row + 1);
            }
        }
        Some(bounds)
    }
}

fn box_filter(values: &mut [f32], radius: usize, copy: &mut Vec<f32>) {
    copy.clear();
    copy.extend_from_slice(values);
    let count = values.len();
    let at = |index: isize| copy[index.clamp(0, count as isize - 1) as usize];
    let radius = radius as isize;
    let mut sum: f32 = (-radius..=radius).map(at).sum();
    for (place, value) in values.iter_mut().enumerate() {
        *value = sum / (2 * radius + 1) as f32;
        sum += at(place as isize + radius + 1) - at(place as isize - radius);
    }
}

/// Rises smoothly from 0 at `low` to 1 at `high` (which may be the smaller).
pub fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise in `[-1, 1]`: random values on a grid of cells of side 1, interpolated; four
/// octaves.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    pub seed: u32,
}

impl Noise {
    pub fn at(self, x: f32, y: f32) -> f32 {
        let mut sum = 0.0;
        for octave in 0..4u32 {
            let frequency = (1 << octave) as f32;
            sum += self.cell(x * frequency, y * frequency, octave) / frequency;
        }
        sum / 1.875
    }

    fn cell(self, x: f32, y: f32, octave: u32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (u, v) = (smooth(0.0, 1.0, x - column), smooth(0.0, 1.0, y - row));
        let value = |dx: i32, dy: i32| {
            let mut hash = (column as i32 + dx) as u32;
            hash = hash.wrapping_mul(0x9e37_79b1) ^ ((row as i32 + dy) as u32).wrapping_mul(0x85eb_ca77);
            hash ^= self.seed.wrapping_add(octave.wrapping_mul(0xc2b2_ae3d));
            hash = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
            hash = (hash ^ (hash >> 12)).wrapping_mul(0x297a_2d39);
            ((hash ^ (hash >> 15)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let top = value(0, 0) * (1.0 - u) + value(1, 0) * u;
        let bottom = value(0, 1) * (1.0 - u) + value(1, 1) * u;
        top * (1.0 - v) + bottom * v
    }
}
