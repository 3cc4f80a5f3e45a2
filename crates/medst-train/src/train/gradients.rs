//! Gradients by every parameter of a model, gathered from one or several backward passes.

use tch::{Device, Tensor};

use crate::model::{MedSt, Parameter};

/// Losses and their gradients, one for each parameter in their order.
#[derive(Debug)]
pub struct Differentiated<T> {
    pub losses: T,
    pub gradients: Vec<Tensor>,
}

/// A sum of gradients, in the parameters' order and in the precision in which parameters are
/// updated.
///
/// On a GPU they are stored one after another in one tensor from the beginning, because one kernel
/// over everything is faster than hundreds. On a CPU they remain the separate tensors that the
/// backward pass makes: one tensor for all would take 0.8 GB more.
pub struct Gradients<'a> {
    parameters: &'a [Parameter],
    sum: Vec<Option<Tensor>>,
    /// On a GPU the place of each.
    places: Vec<Tensor>,
}

impl<'a> Gradients<'a> {
    pub fn none(model: &'a MedSt) -> Gradients<'a> {
        let parameters = model.parameters();
        Gradients {
            parameters,
            sum: parameters.iter().map(|_| None).collect(),
            places: places(parameters, model.device()),
        }
    }

    /// The gradient of a scalar; zero for parameters it does not depend on.
    pub fn compute(model: &MedSt, loss: &Tensor) -> Vec<Tensor> {
        let mut gradients = Gradients::none(model);
        gradients.add(loss, &[]);
        gradients.finish()
    }

    /// Adds the gradient of a scalar by the parameters; returns that by `others`, zero where it
    /// does not depend on one.
    pub fn add(&mut self, loss: &Tensor, others: &[Tensor]) -> Vec<Tensor> {
        // libtorch refuses a scalar without a tape, such as a loss term that a batch has no data
        // for.
        if !loss.requires_grad() {
            return others.iter().map(Tensor::zeros_like).collect();
        }
        let parameters = self.parameters.iter().map(|parameter| &parameter.working);
        let tensors: Vec<&Tensor> = parameters.chain(others).collect();
        let mut found = Tensor::run_backward(&[loss], &tensors, false, false);
        let of_others = found.split_off(self.parameters.len());
        for (number, gradient) in found.into_iter().enumerate().filter(|(_, gradient)| gradient.defined()) {
            match &mut self.sum[number] {
                Some(sum) => drop(sum.g_add_(&gradient)),
                None => self.put(number, &gradient),
            }
        }
        let defined = |(gradient, of): (Tensor, &Tensor)| if gradient.defined() { gradient } else { of.zeros_like() };
        of_others.into_iter().zip(others).map(defined).collect()
    }

    /// Adds gradients by the parameters, in their order.
    pub fn add_all(&mut self, gradients: Vec<Tensor>) {
        for (number, gradient) in gradients.into_iter().enumerate() {
            match &mut self.sum[number] {
                Some(sum) => drop(sum.g_add_(&gradient)),
                None => self.put(number, &gradient),
            }
        }
    }

    /// The first gradient of a sum, which is in the precision of the parameter: in sixteen bits the
    /// sum would lose small ones.
    fn put(&mut self, number: usize, gradient: &Tensor) {
        let kind = self.parameters[number].tensor.kind();
        self.sum[number] = Some(match self.places.get(number) {
            Some(place) => {
                tch::no_grad(|| place.shallow_clone().copy_(gradient));
                place.shallow_clone()
            }
            None => gradient.to_kind(kind),
        });
    }

    /// Takes the sums of some parameters out, concatenated, `[n]`; zero for a parameter without a
    /// sum.
    pub fn take_flat(&mut self, numbers: &[usize]) -> Tensor {
        let parts: Vec<Tensor> = numbers
            .iter()
            .map(|&number| {
                let like = &self.parameters[number].tensor;
                self.sum[number].take().unwrap_or_else(|| like.zeros_like()).reshape([-1])
            })
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// Puts back what [`Gradients::take_flat`] took.
    pub fn put_flat(&mut self, numbers: &[usize], flat: &Tensor) {
        let mut offset = 0;
        for &number in numbers {
            let like = &self.parameters[number].tensor;
            let length = like.numel() as i64;
            let part = flat.narrow(0, offset, length).view_as(like);
            self.put(number, &part);
            offset += length;
        }
    }

    /// The names of the parameters, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// One tensor for each parameter.
    pub fn finish(self) -> Vec<Tensor> {
        let zero = |number: usize| match self.places.get(number) {
            Some(place) => place.shallow_clone().zero_(),
            None => self.parameters[number].tensor.zeros_like(),
        };
        self.sum.into_iter().enumerate().map(|(number, sum)| sum.unwrap_or_else(|| zero(number))).collect()
    }
}

/// Views of one flat tensor, one per parameter; none on a CPU.
fn places(parameters: &[Parameter], device: Device) -> Vec<Tensor> {
    if device == Device::Cpu {
        return Vec::new();
    }
    let lengths: Vec<i64> = parameters.iter().map(|parameter| parameter.tensor.numel() as i64).collect();
    let flat = Tensor::empty([lengths.iter().sum::<i64>()], (parameters[0].tensor.kind(), device));
    let parts = flat.split_with_sizes(&lengths, 0).into_iter().zip(parameters);
    parts.map(|(part, parameter)| part.view_as(&parameter.tensor)).collect()
}
