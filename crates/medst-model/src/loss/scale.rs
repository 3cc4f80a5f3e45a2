//! From cosines to the logits of a contrast over the batch: divided by a temperature, which may be
//! learned.
//!
//! The paper's temperature is fixed. CLIP (Radford et al., 2021) learns the logarithm of its
//! inverse, here as a factor on the configured one that starts at 1, and limits the inverse to 100.
//! The published sigmoid loss (Zhai et al., 2023) learns a bias as well, here added to the one that
//! [`super::sigmoid`] begins with.

use tch::Tensor;

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
    /// * `learned`: the parameters of a model that has some.
    pub fn new(temperature: f64, learned: Option<&'a Contrast>) -> Scale<'a> {
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
                let scale = log_scale.exp() / self.temperature;
                cosines * scale.clamp_max(LARGEST.max(1.0 / self.temperature))
            }
        }
    }

    /// The learned value that is added to the bias of the sigmoid loss.
    pub fn bias(&self) -> Option<&Tensor> {
        self.learned.map(|learned| &learned.bias)
    }
}
