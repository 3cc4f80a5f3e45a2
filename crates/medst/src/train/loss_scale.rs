//! The factor that keeps gradients within float16's range (Micikevicius et al., *Mixed Precision Training*, 2018).
//!
//! Float16 tells apart eight times finer steps than bfloat16, but nothing below 6e-8: gradients of layers would vanish. The loss is multiplied before
//! the backward pass and the gradients divided after it, by a power of two, which rounds nothing. Where one overflows, the step is computed
//! again with half the factor; after many steps without, it is tried at twice.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

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

    /// Half the factor, after an overflow. False where a smaller one would not help: then it is not the factor that made it.
    fn lower(&mut self, kind: Kind) -> bool {
        let lowered = kind == Kind::Half && self.exponent > 0;
        if lowered {
            *self = LossScale { exponent: self.exponent - 1, steps: 0 };
        }
        lowered
    }

    /// Calls `differentiate` with the factor, and again with a smaller one as long as a gradient overflows.
    ///
    /// * `norm`: the length of all gradients together, or an error where one is not finite.
    ///
    /// # Errors
    /// Those of both; an overflow that no factor mends.
    pub fn differentiate<T>(
        &mut self,
        kind: Kind,
        norm: impl Fn(&[Tensor]) -> Result<f64>,
        mut differentiate: impl FnMut(f64) -> Result<(T, Vec<Tensor>)>,
    ) -> Result<Scaled<T>> {
        loop {
            let factor = self.factor(kind);
            let (losses, gradients) = differentiate(factor)?;
            match norm(&gradients) {
                Ok(norm) => return Ok(Scaled { losses, gradients, factor, norm: norm / factor }),
                Err(_) if self.lower(kind) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A step was done.
    pub fn done(&mut self, kind: Kind) {
        self.steps += u64::from(kind == Kind::Half);
        if self.steps == PATIENCE {
            *self = LossScale { exponent: (self.exponent + 1).min(32), steps: 0 };
        }
    }
}

/// Gradients that are `factor` times as large as they should be.
#[derive(Debug)]
pub struct Scaled<T> {
    /// What was differentiated.
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
        assert!(!scale.lower(Kind::Half), "a factor of 1 is no factor");
    }
}
