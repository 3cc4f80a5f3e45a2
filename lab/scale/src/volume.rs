//! What processes pass to each other, derived from the configuration: what [`Traffic`] counts,
//! before anything runs.
//!
//! A step of a model with heads of hidden width `h` and embedding width `D`, numbers of `e` bytes,
//! on a batch of `B` studies:
//!
//! | what | collectives | bytes |
//! |---|---|---|
//! | gradients, one bucket per stage | a sum for each of the stages | `e` · parameters |
//! | batch statistics | 32 sums | `16 e (h + D + 1)` |
//! | global embeddings of images and reports | one gathering | `2 e B D` |
//! | their gradient from the loss over all pairs | one sum | `2 e B D` |
//! | the local and the global loss, two accuracies | one sum | `4 e` |
//! | whether to stop | one sum | 8 |
//!
//! There are `1 + (blocks + 2) + (layers + 1)` stages. Batch statistics are those of four heads
//! with two normalisations: sums and rows, then squares; forward and backward.
//!
//! The bytes are those of the tensors; what a network moves depends on the algorithm
//! ([`forecast`](crate::forecast)).

use medst_model::config::Config;
use medst_model::distributed::Traffic;
use medst_model::model::config::ModelConfig;
use medst_model::model::parameters::at_least_float;
use medst_train::train::log::Parts;

/// Numbers that parts of a batch add up to: local and global loss, two accuracies.
pub(super) const LOSSES: u64 = 4;

/// Projection heads: of images, patches, reports and words.
const HEADS: u64 = 4;

/// Bytes of a number in gradients, statistics and embeddings.
pub(super) fn element(config: &Config) -> u64 {
    at_least_float(config.train.precision.kind()).elt_size_in_bytes() as u64
}

/// Parameters in each bucket of gradients, in the order in which they are sent: heads, the image
/// encoder's stages from the last to the first, the report encoder's.
pub fn buckets(config: &ModelConfig) -> Vec<u64> {
    let number = |value: i64| value as u64;
    let linear = |inputs: u64, outputs: u64| inputs * outputs + outputs;
    let (image, text) = (&config.image, &config.text);
    let (hidden, embedding) = (number(config.projection.hidden), number(config.projection.embedding));
    let attention = |width: u64| linear(width, 3 * width) + linear(width, width);
    let perceptron = |width: u64, inner: u64| linear(width, inner) + linear(inner, width);

    let head = |width: u64| linear(width, hidden) + 2 * hidden + linear(hidden, embedding);
    let (of_image, of_text) = (number(image.hidden_size), number(text.hidden_size));
    let importance = linear(embedding, 2 * embedding);
    let heads = 2 * head(of_image) + 2 * head(of_text) + 2 * importance;

    let expert = 2 * of_image + perceptron(of_image, number(image.intermediate_size));
    let block = 2 * of_image + attention(of_image) + 2 * expert;
    // Class token and positions; three channels of a patch, and a bias.
    let patches = of_image * (2 + number(image.patches())) + linear(3 * number(image.patch * image.patch), of_image);

    let layer = attention(of_text) + perceptron(of_text, number(text.intermediate_size)) + 4 * of_text;
    let words = of_text * (number(text.vocabulary) + number(text.max_positions) + 2);

    let images = std::iter::once(2 * of_image).chain((0..image.num_layers).map(|_| block)).chain([patches]);
    let reports = (0..text.num_layers).map(|_| layer).chain([words]);
    std::iter::once(heads).chain(images).chain(reports).collect()
}

/// Trainable parameters.
pub fn parameters(config: &ModelConfig) -> u64 {
    buckets(config).iter().sum()
}

/// Running means and variances: two normalisations a head.
fn running(config: &ModelConfig) -> u64 {
    HEADS * 2 * (config.projection.hidden + config.projection.embedding) as u64
}

/// Elements of each sum of one normalisation of `width` columns, in the order of a forward pass:
/// columns and rows, squares.
fn of_statistics(width: i64) -> [u64; 2] {
    [width as u64 + 1, width as u64]
}

/// Sums of the batch statistics of one batch, in bytes each. The backward pass has the same number
/// of sums.
pub fn statistics(config: &Config) -> Vec<u64> {
    let projection = &config.model.projection;
    let head = [projection.hidden, projection.embedding].into_iter().flat_map(of_statistics);
    let forward: Vec<u64> = head.map(|elements| elements * element(config)).collect();
    forward.repeat(2 * HEADS as usize)
}

/// Bytes of a study's global embeddings, of its image and of its report.
pub(super) fn embeddings(config: &Config) -> u64 {
    2 * element(config) * config.model.projection.embedding as u64
}

/// One optimiser step on so many studies.
pub fn step(config: &Config, studies: u64) -> Traffic {
    let e = element(config);
    let (statistics, buckets, embeddings) = (statistics(config), buckets(&config.model), studies * embeddings(config));
    Traffic {
        sums: statistics.len() as u64 + 2 + buckets.len() as u64 + 1,
        summed_bytes: (statistics.iter().sum::<u64>() + LOSSES * e)
            + (buckets.iter().sum::<u64>() * e + embeddings + 8),
        gathers: 1,
        gathered_bytes: embeddings,
        ..Traffic::default()
    }
}

/// Until the first step: all processes compare their configurations and take over what the model
/// is, weights, moments, statistics and the place of the run, and the moving average of weights and
/// statistics where there is one.
pub fn start(config: &Config) -> Traffic {
    let (parameters, running) = (parameters(&config.model), running(&config.model));
    let averages = u64::from(config.train.average > 0.0);
    Traffic {
        broadcasts: 3 + HEADS * 4 + averages,
        broadcast_bytes: (3 * parameters + running + averages * (parameters + running)) * element(config),
        messages: 4,
        ..Traffic::default()
    }
}

/// A validation of `studies`.
pub fn validation(config: &Config, studies: u64) -> Traffic {
    let counts = Traffic { messages: 1, ..Traffic::default() };
    if studies == 0 {
        return counts;
    }
    let losses = Parts::default().named().len() as u64;
    counts
        + Traffic {
            // Losses, and the hits of both retrievals.
            sums: 2,
            summed_bytes: 8 * (losses + 2),
            gathers: 2,
            gathered_bytes: studies * embeddings(config),
            ..Traffic::default()
        }
}

/// A checkpoint: whether all hold the same weights.
pub fn checkpoint() -> Traffic {
    Traffic { messages: 1, ..Traffic::default() }
}

/// After the last checkpoint: no process leaves before it is written.
pub fn end() -> Traffic {
    Traffic { messages: 1, ..Traffic::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medst_model::model::MedSt;
    use medst_model::model::config::Lateral;
    use medst_train::train::reduce::ParameterGroup;
    use tch::{Device, Kind};

    #[test]
    fn buckets_are_those_of_the_model() {
        let mut small = ModelConfig::default();
        (
            small.image.size,
            small.image.hidden_size,
            small.image.num_heads,
            small.image.intermediate_size,
            small.image.num_layers,
        ) = (64, 24, 2, 40, 3);
        (small.text.hidden_size, small.text.num_heads, small.text.intermediate_size, small.text.num_layers) =
            (20, 2, 36, 2);
        (small.text.vocabulary, small.projection.hidden, small.projection.embedding) = (50, 28, 12);
        let ignored = ModelConfig { lateral: Lateral::Ignored, ..small.clone() };
        for config in [ModelConfig::default(), small, ignored] {
            let model = MedSt::unwritten(&config, Device::Cpu, Kind::Float).unwrap();
            let last = config.image.num_layers as usize + 1;
            let count = |part: &ParameterGroup| {
                let parameters = model
                    .parameters()
                    .iter()
                    .filter(|parameter| ParameterGroup::from_name(&parameter.name, last) == *part);
                parameters.map(|parameter| parameter.tensor.numel() as u64).sum()
            };
            assert_eq!(buckets(&config), ParameterGroup::all(&model).iter().map(count).collect::<Vec<u64>>());
            assert_eq!(
                model.buffers().iter().map(|buffer| buffer.tensor.numel() as u64).sum::<u64>(),
                running(&config)
            );
        }
    }

    #[test]
    fn a_step_is_the_sum_of_its_parts() {
        let config = Config::default();
        let one = step(&config, 10);
        let statistics = 16 * 4 * (2048 + 128 + 1);
        assert_eq!(one.summed_bytes, 4 * parameters(&config.model) + statistics + 10 * 1024 + 16 + 8);
    }
}
