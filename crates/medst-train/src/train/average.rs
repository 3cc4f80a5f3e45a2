//! A moving average of the weights and of the running statistics. It smooths out the effect of
//! single batches in the last steps, and is usually the better model (Polyak and Juditsky, 1992;
//! Tarvainen and Valpola, *Mean teachers*, 2017). Training continues from the weights themselves;
//! validation, evaluation and users of the model get the average.
//!
//! After update `t` it keeps `min(decay, (1 + t)/(10 + t))` of itself, so that a young average soon
//! forgets the initial weights.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::Result;
use crate::distributed::Group;
use crate::model::MedSt;
use crate::model::parameters::Parameter;

#[derive(Debug)]
pub struct Average {
    model: MedSt,
    decay: f64,
}

impl Average {
    /// An average that begins where the model is.
    ///
    /// * `decay`: the largest share of itself that an update keeps, in `[0, 1)`.
    ///
    /// # Errors
    /// A configuration that makes no model.
    pub fn new(model: &MedSt, kind: Kind, decay: f64) -> Result<Average> {
        let copy = MedSt::unwritten(&model.config, model.device(), kind)?;
        let average = Average { model: copy, decay };
        average.pairs(model).for_each(|(averaged, other)| averaged.fill(&other.tensor));
        Ok(average)
    }

    /// The model that has the averaged weights.
    pub fn model(&self) -> &MedSt {
        &self.model
    }

    /// Parameters and running statistics, each with the model's.
    fn pairs<'a>(&'a self, model: &'a MedSt) -> impl Iterator<Item = (&'a Parameter, &'a Parameter)> {
        let all = |model: &'a MedSt| model.parameters().iter().chain(model.buffers());
        all(&self.model).zip(all(model))
    }

    /// Takes the model in after an update of it.
    ///
    /// * `update`: which one, counted from 1 over the whole run.
    pub fn follow(&self, model: &MedSt, update: u64) {
        let _guard = tch::no_grad_guard();
        let share = 1.0 - self.kept(update);
        for (averaged, other) in self.pairs(model) {
            averaged.fill(&averaged.tensor.lerp(&other.tensor, share));
        }
    }

    /// The share of itself that an update keeps.
    fn kept(&self, update: u64) -> f64 {
        let update = update as f64;
        self.decay.min((1.0 + update) / (10.0 + update))
    }

    /// Reads averaged weights.
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
        let mut values =
            Tensor::cat(&all.iter().map(|parameter| parameter.tensor.flatten(0, -1)).collect::<Vec<_>>(), 0);
        group.broadcast(&mut values);
        let sizes: Vec<i64> = all.iter().map(|parameter| parameter.tensor.numel() as i64).collect();
        for (parameter, values) in all.iter().zip(values.split_with_sizes(&sizes, 0)) {
            parameter.fill(&values.view_as(&parameter.tensor));
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
            image: ImageConfig {
                size: 32,
                patch: 16,
                hidden_size: 8,
                num_layers: 1,
                num_heads: 1,
                intermediate_size: 8,
                ..ImageConfig::default()
            },
            text: TextConfig {
                hidden_size: 8,
                num_layers: 1,
                num_heads: 1,
                intermediate_size: 8,
                vocabulary: 50,
                ..TextConfig::default()
            },
            projection: ProjectionConfig { hidden: 8, embedding: 4 },
            ..ModelConfig::default()
        };
        MedSt::new(&config, seed, Device::Cpu, Kind::Float).unwrap()
    }

    fn values(model: &MedSt) -> Vec<Tensor> {
        model.parameters().iter().chain(model.buffers()).map(|parameter| parameter.tensor.detach().copy()).collect()
    }

    /// Another model's parameters and running statistics in this one's storage.
    fn overwrite(model: &MedSt, seed: u64) {
        let other = self::model(seed);
        other.buffers().iter().for_each(|parameter| parameter.fill(&parameter.tensor.full_like(3.0)));
        let all = |model: &'_ MedSt| model.parameters().iter().chain(model.buffers()).cloned().collect::<Vec<_>>();
        all(model).iter().zip(all(&other)).for_each(|(parameter, other)| parameter.fill(&other.tensor));
    }

    #[test]
    fn it_begins_as_the_model_and_follows_in_separate_storage() {
        let trained = model(1);
        let average = Average::new(&trained, Kind::Float, 0.25).unwrap();
        let begun = values(&trained);
        assert!(values(average.model()).iter().zip(&begun).all(|(mean, model)| mean == model));
        overwrite(&trained, 2);
        assert!(
            values(average.model()).iter().zip(&begun).all(|(mean, model)| mean == model),
            "the average shares no storage with the model"
        );
        // 2/11 of the beginning are left of the first update, a quarter each of the two after it.
        let mut left = 1.0;
        for update in 1..=3 {
            average.follow(&trained, update);
            left *= [2.0 / 11.0, 0.25, 0.25][update as usize - 1];
        }
        let mut moved = 0;
        for ((mean, was), is) in values(average.model()).iter().zip(&begun).zip(values(&trained)) {
            assert!(mean.allclose(&(was * left + &is * (1.0 - left)), 1e-5, 1e-6, false));
            moved += usize::from(mean != was);
        }
        assert!(moved > trained.buffers().len(), "parameters and statistics");
    }

    #[test]
    fn it_keeps_more_of_itself_as_it_grows_old_up_to_its_decay() {
        let average = Average::new(&model(1), Kind::Float, 0.99).unwrap();
        let kept = [1, 10, 889, 891, 100_000].map(|update| average.kept(update));
        assert_eq!(kept[0], 2.0 / 11.0);
        assert_eq!(kept[1], 11.0 / 20.0);
        assert!(kept[2] < 0.99 && kept[2] > 0.9899, "{kept:?}");
        assert_eq!(kept[3..], [0.99, 0.99]);
    }

    #[test]
    fn with_no_decay_it_is_the_model() {
        let trained = model(1);
        let average = Average::new(&trained, Kind::Float, 0.0).unwrap();
        overwrite(&trained, 2);
        average.follow(&trained, 1);
        assert!(values(average.model()).iter().zip(values(&trained)).all(|(mean, model)| *mean == model));
    }
}
