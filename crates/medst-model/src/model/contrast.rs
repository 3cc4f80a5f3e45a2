//! Learned temperature and bias of the contrast between images and reports; see
//! [`crate::loss::scale`].

use tch::Tensor;

use super::parameters::{Init, Scope};

/// Scalars `[1]` that are trained with the model.
#[derive(Debug)]
pub struct Contrast {
    /// The logarithm of a factor on the inverse of the first temperature; begins at 0.
    pub log_scale: Tensor,
    /// Added to the bias of the sigmoid loss; begins at 0 and stays there with the softmax loss.
    pub bias: Tensor,
}

impl Contrast {
    pub fn new(scope: &Scope) -> Contrast {
        Contrast {
            log_scale: scope.parameter("log_scale", &[1], Init::Zeros),
            bias: scope.parameter("bias", &[1], Init::Zeros),
        }
    }
}
