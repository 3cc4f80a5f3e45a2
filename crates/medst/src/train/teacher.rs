//! A slower model that teaches the faster one: its weights are an exponential moving average of the trained ones, and what it finds similar shares
//! the target of the global loss (beyond the paper; the momentum distillation of Li et al., *Align before Fuse*, 2021). A report that fits several
//! pictures, such as "no pneumothorax", then is no plain negative of them ([`crate::loss::soft_targets`]).
//!
//! It sees the very crops of the batch, without dropout and with running statistics. Its weights belong to a run's checkpoints.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::Result;
use crate::distributed::Group;
use crate::distributed::share::Share;
use crate::model::input::Batch;
use crate::model::parameters::Parameter;
use crate::model::{MedSt, Mode};

#[derive(Debug)]
pub struct Teacher {
    model: MedSt,
    /// Share of itself that an update keeps.
    momentum: f64,
}

impl Teacher {
    /// A teacher that begins where the model is.
    ///
    /// # Errors
    /// A configuration that makes no model.
    pub fn new(model: &MedSt, kind: Kind, momentum: f64) -> Result<Teacher> {
        let own = MedSt::unwritten(&model.config, model.device(), kind)?;
        let teacher = Teacher { model: own, momentum };
        teacher.pairs(model).for_each(|(own, other)| own.fill(&other.tensor));
        Ok(teacher)
    }

    /// Parameters and running statistics, each with the model's.
    fn pairs<'a>(&'a self, model: &'a MedSt) -> impl Iterator<Item = (&'a Parameter, &'a Parameter)> {
        let all = |model: &'a MedSt| model.parameters().iter().chain(model.buffers());
        all(&self.model).zip(all(model))
    }

    /// Follows the model after an update of it.
    pub fn follow(&self, model: &MedSt) {
        let _guard = tch::no_grad_guard();
        for (own, other) in self.pairs(model) {
            own.fill(&own.tensor.lerp(&other.tensor, 1.0 - self.momentum));
        }
    }

    /// What it makes of the images and of the reports of a batch: unit vectors `[B, D]` each, without gradient.
    ///
    /// * `share`: of a batch of which this process has a part; the vectors are those of the whole batch.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    pub fn embed(&self, batch: &Batch, share: &Share) -> Result<[Tensor; 2]> {
        let _guard = tch::no_grad_guard();
        let image = self.model.project_image(&self.model.encode_whole_images(&batch.images)?, Mode::Evaluate);
        let report = self.model.embed_whole_reports(&batch.reports)?;
        Ok([image, report].map(|own| share.group.gather(&own.contiguous(), &share.counts)))
    }

    /// Writes its weights.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.model.save(path, None)
    }

    /// Reads what [`Teacher::save`] wrote.
    ///
    /// # Errors
    /// A file that is missing or does not fit.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        self.model.load(path)
    }

    /// Takes over the weights of process 0.
    pub fn broadcast(&self, group: &Group) {
        if group.size() == 1 {
            return;
        }
        let _guard = tch::no_grad_guard();
        let all: Vec<&Parameter> = self.model.parameters().iter().chain(self.model.buffers()).collect();
        let mut values = Tensor::cat(&all.iter().map(|own| own.tensor.flatten(0, -1)).collect::<Vec<_>>(), 0);
        group.broadcast(&mut values);
        let sizes: Vec<i64> = all.iter().map(|own| own.tensor.numel() as i64).collect();
        for (own, values) in all.iter().zip(values.split_with_sizes(&sizes, 0)) {
            own.fill(&values.view_as(&own.tensor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{ImageConfig, ModelConfig, ProjectionConfig, TextConfig};
    use tch::Device;

    fn model(seed: u64) -> MedSt {
        let config = ModelConfig {
            image: ImageConfig { size: 32, patch: 16, width: 8, depth: 1, heads: 1, mlp: 8, ..ImageConfig::default() },
            text: TextConfig {
                width: 8,
                layers: 1,
                heads: 1,
                intermediate: 8,
                vocabulary: 50,
                ..TextConfig::default()
            },
            projection: ProjectionConfig { hidden: 8, embedding: 4 },
            ..ModelConfig::default()
        };
        MedSt::new(&config, seed, Device::Cpu, Kind::Float).unwrap()
    }

    fn values(model: &MedSt) -> Vec<Tensor> {
        model.parameters().iter().chain(model.buffers()).map(|own| own.tensor.detach().copy()).collect()
    }

    #[test]
    fn it_begins_as_the_model_and_follows_slowly_with_storage_of_its_own() {
        let (student, other) = (model(1), model(2));
        let teacher = Teacher::new(&student, Kind::Float, 0.75).unwrap();
        let begun = values(&student);
        assert!(values(&teacher.model).iter().zip(&begun).all(|(own, model)| own == model));
        for (own, other) in student.parameters().iter().zip(other.parameters()) {
            own.fill(&other.tensor);
        }
        assert!(values(&teacher.model).iter().zip(&begun).all(|(own, model)| own == model), "storage of its own");
        let mut left = 1.0;
        for _ in 0..3 {
            teacher.follow(&student);
            left *= 0.75;
        }
        for ((own, was), is) in values(&teacher.model).iter().zip(&begun).zip(values(&student)) {
            let expected = was * left + is * (1.0 - left);
            assert!(own.allclose(&expected, 1e-5, 1e-6, false));
        }
        let moved = values(&teacher.model).iter().zip(&begun).any(|(own, was)| own != was);
        assert!(moved && values(&student).iter().zip(values(&other)).any(|(a, b)| *a == b));
    }

    #[test]
    fn without_momentum_it_is_the_model() {
        let (student, other) = (model(1), model(2));
        let teacher = Teacher::new(&student, Kind::Float, 0.0).unwrap();
        teacher.follow(&other);
        assert!(values(&teacher.model).iter().zip(values(&other)).all(|(own, model)| *own == model));
    }
}
