//! Layers that compute in bfloat16 or float16: parameters stay float32, losses and gradients stay
//! near those of float32. This is a separate test program, because libtorch has one random
//! generator for all threads.

mod bench;

use bench::Bench;
use bench::beyond::BEYOND_THE_PAPER;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::config::Config;
use medst_model::loss::{self, Losses};
use medst_model::model::input::Batch;
use medst_model::model::{MedSt, Mode};
use medst_train::train::dataset::{Crop, Dataset};
use medst_train::train::gradients::{Differentiated, Gradients};
use medst_train::train::log::Parts;
use medst_train::train::loss_scale::LossScale;
use medst_train::train::optimizer::AdamW;
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

struct Both {
    _bench: Bench,
    config: Config,
    batches: Vec<Batch>,
}

fn both() -> Both {
    with(&[], Crop::Centre)
}

/// Statements and sentences are drawn where crops are.
fn with(options: &[&str], crop: Crop) -> Both {
    let bench = Bench::new(24);
    let settings = ["model.text.dropout=0.0", "model.initial_deviation=0.1", "loss.temporal_weight=0.05"];
    let config = bench.config("run", &[&settings, options].concat());
    let (corpus, pieces) = (bench.corpus(), WordPiece::bert_cased());
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let batches = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]];
    let batches = batches.map(|numbers| dataset.batch(&numbers, crop).unwrap()).into();
    Both { _bench: bench, config, batches }
}

fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(&tensors.iter().map(|own| own.reshape([-1]).to_kind(Kind::Double)).collect::<Vec<_>>(), 0)
}

/// 0.999 is asked for, of a full-size model, and float16 reaches it here. For bfloat16 this one is
/// too small: 32 wide, rounding averages over 24 times fewer products, and its batch of sixteen
/// studies is normalised by what few of them differ in; the temporal parts raise that to a power.
#[test]
fn gradients_point_where_those_of_float32_do() {
    let Both { config, batches, .. } = both();
    for (name, part, least) in [
        ("global", (|losses| &losses.global) as fn(&Losses) -> &Tensor, [0.98, 0.999]),
        ("local", |losses| &losses.local, [0.999, 0.99999]),
        ("forward_mapping", |losses| &losses.forward_mapping, [0.97, 0.999]),
    ] {
        let [float, rounded @ ..] = KINDS.map(|kind| {
            let model = MedSt::new(&config.model, 5, Device::Cpu, kind).unwrap();
            let optimizer = AdamW::new(&model, &config.optimizer);
            let norm = |gradients: &[Tensor]| optimizer.norm(gradients);
            let scaled = LossScale::default().differentiate(kind, norm, |factor| {
                let losses = loss::med_st(&model, &batches[0], &config.loss, Mode::Train)?;
                assert_eq!(part(&losses).kind(), Kind::Float, "losses are float32");
                let gradients = Gradients::compute(&model, &(part(&losses) * factor));
                Ok(Differentiated { losses, gradients })
            });
            let gradients = scaled.unwrap().gradients;
            assert!(gradients.iter().all(|gradient| gradient.kind() == Kind::Float));
            flat(&gradients)
        });
        for ((kind, rounded), least) in KINDS[1..].iter().zip(rounded).zip(least) {
            let cosine = (float.dot(&rounded) / (float.norm() * rounded.norm())).double_value(&[]);
            println!("{name}, {kind:?}: cosine {cosine:.6}");
            assert!(cosine > least, "{name}, {kind:?}: {cosine}");
        }
    }
}

/// As the small model is trained (configs/tiny.toml): gradients cut at length 1, temporal losses at
/// a twentieth, because from random weights their steep gradients throw any two runs apart.
fn losses_of_steps(both: &Both, kind: Kind, steps: usize) -> Vec<Parts> {
    let Both { config, batches, .. } = both;
    let model = MedSt::new(&config.model, 5, Device::Cpu, kind).unwrap();
    let (mut optimizer, mut scale) = (AdamW::new(&model, &config.optimizer), LossScale::default());
    let losses = (0..steps).map(|step| {
        let batch = &batches[step % batches.len()];
        let norm = |gradients: &[Tensor]| optimizer.norm(gradients);
        let scaled = scale.differentiate(kind, norm, |factor| {
            let losses = loss::med_st(&model, batch, &config.loss, Mode::Train)?;
            let gradients = Gradients::compute(&model, &(&losses.total * factor));
            Ok(Differentiated { losses: Parts::from_losses(&losses), gradients })
        });
        let scaled = scaled.unwrap();
        optimizer.step(&scaled.gradients, 3e-4, (1.0 / scaled.norm).min(1.0) / scaled.factor);
        scaled.losses
    });
    losses.collect()
}

/// Means of twenty steps, because single batches differ more than precisions do. Rounding makes
/// runs drift apart, by an amount that depends on the random weights: after 200 steps float16,
/// whose steps are eight times finer than bfloat16's, was 0.6 % and 2.3 % off with two sets of
/// them. Half as many are taken here, because libtorch multiplies these formats value by value on
/// processors without AVX-512, which takes minutes.
#[test]
fn losses_track_those_of_float32_over_100_steps() {
    let both = both();
    let mean = |steps: &[Parts]| steps.iter().map(|own| own.total).sum::<f64>() / steps.len() as f64;
    let [float, rounded @ ..] =
        KINDS.map(|kind| losses_of_steps(&both, kind, 100).chunks(20).map(mean).collect::<Vec<_>>());
    assert!(float[4] < 0.8 * float[0], "the steps teach something");
    for ((kind, rounded), most) in KINDS[1..].iter().zip(rounded).zip([0.08, 0.03]) {
        println!("Float {float:.3?}\n{kind:?} {rounded:.3?}");
        // The first twenty steps fall from 14 to 2: there a step earlier or later is much in
        // bfloat16.
        for (number, (a, b)) in float.iter().zip(&rounded).enumerate() {
            let allowed = if number == 0 && *kind == Kind::BFloat16 { 0.15 } else { most };
            assert!((a / b - 1.0).abs() < allowed, "{kind:?}: {float:.3?} {rounded:.3?}");
        }
    }
}

/// Each part, after few steps: float16 takes long here, and before runs drift apart single batches
/// can be compared.
#[test]
fn losses_beyond_the_paper_track_those_of_float32_for_a_few_steps() {
    let both = with(BEYOND_THE_PAPER, Crop::Random { seed: 1, epoch: 2 });
    let [float, half] = [Kind::Float, Kind::Half].map(|kind| losses_of_steps(&both, kind, 4));
    // The same batch again.
    assert!(float[3].total < float[0].total, "the steps teach something: {float:?}");
    let parts = |own: &Parts| {
        let Parts { total, local, change, findings, boxes, phrases, courses, .. } = *own;
        [total, local, change, findings, boxes, phrases, courses]
    };
    let mut seen = [false; 7];
    for (float, half) in float.iter().zip(&half) {
        println!("Float {float:.4?}\nHalf {half:.4?}");
        for ((a, b), seen) in parts(float).into_iter().zip(parts(half)).zip(&mut seen) {
            assert!((a - b).abs() < 0.05 * a.abs().max(0.1), "{float:?} {half:?}");
            *seen |= a != 0.0;
        }
    }
    assert_eq!(seen, [true; 7], "a part that no batch has: {float:?}");
}

/// One update changes the weights by less than a step of bfloat16.
#[test]
fn small_updates_add_up_in_the_parameters_and_reach_the_layers() {
    let Both { config, batches, .. } = both();
    let model = MedSt::new(&config.model, 5, Device::Cpu, Kind::BFloat16).unwrap();
    let mut optimizer = AdamW::new(&model, &config.optimizer);
    let name = "image_encoder.blocks.0.attention.qkv.weight";
    let own = model.parameters().iter().find(|own| own.name == name).unwrap();
    let (before, rounded_before) = (own.tensor.copy(), own.working.copy());
    let differ = |a: &Tensor, b: &Tensor| a.ne_tensor(b).to_kind(Kind::Double).mean(None::<Kind>).double_value(&[]);
    let mut step = || {
        let losses = loss::med_st(&model, &batches[0], &config.loss, Mode::Train).unwrap();
        optimizer.step(&Gradients::compute(&model, &losses.total), 1e-6, 1.0);
    };
    step();
    assert!(differ(&own.tensor, &before) > 0.9);
    assert!(differ(&own.working, &rounded_before) < 0.1, "one update is too small for bfloat16");
    (0..300).for_each(|_| step());
    assert!(differ(&own.working, &rounded_before) > 0.3, "many are not");
    assert!(own.is_copied() && own.working.kind() == Kind::BFloat16 && own.tensor.kind() == Kind::Float);
    assert!(own.working.equal(&own.tensor.to_kind(Kind::BFloat16)), "layers compute with the rounded parameters");
    let precise: Vec<&str> =
        model.parameters().iter().filter(|own| !own.is_copied()).map(|own| own.name.as_str()).collect();
    // Norms, tokens and positions, and everything after the encoders.
    let stay = ["norm.", "class_token", "positions", "_global.", "_local.", "_importance."];
    assert!(precise.iter().all(|name| stay.iter().any(|part| name.contains(part))), "{precise:?}");
    assert!(precise.len() < model.parameters().len() / 2 + 20);
}
