//! The model's tensors: an ordered list of named parameters and statistics, which is filled while
//! layers are built.
//!
//! Order is the order of construction and never changes between runs: the optimiser's flat buffers,
//! checkpoints and gradient reports all rely on it.

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
    /// The values that are loaded, updated and saved.
    pub tensor: Tensor,
    /// The values that the layers compute with and that get the gradient: `tensor` itself, or a
    /// rounded copy if the model computes in bfloat16 or float16.
    pub working: Tensor,
}

impl Parameter {
    fn new(name: String, tensor: Tensor, working: Tensor) -> Parameter {
        Parameter { name, tensor, working }
    }

    /// Whether the layers have a copy of their own.
    pub fn is_copied(&self) -> bool {
        self.working.kind() != self.tensor.kind()
    }

    /// Fills the tensor, and what the layers compute with.
    pub fn fill(&self, values: &Tensor) {
        let _guard = tch::no_grad_guard();
        self.tensor.shallow_clone().copy_(values);
        if self.is_copied() {
            self.working.shallow_clone().copy_(&self.tensor);
        }
    }
}

impl Clone for Parameter {
    /// Another handle to the same storage.
    fn clone(&self) -> Self {
        Parameter::new(self.name.clone(), self.tensor.shallow_clone(), self.working.shallow_clone())
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
    /// Normal with the configured deviation, cut at two deviations: weight matrices, embeddings,
    /// tokens, positions.
    TruncatedNormal,
    /// Normal with deviation `√(2 / inputs)`, cut at two deviations: kernels `[outputs, …]` that a
    /// rectifier follows, whatever the configured deviation (He et al., *Delving Deep into
    /// Rectifiers*, 2015).
    Rectified,
    /// Biases, shifts.
    Zeros,
    /// Scales of normalisation layers.
    Ones,
}

impl Init {
    /// * `stream`: the random stream of this parameter, another for each of the model's parameters.
    fn tensor(self, shape: &[i64], options: (Kind, Device), deviation: f64, seed: Option<u64>, stream: u64) -> Tensor {
        match (self, seed) {
            (Init::Zeros, _) => Tensor::zeros(shape, options),
            (Init::Ones, _) => Tensor::ones(shape, options),
            (Init::TruncatedNormal | Init::Rectified, None) => Tensor::empty(shape, options),
            (Init::TruncatedNormal | Init::Rectified, Some(seed)) => {
                let deviation = match self {
                    Init::Rectified => (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt(),
                    _ => deviation,
                };
                let mut values = vec![0f32; shape.iter().product::<i64>() as usize];
                // Every chunk has a separate generator, so that the number of threads changes
                // nothing. libtorch's generator would be shared with everything else in the
                // process.
                values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    random.set_stream(stream << 32 | chunk as u64);
                    // Inverse transform: uniform on [Φ(-2), Φ(2)] = erf/2 + 1/2, so 2Φ - 1 is
                    // uniform on ±erf(√2).
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

/// erf(√2), the probability that a normal variable is within two deviations.
const ERF_SQRT_2: f32 = 0.954_499_7;

/// The precision of statistics, importance and losses in a model that computes in `kind`: never
/// less than float32.
pub fn at_least_float(kind: Kind) -> Kind {
    if matches!(kind, Kind::BFloat16 | Kind::Half) { Kind::Float } else { kind }
}

/// A place in the tree of names, from which layers take their tensors.
#[derive(Clone)]
pub struct Scope {
    registry: Rc<RefCell<Registry>>,
    path: String,
    /// Number format in which the layers compute.
    kind: Kind,
    device: Device,
    deviation: f64,
    /// Absent if random weights are not needed, because they will be loaded.
    seed: Option<u64>,
}

impl Scope {
    /// The root. `seed` alone decides every random weight, `deviation` is their standard deviation;
    /// without a seed they are left unwritten. With [`Kind::BFloat16`] and [`Kind::Half`] layers
    /// compute with rounded copies of float32 tensors.
    pub fn root(deviation: f64, seed: Option<u64>, kind: Kind, device: Device) -> Scope {
        Scope { registry: Rc::default(), path: String::new(), kind, device, deviation, seed }
    }

    /// The same place, for layers that always compute in full precision.
    pub fn precise(&self) -> Scope {
        Scope { kind: at_least_float(self.kind), ..self.clone() }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope {
        Scope { path: self.full_name(name), ..self.clone() }
    }

    /// A new trainable tensor.
    pub fn parameter(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let stream = self.registry.borrow().parameters.len() as u64;
        let options = (at_least_float(self.kind), self.device);
        let tensor = init.tensor(shape, options, self.deviation, self.seed, stream);
        // If the formats are equal, this is the same tensor, which the layer shares with the
        // optimiser.
        let copied = self.kind != tensor.kind();
        let working = if copied { tensor.to_kind(self.kind) } else { tensor.shallow_clone() }.set_requires_grad(true);
        let entry = Parameter::new(self.full_name(name), tensor, working.shallow_clone());
        self.registry.borrow_mut().parameters.push(entry);
        working
    }

    /// A new running statistic, in full precision.
    pub fn buffer(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let options = (at_least_float(self.kind), self.device);
        let tensor = init.tensor(shape, options, self.deviation, self.seed, 0);
        let entry = Parameter::new(self.full_name(name), tensor.shallow_clone(), tensor.shallow_clone());
        self.registry.borrow_mut().buffers.push(entry);
        tensor
    }

    /// All tensors that have been made below any scope of this tree.
    pub fn into_registry(self) -> Registry {
        self.registry.take()
    }

    fn full_name(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}
