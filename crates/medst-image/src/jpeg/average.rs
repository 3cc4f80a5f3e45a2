//! From the coefficients of a block to the output cells that it overlaps.
//!
//! With `A` the 8×8 inverse cosine transform, a block's pixels are `A F Aᵀ`; with `W` the shares of
//! its rows (columns) in the output rows (columns) it overlaps, it adds
//! `W (A F Aᵀ) Wᵀ = (W A) F (W A)ᵀ` to the cells there.

use std::f64::consts::PI;

use crate::resize::{Fit, covers};

/// Output cells that a block may overlap along one axis, rounded up for the vector unit. A block of
/// 8 pixels overlaps at most 8 / 2 + 2 where pictures shrink to a half or less.
const CELLS: usize = 8;
/// Less shrinking is left to the full decoder.
const LEAST_SHRINKING: f64 = 2.0;
/// No product of two basis functions exceeds this.
const LARGEST_BASIS: f32 = 0.2406;

/// How much each of 8 rows (or columns) of pixels contributes to the output cells that they
/// overlap.
#[derive(Clone)]
struct Shares {
    first: usize,
    count: usize,
    /// `pixels[n][cell]`: the share of pixel `n` in a cell; `basis[n][cell]`: that of the `n`th
    /// basis function.
    pixels: [[f32; CELLS]; 8],
    basis: [[f32; CELLS]; 8],
}

/// The output cells, and what each block shares with them.
pub struct Averages {
    fit: Fit,
    rows: Vec<Shares>,
    columns: Vec<Shares>,
    /// `[fit.height + CELLS, stride]`.
    sums: Vec<f32>,
    stride: usize,
    /// `transform[u][x]`: basis function `u` at pixel `x`.
    transform: [[f32; 8]; 8],
}

impl Averages {
    /// `None` when the picture shrinks too little for this path, or not at all.
    pub fn new(width: usize, height: usize, side: usize) -> Option<Averages> {
        let fit = Fit::new(width, height, side).ok()?;
        let scale = |source: usize, target: usize| source as f64 / target as f64;
        if scale(width, fit.width) < LEAST_SHRINKING || scale(height, fit.height) < LEAST_SHRINKING {
            return None;
        }
        let mut transform = [[0.0; 8]; 8];
        for (u, function) in transform.iter_mut().enumerate() {
            for (x, value) in function.iter_mut().enumerate() {
                let norm = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
                *value = (norm * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()) as f32;
            }
        }
        let stride = fit.width + CELLS;
        Some(Averages {
            rows: shares(height, fit.height, fit.whole_scale, &transform)?,
            columns: shares(width, fit.width, fit.whole_scale, &transform)?,
            sums: vec![0.0; (fit.height + CELLS) * stride],
            fit,
            stride,
            transform,
        })
    }

    /// Adds a block.
    ///
    /// * `block`: coefficients row by row.
    /// * `energy`: sum of the absolute values of all but the first.
    #[inline(always)]
    pub fn add(&mut self, block: &[f32; 64], energy: f32, row: usize, column: usize) {
        // Blocks beyond the last full one may be outside the picture.
        let (Some(rows), Some(columns)) = (self.rows.get(row), self.columns.get(column)) else { return };
        let (mean, reach) = (block[0] / 8.0, energy * LARGEST_BASIS);
        if energy == 0.0 {
            // All pixels are equal: rounding is the same for all and does not average out.
            let value = round(mean.clamp(0.0, 255.0)) * 8.0;
            let along = columns.basis[0].map(|share| share * value);
            for cell in 0..rows.count {
                add(&mut self.sums, (rows.first + cell) * self.stride + columns.first, &along, rows.basis[0][cell]);
            }
        } else if mean - reach < 0.0 || mean + reach > 255.0 {
            let pixels = pixels(block, &self.transform);
            spread(&mut self.sums, self.stride, &pixels, [rows, columns], [&rows.pixels, &columns.pixels]);
        } else {
            spread(&mut self.sums, self.stride, block, [rows, columns], [&rows.basis, &columns.basis]);
        }
    }

    /// The finished square.
    pub fn square(&self) -> Vec<u8> {
        let rows = self.sums.chunks_exact(self.stride);
        self.fit.square(rows.map(|row| &row[..self.fit.width]))
    }
}

/// Adds `rowsᵀ · values · columns`, an 8×8 matrix between its shares.
#[inline(always)]
fn spread(
    sums: &mut [f32],
    stride: usize,
    values: &[f32; 64],
    [rows, columns]: [&Shares; 2],
    [of_rows, of_columns]: [&[[f32; CELLS]; 8]; 2],
) {
    for cell in 0..rows.count {
        let mut mixed = [0f32; 8];
        for (values, shares) in values.chunks_exact(8).zip(of_rows) {
            let share = shares[cell];
            for (mixed, value) in mixed.iter_mut().zip(values) {
                *mixed += share * value;
            }
        }
        let mut cells = [0f32; CELLS];
        for (mixed, shares) in mixed.iter().zip(of_columns) {
            for (cell, share) in cells.iter_mut().zip(shares) {
                *cell += mixed * share;
            }
        }
        add(sums, (rows.first + cell) * stride + columns.first, &cells, 1.0);
    }
}

#[inline(always)]
fn add(sums: &mut [f32], start: usize, cells: &[f32; CELLS], factor: f32) {
    if let Some(sums) = sums.get_mut(start..start + CELLS) {
        for (sum, cell) in sums.iter_mut().zip(cells) {
            *sum += cell * factor;
        }
    }
}

/// The pixels of a block as a decoder gives them: whole numbers of 0…255.
#[inline(always)]
fn pixels(block: &[f32; 64], transform: &[[f32; 8]; 8]) -> [f32; 64] {
    let mut pixels = [0f32; 64];
    for (y, row) in pixels.chunks_exact_mut(8).enumerate() {
        let mut mixed = [0f32; 8];
        for (coefficients, function) in block.chunks_exact(8).zip(transform) {
            for (mixed, coefficient) in mixed.iter_mut().zip(coefficients) {
                *mixed += function[y] * coefficient;
            }
        }
        for (mixed, function) in mixed.iter().zip(transform) {
            for (pixel, value) in row.iter_mut().zip(function) {
                *pixel += mixed * value;
            }
        }
        for pixel in row {
            *pixel = round(pixel.clamp(0.0, 255.0));
        }
    }
    pixels
}

/// To the nearest whole number; adding and taking away 1.5 · 2²³ leaves no room for a fraction.
#[inline(always)]
fn round(value: f32) -> f32 {
    (value + 12_582_912.0) - 12_582_912.0
}

/// For each run of 8 pixels, its contributions to the output cells.
fn shares(source: usize, target: usize, counts: bool, transform: &[[f32; 8]; 8]) -> Option<Vec<Shares>> {
    let mut blocks = vec![
        Shares { first: usize::MAX, count: 0, pixels: [[0.0; CELLS]; 8], basis: [[0.0; CELLS]; 8] };
        source.div_ceil(8)
    ];
    for (cell, cover) in covers(source, target, counts).iter().enumerate() {
        for (n, &weight) in cover.weights.iter().enumerate() {
            let pixel = cover.start + n;
            let block = &mut blocks[pixel / 8];
            block.first = block.first.min(cell);
            let offset = cell - block.first;
            // Cells come in order, so the first one seen is the first.
            *block.pixels[pixel % 8].get_mut(offset)? += weight;
            block.count = block.count.max(offset + 1);
        }
    }
    for block in &mut blocks {
        // A sliver that contributes to no cell adds nothing.
        block.first = if block.count == 0 { 0 } else { block.first };
        for (basis, function) in block.basis.iter_mut().zip(transform) {
            for (pixels, value) in block.pixels.iter().zip(function) {
                for (basis, share) in basis.iter_mut().zip(pixels) {
                    *basis += share * value;
                }
            }
        }
    }
    Some(blocks)
}
