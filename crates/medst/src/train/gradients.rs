//! Gradients by every parameter of a model, gathered from one or several backward passes.

use tch::Tensor;

use crate::model::{MedSt, Parameter};

/// A sum of gradients, in the parameters' order and in the precision in which parameters are updated.
pub struct Gradients<'a> {
    parameters: &'a [Parameter],
    sum: Vec<Option<Tensor>>,
}

impl<'a> Gradients<'a> {
    pub fn none(model: &'a MedSt) -> Gradients<'a> {
        let parameters = model.parameters();
        Gradients { parameters, sum: parameters.iter().map(|_| None).collect() }
    }

    /// The gradient of a scalar; zero for parameters it does not depend on.
    pub fn of(model: &MedSt, loss: &Tensor) -> Vec<Tensor> {
        let mut gradients = Gradients::none(model);
        gradients.add(loss, &[]);
        gradients.finish()
    }

    /// Adds the gradient of a scalar by the parameters; returns that by `others`, zero where it does not depend on one.
    pub fn add(&mut self, loss: &Tensor, others: &[Tensor]) -> Vec<Tensor> {
        // The engine takes no scalar without a tape, such as a part that a batch has nothing for.
        if !loss.requires_grad() {
            return others.iter().map(Tensor::zeros_like).collect();
        }
        let own = self.parameters.iter().map(|parameter| &parameter.working);
        let tensors: Vec<&Tensor> = own.chain(others).collect();
        let mut found = Tensor::run_backward(&[loss], &tensors, false, false);
        let of_others = found.split_off(self.parameters.len());
        for ((sum, gradient), parameter) in self.sum.iter_mut().zip(found).zip(self.parameters) {
            if !gradient.defined() {
                continue;
            }
            // Sums of several passes would lose the small ones in sixteen bits.
            let gradient = gradient.to_kind(parameter.tensor.kind());
            match sum {
                Some(sum) => drop(sum.g_add_(&gradient)),
                None => *sum = Some(gradient),
            }
        }
        let defined = |(gradient, of): (Tensor, &Tensor)| if gradient.defined() { gradient } else { of.zeros_like() };
        of_others.into_iter().zip(others).map(defined).collect()
    }

    /// Takes the sums of some parameters out, behind each other, `[n]`; zero where there is none.
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
        let mut place = 0;
        for &number in numbers {
            let like = &self.parameters[number].tensor;
            let length = like.numel() as i64;
            self.sum[number] = Some(flat.narrow(0, place, length).view_as(like));
            place += length;
        }
    }

    /// Parameters and sums as they came from [`Gradients::finish`].
    pub fn from(model: &'a MedSt, gradients: Vec<Tensor>) -> Gradients<'a> {
        Gradients { parameters: model.parameters(), sum: gradients.into_iter().map(Some).collect() }
    }

    /// The names of the parameters, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// One tensor for each parameter.
    pub fn finish(self) -> Vec<Tensor> {
        let zero = |parameter: &Parameter| parameter.tensor.zeros_like();
        let all = self.sum.into_iter().zip(self.parameters);
        all.map(|(sum, parameter)| sum.unwrap_or_else(|| zero(parameter))).collect()
    }
}
