//! Guards on the model and the losses that hold on any batch: other studies, padding and order
//! change nothing where they must not; a lateral view reaches its own study only; every parameter
//! learns.

use medst_model::loss::config::LossConfig;
use medst_model::loss::{Losses, of_embeddings};
use medst_model::model::config::{ImageConfig, ModelConfig, ProjectionConfig, Semantics, TextConfig};
use medst_model::model::input::{Batch, ImageInput, Relations, ReportInput};
use medst_model::model::view_experts::View;
use medst_model::model::{ImageEmbeddings, MedSt, Mode, ReportEmbeddings};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const SIDE: i64 = 32;
const SEPARATOR: u32 = 3;
/// Token ids from here on are continuation pieces.
const CONTINUATION: u32 = 30;

fn config(semantics: Semantics) -> ModelConfig {
    ModelConfig {
        semantics,
        initial_deviation: 0.02,
        image: ImageConfig {
            size: SIDE,
            patch: 8,
            hidden_size: 24,
            num_layers: 2,
            num_heads: 3,
            intermediate_size: 48,
            ..ImageConfig::default()
        },
        text: TextConfig {
            vocabulary: 40,
            hidden_size: 24,
            num_layers: 2,
            num_heads: 3,
            intermediate_size: 48,
            max_positions: 32,
            max_tokens: 24,
            dropout: 0.0,
            ..TextConfig::default()
        },
        projection: ProjectionConfig { hidden: 32, embedding: 16 },
        ..ModelConfig::default()
    }
}

/// A float64 model in which every part matters: weights large enough that inputs decide the outputs
/// (a fresh model maps all studies to nearly one point), running statistics that are not those of a
/// fresh one.
fn model(semantics: Semantics) -> MedSt {
    let model = MedSt::new(&config(semantics), 7, Device::Cpu, Kind::Double).unwrap();
    // A separate generator: libtorch's is shared with the other threads, and occasionally drew a
    // model in which some part does not matter.
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut uniform = |like: &Tensor, low: f64, high: f64| {
        let values: Vec<f64> = (0..like.numel()).map(|_| random.random_range(low..high)).collect();
        Tensor::from_slice(&values).view(like.size().as_slice())
    };
    tch::no_grad(|| {
        for parameter in model.parameters() {
            let noise = uniform(&parameter.tensor, -0.5, 0.5);
            let mut tensor = parameter.tensor.shallow_clone();
            let _ = tensor.g_add_(&noise);
        }
        for buffer in model.buffers() {
            let mut tensor = buffer.tensor.shallow_clone();
            if buffer.name.ends_with(".mean") {
                tensor.copy_(&uniform(&tensor, -0.2, 0.2));
            } else {
                tensor.copy_(&uniform(&tensor, 0.5, 1.5));
            }
        }
    });
    model
}

/// One study as plain values, so that tests can rearrange studies and build batches of them.
#[derive(Clone, Debug)]
struct Study {
    frontal: u64,
    lateral: Option<u64>,
    report: Vec<u32>,
}

/// Noise that depends on every bit of the seed.
fn picture(seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pixels: Vec<u8> = (0..SIDE * SIDE).map(|_| random.random()).collect();
    Tensor::from_slice(&pixels).view([SIDE, SIDE])
}

fn batch(studies: &[Study], sequences: &[i64], steps: i64, semantics: Semantics) -> Batch {
    let stack = |pictures: Vec<Tensor>| {
        if pictures.is_empty() {
            Tensor::zeros([0, SIDE, SIDE], (Kind::Uint8, Device::Cpu))
        } else {
            Tensor::stack(&pictures, 0)
        }
    };
    let reports: Vec<Vec<u32>> = studies.iter().map(|study| study.report.clone()).collect();
    let laterals = studies.iter().enumerate().filter_map(|(row, study)| Some((row as i64, study.lateral?)));
    let (lateral_rows, lateral): (Vec<i64>, Vec<Tensor>) = laterals.map(|(row, seed)| (row, picture(seed))).unzip();
    Batch {
        images: ImageInput {
            frontal: stack(studies.iter().map(|study| picture(study.frontal)).collect()),
            lateral: stack(lateral),
            lateral_rows,
        },
        reports: ReportInput::new(&reports, |id| id >= CONTINUATION, SEPARATOR, 24, semantics),
        relations: Relations::of_sequences(Tensor::from_slice(sequences).view([-1, steps])),
        truth: None,
    }
}

fn study() -> impl Strategy<Value = Study> {
    (any::<u32>(), proptest::option::of(any::<u32>()), proptest::collection::vec(5u32..40, 1..22)).prop_map(
        |(frontal, lateral, words)| {
            let mut report = vec![2];
            report.extend(words);
            report.push(SEPARATOR);
            Study { frontal: frontal.into(), lateral: lateral.map(u64::from), report }
        },
    )
}

fn studies(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Study>> {
    proptest::collection::vec(study(), count)
}

fn embed(model: &MedSt, batch: &Batch, mode: Mode) -> (ImageEmbeddings, ReportEmbeddings) {
    tch::no_grad(|| {
        (model.embed_images(&batch.images, mode).unwrap(), model.embed_reports(&batch.reports, mode).unwrap())
    })
}

fn losses(model: &MedSt, batch: &Batch, mode: Mode) -> Losses {
    let (images, reports) = embed(model, batch, mode);
    tch::no_grad(|| of_embeddings(model, &images, &reports, batch, &LossConfig::default()))
}

/// Without this the tests below could pass on a model that ignores its input.
#[test]
fn the_model_of_these_tests_tells_studies_apart() {
    for semantics in [Semantics::Corrected, Semantics::Reference] {
        let studies = fixed_studies([true, false, true, false]);
        let (images, reports) = embed(&model(semantics), &batch(&studies, &[], 2, semantics), Mode::Evaluate);
        for embedding in [images.global, reports.global] {
            let similarity = embedding.matmul(&embedding.tr());
            assert!(number(&similarity.tril(-1).max()) < 0.999, "{}", similarity.to_string(100).unwrap());
        }
    }
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.allclose(b, 1e-9, 1e-10, false)
}

fn number(x: &Tensor) -> f64 {
    x.double_value(&[])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_study_is_embedded_alike_alone_and_among_others(studies in studies(2..6), in_reference in any::<bool>()) {
        let semantics = if in_reference { Semantics::Reference } else { Semantics::Corrected };
        let model = model(semantics);
        let (images, reports) = embed(&model, &batch(&studies, &[], 2, semantics), Mode::Evaluate);
        for (row, study) in studies.iter().enumerate() {
            let row = row as i64;
            let (image, report) = embed(&model, &batch(std::slice::from_ref(study), &[], 2, semantics), Mode::Evaluate);
            prop_assert!(close(&images.global.narrow(0, row, 1), &image.global));
            prop_assert!(close(&images.frontal_patches.narrow(0, row, 1), &image.frontal_patches));
            if let Ok(lateral) = images.features.lateral_rows.binary_search(&row) {
                prop_assert!(close(&images.lateral_patches.narrow(0, lateral as i64, 1), &image.lateral_patches));
            }
            prop_assert!(close(&reports.global.narrow(0, row, 1), &report.global));
            let words = report.words.size()[1];
            prop_assert!(close(&reports.words.narrow(0, row, 1).narrow(1, 0, words), &report.words));
            let exists = Vec::<bool>::try_from(reports.word_exists.select(0, row)).unwrap();
            let alone = Vec::<bool>::try_from(report.word_exists.select(0, 0)).unwrap();
            prop_assert_eq!(&exists[..words as usize], &alone[..]);
            prop_assert!(exists[words as usize..].iter().all(|exists| !exists));
        }
    }

    #[test]
    fn the_local_loss_is_the_mean_of_the_studies_own(studies in studies(2..6)) {
        let model = model(Semantics::Corrected);
        let whole = losses(&model, &batch(&studies, &[], 2, Semantics::Corrected), Mode::Evaluate);
        let alone = studies.iter().map(|study| {
            number(&losses(&model, &batch(std::slice::from_ref(study), &[], 2, Semantics::Corrected), Mode::Evaluate).local)
        });
        let mean = alone.sum::<f64>() / studies.len() as f64;
        prop_assert!((number(&whole.local) - mean).abs() < 1e-9 * mean.abs().max(1.0));
    }

    #[test]
    fn order_changes_nothing_even_in_training(studies in studies(5..6), rotation in 1usize..5) {
        let model = model(Semantics::Corrected);
        let sequences: [i64; 2] = [1, 3];
        let count = studies.len();
        let mut rotated = studies.clone();
        rotated.rotate_left(rotation);
        let place = |row: i64| ((row as usize + count - rotation) % count) as i64;
        let plain = batch(&studies, &sequences, 2, Semantics::Corrected);
        let moved = batch(&rotated, &sequences.map(place), 2, Semantics::Corrected);
        let (a, b) = (losses(&model, &plain, Mode::Train), losses(&model, &moved, Mode::Train));
        for (a, b) in [(a.global, b.global), (a.local, b.local), (a.forward_mapping, b.forward_mapping), (a.reverse_mapping, b.reverse_mapping)] {
            prop_assert!((number(&a) - number(&b)).abs() < 1e-9 * number(&a).abs().max(1.0));
        }
        let (a, _) = embed(&model, &plain, Mode::Evaluate);
        let (b, _) = embed(&model, &moved, Mode::Evaluate);
        let order: Vec<i64> = (0..count as i64).map(place).collect();
        prop_assert!(close(&a.global, &b.global.index_select(0, &Tensor::from_slice(&order))));
    }

    #[test]
    fn padding_of_reports_changes_no_loss(studies in studies(3..6), extra in 1i64..6) {
        let model = model(Semantics::Corrected);
        let plain = batch(&studies, &[], 2, Semantics::Corrected);
        let mut padded = batch(&studies, &[], 2, Semantics::Corrected);
        padded.reports.ids = padded.reports.ids.constant_pad_nd([0, extra]);
        padded.reports.exists = padded.reports.exists.constant_pad_nd([0, extra]);
        padded.reports.word_of_token = padded.reports.word_of_token.f_pad([0, extra], "constant", -1.0).unwrap();
        padded.reports.words += extra;
        let (a, b) = (losses(&model, &plain, Mode::Train), losses(&model, &padded, Mode::Train));
        prop_assert!((number(&a.total) - number(&b.total)).abs() < 1e-9 * number(&a.total).abs());
    }

    #[test]
    fn a_lateral_view_reaches_its_own_study_only(studies in studies(2..6), chosen in any::<prop::sample::Index>(), seed in any::<u32>()) {
        for semantics in [Semantics::Corrected, Semantics::Reference] {
            let model = model(semantics);
            let chosen = chosen.index(studies.len());
            let mut changed = studies.clone();
            changed[chosen].lateral = Some(u64::from(seed) + (1 << 40));
            let (a, _) = embed(&model, &batch(&studies, &[], 2, semantics), Mode::Evaluate);
            let (b, _) = embed(&model, &batch(&changed, &[], 2, semantics), Mode::Evaluate);
            for row in 0..studies.len() {
                let same = close(&a.global.get(row as i64), &b.global.get(row as i64));
                prop_assert_eq!(same, row != chosen, "row {}, changed {}", row, chosen);
            }
        }
    }

    #[test]
    fn a_study_without_lateral_is_a_single_frontal_picture(studies in studies(3..6)) {
        let model = model(Semantics::Corrected);
        let batch = batch(&studies, &[], 2, Semantics::Corrected);
        let (images, _) = embed(&model, &batch, Mode::Evaluate);
        let (single, patches) = tch::no_grad(|| model.embed_single_view(&batch.images.frontal, View::Frontal, Mode::Evaluate));
        for row in (0..studies.len() as i64).filter(|row| batch.images.lateral_rows.binary_search(row).is_err()) {
            prop_assert!(close(&images.global.get(row), &single.get(row)));
            prop_assert!(close(&images.frontal_patches.get(row), &patches.get(row)));
        }
    }

    /// Encoders that compute `[CLS]` alone in their last blocks.
    #[test]
    fn whole_studies_are_encoded_as_beside_their_patches_and_words(studies in studies(1..6)) {
        for semantics in [Semantics::Corrected, Semantics::Reference] {
            let (model, batch) = (model(semantics), batch(&studies, &[], 2, semantics));
            let (images, reports) = embed(&model, &batch, Mode::Evaluate);
            tch::no_grad(|| {
                prop_assert!(close(&images.features.image, &model.encode_whole_images(&batch.images).unwrap()));
                prop_assert!(close(&reports.global, &model.embed_whole_reports(&batch.reports).unwrap()));
                for view in [View::Frontal, View::Lateral] {
                    let encoder = &model.image_encoder;
                    let (single, _) = encoder.forward_single(&batch.images.frontal, view);
                    prop_assert!(close(&single, &encoder.class_states_single(&batch.images.frontal, view)));
                }
                Ok(())
            })?;
        }
    }
}

fn fixed_studies(laterals: [bool; 4]) -> Vec<Study> {
    laterals
        .iter()
        .enumerate()
        .map(|(n, &lateral)| Study {
            frontal: n as u64 + 1,
            lateral: lateral.then_some(n as u64 + 100),
            report: vec![2, 5 + n as u32, 31, 9, 12 + n as u32, 6, SEPARATOR],
        })
        .collect()
}

#[test]
fn every_parameter_receives_a_finite_gradient() {
    for semantics in [Semantics::Corrected, Semantics::Reference] {
        let model = model(semantics);
        let batch = batch(&fixed_studies([true, false, true, false]), &[0, 1, 2, 3], 4, semantics);
        medst_model::loss::med_st(&model, &batch, &LossConfig::default(), Mode::Train).unwrap().total.backward();
        for parameter in model.parameters() {
            let gradient = parameter.tensor.grad();
            assert!(gradient.defined(), "{} has no gradient", parameter.name);
            assert!(bool::try_from(gradient.isfinite().all()).unwrap(), "{}: not finite", parameter.name);
            assert!(number(&gradient.abs().max()) > 0.0, "{}: nothing but zeros", parameter.name);
        }
    }
}

#[test]
fn batches_without_laterals_or_sequences_work_and_their_parts_are_exactly_zero() {
    let model = model(Semantics::Corrected);
    let batch = batch(&fixed_studies([false; 4]), &[], 4, Semantics::Corrected);
    let losses = losses(&model, &batch, Mode::Train);
    assert_eq!(number(&losses.forward_mapping), 0.0);
    assert_eq!(number(&losses.reverse_mapping), 0.0);
    assert!(number(&losses.total).is_finite());
}

#[test]
fn a_saved_model_reads_back_bit_for_bit_and_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let written = MedSt::new(&config(Semantics::Corrected), 3, Device::Cpu, Kind::Float).unwrap();
    written.save(&path, None).unwrap();
    let mut read = MedSt::new(&config(Semantics::Corrected), 4, Device::Cpu, Kind::Float).unwrap();
    read.load(&path).unwrap();
    for (a, b) in written.parameters().iter().zip(read.parameters()) {
        assert_eq!(a.tensor, b.tensor, "{}", a.name);
    }

    let mut wider = config(Semantics::Corrected);
    wider.projection.embedding = 24;
    let error = MedSt::new(&wider, 4, Device::Cpu, Kind::Float).unwrap().load(&path).unwrap_err().to_string();
    assert!(error.contains("image_global.contract.weight") && error.contains("[16, 32]"), "{error}");

    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = read.load(&path).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn the_seed_alone_decides_the_weights() {
    let weights = |seed| {
        let model = MedSt::new(&config(Semantics::Corrected), seed, Device::Cpu, Kind::Float).unwrap();
        model.parameters().iter().map(|p| p.tensor.shallow_clone()).collect::<Vec<_>>()
    };
    let (a, b, c) = (weights(1), weights(1), weights(2));
    assert!(a.iter().zip(&b).all(|(a, b)| a == b));
    assert!(a.iter().zip(&c).any(|(a, c)| a != c));
}
