//! The factor that keeps gradients within float16's range (Micikevicius et al., *Mixed Precision
//! Training*, 2018).
//!
//! Float16 has eight times finer steps than bfloat16, but nothing below 6e-8: gradients of layers
//! would vanish. The loss is multiplied before the backward pass and the gradients are divided
//! after it, by a power of two, which rounds nothing. If a gradient overflows, the step is computed
//! again with half the factor; after many steps without overflow, the factor is doubled.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::gradients::Differentiated;
use crate::Result;

/// Steps without an overflow after which a larger factor is tried.
const PATIENCE: u64 = 2000;

/// The factor and its history, a part of a run's state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    exponent: i32,
    /// Steps since it changed.
    steps: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { exponent: 16, steps: 0 }
    }
}

impl LossScale {
    /// The factor for layers that compute in `kind`; 1 for all that have float32's range.
    pub fn factor(&self, kind: Kind) -> f64 {
        if kind == Kind::Half { f64::from(self.exponent).exp2() } else { 1.0 }
    }

    /// Half the factor, after an overflow. False where a smaller one would not help: then it is not
    /// the factor that made it.
    fn lower(&mut self, kind: Kind) -> bool {
        let lowered = kind == Kind::Half && self.exponent > 0;
        if lowered {
            *self = LossScale { exponent: self.exponent - 1, steps: 0 };
        }
        lowered
    }

    /// Calls `differentiate` with the factor, and again with a smaller one as long as a gradient
    /// overflows. Whatever the forward pass leaves, such as running statistics, it leaves each
    /// time.
    ///
    /// * `norm`: the length of all gradients together, or an error where one is not finite.
    ///
    /// # Errors
    /// Those of both; an overflow that no factor mends.
    pub fn differentiate<T>(
        &mut self,
        kind: Kind,
        norm: impl Fn(&[Tensor]) -> Result<f64>,
        mut differentiate: impl FnMut(f64) -> Result<Differentiated<T>>,
    ) -> Result<Scaled<T>> {
        loop {
            let factor = self.factor(kind);
            let Differentiated { losses, gradients } = differentiate(factor)?;
            match norm(&gradients) {
                Ok(norm) => {
                    self.done(kind);
                    return Ok(Scaled { losses, gradients, factor, norm: norm / factor });
                }
                Err(_) if self.lower(kind) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A step without an overflow.
    fn done(&mut self, kind: Kind) {
        self.steps += u64::from(kind == Kind::Half);
        if self.steps == PATIENCE {
            *self = LossScale { exponent: (self.exponent + 1).min(32), steps: 0 };
        }
    }
}

/// Gradients that are `factor` times as large as they should be.
#[derive(Debug)]
pub struct Scaled<T> {
    /// The losses, from which the gradients were computed.
    pub losses: T,
    pub gradients: Vec<Tensor>,
    pub factor: f64,
    /// The length of all gradients together, without the factor.
    pub norm: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_at_an_overflow_and_rises_again_after_long() {
        let mut scale = LossScale::default();
        assert_eq!([Kind::Half, Kind::BFloat16, Kind::Float].map(|kind| scale.factor(kind)), [65536.0, 1.0, 1.0]);
        assert!(!scale.lower(Kind::Float), "an overflow of float32 has another cause");
        assert!(scale.lower(Kind::Half));
        assert_eq!(scale.factor(Kind::Half), 32768.0);
        (1..PATIENCE).for_each(|_| scale.done(Kind::Half));
        assert_eq!(scale.factor(Kind::Half), 32768.0);
        scale.done(Kind::Half);
        assert_eq!(scale.factor(Kind::Half), 65536.0);
        (0..16).for_each(|_| assert!(scale.lower(Kind::Half)));
        assert!(!scale.lower(Kind::Half), "the factor is never below 1");
    }

    /// A gradient of 1e35, 2^116.3, of which float32 holds 2^11 times as much.
    #[test]
    fn an_overflow_is_computed_again_with_half_the_factor() {
        let norm = |gradients: &[Tensor]| match gradients[0].double_value(&[]) {
            norm if norm.is_finite() => Ok(norm),
            _ => Err(crate::Error::Training("not finite".into())),
        };
        let mut tried = Vec::new();
        let mut scale = LossScale::default();
        let mut ask = |kind, value: f64| {
            scale.differentiate(kind, norm, |factor| {
                tried.push(factor);
                Ok(Differentiated { losses: 7, gradients: vec![Tensor::from((value * factor) as f32)] })
            })
        };
        let scaled = ask(Kind::Half, 1e35).unwrap();
        assert_eq!((scaled.losses, scaled.factor), (7, 2048.0));
        assert!((scaled.norm / 1e35 - 1.0).abs() < 1e-6);
        // A value that is infinite without the factor is an error.
        assert!(ask(Kind::Half, f64::INFINITY).is_err());
        assert!(ask(Kind::Float, f64::INFINITY).is_err());
        let halves = |from: f64, count: i32| (0..count).map(move |n| from / f64::from(n).exp2());
        assert_eq!(tried, halves(65536.0, 6).chain(halves(2048.0, 12)).chain([1.0]).collect::<Vec<_>>());
    }

    #[test]
    fn a_run_of_an_earlier_version_begins_with_the_default() {
        use crate::train::checkpoint::State;
        let mut written = serde_json::to_value(State::default()).unwrap();
        written.as_object_mut().unwrap().remove("loss_scale").unwrap();
        assert_eq!(serde_json::from_value::<State>(written).unwrap(), State::default());
    }
}
