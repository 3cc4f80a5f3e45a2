//! Dropout as a function of the seed and of a unit's position (`ops/dropout.cpp`): a report loses
//! the same units whether its batch is computed at once, in chunks, twice (in recomputation), or by
//! several processes.

use std::ffi::{c_char, c_void};

use tch::{Device, Kind, Tensor};

use super::Mode;
use crate::device::send_rows;
use crate::ops::{pointer, take};

unsafe extern "C" {
    fn medst_dropout(
        x: *const c_void,
        seeds: *const c_void,
        place: i64,
        probability: f64,
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// Decides which units of some reports are dropped.
#[derive(Debug)]
pub struct Dropout {
    /// 0 where nothing is dropped.
    probability: f64,
    /// Seed of each report, `[B]` int64 on the reports' device.
    seeds: Tensor,
}

impl Dropout {
    /// * `seeds`: one for each of the `B` reports, which are on `device`.
    pub fn new(mode: Mode, probability: f64, seeds: &[i64], device: Device) -> Dropout {
        match mode {
            Mode::Train if probability > 0.0 => Dropout { probability, seeds: send_rows(seeds, device) },
            _ => Dropout::none(),
        }
    }

    /// Drops nothing.
    pub fn none() -> Dropout {
        Dropout { probability: 0.0, seeds: Tensor::empty([0], (Kind::Int64, Device::Cpu)) }
    }

    /// A second handle to the same values.
    pub fn handle(&self) -> Dropout {
        Dropout { probability: self.probability, seeds: self.seeds.shallow_clone() }
    }

    /// Whether anything is dropped.
    pub fn acts(&self) -> bool {
        self.probability > 0.0
    }

    /// Zeroes units of `x`, `[B, …, tokens, units]`, with the probability, and scales the others to
    /// keep the mean.
    ///
    /// * `place`: where in the encoder; another place drops other units.
    ///
    /// A GPU drops the same units as a CPU.
    ///
    /// # Panics
    /// When the number of seeds differs from that of rows.
    pub fn apply(&self, x: &Tensor, place: i64) -> Tensor {
        if !self.acts() {
            return x.shallow_clone();
        }
        // SAFETY: the tensors live through the call.
        take(|error| unsafe { medst_dropout(pointer(x), pointer(&self.seeds), place, self.probability, error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(x: &Tensor, seeds: &[i64], place: i64, probability: f64) -> Tensor {
        Dropout::new(Mode::Train, probability, seeds, Device::Cpu).apply(x, place)
    }

    fn ones(shape: &[i64], kind: Kind) -> Tensor {
        Tensor::ones(shape, (kind, Device::Cpu))
    }

    /// Over 600,000 units, with a margin of 5 standard deviations.
    #[test]
    fn as_many_units_go_as_asked_for_and_the_mean_stays() {
        for probability in [0.1, 0.5, 0.9] {
            let out = apply(&ones(&[3, 200, 1000], Kind::Float), &[1, 2, 3], 0, probability);
            let gone = out.eq(0.0).to_kind(Kind::Double).mean(None::<Kind>).double_value(&[]);
            let deviation = (probability * (1.0 - probability) / 600_000.0_f64).sqrt();
            assert!((gone - probability).abs() < 5.0 * deviation, "{gone} for {probability}");
            let kept = out.max().double_value(&[]);
            assert!((kept * (1.0 - probability) - 1.0).abs() < 1e-6, "{kept}");
        }
    }

    /// Neighbours along every axis, places and seeds agree as often as expected by chance.
    #[test]
    fn units_go_independently_of_each_other() {
        let (probability, shape) = (0.3, [4i64, 6, 50, 500]);
        let gone = |seeds: &[i64], place| apply(&ones(&shape, Kind::Float), seeds, place, probability).eq(0.0);
        let first = gone(&[1, 2, 3, 4], 0);
        let both = probability * probability + (1.0 - probability) * (1.0 - probability);
        let alike = |a: &Tensor, b: &Tensor| a.eq_tensor(b).to_kind(Kind::Double).mean(None::<Kind>).double_value(&[]);
        let bound = 6.0 * (both * (1.0 - both) / 450_000.0_f64).sqrt();
        let shifted = |dim: i64, by: i64| {
            let length = shape[dim as usize] - by;
            alike(&first.narrow(dim, 0, length), &first.narrow(dim, by, length))
        };
        let pairs = [
            shifted(0, 1),
            shifted(1, 1),
            shifted(2, 1),
            shifted(3, 1),
            shifted(3, 2),
            shifted(3, 16),
            alike(&first, &gone(&[1, 2, 3, 4], 1)),
            alike(&first, &gone(&[5, 6, 7, 8], 0)),
        ];
        for agreement in pairs {
            assert!((agreement - both).abs() < bound, "{pairs:?} where {both} ± {bound} is chance");
        }
    }

    proptest! {
        /// A report loses the same units alone, in a batch with others, and padded to more tokens.
        #[test]
        fn a_report_loses_the_same_units_whatever_is_beside_it(
            (rows, row) in (1i64..5).prop_flat_map(|rows| (Just(rows), 0..rows)),
            (heads, tokens, more) in (1i64..4, 1i64..9, 0i64..5),
            attention: bool,
            seed: i64,
        ) {
            let units = if attention { tokens } else { 37 };
            let seeds: Vec<i64> = (0..rows).map(|row| seed.wrapping_add(row)).collect();
            let padded = if attention { tokens + more } else { 37 };
            let whole = apply(&ones(&[rows, heads, tokens + more, padded], Kind::Double), &seeds, 3, 0.4);
            let alone = apply(&ones(&[1, heads, tokens, units], Kind::Double), &seeds[row as usize..][..1], 3, 0.4);
            prop_assert_eq!(whole.narrow(0, row, 1).narrow(2, 0, tokens).narrow(3, 0, units), alone);
        }
    }

    #[test]
    fn the_gradient_goes_through_the_units_that_stayed() {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
            let x = Tensor::randn([2, 5, 40], (kind, Device::Cpu)).set_requires_grad(true);
            // Strided, as attention's are.
            let out = apply(&x.transpose(1, 2), &[7, 8], 1, 0.5);
            out.sum(None::<Kind>).backward();
            let of_ones = apply(&ones(&[2, 40, 5], kind), &[7, 8], 1, 0.5).transpose(1, 2);
            assert_eq!(x.grad(), of_ones);
            assert_eq!((x.detach() * of_ones).transpose(1, 2), out.detach());
        }
    }

    #[test]
    #[should_panic(expected = "shape")]
    fn a_seed_is_needed_for_each_row() {
        let _ = apply(&ones(&[2, 3, 4], Kind::Float), &[1], 0, 0.5);
    }
}
