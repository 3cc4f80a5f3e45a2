//! AdamW over flat buffers.
//!
//! All parameters are views of one flat tensor, the two moments are flat as well, and on the CPU one pass over memory
//! updates everything. Gradients stay separate tensors, as the backward pass gives them: a flat gradient buffer would sit
//! in memory during the forward pass, when activations need the room.
//!
//! The arithmetic is PyTorch's `torch.optim.AdamW`: decoupled weight decay, bias-corrected moments.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::config::OptimizerConfig;
use crate::model::{MedSt, Parameter};
use crate::{Error, Result};

/// Values that one thread updates at a time; small enough to stay in a core's cache.
const CHUNK: usize = 1 << 16;

/// AdamW and its state.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    /// All parameters, `[n]`.
    values: Tensor,
    /// First and second moments, `[n]`.
    first: Tensor,
    second: Tensor,
    updates: u64,
    config: OptimizerConfig,
}

/// The coefficients of one update.
#[derive(Clone, Copy)]
struct Update {
    decay: f64,
    betas: [f64; 2],
    step: f64,
    correction: f64,
    eps: f64,
    scale: f64,
}

impl AdamW {
    /// Re-binds the model's parameters to one flat tensor.
    pub fn new(model: &MedSt, config: &OptimizerConfig) -> AdamW {
        let _guard = tch::no_grad_guard();
        let parameters = model.parameters().to_vec();
        let count: usize = parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
        let options = (parameters[0].tensor.kind(), model.device());
        let values = Tensor::empty([count as i64], options);
        let mut place = 0;
        for parameter in &parameters {
            let length = parameter.tensor.numel() as i64;
            let mut view = values.narrow(0, place, length).view_as(&parameter.tensor);
            view.copy_(&parameter.tensor);
            // Handles of the layers share the tensor's identity, so they see the new storage.
            parameter.tensor.shallow_clone().set_data(&view);
            place += length;
        }
        AdamW {
            parameters,
            first: values.zeros_like(),
            second: values.zeros_like(),
            values,
            updates: 0,
            config: config.clone(),
        }
    }

    /// Gradients of a scalar with respect to every parameter, in the parameters' order; zero where unused.
    pub fn gradients(&self, loss: &Tensor) -> Vec<Tensor> {
        self.gradients_with(loss, &[]).0
    }

    /// As [`AdamW::gradients`], and with respect to other tensors.
    pub fn gradients_with(&self, loss: &Tensor, others: &[Tensor]) -> (Vec<Tensor>, Vec<Tensor>) {
        let own = self.parameters.iter().map(|parameter| &parameter.tensor);
        let tensors: Vec<&Tensor> = own.chain(others).collect();
        let gradients = Tensor::run_backward(&[loss], &tensors, false, false);
        let unused = |gradient: Tensor, of: &Tensor| if gradient.defined() { gradient } else { of.zeros_like() };
        let mut all: Vec<Tensor> =
            gradients.into_iter().zip(tensors).map(|(gradient, of)| unused(gradient, of)).collect();
        let others = all.split_off(self.parameters.len());
        (all, others)
    }

    /// The length of all gradients together.
    ///
    /// # Errors
    /// Names the first parameter whose gradient is not finite.
    pub fn norm(&self, gradients: &[Tensor]) -> Result<f64> {
        let norms: Vec<Tensor> = gradients.iter().map(|gradient| gradient.norm().to_kind(Kind::Double)).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        if norm.is_finite() {
            return Ok(norm);
        }
        let culprit = norms.iter().zip(&self.parameters).find(|(norm, _)| !norm.double_value(&[]).is_finite());
        let name = culprit.map_or("all parameters together", |(_, parameter)| &parameter.name);
        Err(Error::Training(format!(
            "the gradient of `{name}` is not finite; a lower optimizer.lr or optimizer.clip_norm may help"
        )))
    }

    /// One update. Gradients are multiplied by `scale` first.
    pub fn step(&mut self, gradients: &[Tensor], rate: f64, scale: f64) {
        let _guard = tch::no_grad_guard();
        self.updates += 1;
        let [beta1, beta2] = self.config.betas;
        let power = |beta: f64| 1.0 - beta.powi(i32::try_from(self.updates).unwrap_or(i32::MAX));
        let update = Update {
            decay: 1.0 - rate * self.config.weight_decay,
            betas: [beta1, beta2],
            step: rate / power(beta1),
            correction: power(beta2).sqrt(),
            eps: self.config.eps,
            scale,
        };
        let mut place = 0;
        for gradient in gradients {
            let length = gradient.numel() as i64;
            let part = |x: &Tensor| x.narrow(0, place, length);
            let (values, first, second) = (part(&self.values), part(&self.first), part(&self.second));
            place += length;
            // `contiguous` first: a one-dimensional gradient may be a strided or repeated view, which `reshape` leaves as it is.
            let gradient = gradient.contiguous().reshape([-1]);
            match (values.device(), values.kind()) {
                (Device::Cpu, Kind::Float) => update.on_slices::<f32>(&values, &gradient, &first, &second),
                (Device::Cpu, Kind::Double) => update.on_slices::<f64>(&values, &gradient, &first, &second),
                _ => update.on_tensors(values, gradient, first, second),
            }
        }
    }

    /// Refuses weights that an update has made useless, before a checkpoint is made of them.
    ///
    /// # Errors
    /// Names the first parameter that holds a value which is not finite.
    pub fn check_weights(&self) -> Result<()> {
        let finite = |x: &Tensor| x.min().double_value(&[]).is_finite() && x.max().double_value(&[]).is_finite();
        if finite(&self.values) {
            return Ok(());
        }
        let culprit = self.parameters.iter().find(|parameter| !finite(&parameter.tensor));
        let name = culprit.map_or("the parameters", |parameter| &parameter.name);
        Err(Error::Training(format!(
            "`{name}` is not finite after update {}; a lower optimizer.lr or optimizer.clip_norm may help",
            self.updates
        )))
    }

    /// The state that a checkpoint holds: names and tensors, and the number of updates.
    pub fn state(&self) -> ([(&'static str, &Tensor); 2], u64) {
        ([("exp_avg", &self.first), ("exp_avg_sq", &self.second)], self.updates)
    }

    /// Restores what [`AdamW::state`] gave.
    ///
    /// # Errors
    /// When a tensor is missing or of another length.
    pub fn restore(
        &mut self,
        tensors: &std::collections::BTreeMap<String, Tensor>,
        updates: u64,
    ) -> Result<(), String> {
        let _guard = tch::no_grad_guard();
        for (name, target) in [("exp_avg", &mut self.first), ("exp_avg_sq", &mut self.second)] {
            let tensor = tensors.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
            if tensor.size() != target.size() {
                return Err(format!("`{name}` has shape {:?}, expected {:?}", tensor.size(), target.size()));
            }
            target.copy_(tensor);
        }
        self.updates = updates;
        Ok(())
    }
}

impl Update {
    /// On the CPU: one pass over four slices of memory.
    fn on_slices<T: Real>(self, values: &Tensor, gradient: &Tensor, first: &Tensor, second: &Tensor) {
        // SAFETY: the four tensors are contiguous, of the element type `T` (the caller matched the kind) and of the same
        // length; `values`, `first` and `second` are parts of buffers that only this optimiser writes, the gradient is
        // read only, and none of them overlap.
        let (values, gradient, first, second) = unsafe {
            (slice_mut::<T>(values), slice_mut::<T>(gradient), slice_mut::<T>(first), slice_mut::<T>(second))
        };
        let [beta1, beta2] = self.betas.map(T::from_f64);
        let [rest1, rest2] = self.betas.map(|beta| T::from_f64(1.0 - beta));
        let (decay, step, eps) = (T::from_f64(self.decay), T::from_f64(self.step), T::from_f64(self.eps));
        let (correction, scale) = (T::from_f64(self.correction), T::from_f64(self.scale));
        let chunks = values
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)));
        chunks.for_each(|((values, gradient), (first, second))| {
            for (((value, &gradient), first), second) in values.iter_mut().zip(gradient).zip(first).zip(second) {
                let gradient = gradient * scale;
                *first = *first * beta1 + gradient * rest1;
                *second = *second * beta2 + gradient * gradient * rest2;
                *value = *value * decay - step * *first / (second.root() / correction + eps);
            }
        });
    }

    /// On other devices: the engine's operations.
    fn on_tensors(self, mut values: Tensor, gradient: Tensor, mut first: Tensor, mut second: Tensor) {
        let gradient = gradient * self.scale;
        let _ = first.g_mul_scalar_(self.betas[0]).g_add_(&(&gradient * (1.0 - self.betas[0])));
        let _ = second.g_mul_scalar_(self.betas[1]).g_add_(&(gradient.square() * (1.0 - self.betas[1])));
        let denominator = second.sqrt() / self.correction + self.eps;
        let _ = values.g_mul_scalar_(self.decay).g_sub_(&(first / denominator * self.step));
    }
}

/// The memory of a contiguous tensor.
///
/// # Safety
/// The tensor must be on the CPU, contiguous and of element type `T`, and must outlive the slice; nothing else may write it
/// meanwhile.
unsafe fn slice_mut<'a, T>(tensor: &Tensor) -> &'a mut [T] {
    assert!(tensor.is_contiguous(), "a buffer of the optimiser or a gradient is not contiguous");
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

/// float32 and float64.
trait Real:
    Copy
    + Send
    + Sync
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    fn from_f64(value: f64) -> Self;
    fn root(self) -> Self;
}

impl Real for f32 {
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn root(self) -> f32 {
        self.sqrt()
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn root(self) -> f64 {
        self.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: Update =
        Update { decay: 0.99, betas: [0.9, 0.999], step: 0.02, correction: 0.05, eps: 1e-8, scale: 0.5 };

    /// Values, gradient and both moments, of more than one chunk.
    fn tensors(kind: Kind) -> [Tensor; 4] {
        let count = CHUNK as i64 + 77;
        let wave = |phase: f64| (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.37 + phase).sin();
        [wave(0.0), wave(1.0), wave(2.0) * 0.1, wave(3.0).square() * 0.01].map(|tensor| tensor.to_kind(kind))
    }

    #[test]
    fn one_value_is_updated_as_the_formula_says() {
        let [values, gradient, first, second] = tensors(Kind::Double);
        let number = |tensor: &Tensor| tensor.double_value(&[3]);
        let (value, scaled, m, v) = (number(&values), 0.5 * number(&gradient), number(&first), number(&second));
        let (m, v) = (0.9 * m + 0.1 * scaled, 0.999 * v + 0.001 * scaled * scaled);
        UPDATE.on_slices::<f64>(&values, &gradient, &first, &second);
        assert!((number(&first) - m).abs() < 1e-15 && (number(&second) - v).abs() < 1e-15);
        assert!((number(&values) - (0.99 * value - 0.02 * m / (v.sqrt() / 0.05 + 1e-8))).abs() < 1e-14);
    }

    /// What other devices run is checked here, where both can run.
    #[test]
    fn slices_and_tensors_are_updated_alike() {
        for (kind, tolerance) in [(Kind::Double, 1e-13), (Kind::Float, 1e-6)] {
            let ([values, gradient, first, second], others) = (tensors(kind), tensors(kind));
            match kind {
                Kind::Double => UPDATE.on_slices::<f64>(&values, &gradient, &first, &second),
                _ => UPDATE.on_slices::<f32>(&values, &gradient, &first, &second),
            }
            let [a, b, c, d] = [0, 1, 2, 3].map(|n: usize| others[n].shallow_clone());
            UPDATE.on_tensors(a, b, c, d);
            for (ours, other) in [values, gradient, first, second].iter().zip(&others) {
                assert!(ours.allclose(other, tolerance, tolerance, false), "{kind:?}");
            }
        }
    }
}
