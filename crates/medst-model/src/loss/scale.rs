//! From cosines to the logits of a contrast over the batch: divided by a temperature, which may be
//! learned.
//!
//! The paper's temperature is fixed. CLIP (Radford et al., 2021) learns the logarithm of its
//! inverse, here as a factor on the configured one that starts at 1, and limits the inverse to 100
//! after every update.
//! The published sigmoid loss (Zhai et al., 2023) learns a bias as well, here added to the one that
//! `super::sigmoid` begins with.

use tch::Tensor;

use super::config::{GlobalTemperature, LossConfig};
use crate::model::MedSt;
use crate::model::contrast::Contrast;

/// The largest factor on cosines, as in CLIP.
const LARGEST: f64 = 100.0;

/// A temperature, and what a model has learned to add to it.
#[derive(Clone, Copy, Debug)]
pub struct Scale<'a> {
    temperature: f64,
    learned: Option<&'a Contrast>,
    /// Whether what is learned gets its gradient here.
    taught: bool,
}

impl<'a> Scale<'a> {
    /// The temperature of a model's contrasts over the batch.
    pub(crate) fn of_model(model: &'a MedSt, config: &LossConfig) -> Scale<'a> {
        Scale::new(config.global_temperature.first(), model.contrast.as_ref())
    }

    /// * `learned`: the parameters of a model that has some.
    pub(crate) fn new(temperature: f64, learned: Option<&'a Contrast>) -> Scale<'a> {
        Scale { temperature, learned, taught: true }
    }

    /// The temperature as configured.
    pub fn fixed(temperature: f64) -> Scale<'static> {
        Scale { temperature, learned: None, taught: true }
    }

    /// For a loss that several processes compute identically. Only one of them may contribute the
    /// gradient of the learned values, because the gradients of all processes are summed.
    #[must_use]
    pub fn alike(self, rank: usize) -> Scale<'a> {
        Scale { taught: self.taught && rank == 0, ..self }
    }

    /// `cosines / temperature`, of any shape.
    pub fn logits(&self, cosines: &Tensor) -> Tensor {
        match self.learned {
            None => cosines / self.temperature,
            Some(learned) => {
                let log_scale =
                    if self.taught { learned.log_scale.shallow_clone() } else { learned.log_scale.detach() };
                cosines * (log_scale.exp() / self.temperature)
            }
        }
    }

    /// Limits a temperature that a model learns; called after every update of the parameters.
    pub fn limit_learned(model: &MedSt) {
        Scale::new(GlobalTemperature::Learned.first(), model.contrast.as_ref()).limit();
    }

    /// Limits what was learned, after an update of it. A limit in [`Scale::logits`] would take the
    /// gradient from a factor that has reached it, which then could not fall again.
    fn limit(&self) {
        if let Some(learned) = self.learned {
            let largest = (LARGEST * self.temperature).max(1.0);
            let _guard = tch::no_grad_guard();
            let _ = learned.log_scale.shallow_clone().clamp_max_(largest.ln());
        }
    }

    /// The learned value that is added to the bias of the sigmoid loss.
    pub fn bias(&self) -> Option<&Tensor> {
        self.learned.map(|learned| &learned.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_learned_factor_is_limited_to_100_and_can_fall_again() {
        let cosines = Tensor::from_slice(&[1.0, -0.5]);
        for (temperature, log_scale, limited, factor) in [
            (0.07, -1.0f64, -1.0f64, (-1f64).exp() / 0.07),
            (0.07, 1.9, 1.9, 1.9f64.exp() / 0.07),
            (0.07, 2.5, 7f64.ln(), 100.0),
            // A temperature that begins beyond the limit stays.
            (0.005, 1.0, 0.0, 200.0),
        ] {
            let learned = Contrast {
                log_scale: Tensor::from_slice(&[log_scale]).set_requires_grad(true),
                bias: Tensor::from_slice(&[0.0]),
            };
            let scale = Scale::new(temperature, Some(&learned));
            scale.limit();
            let found = learned.log_scale.double_value(&[]);
            // Below the limit not one bit changes.
            let exact = limited == log_scale;
            assert!(if exact { found == limited } else { (found - limited).abs() < 1e-12 }, "{log_scale}: {found}");
            let logits = scale.logits(&cosines);
            assert!((logits.double_value(&[0]) / factor - 1.0).abs() < 1e-12, "{log_scale}: {logits:?}");
            // The derivative of a sum of exponentials is that sum, at the limit too.
            logits.sum(None::<Kind>).backward();
            let gradient = learned.log_scale.grad().double_value(&[]);
            assert!((gradient / (0.5 * factor) - 1.0).abs() < 1e-12, "{log_scale}: {gradient}");
        }
    }

    #[test]
    fn a_fixed_temperature_has_no_limit() {
        let scale = Scale::fixed(0.001);
        scale.limit();
        assert!((scale.logits(&Tensor::from_slice(&[0.5])).double_value(&[0]) - 500.0).abs() < 1e-9);
    }
}
