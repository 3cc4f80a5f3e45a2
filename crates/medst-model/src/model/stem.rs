//! From pixels to patch tokens, in one of two ways.
//!
//! * [`StemKind::Patches`] – one linear map of each patch's pixels, as in ViT (Dosovitskiy et al.,
//!   2021) and in the paper.
//! * [`StemKind::Convolutions`] – 3×3 convolutions of stride 2 until a cell is as large as a patch,
//!   then a linear map to the encoder's width (Xiao et al., *Early Convolutions Help Transformers
//!   See Better*, arXiv 2106.14881). From random weights a transformer learns to see in a fraction
//!   of the steps with it; it is not the paper's, and weights of other ViTs do not fit it.
//!
//! A stem normalises each picture by its own statistics, not the batch's: what a picture gives
//! never depends on the others of its batch, which chunks, several processes and the service rely
//! on.
//!
//! Letters: `B` pictures, `S` side in pixels, `P` patches, `C` channels, `H` encoder width.

use tch::{Kind, Tensor};

use super::config::{ImageConfig, StemKind};
use super::layers::{self, Linear};
use super::parameters::{Init, Scope};

/// The first layers of the image encoder.
#[derive(Debug)]
pub struct Stem {
    /// Side of a patch in pixels.
    patch: i64,
    layers: Layers,
}

#[derive(Debug)]
enum Layers {
    Patches { weight: Tensor, bias: Tensor },
    Convolutions { stages: Vec<Stage>, projection: Linear },
}

/// A convolution of stride 2 and a residual one, each with a normalisation.
#[derive(Debug)]
struct Stage {
    halve: Convolution,
    refine: Convolution,
}

/// A 3×3 convolution whose outputs are normalised over all channels and pixels of a picture.
#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    stride: i64,
}

/// Added to the variance.
pub(crate) const EPSILON: f64 = 1e-5;

impl Stem {
    pub fn new(scope: &Scope, config: &ImageConfig) -> Stem {
        let ImageConfig { patch, hidden_size: width, .. } = *config;
        let layers = match config.stem {
            StemKind::Patches => Layers::Patches {
                weight: scope.parameter("patch_embedding.weight", &[width, 3, patch, patch], Init::TruncatedNormal),
                bias: scope.parameter("patch_embedding.bias", &[width], Init::Zeros),
            },
            StemKind::Convolutions => {
                let channels = config.stem_channels();
                let stage = |(n, &outputs): (usize, &i64)| {
                    let inputs = if n == 0 { 1 } else { channels[n - 1] };
                    let scope = scope.at(format_args!("stem.{n}"));
                    Stage {
                        halve: Convolution::new(&scope.at("halve"), inputs, outputs, 2),
                        refine: Convolution::new(&scope.at("refine"), outputs, outputs, 1),
                    }
                };
                Layers::Convolutions {
                    stages: channels.iter().enumerate().map(stage).collect(),
                    projection: Linear::new(&scope.at("stem.projection"), channels[channels.len() - 1], width),
                }
            }
        };
        Stem { patch, layers }
    }

    /// The precision that the layers compute in.
    pub fn kind(&self) -> Kind {
        match &self.layers {
            Layers::Patches { weight, .. } => weight.kind(),
            Layers::Convolutions { projection, .. } => projection.weight.kind(),
        }
    }

    /// `[B, 1, S, S]` in `[-1, 1]` to `[B, P, H]`, patches row by row.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let (count, side) = (images.size()[0], images.size()[2] / self.patch);
        match &self.layers {
            Layers::Patches { weight, bias } => {
                // Cutting the image into rows of patch pixels makes the convolution one matrix
                // product.
                let patches = images
                    .view([count, side, self.patch, side, self.patch])
                    .permute([0, 1, 3, 2, 4])
                    .reshape([count, side * side, self.patch * self.patch]);
                // The three input channels are equal, so the kernel's sum over its channels acts on
                // one.
                let kernel = weight.sum_dim_intlist(&[1i64][..], false, None::<Kind>).view([weight.size()[0], -1]);
                layers::linear(&patches, &kernel, bias)
            }
            Layers::Convolutions { stages, projection } => {
                let cells = stages.iter().fold(images.shallow_clone(), |x, stage| stage.forward(&x));
                // `count` may be 0: a batch need not have a lateral view.
                let cells = cells.reshape([count, projection.weight.size()[1], side * side]).transpose(1, 2);
                projection.forward(&cells.contiguous())
            }
        }
    }
}

impl Stage {
    /// `[B, C, S, S]` to `[B, C', S/2, S/2]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.halve.forward(x).relu();
        (&x + self.refine.forward(&x)).relu()
    }
}

impl Convolution {
    fn new(scope: &Scope, inputs: i64, outputs: i64, stride: i64) -> Convolution {
        let precise = scope.precise();
        Convolution {
            weight: scope.parameter("weight", &[outputs, inputs, 3, 3], Init::Rectified),
            bias: scope.parameter("bias", &[outputs], Init::Zeros),
            scale: precise.parameter("norm.weight", &[outputs], Init::Ones),
            shift: precise.parameter("norm.bias", &[outputs], Init::Zeros),
            stride,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let x = x.conv2d(&self.weight, Some(&self.bias), self.stride, 1, 1, 1).to_kind(self.scale.kind());
        x.group_norm(1, Some(&self.scale), Some(&self.shift), EPSILON, false).to_kind(kind)
    }
}
