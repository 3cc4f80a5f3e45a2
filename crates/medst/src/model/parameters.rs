//! Where the model's tensors live: an ordered list of named parameters and statistics, filled while layers are built.
//!
//! Order is the order of construction and never changes between runs: the optimiser's flat buffers, checkpoints and
//! gradient reports all rely on it.

use std::cell::RefCell;
use std::rc::Rc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// A named tensor of the model. Handles share storage with the layer that uses them.
#[derive(Debug)]
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
}

impl Clone for Parameter {
    /// Another handle to the same storage.
    fn clone(&self) -> Self {
        Parameter { name: self.name.clone(), tensor: self.tensor.shallow_clone() }
    }
}

/// Everything a model owns, in order of construction.
#[derive(Debug, Default)]
pub struct Registry {
    /// Trainable, require a gradient.
    pub parameters: Vec<Parameter>,
    /// Running statistics: saved, not trained.
    pub buffers: Vec<Parameter>,
}

/// How a fresh parameter is filled. This is the model's whole initialisation.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// Normal with the configured deviation, cut at two deviations: weight matrices, embeddings, tokens, positions.
    TruncatedNormal,
    /// Biases, shifts.
    Zeros,
    /// Scales of normalisation layers.
    Ones,
}

impl Init {
    /// * `stream`: tells the parameter apart from the model's others.
    fn tensor(self, shape: &[i64], options: (Kind, Device), deviation: f64, seed: u64, stream: u64) -> Tensor {
        match self {
            Init::Zeros => Tensor::zeros(shape, options),
            Init::Ones => Tensor::ones(shape, options),
            Init::TruncatedNormal => {
                let mut values = vec![0f32; shape.iter().product::<i64>() as usize];
                // Chunks have generators of their own, so that threads change nothing. The engine's generator would be
                // shared with everything else in the process.
                values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    random.set_stream(stream << 32 | chunk as u64);
                    // Inverse transform: uniform on [Φ(-2), Φ(2)] = erf/2 + 1/2, so 2Φ - 1 is uniform on ±erf(√2).
                    values.iter_mut().for_each(|value| *value = random.random_range(-ERF_SQRT_2..ERF_SQRT_2));
                });
                let uniform = Tensor::from_slice(&values).view(shape);
                let normal = uniform.erfinv() * (deviation * std::f64::consts::SQRT_2);
                normal.to_kind(options.0).to_device(options.1)
            }
        }
    }
}

/// Values that one generator draws.
const CHUNK: usize = 1 << 16;

/// erf(√2), the probability that a normal variable lies within two deviations.
const ERF_SQRT_2: f32 = 0.954_499_7;

/// A place in the tree of names, from which layers take their tensors.
#[derive(Clone)]
pub struct Scope {
    registry: Rc<RefCell<Registry>>,
    path: String,
    options: (Kind, Device),
    deviation: f64,
    seed: u64,
}

impl Scope {
    /// The root. `seed` alone decides every random weight, `deviation` is their standard deviation.
    pub fn root(deviation: f64, seed: u64, kind: Kind, device: Device) -> Scope {
        Scope { registry: Rc::default(), path: String::new(), options: (kind, device), deviation, seed }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope {
        Scope { path: self.full_name(name), ..self.clone() }
    }

    /// A new trainable tensor.
    pub fn parameter(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let stream = self.registry.borrow().parameters.len() as u64;
        let tensor = init.tensor(shape, self.options, self.deviation, self.seed, stream).set_requires_grad(true);
        let entry = Parameter { name: self.full_name(name), tensor: tensor.shallow_clone() };
        self.registry.borrow_mut().parameters.push(entry);
        tensor
    }

    /// A new running statistic.
    pub fn buffer(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let tensor = init.tensor(shape, self.options, self.deviation, self.seed, 0);
        let entry = Parameter { name: self.full_name(name), tensor: tensor.shallow_clone() };
        self.registry.borrow_mut().buffers.push(entry);
        tensor
    }

    /// All tensors made below any scope of this tree so far.
    pub fn into_registry(self) -> Registry {
        self.registry.take()
    }

    fn full_name(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}

/// An affine map `x ↦ x·Wᵀ + b`, `W` of shape `[outputs, inputs]`.
#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    pub fn new(scope: &Scope, inputs: i64, outputs: i64) -> Linear {
        Linear {
            weight: scope.parameter("weight", &[outputs, inputs], Init::TruncatedNormal),
            bias: scope.parameter("bias", &[outputs], Init::Zeros),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub epsilon: f64,
}

impl LayerNorm {
    pub fn new(scope: &Scope, width: i64, epsilon: f64) -> LayerNorm {
        LayerNorm {
            weight: scope.parameter("weight", &[width], Init::Ones),
            bias: scope.parameter("bias", &[width], Init::Zeros),
            epsilon,
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.epsilon, true)
    }
}
