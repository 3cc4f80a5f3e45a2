//! What a step of fine-tuning computes: which parameters are trained and how fast, the loss, and
//! its gradient.

use tch::{Kind, Tensor};

use super::Config;
use super::data::{Batch, Items};
use crate::device::send;
use crate::distributed::{self, Group};
use crate::model::config::{Lateral, Semantics};
use crate::model::head::Head;
use crate::model::{MedSt, Parameter};
use crate::train::gradients::Differentiated;
use crate::train::reduce::ParameterGroup;
use crate::{Error, Result};

/// The parameters that are trained.
pub(super) struct Trained {
    pub parameters: Vec<Parameter>,
    /// What the learning rate of each is multiplied by.
    pub factors: Vec<f64>,
}

/// This process's share of a batch.
pub(super) struct BatchShare {
    pub batch: Batch,
    /// Known labels of the whole batch.
    pub known: usize,
    /// Studies of the whole batch.
    pub studies: usize,
}

/// The parameters that are trained; all others take no part from here on.
///
/// # Errors
/// More frozen stages than there are.
pub(super) fn trained(model: &MedSt, config: &Config, training: &Items) -> Result<Trained> {
    let depth = model.config.image.num_layers as usize;
    if config.init.frozen > depth + 2 {
        return Err(Error::Config(format!(
            "init.frozen = {}: the image encoder has {} stages (the patch embedding, {depth} blocks and the final norm); freeze at most that many",
            config.init.frozen,
            depth + 2
        )));
    }
    let lateral = model.config.lateral == Lateral::Expert
        && (model.config.semantics == Semantics::Reference || training.have_lateral());
    let (mut parameters, mut factors) = (Vec::new(), Vec::new());
    for own in model.parameters() {
        match factor(&own.name, depth, lateral, config) {
            Some(factor) => {
                parameters.push(own.clone());
                factors.push(factor);
            }
            // The tape does not go through it, and the engine computes no gradient of it.
            None => drop(own.working.set_requires_grad(false)),
        }
    }
    Ok(Trained { parameters, factors })
}

/// The factor of a parameter's learning rate; `None` if the parameter is not trained.
///
/// * `lateral`: whether lateral views go through separate experts.
fn factor(name: &str, depth: usize, lateral: bool, config: &Config) -> Option<f64> {
    if name.starts_with("task_head.") {
        return Some(1.0);
    }
    let ParameterGroup::Image(stage) = ParameterGroup::from_name(name, depth + 1) else { return None };
    // After the last block only the state of [CLS] is used, which is a frontal token.
    let unused = name.contains(".lateral_expert.") && (!lateral || stage == depth);
    (stage >= config.init.frozen && !unused).then(|| config.optimizer.layer_decay.powi((depth + 1 - stage) as i32))
}

/// The head of a model that is being fine-tuned.
pub(super) fn head(model: &MedSt) -> &Head {
    model.head().expect("the model was made with a head")
}

/// Logits `[B, O]` of a batch.
pub(super) fn logits(model: &MedSt, batch: &Batch) -> Result<Tensor> {
    Ok(head(model).forward(&model.encode_whole_images(&batch.images.to_device(model.device()))?))
}

/// The sum of the losses of known labels.
///
/// * `logits`: `[B, O]`; * `targets`: `[B, L]` int64, -1 where the label is unknown; * `weights`:
///   `[L, C]`.
fn loss(head: &Head, logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Tensor {
    let all = head.log_probabilities(logits);
    let known = targets.ge(0);
    let class = targets.clamp_min(0).unsqueeze(2);
    let chosen = all.gather(2, &class, false).squeeze_dim(2);
    let weight = weights.unsqueeze(0).expand_as(&all).gather(2, &class, false).squeeze_dim(2);
    -(chosen * weight.to_kind(all.kind()) * known.to_kind(all.kind())).sum(None::<Kind>)
}

/// The loss of a batch: the sum over known labels; of mixed items, in the shares of both.
fn batch_loss(head: &Head, logits: &Tensor, batch: &Batch, weights: &Tensor) -> Tensor {
    let of = |targets: &Tensor| loss(head, logits, &send(targets, logits.device()), weights);
    let own = of(&batch.targets);
    match &batch.mixed {
        Some(other) => own * other.share + of(&other.targets) * (1.0 - other.share),
        None => own,
    }
}

/// What a step is computed with, the same for all of a run.
pub(super) struct Objective {
    /// Those that are trained.
    pub parameters: Vec<Parameter>,
    /// How much each class of each label counts, `[L, C]`.
    pub weights: Tensor,
}

impl Objective {
    /// The loss of a step and `factor` times its gradient by the trained parameters, both of the
    /// whole batch, of which this process has a share.
    pub fn differentiate(
        &self,
        model: &MedSt,
        share: &BatchShare,
        factor: f64,
        group: &Group,
    ) -> Result<Differentiated<f64>> {
        let working: Vec<&Tensor> = self.parameters.iter().map(|parameter| &parameter.working).collect();
        let (loss, found) = match share.batch.images.studies() {
            // More processes than items.
            0 => (0.0, working.iter().map(|_| Tensor::new()).collect()),
            _ => {
                let sum = batch_loss(head(model), &logits(model, &share.batch)?, &share.batch, &self.weights);
                let mean = sum / share.known.max(1) as f64;
                let found = Tensor::run_backward(&[&mean * factor], &working, false, false);
                (mean.double_value(&[]), found)
            }
        };
        let precise = |(gradient, parameter): (Tensor, &Parameter)| match gradient.defined() {
            true => gradient.to_kind(parameter.tensor.kind()),
            false => parameter.tensor.zeros_like(),
        };
        let gradients: Vec<Tensor> = found.into_iter().zip(&self.parameters).map(precise).collect();
        if group.size() == 1 {
            return Ok(Differentiated { losses: loss, gradients });
        }
        let mut flat = Tensor::cat(&gradients.iter().map(|gradient| gradient.reshape([-1])).collect::<Vec<_>>(), 0);
        group.sum(&mut flat);
        let lengths: Vec<i64> = gradients.iter().map(|gradient| gradient.numel() as i64).collect();
        let parts = flat.split_with_sizes(&lengths, 0).into_iter().zip(&gradients);
        let gradients = parts.map(|(part, gradient)| part.view_as(gradient)).collect();
        Ok(Differentiated { losses: distributed::sum_numbers(group, &[loss])[0], gradients })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::finetune::data::Other;
    use crate::model::head::{HeadConfig, HeadTask};
    use crate::model::input::ImageInput;
    use crate::model::parameters::Scope;

    fn config(settings: &[&str]) -> Config {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Config::parse("[init]\nweights = \"phantom\"\n", &settings).unwrap()
    }

    #[test]
    fn rates_fall_from_the_head_to_the_pixels_and_frozen_stages_have_none() {
        let of = |name: &str, config: &Config| factor(name, 3, true, config);
        let decayed = config(&["optimizer.layer_decay=0.5"]);
        for (name, expected) in [
            ("task_head.weight", Some(1.0)),
            ("image_encoder.norm.weight", Some(1.0)),
            ("image_encoder.blocks.2.norm.weight", Some(0.5)),
            ("image_encoder.blocks.0.norm.weight", Some(0.125)),
            ("image_encoder.stem.0.weight", Some(0.0625)),
            ("image_encoder.class_token", Some(0.0625)),
            ("image_encoder.blocks.1.lateral_expert.norm.weight", Some(0.25)),
            // Its output is not used.
            ("image_encoder.blocks.2.lateral_expert.norm.weight", None),
            ("report_encoder.layers.0.norm.weight", None),
            ("image_global.expand.weight", None),
        ] {
            assert_eq!(of(name, &decayed), expected, "{name}");
        }
        let frozen = config(&["init.frozen=2", "optimizer.layer_decay=1.0"]);
        assert_eq!(of("image_encoder.positions", &frozen), None);
        assert_eq!(of("image_encoder.blocks.0.norm.weight", &frozen), None);
        assert_eq!(of("image_encoder.blocks.1.norm.weight", &frozen), Some(1.0));
        assert_eq!(factor("image_encoder.blocks.1.lateral_expert.norm.weight", 3, false, &frozen), None);
        let all = config(&["init.frozen=5"]);
        assert_eq!(of("image_encoder.norm.bias", &all), None);
        assert_eq!(of("task_head.bias", &all), Some(1.0));
    }

    /// Against the engine's own cross-entropies.
    #[test]
    fn the_loss_is_cross_entropy_over_known_labels() {
        let scope = Scope::root(0.5, Some(1), Kind::Double, Device::Cpu);
        let head = |task, labels: &[&str], classes: &[&str]| {
            let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
            Head::new(&scope, &HeadConfig { task, labels: words(labels), classes: words(classes) }, 2)
        };
        let logits = Tensor::from_slice(&[0.3, -1.2, 2.0, 0.5]).view([2, 2]);
        let targets = Tensor::from_slice(&[1i64, 0, -1, 1]).view([2, 2]);
        let weights = Tensor::from_slice(&[0.5, 2.0, 1.0, 3.0]).view([2, 2]);
        let found = loss(&head(HeadTask::Findings, &["a", "b"], &[]), &logits, &targets, &weights);
        let minus_log = |x: f64| (1.0 + (-x).exp()).ln();
        let expected = 2.0 * minus_log(0.3) + 1.0 * minus_log(1.2) + 3.0 * minus_log(0.5);
        assert!((found.double_value(&[]) - expected).abs() < 1e-12);
        let own = head(HeadTask::Exclusive, &["x"], &["p", "q"]);
        let (classes, weights) = (Tensor::from_slice(&[1i64, 0]), Tensor::from_slice(&[0.7, 1.3]));
        let found = loss(&own, &logits, &classes.unsqueeze(1), &weights.unsqueeze(0));
        let theirs = logits.cross_entropy_loss(&classes, Some(&weights), tch::Reduction::Sum, -100, 0.0);
        assert!((found.double_value(&[]) - theirs.double_value(&[])).abs() < 1e-12);
        // With nothing known the loss is zero.
        let unknown = Tensor::from_slice(&[-1i64, -1]).unsqueeze(1);
        assert_eq!(loss(&own, &logits, &unknown, &weights.unsqueeze(0)).double_value(&[]), 0.0);
    }

    /// Against the engine's cross-entropy with labels between 0 and 1, which is the same where both
    /// items have the label.
    #[test]
    fn the_loss_of_mixed_items_is_that_of_both_in_their_shares() {
        let scope = Scope::root(0.5, Some(1), Kind::Double, Device::Cpu);
        let config =
            HeadConfig { task: HeadTask::Findings, labels: ["a", "b"].map(String::from).to_vec(), classes: Vec::new() };
        let head = Head::new(&scope, &config, 2);
        let logits = Tensor::from_slice(&[0.3, -1.2, 2.0, 0.5]).view([2, 2]);
        let empty = || Tensor::zeros([0, 1, 1], (Kind::Uint8, Device::Cpu));
        let batch = |targets: &[i64], others: &[i64]| Batch {
            images: ImageInput { frontal: empty(), lateral: empty(), lateral_rows: Vec::new() },
            targets: Tensor::from_slice(targets).view([2, 2]),
            mixed: Some(Other { share: 0.3, targets: Tensor::from_slice(others).view([2, 2]) }),
        };
        let ones = Tensor::ones([2, 2], (Kind::Double, Device::Cpu));
        let found = batch_loss(&head, &logits, &batch(&[1, 0, 0, 1], &[0, 0, 1, 1]), &ones);
        let shares = Tensor::from_slice(&[0.3, 0.0, 0.7, 1.0]).view([2, 2]);
        let theirs = logits.binary_cross_entropy_with_logits::<Tensor>(&shares, None, None, tch::Reduction::Sum);
        assert!((found.double_value(&[]) - theirs.double_value(&[])).abs() < 1e-12);
        // A label that only the other has counts with the other's share.
        let found = batch_loss(&head, &logits, &batch(&[-1, -1, -1, -1], &[1, -1, -1, -1]), &ones);
        assert!((found.double_value(&[]) - 0.7 * (1.0 + (-0.3f64).exp()).ln()).abs() < 1e-12);
    }
}
