//! Agreement with the reference implementation, number by number.
//!
//! Reads a folder that the reference produced (`MEDST_REFERENCE_DIR`; by default the one stored
//! next to this file): weights, a batch, and the activations, losses, gradients and ten optimiser
//! steps it computed in float64. All sizes come from the folder. Tolerances: 1e-6 for activations
//! and losses, 1e-5 for gradients and the curve in float64; 1e-4, 1e-3 and 1e-2 in float32.

mod fixture;

use std::collections::BTreeMap;

use fixture::{Comparison, Fixture};
use medst_model::config::OptimizerConfig;
use medst_model::convert::counterpart::gather;
use medst_model::convert::reference;
use medst_model::loss::{self, temporal};
use medst_model::model::view_experts::View;
use medst_model::model::{MedSt, Mode};
use medst_train::train::gradients::Gradients;
use medst_train::train::optimizer::AdamW;
use medst_train::train::schedule::Schedule;
use tch::{Kind, Tensor};

/// Precision, and what it is allowed for activations and losses, gradients, the curve.
const PRECISIONS: [(Kind, f64, f64, f64); 2] = [(Kind::Double, 1e-6, 1e-5, 1e-5), (Kind::Float, 1e-4, 1e-3, 1e-2)];

const WEIGHT_FILES: [&str; 2] = ["weights.safetensors", "lightning.ckpt"];

/// Compares everything a forward pass gives under `prefix` (`eval` or `train`).
fn compare_forward(fixture: &Fixture, model: &MedSt, mode: Mode, prefix: &str, comparison: &mut Comparison) {
    let batch = fixture.batch();
    let images = model.embed_images(&batch.images, mode).unwrap();
    let reports = model.embed_reports(&batch.reports, mode).unwrap();
    let losses = loss::of_embeddings(model, &images, &reports, &batch, &fixture.loss_config());
    let patches = |frontal: &Tensor, lateral: &Tensor| Tensor::cat(&[frontal, lateral], 1);
    let found = [
        ("image_feature", images.features.image.shallow_clone()),
        ("image_embedding", images.global.shallow_clone()),
        ("patch_feature", patches(&images.features.frontal_patches, &images.features.lateral_patches)),
        ("patch_embedding", patches(&images.frontal_patches, &images.lateral_patches)),
        ("report_feature", reports.feature.shallow_clone()),
        ("report_embedding", reports.global.shallow_clone()),
        ("word_feature", reports.word_features.shallow_clone()),
        ("word_embedding", reports.words.shallow_clone()),
        ("word_attention", model.word_attention(&batch.reports)),
        ("loss.global", losses.global.view([1])),
        ("loss.local", losses.local.view([1])),
        ("loss.temporal", (&losses.forward_mapping + &losses.reverse_mapping).view([1])),
    ];
    for (name, found) in found {
        let name = format!("{prefix}.{name}");
        comparison.add(&name, &found, &fixture.outputs[&name]);
    }
    // The reference reports accuracies in percent.
    for (name, found) in [("acc1", losses.accuracy_at_1), ("acc5", losses.accuracy_at_5)] {
        let name = format!("{prefix}.loss.{name}");
        comparison.add(&name, &(found.view([1]) * 100.0), &fixture.outputs[&name]);
    }
}

#[test]
fn evaluation_agrees() {
    let fixture = Fixture::open();
    for (kind, tolerance, ..) in PRECISIONS {
        for file in WEIGHT_FILES {
            let mut comparison = Comparison::new(tolerance);
            tch::no_grad(|| {
                let model = fixture.model(file, kind);
                compare_forward(&fixture, &model, Mode::Evaluate, "eval", &mut comparison);
                let batch = fixture.batch();
                let expected = |name: &str| &fixture.outputs[&format!("eval.{name}")];
                let frontal = &batch.images.frontal;
                let (image, patches) = model.image_encoder.forward_single(frontal, View::Frontal);
                comparison.add("single_view.image_feature", &image, expected("single_view.image_feature"));
                comparison.add("single_view.patch_feature", &patches, expected("single_view.patch_feature"));
                let (embedding, _) = model.embed_single_view(frontal, View::Frontal, Mode::Evaluate);
                comparison.add("single_view.image_embedding", &embedding, expected("single_view.image_embedding"));
                let (image, _) = model.image_encoder.forward_single(frontal, View::Lateral);
                comparison.add("lateral_expert.image_feature", &image, expected("lateral_expert.image_feature"));
            });
            comparison.finish(&format!("evaluation, {file}, {kind:?}"));
        }
    }
}

#[test]
fn training_agrees() {
    let fixture = Fixture::open();
    for (kind, tolerance, ..) in PRECISIONS {
        let mut comparison = Comparison::new(tolerance);
        let model = fixture.model("lightning.ckpt", kind);
        tch::no_grad(|| compare_forward(&fixture, &model, Mode::Train, "train", &mut comparison));
        comparison.finish(&format!("training, {kind:?}"));
    }
}

#[test]
fn gradients_agree() {
    let fixture = Fixture::open();
    let expected = fixture.tensors("gradients.safetensors").tensors;
    for (kind, _, tolerance, _) in PRECISIONS {
        let model = fixture.model("weights.safetensors", kind);
        let losses = loss::med_st(&model, &fixture.batch(), &fixture.loss_config(), Mode::Train).unwrap();
        losses.total.backward();
        let mut comparison = Comparison::new(tolerance);
        compare_gradients(&fixture, &model, &expected, kind, &mut comparison);
        comparison.finish(&format!("gradients, {kind:?}"));
    }
}

fn compare_gradients(
    fixture: &Fixture,
    model: &MedSt,
    expected: &BTreeMap<String, Tensor>,
    kind: Kind,
    comparison: &mut Comparison,
) {
    let last_report_bias = &format!("report_encoder.layers.{}.norm.bias", fixture.config.bert_layers - 1);
    let all = length_of_all(expected);
    let mut seen = std::collections::BTreeSet::new();
    for parameter in model.parameters() {
        let source = reference::counterpart(&parameter.name, fixture.config.embedding).unwrap();
        let wanted = gather(&source, expected, &parameter.tensor.size()).unwrap();
        let found = parameter.tensor.grad();
        assert!(found.defined(), "{} has no gradient", parameter.name);
        let found = found.to_kind(Kind::Double);
        let length = wanted.to_kind(Kind::Double).norm().double_value(&[]);
        // A bias in front of a batch normalisation has a gradient of zero in exact arithmetic; what
        // both programs give there is rounding, measured against all gradients. The report
        // encoder's last one is in front of two: of the report head, where it cancels, and of the
        // word head, where a little remains because words have different numbers of pieces. In
        // float32 the rounding of the first drowns part of the second.
        let cancels = kind == Kind::Float && parameter.name == *last_report_bias;
        if length < 1e-7 * all || cancels {
            let difference = (found - wanted.to_kind(Kind::Double)).norm().double_value(&[]);
            comparison.add_error(&parameter.name, difference / all);
        } else {
            comparison.add(&parameter.name, &found, &wanted);
        }
        seen.extend(source.names);
    }
    let unseen: Vec<&String> = expected.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(unseen.is_empty(), "gradients of the reference without a counterpart: {unseen:?}");
}

#[test]
fn temporal_losses_and_their_gradients_agree() {
    let fixture = Fixture::open();
    let config = fixture.loss_config();
    for (kind, tolerance, gradient_tolerance, _) in PRECISIONS {
        let leaf = |name: &str| fixture.outputs[&format!("temporal.{name}")].to_kind(kind).set_requires_grad(true);
        let (source, target) = (leaf("source"), leaf("target"));
        let forward = temporal::forward_mapping(&source, &target, None, config.temporal_temperature);
        let times = temporal::step_times(source.size()[1], (kind, tch::Device::Cpu));
        let (temperature, weight) = (config.temporal_temperature, config.variance_weight);
        let reverse = temporal::reverse_mapping(&source, &target, None, &times, temperature, weight);
        (&forward + &reverse).backward();
        let expected = |name: &str| &fixture.outputs[&format!("temporal.{name}")];
        let mut comparison = Comparison::new(tolerance);
        comparison.add("forward", &forward.view([1]), expected("forward_mapping_classification"));
        comparison.add("reverse", &reverse.view([1]), expected("reverse_mapping_regression"));
        comparison.finish(&format!("temporal losses, {kind:?}"));
        let mut comparison = Comparison::new(gradient_tolerance);
        comparison.add("source", &source.grad(), expected("grad_source"));
        comparison.add("target", &target.grad(), expected("grad_target"));
        comparison.finish(&format!("temporal gradients, {kind:?}"));
    }
}

#[test]
fn ten_optimiser_steps_agree() {
    let fixture = Fixture::open();
    let c = &fixture.config;
    let schedule = Schedule { max: c.lr, min: c.min_lr, warmup: c.warmup_steps, total: c.first_cycle_steps };
    let expected_losses = &fixture.outputs["curve.losses"];
    let expected_rates = Vec::<f64>::try_from(&fixture.outputs["curve.lr"]).unwrap();
    let steps = expected_losses.size()[0];
    for (kind, _, _, tolerance) in PRECISIONS {
        let model = fixture.model("weights.safetensors", kind);
        let config = OptimizerConfig { lr: c.lr, weight_decay: c.weight_decay, ..OptimizerConfig::default() };
        let mut optimizer = AdamW::new(&model, &config);
        let batch = fixture.batch();
        let mut comparison = Comparison::new(tolerance);
        for step in 0..steps {
            let rate = schedule.rate(step as u64);
            comparison.add_error(&format!("rate of step {step}"), (rate / expected_rates[step as usize] - 1.0).abs());
            let losses = loss::med_st(&model, &batch, &fixture.loss_config(), Mode::Train).unwrap();
            let found = [
                losses.global,
                losses.local,
                losses.forward_mapping + losses.reverse_mapping,
                losses.total.shallow_clone(),
            ]
            .map(|loss| loss.detach().to_kind(Kind::Double));
            comparison.add(&format!("losses of step {step}"), &Tensor::stack(&found, 0), &expected_losses.get(step));
            let gradients = Gradients::compute(&model, &losses.total);
            optimizer.step(&gradients, rate, 1.0);
        }
        comparison.finish(&format!("curve, {kind:?}"));
        compare_final_weights(&fixture, &model, Comparison::new(tolerance), kind);
    }
}

/// `weights_after_10_steps` holds some of the reference's tensors, under its names.
fn compare_final_weights(fixture: &Fixture, model: &MedSt, mut comparison: Comparison, kind: Kind) {
    let expected = fixture.tensors("weights_after_10_steps.safetensors").tensors;
    let gradients = fixture.tensors("gradients.safetensors").tensors;
    let (all_gradients, all_weights) = (length_of_all(&gradients), length_of_all(&expected));
    for entry in model.parameters().iter().chain(model.buffers()) {
        let source = reference::counterpart(&entry.name, fixture.config.embedding).unwrap();
        let Ok(wanted) = gather(&source, &expected, &entry.tensor.size()) else { continue };
        let length = |tensor: &Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
        let difference = || length(&(entry.tensor.detach().to_kind(Kind::Double) - wanted.to_kind(Kind::Double)));
        // In front of a batch normalisation, or of attention's keys, the exact gradient of a bias
        // is zero. AdamW divides its rounding by its own size, so such a bias wanders by the
        // learning rate, without any effect on the model: two correct programs wander apart, and
        // what is asked is that they remain small among all weights.
        let gradient = gradients.get(&source.names[0]).map(length);
        if gradient.is_some_and(|gradient| gradient < 1e-7 * all_gradients) {
            comparison.add_error(&entry.name, difference() / all_weights);
            continue;
        }
        // A running mean is of values of both signs: rounding is relative to their size, not to
        // that of their mean.
        if let Some(normalisation) = source.names[0].strip_suffix("running_mean")
            && let Some(variance) = expected.get(&format!("{normalisation}running_var"))
        {
            let size = variance.to_kind(Kind::Double).sum(None::<Kind>).double_value(&[]).sqrt();
            comparison.add_error(&entry.name, difference() / size.max(length(&wanted)));
            continue;
        }
        comparison.add(&entry.name, &entry.tensor, &wanted);
    }
    comparison.finish(&format!("weights after the last step, {kind:?}"));
}

/// The length of all tensors together.
fn length_of_all(tensors: &BTreeMap<String, Tensor>) -> f64 {
    let squares = tensors.values().map(|g| g.to_kind(Kind::Double).square().sum(None::<Kind>).double_value(&[]));
    squares.sum::<f64>().sqrt()
}
