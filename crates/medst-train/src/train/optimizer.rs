//! AdamW over flat buffers.
//!
//! All parameters are views of one flat tensor, the two moments are flat as well, and so are the
//! rounded copies that the layers of a bfloat16 model compute with: one pass over memory updates
//! everything, and one copy saves or sends it. Gradients are flat on a GPU, and separate on a CPU
//! ([`gradients`](super::gradients)).
//!
//! Decays of the moments and the smallest divisor are those of the paper and of PyTorch.
//!
//! The arithmetic is PyTorch's `torch.optim.AdamW`, fused (`ops/adamw.cpp`): decoupled weight
//! decay, bias-corrected moments.

use std::ffi::{c_char, c_void};
use std::slice;

use tch::{Kind, Tensor};

use crate::config::OptimizerConfig;
use crate::convert::Misfit;
use crate::distributed::{Group, broadcast_bytes};
use crate::model::weights::is_finite;
use crate::model::{MedSt, Parameter};
use crate::ops::{check, pointer, whole};
use crate::{Error, Result};

/// Decay of the first and of the second moment.
const BETAS: [f64; 2] = [0.9, 0.999];
/// Added to the root of the second moment.
const EPSILON: f64 = 1e-8;

unsafe extern "C" {
    fn medst_adamw(
        values: *const *const c_void,
        gradients: *const *const c_void,
        first: *const *const c_void,
        second: *const *const c_void,
        count: usize,
        step: *const c_void,
        scale: *const c_void,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
}

/// AdamW and its state.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    /// All parameters, `[n]`.
    values: Tensor,
    /// The values that the layers compute with, `[n]` bfloat16 or float16, if these are not
    /// `values`.
    working: Option<Tensor>,
    /// First and second moments, `[n]`.
    first: Tensor,
    second: Tensor,
    updates: u64,
    config: OptimizerConfig,
    /// The factor of each parameter's learning rate; empty means 1 for all.
    factors: Vec<f64>,
}

impl AdamW {
    /// Re-binds the model's parameters to flat tensors.
    pub fn new(model: &MedSt, config: &OptimizerConfig) -> AdamW {
        AdamW::for_parameters(model.parameters().to_vec(), Vec::new(), config)
    }

    /// Like [`AdamW::new`], for some of a model's parameters, at least one.
    ///
    /// * `factors`: the factor of each parameter's learning rate; empty means 1 for all.
    pub fn for_parameters(parameters: Vec<Parameter>, factors: Vec<f64>, config: &OptimizerConfig) -> AdamW {
        let _guard = tch::no_grad_guard();
        let flat = |kind| {
            let count: usize = parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
            Tensor::empty([count as i64], (kind, parameters[0].tensor.device()))
        };
        let values = flat(parameters[0].tensor.kind());
        // Those of parameters without a copy stay unused: they are some thousand, and the whole is
        // rounded in one go.
        let copied = parameters.iter().find(|parameter| parameter.is_copied());
        let working = copied.map(|parameter| flat(parameter.working.kind()));
        let bind = |buffer: &Tensor, offset: i64, tensor: &Tensor| {
            let mut view = buffer.narrow(0, offset, tensor.numel() as i64).view_as(tensor);
            view.copy_(tensor);
            // Handles of the layers share the tensor's identity, so they see the new storage.
            tensor.shallow_clone().set_data(&view);
        };
        let mut offset = 0;
        for parameter in &parameters {
            bind(&values, offset, &parameter.tensor);
            if let Some(working) = working.as_ref().filter(|_| parameter.is_copied()) {
                bind(working, offset, &parameter.working);
            }
            offset += parameter.tensor.numel() as i64;
        }
        let (first, second) = (values.zeros_like(), values.zeros_like());
        AdamW { parameters, values, working, first, second, updates: 0, config: config.clone(), factors }
    }

    /// The length of all gradients together.
    ///
    /// # Errors
    /// Names the first parameter whose gradient is not finite.
    pub fn norm(&self, gradients: &[Tensor]) -> Result<f64> {
        let norms = |gradients: &[Tensor]| -> Vec<Tensor> {
            gradients.iter().map(|gradient| gradient.norm().to_kind(Kind::Double)).collect()
        };
        let whole = whole(gradients);
        let norm = Tensor::stack(&norms(whole.as_ref().map_or(gradients, slice::from_ref)), 0).norm().double_value(&[]);
        if norm.is_finite() {
            return Ok(norm);
        }
        let norms = norms(gradients);
        let culprit = norms.iter().zip(&self.parameters).find(|(norm, _)| !norm.double_value(&[]).is_finite());
        let name = culprit.map_or("all parameters together", |(_, parameter)| &parameter.name);
        Err(Error::Training(format!(
            "the gradient of `{name}` is not finite; a lower optimizer.lr or optimizer.clip_norm may help"
        )))
    }

    /// One update. Gradients, one for each parameter in their order and precision, are multiplied
    /// by `scale` first.
    pub fn step(&mut self, gradients: &[Tensor], rate: f64, scale: f64) {
        let _guard = tch::no_grad_guard();
        self.updates += 1;
        // `contiguous` first: a one-dimensional gradient may be a strided or repeated view, which
        // `reshape` returns unchanged.
        let rows = || gradients.iter().map(|gradient| gradient.contiguous().reshape([-1])).collect();
        let gradients: Vec<Tensor> = match whole(gradients) {
            Some(whole) if self.factors.is_empty() => vec![whole],
            _ => rows(),
        };
        let mut offset = 0;
        let offsets: Vec<(i64, i64)> = gradients
            .iter()
            .map(|gradient| {
                let length = gradient.numel() as i64;
                offset += length;
                (offset - length, length)
            })
            .collect();
        let parts =
            |x: &Tensor| offsets.iter().map(|&(offset, length)| x.narrow(0, offset, length)).collect::<Vec<_>>();
        let lists = [parts(&self.values), gradients, parts(&self.first), parts(&self.second)];
        let step = Step { updates: self.updates, rate, scale };
        if self.factors.is_empty() {
            update(lists.each_ref().map(Vec::as_slice), step, &self.config);
        }
        let mut start = 0;
        for alike in self.factors.chunk_by(|a, b| a == b) {
            let range = start..start + alike.len();
            start = range.end;
            let lists = lists.each_ref().map(|list| &list[range.clone()]);
            update(lists, Step { rate: rate * alike[0], ..step }, &self.config);
        }
        if let Some(working) = &mut self.working {
            working.copy_(&self.values);
        }
    }

    /// Refuses weights that an update has made useless, before a checkpoint is written.
    ///
    /// # Errors
    /// Names the first parameter with a value that is not finite.
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

    /// Takes over values, moments and the number of updates of process 0.
    pub fn broadcast(&mut self, group: &Group) {
        let _guard = tch::no_grad_guard();
        for tensor in [&mut self.values, &mut self.first, &mut self.second] {
            group.broadcast(tensor);
        }
        let updates = broadcast_bytes(group, &self.updates.to_le_bytes());
        self.updates = u64::from_le_bytes(updates.try_into().expect("eight bytes were sent"));
        if let Some(working) = &mut self.working {
            working.copy_(&self.values);
        }
    }

    /// Refuses to go on where processes have come to other weights, which identical updates cannot
    /// lead to.
    ///
    /// # Errors
    /// Names the processes.
    pub fn check_agreement(&self, group: &Group) -> Result<()> {
        let sum = self.values.sum(Kind::Double).double_value(&[]).to_le_bytes();
        let others: Vec<usize> = {
            let all = group.gather_bytes(&sum);
            (0..all.len()).filter(|&rank| all[rank] != all[0]).collect()
        };
        if others.is_empty() {
            return Ok(());
        }
        Err(Error::Distributed(format!(
            "after update {}, the weights of processes {others:?} differ from those of process 0; all processes \
             must run the same program on the same kind of processor",
            self.updates
        )))
    }

    /// The state for a checkpoint: names and tensors, and the number of updates.
    pub fn state(&self) -> ([(&'static str, &Tensor); 2], u64) {
        ([("exp_avg", &self.first), ("exp_avg_sq", &self.second)], self.updates)
    }

    /// Restores what [`AdamW::state`] gave.
    ///
    /// # Errors
    /// When a tensor is missing, has another length, or contains values that are not finite.
    pub fn restore(
        &mut self,
        tensors: &std::collections::BTreeMap<String, Tensor>,
        updates: u64,
    ) -> Result<(), Misfit> {
        let _guard = tch::no_grad_guard();
        for (name, target) in [("exp_avg", &mut self.first), ("exp_avg_sq", &mut self.second)] {
            let tensor = tensors.get(name).ok_or_else(|| Misfit::Missing(name.into()))?;
            if tensor.size() != target.size() {
                let message = format!("`{name}` has shape {:?}, expected {:?}", tensor.size(), target.size());
                return Err(Misfit::Shape(message));
            }
            if !is_finite(tensor) {
                return Err(Misfit::Values(format!("`{name}` holds values that are not finite")));
            }
            target.copy_(tensor);
        }
        self.updates = updates;
        Ok(())
    }
}

/// How far an update goes.
#[derive(Clone, Copy)]
struct Step {
    /// Its number, from 1, for the corrections of bias.
    updates: u64,
    rate: f64,
    /// What gradients are multiplied by.
    scale: f64,
}

/// Updates values and moments: `[values, gradients, first, second]`, lists of tensors of one type
/// on one device.
fn update(lists: [&[Tensor]; 4], step: Step, config: &OptimizerConfig) {
    let Step { updates, rate, scale } = step;
    let device = lists[0][0].device();
    // Exact up to 16 million updates, as in PyTorch.
    let number = |value: f64| Tensor::full([1i64; 0], value, (Kind::Float, device));
    let (step, divisor) = (number(updates as f64), (scale != 1.0).then(|| number(1.0 / scale)));
    let pointers = lists.map(|list| {
        assert_eq!(list.len(), lists[0].len(), "a gradient for each parameter");
        list.iter().map(pointer).collect::<Vec<_>>()
    });
    let [values, gradients, first, second] = pointers.each_ref().map(|list| list.as_ptr());
    let [beta1, beta2] = BETAS;
    // SAFETY: the lists are of one length and of living tensors, as are the scalars; `scale` may be
    // null.
    let error = unsafe {
        medst_adamw(
            values,
            gradients,
            first,
            second,
            lists[0].len(),
            pointer(&step),
            divisor.as_ref().map_or(std::ptr::null(), pointer),
            rate,
            beta1,
            beta2,
            config.weight_decay,
            EPSILON,
        )
    };
    // SAFETY: null, or a C string of `strdup`, which is ours to free.
    unsafe { check(error) }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Values, gradient and both moments.
    fn tensors(kind: Kind) -> [Tensor; 4] {
        let count = 70_001;
        let wave = |phase: f64| (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.37 + phase).sin();
        [wave(0.0), wave(1.0), wave(2.0) * 0.1, wave(3.0).square() * 0.01].map(|tensor| tensor.to_kind(kind))
    }

    #[test]
    fn values_are_updated_as_the_formula_says() {
        let config = OptimizerConfig::default();
        let (rate, scale, updates) = (0.02, 0.5, 3);
        for (kind, tolerance) in [(Kind::Double, 1e-6), (Kind::Float, 1e-5)] {
            let ([values, gradient, first, second], [v, g, m, s]) = (tensors(kind), tensors(Kind::Double));
            let (g, [beta1, beta2]) = (g * scale, BETAS);
            let m = m * beta1 + &g * (1.0 - beta1);
            let s = s * beta2 + g.square() * (1.0 - beta2);
            let correction = |beta: f64| 1.0 - beta.powi(updates);
            let root = (&s / correction(beta2)).sqrt() + EPSILON;
            let v = v * (1.0 - rate * config.weight_decay) - &m / correction(beta1) / root * rate;
            let lists = [&values, &gradient, &first, &second].map(std::slice::from_ref);
            update(lists, Step { updates: updates as u64, rate, scale }, &config);
            for (ours, expected) in [(values, v), (first, m), (second, s)] {
                let off = (ours.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
                // The divisor of a scaled gradient is float32 in any case.
                assert!(off < tolerance, "{kind:?}: {off:.1e}");
            }
        }
    }
}
